"""The eight interaction metrics of τ-voice, from ticks of 200 ms.

Sierra Research, τ²-bench, ``docs/interaction-metrics.md`` (response, yielding, interrupting,
selectivity); no judge is needed:

    L_R   response latency: user's end to agent's begin, mean over turns that were answered
    L_Y   yield latency: user's begin over the agent to the agent's end, mean over yields
    R_R   response rate: turns that were answered
    R_Y   yield rate: interruptions to which the agent yielded within 2.0 s
    I_A   agent interruptions: turns into which the agent began to speak
    S_BC, S_VT, S_ND   selectivity errors on backchannels, vocal tics, speech not directed at the
          agent: it yielded within 1.0 s, or answered within 2.0 s

A tick is somebody's when they speak in half of it or more. Whether a reply is *to* a sound can not
be seen in ticks: any begin in time counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parley.bench.floor.timeline import Timeline

TICK_S = 0.2
YIELD_S = 2.0
ERROR_YIELD_S = 1.0
ERROR_ANSWER_S = 2.0
IDLE = {"backchannel": "S_BC", "tic": "S_VT", "noise": "S_VT", "side": "S_ND"}


@dataclass(frozen=True, slots=True)
class Ticks:
    """Who speaks in each tick."""

    agent: tuple[bool, ...]
    user: tuple[bool, ...]


def ticks(timeline: Timeline) -> Ticks:
    """Turns are the user's from begin to end, pauses included."""
    agent = [(s.begin_s, s.end_s) for s in timeline.agent]
    user = [(s.begin_s, s.end_s) for s in timeline.user]
    return Ticks(_ticks(agent, timeline.seconds), _ticks(user, timeline.seconds))


def _ticks(spans: Sequence[tuple[float, float]], seconds: float) -> tuple[bool, ...]:
    out = []
    for k in range(int(seconds / TICK_S)):
        begin, end = k * TICK_S, (k + 1) * TICK_S
        spoken = sum(max(0.0, min(e, end) - max(b, begin)) for b, e in spans)
        out.append(spoken >= TICK_S / 2 - 1e-9)
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Scores:
    """None: there was no case."""

    L_R: float | None
    L_Y: float | None
    R_R: float | None
    R_Y: float | None
    I_A: float | None
    S_BC: float | None
    S_VT: float | None
    S_ND: float | None


def scores(timelines: Sequence[Timeline]) -> Scores:
    respond: list[float | None] = []
    yields: list[float | None] = []
    interrupted: list[bool] = []
    errors: dict[str, list[bool]] = {"S_BC": [], "S_VT": [], "S_ND": []}
    for t in timelines:
        grid = ticks(t).agent
        for index, sound in enumerate(t.user):
            first, last = _tick(sound.begin_s), _tick(sound.end_s)
            until = min(_tick(t.until(index)), len(grid))
            over = 0 < first < len(grid) and grid[first - 1] and grid[first]
            if sound.kind in IDLE:
                errors[IDLE[sound.kind]].append(_error(grid, first, last, until, over))
                continue
            if over:
                yields.append(_latency(_falls(grid, first, until), first, YIELD_S))
            else:
                interrupted.append(_rises(grid, first + 1, last) is not None)
            respond.append(_latency(_rises(grid, max(last, first + 1), until), last, None))
    return Scores(
        _mean([r for r in respond if r is not None]),
        _mean([y for y in yields if y is not None]),
        _mean([r is not None for r in respond]),
        _mean([y is not None for y in yields]),
        _mean(interrupted),
        *(_mean(errors[name]) for name in ("S_BC", "S_VT", "S_ND")),
    )


def _tick(t_s: float) -> int:
    return round(t_s / TICK_S)


def _falls(grid: Sequence[bool], first: int, until: int) -> int | None:
    """The first silent tick."""
    return next((k for k in range(first, until) if not grid[k]), None)


def _rises(grid: Sequence[bool], first: int, until: int) -> int | None:
    """The first tick in which the agent begins to speak."""
    return next(
        (k for k in range(first, min(until, len(grid))) if grid[k] and not grid[k - 1]), None
    )


def _latency(tick: int | None, since: int, most_s: float | None) -> float | None:
    if tick is None:
        return None
    late = (tick - since) * TICK_S
    return late if most_s is None or late <= most_s + 1e-9 else None


def _error(grid: Sequence[bool], first: int, last: int, until: int, over: bool) -> bool:
    yielded = over and _latency(_falls(grid, first, until), first, ERROR_YIELD_S) is not None
    begun = _rises(grid, first + 1, until)
    return yielded or _latency(begun, last, ERROR_ANSWER_S) is not None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
