"""False cut-ins against delay: what any policy trades.

As LiveKit's eot-bench (livekit/eot-bench, README, "policy sweep") does it: every pause of at least
100 ms inside a turn may be taken for its end; a policy has a false cut-off rate over pauses and a
mean delay over ends. A policy here is a number of ms to wait for each silence, which may depend on
what is known at its begin; ``fixed`` is the one that knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

LEAST_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Silence:
    """After some words: a pause of this length, or the turn's end (None)."""

    pause_s: float | None
    p_end: float | None = None
    """What was known: P(the turn is over), None for nothing."""


@dataclass(frozen=True, slots=True)
class Point:
    """One policy on the trade-off."""

    label: str
    cut_ins: float
    """Share of pauses."""
    delay_s: float
    """Mean over ends."""


def point(label: str, silences: Sequence[Silence], wait_s: Callable[[Silence], float]) -> Point:
    """Raises ValueError without a pause and an end."""
    pauses = [s for s in silences if s.pause_s is not None and s.pause_s >= LEAST_PAUSE_S]
    ends = [s for s in silences if s.pause_s is None]
    if not pauses or not ends:
        raise ValueError(f"a trade-off needs pauses and ends, got {len(pauses)} and {len(ends)}")
    cut = [s for s in pauses if s.pause_s is not None and wait_s(s) < s.pause_s]
    return Point(label, len(cut) / len(pauses), sum(map(wait_s, ends)) / len(ends))


def fixed(silences: Sequence[Silence], delays_s: Sequence[float]) -> list[Point]:
    """The curve of a plain timeout behind a detector that knows the voice's end at once."""
    return [point(f"{d:.2f} s", silences, lambda _, d=d: d) for d in delays_s]  # type: ignore[misc]


def thresholds(
    silences: Sequence[Silence], bars: Sequence[float], sure_s: float, timeout_s: float
) -> list[Point]:
    """A judge's curve: wait ``sure_s`` where P(end) reaches the bar, else the timeout."""
    return [
        point(
            f"P >= {bar:.2f}",
            silences,
            lambda s, bar=bar: sure_s if (s.p_end or 0.0) >= bar else timeout_s,  # type: ignore[misc]
        )
        for bar in bars
    ]


def best_delay(points: Sequence[Point], most_cut_ins: float) -> float | None:
    """The shortest delay with no more than so many cut-ins; None: no policy has."""
    fit = [p.delay_s for p in points if p.cut_ins <= most_cut_ins]
    return min(fit) if fit else None


def least_cut_ins(points: Sequence[Point], most_delay_s: float) -> float | None:
    """The fewest cut-ins within a delay; None: every policy is slower."""
    fit = [p.cut_ins for p in points if p.delay_s <= most_delay_s]
    return min(fit) if fit else None
