"""Judges turns: how soon replies come, and how soon an interrupted agent is lower and silent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from parley.bench.figures import Figure, Goal
from parley.bench.judged import Judged, ends, since, stages, void

MOST_WAIT_S = 6.0
"""A reply later than this answers something else."""


# --- replies --------------------------------------------------------------------------------


def reply_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    rows = [row for call in calls for row in reply_rows(call)]
    net = tuple(row["net_ms"] for row in rows if row["net_ms"] is not None)
    goal = Goal("p50", trip + 20, "T + 20")
    parts = tuple(_PARTS)
    return [
        Figure(
            "reply",
            "end of speech → first sample of the reply, less the floor's wait",
            samples=net,
            goals=(goal,),
            details={"rows": rows},
            notes=("the goal is held against the median",),
        ),
        Figure(
            "reply_raw",
            "… with the wait the floor chose",
            samples=tuple(row["raw_ms"] for row in rows),
        ),
        *(
            Figure(f"reply_{part.removesuffix('_ms')}", f"… of it: {_PARTS[part]}", samples=samples)
            for part in parts
            if (samples := tuple(row[part] for row in rows if row[part] is not None))
        ),
    ]


_PARTS = {
    "waited_ms": "the floor's wait since the voice's own end, as the agent heard it",
    "made_ms": "from the decision to the first frame played",
    "hearing_ms": "the way to the agent, and how much later than the true end the agent put it",
    "out_ms": "from the first frame played to the caller's ear",
}


def reply_rows(judged: Judged) -> Iterable[dict[str, Any]]:
    """One row for each thing said that was answered after it had ended."""
    for trial, after in zip(judged.call.trials, ends(judged.call.trials), strict=True):
        found = next(((h, s) for h, s in judged.replies if trial.end < h.start < after), None)
        if found is None or found[0].start - trial.end > MOST_WAIT_S:
            continue
        heard, known = found
        raw = (heard.start - trial.end) * 1000
        row: dict[str, Any] = {"clip": trial.clip, "raw_ms": round(raw, 1)}
        row |= dict.fromkeys(("net_ms", *_PARTS))
        if known is not None and known.waited_ms is not None:
            row["waited_ms"] = known.waited_ms
            row["net_ms"] = round(raw - known.waited_ms, 1)
            if known.latency_ms is not None:
                row["made_ms"] = known.latency_ms - known.waited_ms
                row["out_ms"] = round((heard.start - known.at) * 1000, 1)
                row["hearing_ms"] = round(raw - known.latency_ms - row["out_ms"], 1)
        yield row


# --- interruptions --------------------------------------------------------------------------


def interruption_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    rows = [row for call in calls for row in interruption_rows(call)]
    ducked = tuple(row["ducked_ms"] for row in rows)
    silent = tuple(row["silent_ms"] for row in rows)
    early = [row for row in rows if row["into_ms"] <= 100]
    return [
        Figure(
            "ducked",
            "onset of an interruption → agent 6 dB lower",
            samples=ducked,
            goals=(Goal("p95", trip + 100, "T + 100"),),
            details={"rows": rows},
            notes=void(calls, len(rows), lambda t: t.aimed_s is not None),
        ),
        Figure(
            "silent",
            "onset of an interruption → agent silent",
            samples=silent,
            goals=(Goal("p50", trip + 250, "T + 250"), Goal("p95", trip + 400, "T + 400")),
        ),
        Figure(
            "ducked_early",
            "… within the first 100 ms of a reply: lower",
            samples=tuple(row["ducked_ms"] for row in early),
            goals=(Goal("p95", trip + 100, "T + 100"),),
        ),
        Figure(
            "silent_early",
            "… within the first 100 ms of a reply: silent",
            samples=tuple(row["silent_ms"] for row in early),
            goals=(Goal("p50", trip + 250, "T + 250"), Goal("p95", trip + 400, "T + 400")),
        ),
    ]


def interruption_rows(judged: Judged) -> Iterable[dict[str, Any]]:
    """One row for each interruption that began while the agent was heard."""
    for trial, after in zip(judged.call.trials, ends(judged.call.trials), strict=True):
        found = judged.during(trial.onset) if trial.aimed_s is not None else None
        if found is None:
            continue
        heard, known = found
        ducked = heard.ducked_at(trial.onset)
        stopped = bool(heard.stopped(trial.onset) and heard.span.end_s < after)
        silent = heard.silent_at() if stopped else None
        yield {
            "clip": trial.clip,
            "into_ms": round((trial.onset - heard.start) * 1000, 1),
            "ducked_ms": since(ducked if ducked and ducked < after else None, trial.onset),
            "silent_ms": since(silent, trial.onset),
            **stages(known, trial.onset, after),
        }
