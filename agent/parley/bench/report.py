"""The bench's results for people and programs: a table, ``room.json``, a picture, a page."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parley.bench.figures import Figure, Goal, Statistic, shown
from parley.bench.judge import ratios
from parley.report.template import template
from parley.report.theme import LIGHT
from parley.report.timeline import DrawingUnavailable

if TYPE_CHECKING:
    from rich.table import Table

PACKAGES = (
    "parley",
    "livekit",
    "livekit-agents",
    "livekit-plugins-silero",
    "numpy",
    "onnxruntime",
    "pocketsphinx",
    "webrtcvad-wheels",
)
STATISTICS: tuple[tuple[Statistic, str], ...] = (
    ("p50", "P50"),
    ("p95", "P95"),
    ("worst", "worst"),
)
DRAWN = ("trip", "reply", "ducked", "silent", "ducked_early", "silent_early", "sound_ducked")
"""Figures of the picture that have a distribution worth seeing, and the stock session's."""
DRAWN_STOCK = ("stock_ducked", "stock_silent")
CALLER_LATE_MS = 60.0
"""A caller whose frames are this late disturbs the room: jitter buffers then grow for seconds."""
RATES = ("cpu", "cpu_open", "late_ticks")
"""Figures whose samples are rates, one a call or one at all."""


@dataclass(frozen=True)
class Run:
    """What was measured, on what."""

    figures: Sequence[Figure]
    seed: int
    seconds: float
    failures: Sequence[str] = ()
    quick: bool = False
    about: dict[str, Any] = field(default_factory=lambda: machine())

    def named(self, name: str) -> Figure | None:
        return next((f for f in self.figures if f.name == name), None)

    @property
    def trip_ms(self) -> float | None:
        trip = self.named("trip")
        return trip.value("p50") if trip is not None else None

    @property
    def disturbed(self) -> str:
        """Why these figures say little about the agent; empty when they do."""
        late = self.named("caller_late")
        worst = late.value("p50") if late is not None else None
        if worst is None or worst <= CALLER_LATE_MS:
            return ""
        return (
            "The machine was busy with other work: in half of the calls the caller's own "
            f"microphone stood still for {worst:.0f} ms or longer. These figures tell more about "
            "that than about the agent; repeat them when it is quiet."
        )

    @property
    def missed(self) -> list[Figure]:
        return [f for f in self.figures if f.verdict == "MISS"]


def machine() -> dict[str, Any]:
    """Where this ran: what a figure depends on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load_average": [round(x, 2) for x in load],
        "versions": versions,
    }


# --- numbers --------------------------------------------------------------------------------


def cells(figure: Figure) -> list[str]:
    """n, P50, P95, worst as people read them."""
    if figure.name in RATES:
        mean = figure.value("mean")
        worst = figure.value("worst")
        return [str(figure.n), _rate(mean), "", _rate(worst)]
    if figure.unit != "ms":
        total = figure.value("count") if figure.n else None
        return [str(figure.n), "" if total is None else f"{total:.0f} in all", "", ""]
    values = (figure.value(statistic) for statistic, _ in STATISTICS)
    return [str(figure.n), *(shown(value, measured=bool(figure.n)) for value in values)]


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}" if value < 1 else f"{value:.1f}"


def goal_text(goal: Goal, unit: str) -> str:
    if goal.statistic == "count":
        return "none"
    if goal.statistic == "mean":
        return f"≤ {goal.why}"
    return f"{goal.statistic.upper()} ≤ {goal.most:.0f} ({goal.why})"


def table(run: Run) -> Table:
    """For the console."""
    from rich.table import Table

    trip = run.trip_ms
    title = "heard by the caller in a real room"
    made = Table(title=title, title_justify="left", caption_justify="left")
    if trip is not None:
        made.caption = f"T = {trip:.0f} ms, the room's own round trip in this run (median click)"
        if host := run.about.get("host"):
            made.caption += f"; {host}"
    for heading in ("what", "n", "P50", "P95", "worst", "goal", ""):
        made.add_column(heading, justify="left" if heading in ("what", "goal") else "right")
    colour = {"OK": "[green]OK[/]", "MISS": "[bold red]MISS[/]", "none": ""}
    for figure in run.figures:
        what = "\n  ".join([_what(figure), *figure.notes])
        goals = "\n".join(goal_text(goal, figure.unit) for goal in figure.goals)
        made.add_row(what, *cells(figure), goals, colour[figure.verdict])
    return made


def _what(figure: Figure) -> str:
    return figure.what if figure.unit == "ms" else f"{figure.what} ({figure.unit})"


def comparison(run: Run) -> Table | None:
    """With a stock session; None when it was not run."""
    from rich.table import Table

    rows = ratios(run.figures)
    if not rows:
        return None
    made = Table(title="beside a stock AgentSession", title_justify="left")
    for heading in ("what", "Parley", "stock", "stock / Parley"):
        made.add_column(heading, justify="left" if heading == "what" else "right")
    for what, ours, theirs in rows:
        ratio = f"{theirs / ours:.1f}" if ours and theirs is not None else "–"
        made.add_row(what, *(_number(v) for v in (ours, theirs)), ratio)
    return made


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.2f}"


# --- files ----------------------------------------------------------------------------------


def write(folder: Path, run: Run) -> list[Path]:
    """``room.json``, ``room.png`` and ``report.html``; the last two need the ``report`` extra.

    Raises DrawingUnavailable without it, when the first is written."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "room.json"
    data.write_text(json.dumps(as_json(run), ensure_ascii=False, indent=1), encoding="utf-8")
    picture = folder / "room.png"
    draw(run, picture)
    page = folder / "report.html"
    page.write_text(_page(run, picture), encoding="utf-8")
    return [data, picture, page]


