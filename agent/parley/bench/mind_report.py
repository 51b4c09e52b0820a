"""The mind's figures for people and programs: a table, ``mind.json``, a picture, a page."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parley.bench.figures import Figure, Goal
from parley.bench.mind_calibration import Curve
from parley.bench.report import machine
from parley.report.theme import LIGHT
from parley.report.timeline import DrawingUnavailable

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class MindRun:
    """What was measured, on what."""

    figures: Sequence[Figure]
    curves: dict[str, Curve]
    """Calibration curves by title."""
    server: str
    seconds: float
    quick: bool = False
    about: dict[str, Any] = field(default_factory=machine)
    failed: Mapping[str, str] = field(default_factory=dict)
    """Parts that could not be measured, and why."""
    since: str = ""
    """When the oldest of these figures was measured; empty: all of them in this run."""

    @property
    def missed(self) -> list[Figure]:
        return [figure for figure in self.figures if figure.verdict == "MISS"]

    def with_earlier(self, folder: Path) -> MindRun:
        """This run, and what it has not measured from an earlier one of the same kind whose
        results are in ``folder``: the parts of the bench may be run one by one."""
        earlier = read(folder)
        if earlier is None or (earlier.server, earlier.quick) != (self.server, self.quick):
            return self
        mine = {figure.name for figure in self.figures}
        kept = [figure for figure in earlier.figures if figure.name not in mine]
        curves = {**earlier.curves, **self.curves}
        if not kept and len(curves) == len(self.curves):
            return self
        since = earlier.since or str(earlier.about.get("when", ""))
        return replace(self, figures=[*kept, *self.figures], curves=curves, since=since)


def cells(figure: Figure) -> list[str]:
    """n, mean, P50, P95, worst."""
    values = [figure.value(s) for s in ("mean", "p50", "p95", "worst")]
    return [str(figure.n), *(_number(v, figure.unit) if figure.n else "" for v in values)]


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "never"
    return f"{value:.0%}" if unit == "share" else f"{value:.1f}" if unit == "ms" else f"{value:g}"


def goal_text(goal: Goal) -> str:
    return goal.why if goal.statistic == "count" else f"{goal.statistic} ≤ {goal.why}"


def table(run: MindRun) -> Table:
    """For the console; ``notes`` go below it, where they have room."""
    from rich import box
    from rich.table import Table

    made = Table(
        title=f"the mind on {run.server}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1)
    )
    for heading in ("what", "n", "mean", "P50", "P95", "worst", "goal", ""):
        left = heading in ("what", "goal")
        made.add_column(
            heading,
            justify="left" if left else "right",
            min_width=24 if heading == "what" else None,
            no_wrap=not left,
        )
    colour = {"OK": "[green]OK[/]", "MISS": "[bold red]MISS[/]", "none": ""}
    for figure in run.figures:
        goals = "\n".join(map(goal_text, figure.goals))
        made.add_row(figure.what, *cells(figure), goals, colour[figure.verdict])
    return made


def notes(run: MindRun) -> list[str]:
    """What belongs to the figures, a line each."""
    return [f"{figure.what}: {'; '.join(figure.notes)}" for figure in run.figures if figure.notes]


def write(folder: Path, run: MindRun) -> list[Path]:
    """``mind.json``, ``mind.png`` and ``mind.html``. Raises DrawingUnavailable without the
    ``report`` extra, when the first is written."""
    folder.mkdir(parents=True, exist_ok=True)
    data, picture, page = (folder / f"mind.{kind}" for kind in ("json", "png", "html"))
    data.write_text(json.dumps(as_json(run), ensure_ascii=False, indent=1), encoding="utf-8")
    written = [data]
    if run.curves:
        draw(run, picture)
        written.append(picture)
    page.write_text(_page(run, picture if run.curves else None), encoding="utf-8")
    return [*written, page]


def read(folder: Path) -> MindRun | None:
    """What ``write`` has left there; None where there is nothing that can be read."""
    try:
        found = json.loads((folder / "mind.json").read_text(encoding="utf-8"))
        return MindRun(
            [Figure.from_json(entry) for entry in found["figures"]],
            {title: Curve.from_json(entry) for title, entry in found["calibration"].items()},
            found["server"],
            found["seconds"],
            found["quick"],
            found["machine"],
            since=found["since"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def as_json(run: MindRun) -> dict[str, Any]:
    return {
        "bench": "mind",
        "server": run.server,
        "quick": run.quick,
        "since": run.since,
        "failed": dict(run.failed),
        "seconds": round(run.seconds, 1),
        "machine": run.about,
        "figures": [figure.as_json() for figure in run.figures],
        "calibration": {title: asdict(curve) for title, curve in run.curves.items()},
    }


def draw(run: MindRun, path: Path) -> None:
    """Calibration curves: what was said against what was so, dots as large as they are many."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Picture
    except ImportError as error:
        raise DrawingUnavailable(
            "The bench's picture needs matplotlib: pip install 'parley[report]'."
        ) from error
    columns = min(2, len(run.curves))
    rows = -(-len(run.curves) // columns)
    picture = Picture(figsize=(4.4 * columns, 4.2 * rows), dpi=110, facecolor=LIGHT.paper)
    FigureCanvasAgg(picture)
    for place, (title, curve) in enumerate(run.curves.items()):
        axes = picture.add_subplot(rows, columns, place + 1, facecolor=LIGHT.paper)
        axes.plot([0, 1], [0, 1], color=LIGHT.faint, lw=1, ls=(0, (4, 2)))
        said, true = [p.said for p in curve.points], [p.true for p in curve.points]
        sizes = [12 + 160 * p.n / max(1, curve.n) for p in curve.points]
        for point in curve.points:
            low, high = point.interval
            axes.plot([point.said] * 2, [low, high], color=LIGHT.agent, lw=1, alpha=0.35)
        axes.plot(said, true, color=LIGHT.agent, lw=1.2, alpha=0.6)
        axes.scatter(said, true, s=sizes, color=LIGHT.agent, zorder=3)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(f"{title}\nerror {curve.error:.3f}, n={curve.n}", fontsize=9)
        axes.set_xlabel("probability that was said", fontsize=8)
        axes.set_ylabel("share that was so" if place % columns == 0 else "", fontsize=8)
        axes.tick_params(labelsize=8, colors=LIGHT.ink)
        axes.grid(color=LIGHT.grid, lw=0.8)
        axes.set_axisbelow(True)
    picture.tight_layout()
    picture.savefig(path, facecolor=LIGHT.paper)


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;"
    "border-bottom:1px solid #e3e6ea;vertical-align:top}.note{color:#667;font-size:.85em}"
    ".OK{color:#0a7a3b;font-weight:600}.MISS{color:#b3261e;font-weight:700}img{max-width:100%}"
)


