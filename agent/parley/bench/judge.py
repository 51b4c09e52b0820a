"""From calls to figures: what was heard, held against the goals.

``T`` is the room's own round trip in the same run. A goal that contains it uses its median.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parley.bench.figures import Figure, Goal
from parley.bench.hearing import HeardReply, replies
from parley.bench.instant import Rendering, Renderings
from parley.bench.journals import Spoken, matched, spoken
from parley.bench.records import CallRecord, Trial
from parley.bench.scenarios import TEXTS
from parley_speech.types import SPEAKER_HZ

MOST_WAIT_S = 6.0
"""A reply later than this answers something else."""
STOP_REACH_S = 1.5
"""A stop this long after a sound has ended is still taken for its effect."""
SURE = 0.5
"""Alignment.score below which a sound is not taken for the reply (see there)."""
WORDS_EXACT_MS = 3.0
"""How exactly a cut is found in a recording. A mismatch with a smaller margin is shown as such."""


@dataclass(frozen=True)
class Judged:
    """One call with its replies."""

    call: CallRecord
    replies: tuple[tuple[HeardReply, Spoken | None], ...]
    unsure: int
    """Sounds of the agent that are not its text, as far as can be told: holes in it, or noise."""

    def during(self, at: float) -> tuple[HeardReply, Spoken | None] | None:
        """The reply that sounded then."""
        return next(
            ((h, s) for h, s in self.replies if h.span.start_s <= at < h.span.end_s + 0.02), None
        )


def judge_call(call: CallRecord, renderings: Renderings) -> Judged:
    heard = replies(call.recording, _rendering(call, renderings))
    sure = [h for h in heard if h.score >= SURE]
    pairs = matched(sure, spoken(call.events))
    return Judged(call, tuple(pairs), len(heard) - len(sure))


def _rendering(call: CallRecord, renderings: Renderings) -> Rendering:
    return renderings[TEXTS[call.plan.text]]


def figures(
    calls: Mapping[str, Sequence[CallRecord]], renderings: Renderings, clicks_ms: Sequence[float]
) -> list[Figure]:
    """All figures of the scenarios that were run, in the order of the table."""
    trip = _median(clicks_ms)
    judged = {
        name: [judge_call(call, renderings) for call in calls.get(name, ())]
        for name in calls
        if name != "cost"
    }
    every: list[Figure] = [_trip(clicks_ms)]
    for name, make in _SCENARIOS:
        if judged.get(name):
            every += make(judged[name], trip)
    every += _cost(calls)
    every.append(_caller(calls))
    return every


def _caller(calls: Mapping[str, Sequence[CallRecord]]) -> Figure:
    """The measuring device itself."""
    late = tuple(call.caller_late_ms[1] for some in calls.values() for call in some)
    what = "the caller's own microphone: its latest frame in each call"
    return Figure("caller_late", what, samples=late)


def _trip(clicks_ms: Sequence[float]) -> Figure:
    return Figure("trip", "T: the room's own round trip, clicks", samples=tuple(clicks_ms))


# --- replies --------------------------------------------------------------------------------


def reply_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    rows = [row for call in calls for row in _reply_rows(call)]
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
    "waited_ms": "the floor's wait since the last voiced frame",
    "made_ms": "from the decision to the first frame played",
    "hearing_ms": "the way to the agent, and how much later than the true end the VAD fell",
    "out_ms": "from the first frame played to the caller's ear",
}


def _reply_rows(judged: Judged) -> Iterable[dict[str, Any]]:
    """One row for each thing said that was answered after it had ended."""
    for trial, after in zip(judged.call.trials, _after(judged.call.trials), strict=True):
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


def _after(trials: Sequence[Trial]) -> list[float]:
    """When the next trial begins, for each."""
    return [*(trial.onset for trial in trials[1:]), math.inf][: len(trials)]


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
            notes=_void(calls, len(rows), lambda t: t.aimed_s is not None),
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


def _void(calls: Sequence[Judged], judged: int, counts: Callable[[Trial], bool]) -> tuple[str, ...]:
    """A note about trials that tell nothing."""
    tried = sum(counts(trial) for call in calls for trial in call.call.trials)
    if tried == judged:
        return ()
    return (f"{tried - judged} of {tried} tell nothing: the agent did not speak, or not clearly",)


def interruption_rows(judged: Judged) -> Iterable[dict[str, Any]]:
    """One row for each interruption that began while the agent was heard."""
    for trial, after in zip(judged.call.trials, _after(judged.call.trials), strict=True):
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
            "ducked_ms": _since(ducked if ducked and ducked < after else None, trial.onset),
            "silent_ms": _since(silent, trial.onset),
            **_stages(known, trial.onset, after),
        }


def _stages(known: Spoken | None, onset: float, after: float) -> dict[str, Any]:
    """When the engine decided, and what its classifier said then."""
    stages: dict[str, Any] = {}
    if known is None:
        return stages
    for name in ("Duck", "Yield"):
        at = next((t for t, act in known.acts if act == name and onset < t < after), None)
        stages[f"engine_{name.lower()}_ms"] = _since(at, onset)
    decided = [o for o in known.overlaps if onset < o["t"] < after]
    if decided:
        stages |= {k: decided[-1].get(k) for k in ("class", "p", "since_onset_ms")}
    return stages


def _since(at: float | None, onset: float) -> float | None:
    return None if at is None else round((at - onset) * 1000, 1)


# --- cuts -----------------------------------------------------------------------------------


def cut_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    """Only cuts of which the recording tells how many words were heard are counted, and those that
    contradict it in any case."""
    rows = [row for call in calls for row in cut_rows(call)]
    told = [row for row in rows if row["sure"] or not row["same"]]
    wrong = [row for row in rows if not row["same"]]
    close = sum(row["margin_ms"] < WORDS_EXACT_MS for row in wrong)
    notes = []
    if len(told) < len(rows):
        notes.append(f"{len(rows) - len(told)} of {len(rows)} are not clear in the recording")
    if wrong:
        notes.append(f"{close} closer than {WORDS_EXACT_MS:g} ms to where a word counts")
    return [
        Figure(
            "cut_words",
            "cuts whose words in the context are not those heard",
            unit="cuts",
            samples=tuple(float(not row["same"]) for row in told),
            goals=(Goal("count", 0, "none"),),
            notes=tuple(notes),
            details={"rows": rows, "mismatches": wrong},
        ),
        Figure(
            "history_words",
            "… in LiveKit's history",
            unit="cuts",
            samples=tuple(
                float(not row["livekit_same"]) for row in told if row["livekit"] is not None
            ),
            goals=(Goal("count", 0, "none"),),
        ),
    ]


def cut_rows(judged: Judged) -> Iterable[dict[str, Any]]:
    """One row for each reply that was cut: the words of recording, context, LiveKit's history."""
    history = _history(judged)
    for heard, known in judged.replies:
        if known is None or known.heard is None or not known.cut:
            continue
        cut = heard.cut()
        least, words, most = (heard.words(at) for at in (cut.earliest, cut.best, cut.latest))
        possible = {text for text in _prefixes(heard) if len(least) <= len(text) <= len(most)}
        livekit = history.get(known.reply)
        yield {
            "heard": words,
            "context": known.heard,
            "livekit": livekit,
            # Any place of the cut that the recording allows will do; it is one, but for pauses.
            "same": known.heard in possible,
            "livekit_same": None if livekit is None else livekit in possible,
            "sure": least == most,
            "margin_ms": round(heard.margin_ms(cut.best), 1),
            "cut_ms": round(cut.best * 1000 / SPEAKER_HZ, 1),
            "range_ms": round((cut.latest - cut.earliest) * 1000 / SPEAKER_HZ, 1),
            "score": round(heard.score, 2),
        }


