"""The table of goals for the console."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from parley.bench.figures import Figure, Goal

if TYPE_CHECKING:
    from rich.table import Table


def shown(figures: Sequence[Figure], conversations: Sequence[dict[str, Any]]) -> Table:
    """What, how often, how much, what it should be."""
    from rich.table import Table

    minutes = sum(c["seconds"] for c in conversations) / 60
    title = f"{len(conversations)} conversations, {minutes:.0f} minutes"
    made = Table(title=title, title_justify="left")
    for heading in ("what", "n", "P50", "P95", "worst", "mean", "goal", ""):
        made.add_column(heading, justify="left" if heading in ("what", "goal") else "right")
    colour = {"OK": "[green]OK[/]", "MISS": "[bold red]MISS[/]", "none": ""}
    for figure in figures:
        goals = ", ".join(goal(g, figure.unit) for g in figure.goals)
        made.add_row(figure.what, *cells(figure), goals, colour[figure.verdict])
    return made


def cells(figure: Figure) -> list[str]:
    """n, P50, P95, worst, mean as people read them."""
    if not figure.n:
        return ["0", "–", "–", "–", "–"]
    mean = figure.value("mean")
    if figure.unit == "%":
        hits = sum(1 for s in figure.samples if s)
        return [str(figure.n), "", "", f"{hits} times", f"{mean:.1f} %"]
    if figure.unit != "ms":
        return [str(figure.n), "", "", "", f"{figure.value('count'):.0f} {figure.unit}"]
    values = [_ms(figure.value(s)) for s in ("p50", "p95", "worst")]
    known = [s for s in figure.samples if s is not None]
    return [str(figure.n), *values, _ms(sum(known) / len(known) if known else None)]


def goal(one: Goal, unit: str) -> str:
    if one.statistic == "count":
        return "none"
    if one.statistic == "mean":
        return f"≤ {one.most:g} {unit}"
    return f"{one.statistic.upper()} ≤ {one.most:g}"


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"
