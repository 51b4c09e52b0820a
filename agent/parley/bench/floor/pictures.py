"""Pictures of a run: how times are distributed, and what quick answers cost in cut-ins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

from parley.report.theme import LIGHT
from parley.report.timeline import DrawingUnavailable

DRAWN = ("answer", "answer_desk", "ducked", "silent")
MOST_MS = 1600.0


def distributions(runs: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG: each figure's share of samples below a time, a line for each run; dashed lines are
    goals. What never happened never comes into a line: it ends below 100 %."""
    picture, draw = _picture(11, 6.4)
    for place, name in enumerate(DRAWN):
        axes = picture.add_subplot(2, 2, place + 1)
        for run in runs:
            figure = next((f for f in run["figures"] if f["name"] == name), None)
            if figure is not None and figure["samples"]:
                _share(axes, figure, run["system"])
                axes.set_title(f"{figure['what']} (n={figure['n']})", fontsize=9, color=LIGHT.ink)
        axes.set_xlim(0, MOST_MS if name.startswith("answer") else 800)
        axes.set_ylim(0, 101)
        _plain(axes, "ms", "% of samples")
        if len(runs) > 1:
            axes.legend(fontsize=8, frameon=False)
    return draw()


def _share(axes: Any, figure: Mapping[str, Any], label: str) -> None:
    known = sorted(s for s in figure["samples"] if s is not None)
    n = len(figure["samples"])
    axes.step(known, [100 * (i + 1) / n for i in range(len(known))], where="post", label=label)
    for goal in figure["goals"]:
        share = {"p50": 50, "p95": 95}.get(goal["statistic"])
        if share is not None:
            colour = "#0a7a3b" if goal["reached"] else LIGHT.error
            axes.plot([goal["most"]] * 2, [0, share], color=colour, ls=(0, (4, 2)), lw=1.2)
            axes.plot([0, goal["most"]], [share] * 2, color=colour, ls=(0, (4, 2)), lw=0.7)


def trade_off(runs: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG: cut-ins against delay; the line is a timeout that knows the voice's end at once."""
    picture, draw = _picture(8, 4.6)
    axes = picture.add_subplot(1, 1, 1)
    curve = runs[0]["sweep"]["fixed"]
    axes.plot(
        [p["delay_s"] * 1000 for p in curve],
        [p["cut_ins"] * 100 for p in curve],
        color=LIGHT.faint,
        label="any fixed timeout",
    )
    for run in runs:
        for point in run["sweep"]["points"]:
            x, y = point["delay_s"] * 1000, point["cut_ins"] * 100
            axes.scatter([x], [y], s=44, zorder=3)
            axes.annotate(f" {run['system']}: {point['label']}", (x, y), fontsize=8)
    axes.plot([0, 200, 200], [5, 5, 0], color=LIGHT.error, ls=(0, (4, 2)), lw=1, label="goal")
    axes.set_xlim(0, 1600)
    axes.set_ylim(0, 101)
    axes.legend(fontsize=8, frameon=False)
    _plain(axes, "median delay of the answer, ms", "pauses in which the agent cut in, %")
    return draw()


def _picture(width: float, height: float) -> tuple[Any, Callable[[], bytes]]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DrawingUnavailable(
            "The bench's pictures need matplotlib: pip install 'parley[report]'."
        ) from error
    picture = Figure(figsize=(width, height), dpi=110, facecolor=LIGHT.paper, layout="tight")
    FigureCanvasAgg(picture)

    def draw() -> bytes:
        out = BytesIO()
        picture.savefig(out, format="png", facecolor=LIGHT.paper)
        return out.getvalue()

    return picture, draw


def _plain(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=8, color=LIGHT.ink)
    axes.set_ylabel(y, fontsize=8, color=LIGHT.ink)
    axes.tick_params(colors=LIGHT.ink, labelsize=8, length=0)
    axes.grid(color=LIGHT.grid, lw=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
