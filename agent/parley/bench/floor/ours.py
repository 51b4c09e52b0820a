"""Metrics of our own: what a context, a resume and a guess are worth.

The definitions: docs/bench_floor.md. They need the agent's own account of what it did, so they are
not for every system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Waste:
    """What was guessed and thrown away."""

    guesses: int
    kept: int
    discarded: int

    @property
    def share(self) -> float | None:
        """Of the guesses, those in vain."""
        return self.discarded / self.guesses if self.guesses else None

    @property
    def per_turn(self) -> float | None:
        """Guesses in vain for each reply that was given."""
        return self.discarded / self.kept if self.kept else None


def waste(conversations: Sequence[Mapping[str, Any]]) -> Waste:
    return Waste(
        *(sum(c[k] for c in conversations) for k in ("speculated", "committed", "discarded"))
    )


def heard_errors(agent: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """(words by which contexts differ from what was heard, replies whose context is known)."""
    known = [a for a in agent if a["heard"] is not None]
    return sum(a["heard_error"] for a in known), len(known)


def lost_samples(agent: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """(samples left out, samples played twice) over all replies."""
    slips = [s for a in agent for s in a["slips"]]
    return sum(s for s in slips if s > 0), -sum(s for s in slips if s < 0)


def ducked_for_nothing_ms(moves: Sequence[Sequence[Any]]) -> list[int]:
    """How long each overlap that was no interruption lowered the agent: Duck to Unduck."""
    since: int | None = None
    found = []
    for t_ms, act, _ in moves:
        if act == "Duck":
            since = t_ms
        elif act in ("Unduck", "Yield") and since is not None:
            if act == "Unduck":
                found.append(t_ms - since)
            since = None
    return found
