"""All figures of a run as one JSON object: what the page shows and a comparison compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from parley.bench.figures import percentile
from parley.bench.floor import fdb, fdb15, goals, ours, sweep, tau
from parley.bench.floor.fingerprint import fingerprint
from parley.bench.floor.timeline import Timeline, of, twin
from parley.bench.report import machine

DELAYS_S = tuple(round(0.05 * k, 2) for k in range(1, 33))

Conversation = dict[str, Any]


def summary(
    conversations: Sequence[Conversation],
    *,
    system: str,
    split: str,
    seed: int,
    of_all: int,
    setting: str = "",
    live: bool = False,
) -> dict[str, Any]:
    """``of_all``: how many conversations there should be. ``setting``: what was not as usual.
    ``live``: played in real time."""
    timelines = [of(c) for c in conversations]
    overlaps = [overlap for c in conversations for overlap in _overlaps(of(c), twin(c))]
    return {
        "bench": "floor",
        "system": system,
        "split": split,
        "seed": seed,
        "setting": setting,
        "live": live,
        "conversations": len(conversations),
        "of_all": of_all,
        "minutes": round(sum(c["seconds"] for c in conversations) / 60, 1),
        "cpu_s": round(sum(c["cpu_s"] for c in conversations), 1),
        "code": fingerprint(),
        "keys": [c["key"] for c in conversations],
        "machine": machine(),
        "figures": [f.as_json() for f in goals.table(conversations)],
        "families": families(conversations),
        "fdb": asdict(fdb.scores(timelines)),
        "fdb15": {
            "behaviours": fdb15.behaviours(overlaps),
            "latencies_s": fdb15.latencies(overlaps),
        },
        "tau": asdict(tau.scores(timelines)),
        "waste": _waste(conversations),
        "sweep": trade_off(conversations),
        "failures": [
            [c["scene"]["name"], text] for c in conversations for _, kind, text in c["words"]
            if kind == "failed"
        ],
    }  # fmt: skip


def _overlaps(timeline: Timeline, clean: Timeline) -> list[fdb15.Overlap]:
    found = (fdb15.overlap(timeline, index, clean) for index in range(len(timeline.user)))
    return [o for o in found if o is not None]


def _waste(conversations: Sequence[Conversation]) -> dict[str, Any]:
    found = ours.waste(conversations)
    ducks = [ms for c in conversations for ms in ours.ducked_for_nothing_ms(c["moves"])]
    return {
        **asdict(found),
        "share": found.share,
        "per_turn": found.per_turn,
        "ducks_for_nothing": len(ducks),
        "ducked_for_nothing_p50_ms": percentile(ducks, 50) if ducks else None,
    }


# --- by family ----------------------------------------------------------------------------------


def families(conversations: Sequence[Conversation]) -> list[dict[str, Any]]:
    """One row for each family and kind of sound."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in goals.rows_of(conversations):
        groups.setdefault((row["family"], row["kind"]), []).append(row)
    return [_family(family, kind, rows) for (family, kind), rows in sorted(groups.items())]


def _family(family: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    over = [r for r in rows if r["over_agent"]]
    # A reply whose end was near ends by itself: neither stopped nor missed.
    wishes = [r for r in over if not goals.played_out(r)]
    pauses = [p for r in rows for p in r["pauses"]]
    answers = [r["answered_ms"] for r in rows if not r["cut_in_ms"]]
    made: dict[str, Any] = {"family": family, "kind": kind, "n": len(rows), "over": len(over)}
    if kind in ("turn", "interruption"):
        made |= {
            "answer_p50": _at(answers, 50),
            "answer_p95": _at(answers, 95),
            "unanswered": sum(r["answered_ms"] is None for r in rows),
            "pauses": len(pauses),
            "cut_in": sum(p["cut_in"] for p in pauses),
        }
    else:
        made["answered"] = sum(r["answered_ms"] is not None for r in rows)
    if over:
        made |= {"stopped": sum(r["stopped"] for r in over)}
        if kind == "interruption":
            made |= {
                "ducked_p95": _at([r["ducked_ms"] for r in wishes], 95),
                "silent_p50": _at([r["silent_ms"] for r in wishes], 50),
                "silent_p95": _at([r["silent_ms"] for r in wishes], 95),
            }
    return made


def _at(samples: Sequence[float | None], p: float) -> float | str | None:
    """None: no sample; "never": it did not happen."""
    if not samples:
        return None
    found = percentile(samples, p)
    return "never" if found is None else round(found)


# --- cut-ins against delay ----------------------------------------------------------------------


def trade_off(conversations: Sequence[Conversation]) -> dict[str, Any]:
    """A plain timeout's curve over the same pauses, and where the system is."""
    turns = [r for r in goals.rows_of(conversations) if r["kind"] == "turn"]
    silences = [
        sweep.Silence((p["end_ms"] - p["begin_ms"]) / 1000) for r in turns for p in r["pauses"]
    ] + [sweep.Silence(None) for _ in turns]
    if not turns or len(silences) == len(turns):
        return {"fixed": [], "points": []}
    curve = sweep.fixed(silences, DELAYS_S)
    groups = {
        "all": turns,
        "desk": [r for r in turns if not r["family"].endswith(("_open", "_nods"))],
        "open": [r for r in turns if r["family"].endswith(("_open", "_nods"))],
    }
    points = [(name, point) for name, some in groups.items() if (point := _point(name, some))]
    return {
        "fixed": [asdict(p) for p in curve],
        "points": [asdict(p) for _, p in points],
        "fixed_delay_at_5_percent_s": sweep.best_delay(curve, 0.05),
    }


def _point(label: str, turns: Sequence[Mapping[str, Any]]) -> sweep.Point | None:
    """Where the system is: the median delay stands for a delay, as one miss has none."""
    pauses = [p for r in turns for p in r["pauses"]]
    delays = [r["answered_ms"] for r in turns if not r["cut_in_ms"]]
    middle = percentile(delays, 50) if delays else None
    if not pauses or middle is None:
        return None
    return sweep.Point(label, sum(p["cut_in"] for p in pauses) / len(pauses), middle / 1000)
