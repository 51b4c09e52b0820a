"""Judges what a call costs: processor time, late ticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parley.bench.figures import Figure, Goal
from parley.bench.records import CallRecord

# --- cost -----------------------------------------------------------------------------------


def cost_figures(calls: Mapping[str, Sequence[CallRecord]]) -> list[Figure]:
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
