"""How long this user pauses before going on: learnt from the pauses of the call so far.

A pause is taken to last exponentially long, its mean unknown: with a gamma prior on its rate the
best guess is a mean over what was seen and ``PRIOR`` pauses as they are usual. Only what goes
beyond the silence that makes a pause counts (an exponential has no memory of it).
"""

from __future__ import annotations

from dataclasses import dataclass

PRIOR = 6.0
"""The usual weighs as much as so many of the user's own pauses."""
CUT_INTO = 3.0
"""What a pause counts that the agent has spoken into: those that it waited out are the short ones,
so these have to stand for all that were not seen."""
LEAST, MOST = 0.8, 2.0
"""Bounds of the guess, in usual pauses."""


@dataclass(frozen=True, slots=True)
class PauseHabit:
    """One user's. ``usual_ms`` is the mean before anything is known."""

    usual_ms: float
    seen: float = 0.0
    total_ms: float = 0.0

    @property
    def mean_ms(self) -> float:
        """The guess, between ``LEAST`` and ``MOST`` times the usual."""
        mean = (PRIOR * self.usual_ms + self.total_ms) / (PRIOR + self.seen)
        return min(max(mean, LEAST * self.usual_ms), MOST * self.usual_ms)

    def after(self, beyond_ms: float, *, cut_into: bool = False) -> PauseHabit:
        """One more pause was seen: by how much it outlasted the silence that makes a pause."""
        weight = CUT_INTO if cut_into else 1.0
        beyond_ms = max(0.0, beyond_ms)
        return PauseHabit(self.usual_ms, self.seen + weight, self.total_ms + weight * beyond_ms)