def _prefixes(heard: HeardReply) -> list[str]:
    """Every text that a cut can leave, none to all."""
    text = heard.rendering.text
    return ["", *(text[: mark.char_end].strip() for mark in heard.rendering.marks)]


def _history(judged: Judged) -> dict[int, str]:
    """LiveKit's words by reply: its messages, and the replies of which anything was heard, follow
    each other in the same order. Empty when they are not as many."""
    messages = [m["text"] for m in judged.call.agent.get("history", ())]
    with_words = [s for s in spoken(judged.call.events) if s.heard]
    if len(messages) != len(with_words):
        return {}
    return {s.reply: text for s, text in zip(with_words, messages, strict=True)}


# --- sounds that are to change nothing ------------------------------------------------------


def sound_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    rows = [row for call in calls for row in sound_rows(call)]
    both = [(what, [r for r in rows if r["what"] == what]) for what in ("backchannel", "noise")]
    return [
        Figure(
            "sound_stops",
            "backchannels and noises that stopped the agent",
            unit="stops",
            samples=tuple(float(row["stopped"]) for row in rows),
            goals=(Goal("count", 0, "none"),),
            details={"rows": rows},
            notes=(
                *(f"{what}: {_stops(some)}" for what, some in both if some),
                *_void(calls, len(rows), lambda t: t.what != "speech"),
            ),
        ),
        Figure(
            "sound_ducked",
            "… for how long they lowered its voice",
            samples=tuple(row["ducked_ms"] for row in rows),
            notes=(f"{sum(row['ducked_ms'] > 30 for row in rows)} of {len(rows)} did",),
        ),
    ]