def as_json(run: Run) -> dict[str, Any]:
    return {
        "bench": "room",
        "trip_ms": run.trip_ms,
        "seed": run.seed,
        "quick": run.quick,
        "seconds": round(run.seconds, 1),
        "machine": run.about,
        "failures": list(run.failures),
        "disturbed": run.disturbed,
        "figures": [figure.as_json() for figure in run.figures],
        "comparison": [
            {"what": what, "parley": ours, "stock": theirs}
            for what, ours, theirs in ratios(run.figures)
        ],
    }


def draw(run: Run, path: Path) -> None:
    """Every sample as a point in a strip of its figure; goals as lines, medians as bars."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Picture
    except ImportError as error:
        raise DrawingUnavailable(
            "The bench's picture needs matplotlib: pip install 'parley[report]'."
        ) from error
    strips = [f for name in (*DRAWN, *DRAWN_STOCK) if (f := run.named(name)) and f.samples]
    picture = Picture(figsize=(11, 0.9 + 0.72 * len(strips)), dpi=110, facecolor=LIGHT.paper)
    FigureCanvasAgg(picture)
    axes = picture.add_axes((0.36, 0.9 / (1.6 + len(strips)), 0.6, 0.86), facecolor=LIGHT.paper)
    most = max((s for f in strips for s in f.samples if s is not None), default=1.0)
    most = max([most, *(g.most for f in strips for g in f.goals)]) * 1.12
    for row, figure in enumerate(strips):
        _strip(axes, figure, -row, most)
    axes.set_xlim(0, most)
    axes.set_ylim(-len(strips) + 0.4, 0.6)
    axes.set_yticks(range(0, -len(strips), -1), [_label(f) for f in strips])
    axes.tick_params(axis="both", colors=LIGHT.ink, labelsize=9, length=0)
    axes.set_xlabel("ms (× at the right edge: never)", color=LIGHT.ink, fontsize=9)
    axes.grid(axis="x", color=LIGHT.grid, lw=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    picture.savefig(path, facecolor=LIGHT.paper)


def _label(figure: Figure) -> str:
    words = f"{figure.what} (n={figure.n})".split(" ")
    half = next(
        i for i in range(1, len(words) + 1) if len(" ".join(words[:i])) >= 28 or i == len(words)
    )
    return "\n".join(part for part in (" ".join(words[:half]), " ".join(words[half:])) if part)


def _strip(axes: Any, figure: Figure, y: float, most: float) -> None:
    colour = LIGHT.caller if figure.name.startswith("stock") else LIGHT.agent
    known = [s for s in figure.samples if s is not None]
    never = figure.n - len(known)
    heights = [y + 0.22 * (((i * 7) % 11) / 5 - 1) for i in range(len(known))]
    axes.scatter(known, heights, s=16, color=colour, alpha=0.55, lw=0, zorder=3)
    heights = [y + 0.22 * (((i * 7) % 11) / 5 - 1) for i in range(never)]
    axes.scatter([most * 0.985] * never, heights, s=26, marker="x", color=LIGHT.error, zorder=4)
    median = figure.value("p50")
    if median is not None:
        axes.vlines(median, y - 0.32, y + 0.32, color=LIGHT.ink, lw=2, zorder=5)
    for goal in figure.goals:
        met = figure.reached(goal)
        axes.vlines(goal.most, y - 0.4, y + 0.4, color=LIGHT.error, lw=1.4, ls=(0, (4, 2)))
        name = f"{goal.statistic.upper()} {'✓' if met else '✗'}"
        up = goal.statistic == "p50"
        axes.text(
            goal.most,
            y + (0.4 if up else -0.4),
            f" {name}",
            fontsize=7.5,
            color=LIGHT.error,
            va="top" if up else "bottom",
        )


def _page(run: Run, picture: Path) -> str:
    page = template(Path(__file__).parent, "The bench's page")
    rows = [
        {
            "what": _what(figure),
            "notes": figure.notes,
            "cells": cells(figure),
            "goals": [goal_text(goal, figure.unit) for goal in figure.goals],
            "verdict": figure.verdict,
        }
        for figure in run.figures
    ]
    image = base64.b64encode(picture.read_bytes()).decode("ascii")
    return page.render(
        run=run,
        rows=rows,
        image=f"data:image/png;base64,{image}",
        comparison=[(what, _number(a), _number(b)) for what, a, b in ratios(run.figures)],
        details=[(f, f.details["rows"]) for f in run.figures if f.details.get("rows")],
    )
