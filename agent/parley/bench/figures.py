"""The figures of a bench: samples, what they should be, and what they are.

A sample of None is a thing that should have happened and never did (an interruption that did not
stop the agent): it counts as worse than any number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Statistic = Literal["p50", "p95", "worst", "count", "mean"]
Verdict = Literal["OK", "MISS", "none"]


def percentile(samples: Sequence[float | None], p: float) -> float | None:
    """The smallest sample that at least ``p`` percent do not exceed (nearest rank); None when
    that is one that never happened. Raises ValueError without samples."""
    if not samples:
        raise ValueError("a percentile needs at least one sample")
    ordered = sorted(math.inf if s is None else s for s in samples)
    value = ordered[max(0, math.ceil(p / 100 * len(ordered)) - 1)]
    return None if math.isinf(value) else value


@dataclass(frozen=True)
class Goal:
    """``statistic`` of the samples is to be at most ``most``."""

    statistic: Statistic
    most: float
    why: str = ""
    """How ``most`` came about, as "T + 100"."""


@dataclass(frozen=True)
class Figure:
    """One row of the table."""

    name: str
    """Short and stable: the key in the JSON file."""
    what: str
    unit: str = "ms"
    samples: tuple[float | None, ...] = ()
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return len(self.samples)

    def value(self, statistic: Statistic) -> float | None:
        """None: there is no sample, or it never happened. ``count``: the sum of the samples."""
        if not self.samples:
            return None
        if statistic in ("count", "mean"):
            if any(s is None for s in self.samples):
                return None
            total = sum(s for s in self.samples if s is not None)
            return total if statistic == "count" else total / len(self.samples)
        return percentile(self.samples, {"p50": 50, "p95": 95, "worst": 100}[statistic])

    def reached(self, goal: Goal) -> bool | None:
        """None when nothing was measured."""
        if not self.samples:
            return None
        value = self.value(goal.statistic)
        return value is not None and value <= goal.most

    @property
    def verdict(self) -> Verdict:
        """``none``: without a goal, or without a sample."""
        if not self.goals or not self.samples:
            return "none"
        return "OK" if all(self.reached(goal) for goal in self.goals) else "MISS"

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> Figure:
        """What ``as_json`` has made of one. Raises KeyError, TypeError."""
        goals = tuple(Goal(g["statistic"], g["most"], g["why"]) for g in entry["goals"])
        return Figure(
            entry["name"],
            entry["what"],
            entry["unit"],
            tuple(entry["samples"]),
            goals,
            tuple(entry["notes"]),
            dict(entry["details"]),
        )

    def as_json(self) -> dict[str, Any]:
        values = {s: _rounded(self.value(s)) for s in ("p50", "p95", "worst", "count", "mean")}
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "n": self.n,
            **values,
            "goals": [
                {
                    "statistic": g.statistic,
                    "most": round(g.most, 3),
                    "why": g.why,
                    "reached": self.reached(g),
                }
                for g in self.goals
            ],
            "verdict": self.verdict,
            "samples": [_rounded(s) for s in self.samples],
            "notes": list(self.notes),
            "details": dict(self.details),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def shown(value: float | None, unit: str = "ms", *, measured: bool = True) -> str:
    """A number for people."""
    if value is None:
        return "never" if measured else "–"
    return f"{value:.0f}" if unit == "ms" or value == int(value) else f"{value:.2f}"