def _stops(rows: Sequence[dict[str, Any]]) -> str:
    return f"{sum(row['stopped'] for row in rows)} of {len(rows)}"


def sound_rows(judged: Judged) -> Iterable[dict[str, Any]]:
    for trial, after in zip(judged.call.trials, _after(judged.call.trials), strict=True):
        found = judged.during(trial.onset) if trial.what != "speech" else None
        if found is None:
            continue
        heard, known = found
        end = min(after, trial.end + STOP_REACH_S)
        yield {
            "clip": trial.clip,
            "what": trial.what,
            "gain_db": trial.gain_db,
            "stopped": bool(heard.stopped(trial.onset) and heard.span.end_s < end),
            "ducked_ms": heard.ducked_ms(trial.onset, end),
            **_stages(known, trial.onset, end),
        }


# --- echo -----------------------------------------------------------------------------------


def echo_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    rows = [row for call in calls for row in echo_rows(call)]
    unsure = sum(call.unsure for call in calls)
    delays = sorted({row["echo_ms"] for row in rows})
    by_delay = [(d, [r for r in rows if r["echo_ms"] == d]) for d in delays]
    answered = sum(s.cause == "user" for call in calls for s in spoken(call.call.events))
    ducked = sum(row["ducked_ms"] > 30 for row in rows)
    return [
        Figure(
            "echo_stops",
            "replies stopped by their own echo",
            unit="stops",
            samples=tuple(float(row["stopped"]) for row in rows),
            goals=(Goal("count", 0, "none"),),
            details={"rows": rows},
            notes=(
                *(f"{delay} ms: {_stops(some)}" for delay, some in by_delay),
                f"ducked by it: {ducked} of {len(rows)}",
                *([f"{unsure} sounds could not be recognised as replies"] if unsure else []),
            ),
        ),
        Figure(
            "echo_turns",
            "echoes that were answered as if the user had spoken",
            unit="turns",
            samples=(float(answered),),
            goals=(Goal("count", 0, "none"),),
        ),
    ]


def echo_rows(judged: Judged) -> Iterable[dict[str, Any]]:
    for number, (heard, known) in enumerate(judged.replies):
        yield {
            "echo_ms": judged.call.echo_ms,
            "reply": number,
            "stopped": heard.stopped(heard.start),
            "ducked_ms": heard.ducked_ms(heard.start, heard.span.end_s),
            **_stages(known, heard.start - 0.5, heard.span.end_s + 0.5),
        }


# --- cost -----------------------------------------------------------------------------------