def _page(run: MindRun, picture: Path | None) -> str:
    rows = "\n".join(_row(figure) for figure in run.figures)
    heads = "".join(f"<th>{h}</th>" for h in ("what", "n", "mean", "P50", "P95", "worst", "goal"))
    image = ""
    if picture is not None:
        data = base64.b64encode(picture.read_bytes()).decode("ascii")
        image = (
            "<h2>Calibration of judgements</h2><p class='note'>A dot is a tenth of the scale, as "
            "large as it has examples, its bar where the true share lies in 90 of 100 cases; on "
            "the dashed line, what is said is so. Held-out examples."
            f"</p><img alt='Calibration curves' src='data:image/png;base64,{data}'>"
        )
    about = html.escape(
        f"{run.about['when']}, {run.about['cores']} cores, load {run.about['load_average']}, "
        f"{run.server}, {run.seconds:.0f} s{', quick' if run.quick else ''}"
        + (f", the oldest figure of {run.since}" if run.since else "")
    )
    failed = "".join(
        f"<p class='MISS'>{html.escape(f'{part} failed: {why}')}</p>"
        for part, why in run.failed.items()
    )
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Parley: the bench of "
        f"the mind</title><style>{_STYLE}</style></head><body><h1>The mind on vLLM</h1>"
        f"<p>{about}</p>{failed}<table><thead><tr>{heads}<th></th></tr></thead><tbody>{rows}</tbody>"
        f"</table>{image}</body></html>\n"
    )


def _row(figure: Figure) -> str:
    notes = "".join(f"<br><span class='note'>{html.escape(note)}</span>" for note in figure.notes)
    numbers = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(figure))
    goals = html.escape("; ".join(map(goal_text, figure.goals)))
    verdict = "" if figure.verdict == "none" else figure.verdict
    return (
        f"<tr><td>{html.escape(figure.what)}{notes}</td>{numbers}<td>{goals}</td>"
        f"<td class='{verdict}'>{verdict}</td></tr>"
    )
