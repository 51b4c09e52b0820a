"""From calls to figures: what was heard, held against the goals.

``T`` is the room's own round trip in the same run. A goal that contains it uses its median.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from parley.bench.figures import Figure
from parley.bench.instant import Renderings
from parley.bench.judge_cost import cost_figures
from parley.bench.judge_cuts import cut_figures
from parley.bench.judge_sounds import echo_figures, sound_figures, sound_rows
from parley.bench.judge_turns import (
    interruption_figures,
    interruption_rows,
    reply_figures,
    reply_rows,
)
from parley.bench.judged import Judged, judge_call
from parley.bench.records import CallRecord


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
    every += cost_figures(calls)
    every.append(_caller(calls))
    return every


def _caller(calls: Mapping[str, Sequence[CallRecord]]) -> Figure:
    """The measuring device itself."""
    late = tuple(call.caller_late_ms[1] for some in calls.values() for call in some)
    what = "the caller's own microphone: its latest frame in each call"
    return Figure("caller_late", what, samples=late)


def _trip(clicks_ms: Sequence[float]) -> Figure:
    return Figure("trip", "T: the room's own round trip, clicks", samples=tuple(clicks_ms))


# --- a stock session ------------------------------------------------------------------------


def stock_interruption_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    rows = [row for call in calls for row in interruption_rows(call)]
    answers = [row for call in calls for row in reply_rows(call)]
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