def _cost(calls: Mapping[str, Sequence[CallRecord]]) -> list[Figure]:
    """Processor time and late ticks. Only calls that had the machine to themselves count."""
    shop = [c.cpu_percent for c in calls.get("cost", ()) if c.cpu_percent is not None]
    others = [c.cpu_percent for c in calls.get("interruptions", ()) if c.cpu_percent is not None]
    alone = [*calls.get("cost", ()), *calls.get("interruptions", ())]
    stats = [s for c in alone if (s := c.agent.get("stats"))]
    every: list[Figure] = []
    if shop:
        goal = Goal("mean", 30, "30 % of one core")
        what = "processor time of one call with the embedded engines"
        every.append(Figure("cpu", what, "% of a core", tuple(shop), (goal,)))
    if others:
        what = "… of a call in open English, interrupted all the time"
        every.append(Figure("cpu_open", what, "% of a core", tuple(others)))
    if stats:
        every.append(_late(stats))
    return every


def _late(stats: Sequence[Mapping[str, Any]]) -> Figure:
    ticks = sum(s["ticks"] for s in stats)
    late = sum(s["late_ticks"] for s in stats)
    worst = max(s["worst_late_ms"] for s in stats)
    return Figure(
        "late_ticks",
        "ticks late by more than 20 ms",
        "% of ticks",
        (100 * late / max(1, ticks),),
        (Goal("mean", 0.1, "0.1 %"),),
        (f"{late} of {ticks}, the worst {worst:.0f} ms",),
        {"calls": [dict(s) for s in stats]},
    )


# --- a stock session ------------------------------------------------------------------------


def stock_interruption_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    rows = [row for call in calls for row in interruption_rows(call)]
    answers = [row for call in calls for row in _reply_rows(call)]
    return [
        Figure(
            "stock_reply",
            "stock session: end of speech → first sample of the reply",
            samples=tuple(row["raw_ms"] for row in answers),
        ),
        Figure(
            "stock_ducked",
            "stock session: onset of an interruption → lower or silent",
            samples=tuple(row["ducked_ms"] for row in rows),
            details={"rows": rows},
        ),
        Figure(
            "stock_silent",
            "stock session: onset of an interruption → silent",
            samples=tuple(row["silent_ms"] for row in rows),
        ),
    ]


def stock_sound_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    rows = [row for call in calls for row in sound_rows(call)]
    return [
        Figure(
            "stock_stops",
            "stock session: backchannels and noises that stopped it",
            unit="stops",
            samples=tuple(float(row["stopped"]) for row in rows),
            details={"rows": rows},
        )
    ]


def ratios(every: Sequence[Figure]) -> list[tuple[str, float | None, float | None]]:
    """(what, ours, theirs) of the same measure, medians or rates; for the comparison's table."""
    named = {figure.name: figure for figure in every}
    pairs = (
        ("end of speech → reply, P50 ms", "reply_raw", "stock_reply", "p50"),
        ("interruption → lower, P50 ms", "ducked", "stock_ducked", "p50"),
        ("interruption → silent, P50 ms", "silent", "stock_silent", "p50"),
        ("stops by a sound, each", "sound_stops", "stock_stops", "mean"),
    )
    return [
        (what, named[a].value(statistic), named[b].value(statistic))  # type: ignore[arg-type]
        for what, a, b, statistic in pairs
        if a in named and b in named and named[a].samples and named[b].samples
    ]


def _median(samples: Sequence[float]) -> float:
    ordered = sorted(samples)
    return ordered[(len(ordered) - 1) // 2]


_Make = Callable[[Sequence[Judged], float], list[Figure]]
_SCENARIOS: tuple[tuple[str, _Make], ...] = (
    ("interruptions", reply_figures),
    ("interruptions", interruption_figures),
    ("interruptions", cut_figures),
    ("sounds", sound_figures),
    ("echo", echo_figures),
    ("stock interruptions", stock_interruption_figures),
    ("stock sounds", stock_sound_figures),
)
