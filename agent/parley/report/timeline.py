"""Draws a conversation: both voices, the floor between them, acts, words.

One row per twenty seconds or so. From top to bottom of a row: the caller's words, the caller's
voice (upwards), the floor's states as a band with the acts marked on it, the agent's voice
(downwards), the words of the agent that were heard. Both voices are drawn linear, each scaled to
its own loud parts, so that ducking shows at its true depth.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from parley_speech.types import Pcm

from .events import (
    Event,
    Line,
    ducked_spans,
    floor_states,
    latencies,
    overlap_class,
)
from .layout import DPI, Lanes, clean, clock, common, envelope, scaled, short, tick_s
from .levels import HOP_MS, Span
from .theme import LIGHT, Theme, state_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW_S = 20.0
MOST_ROWS = 60
WIDTH_IN = 16.0
ROW_IN = 2.85
HEAD_IN = 0.9
LEGEND_ROW_IN = 0.24
LEGEND_COLUMNS = 13  # more entries share two rows, three, ... evenly
WORD_PT = 9.0
TEXT_PT = 10.5

# The row's vertical layout, in data units.
BAND = 0.11  # half the height of the floor's band
VOICE = 1.0  # height of a voice beyond the band
WORD_LANES = 3
LANE = 0.26
TOP = BAND + VOICE + 0.80
BOTTOM = -(BAND + VOICE + 0.12 + WORD_LANES * LANE)

# name of an act: (marker, size, place on the band: 1 its upper edge, -1 its lower edge)
ACT_MARKS: dict[str, tuple[str, float, int]] = {
    "duck": ("v", 62, 0),
    "unduck": ("^", 62, 0),
    "yield": ("X", 72, 0),
    "backchannel": ("D", 36, 0),
}


class DrawingUnavailable(RuntimeError):
    """matplotlib or jinja2 is missing; the message says how to get them."""


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn, on call time (seconds since t = 0)."""

    title: str
    caller: Pcm
    agent: Pcm
    rate_hz: int
    offset_s: float
    """Call time of the first sample of both voices."""
    events: Sequence[Event]
    lines: Sequence[Line]

    @property
    def end_s(self) -> float:
        last = max((event.t for event in self.events), default=0.0)
        return max(self.offset_s + self.caller.size / self.rate_hz, last + 0.2)


@dataclass(frozen=True, slots=True)
class Row:
    """Where a stretch of time is in the picture: fractions of its width and height, from the top
    left."""

    start_s: float
    end_s: float
    left: float
    right: float
    top: float
    bottom: float


def draw(scene: Scene, path: str | Path | IO[bytes], theme: Theme = LIGHT) -> list[Row]:
    """Writes the picture as PNG; gives where its rows are. Raises DrawingUnavailable."""
    figure_type, canvas_type = _matplotlib()
    begin = min(0.0, scene.offset_s)
    row_s, count = _rows(scene.end_s - begin)
    painter = _Painter(scene, theme)
    head = HEAD_IN + LEGEND_ROW_IN * painter.legend_rows
    height = head + count * ROW_IN + 0.1
    figure = figure_type(figsize=(WIDTH_IN, height), dpi=DPI, facecolor=theme.paper)
    canvas_type(figure)
    painter.head(figure, height)
    rows = []
    for i in range(count):
        top = height - head - i * ROW_IN
        box = (0.055, (top - ROW_IN + 0.38) / height, 0.935, (ROW_IN - 0.42) / height)
        axes = figure.add_axes(box)
        span = Span(begin + i * row_s, begin + (i + 1) * row_s)
        painter.row(axes, span)
        rows.append(
            Row(span.start_s, span.end_s, box[0], box[0] + box[2], 1 - box[1] - box[3], 1 - box[1])
        )
    with warnings.catch_warnings():
        # Someone may speak in a script that the font lacks; the page shows it in the browser's own.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure.savefig(path, dpi=DPI, facecolor=theme.paper)
    return rows


def _rows(length_s: float) -> tuple[float, int]:
    """Seconds per row and number of rows; a short call fills its one row."""
    if length_s <= ROW_S:
        return max(4.0, math.ceil(length_s)), 1
    row_s = max(ROW_S, math.ceil(length_s / MOST_ROWS))
    return row_s, math.ceil(length_s / row_s)


class _Painter:
    """Draws rows of one scene in one theme."""

    def __init__(self, scene: Scene, theme: Theme) -> None:
        self._scene = scene
        self._theme = theme
        self._times = scene.offset_s + np.arange(envelope(scene.caller, scene.rate_hz).size) * (
            HOP_MS / 1000
        )
        self._caller = scaled(envelope(scene.caller, scene.rate_hz))
        self._agent = scaled(envelope(scene.agent, scene.rate_hz))
        self._states = floor_states(scene.events, scene.end_s)
        self._ducked = ducked_spans(scene.events, scene.end_s)
        self._colours = state_colours([state for _, state in self._states], theme)

    # --- the head: title, figures, legend ---------------------------------------------------

    @property
    def legend_rows(self) -> int:
        return math.ceil(len(self._legend()) / LEGEND_COLUMNS)

    def head(self, figure: Figure, height: float) -> None:
        theme = self._theme

        def y(inches_from_top: float) -> float:
            return 1 - inches_from_top / height

        figure.text(
            0.055, y(0.42), clean(self._scene.title), fontsize=17, weight="bold", color=theme.ink,
            parse_math=False,
        )  # fmt: skip
        measured = latencies(self._scene.events)
        parts = [f"{m.name} {m.p50_ms:.0f} ms" for m in measured[:5]]
        summary = f"{clock(self._scene.end_s)} min" + (
            "   ·   P50: " + ",  ".join(parts) if parts else ""
        )
        figure.text(
            0.055, y(0.68), clean(summary), fontsize=10.5, color=theme.faint, parse_math=False
        )
        handles = self._legend()
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.049, y(0.76)),
            ncols=math.ceil(len(handles) / self.legend_rows),
            frameon=False, fontsize=9.5, labelcolor=theme.ink, handlelength=1.3,
            handletextpad=0.5, columnspacing=1.5, borderaxespad=0.0,
        )  # fmt: skip

    def _legend(self) -> list[Any]:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        theme = self._theme
        handles: list[Any] = [
            Patch(color=theme.caller, label="caller"),
            Patch(color=theme.agent, label="agent"),
        ]
        handles += [Patch(color=c, label=clean(f"floor: {s}")) for s, c in self._colours.items()]
        acts = {e.text("name").lower() for e in self._scene.events if e.kind == "act"}
        for name, (marker, _, _) in ACT_MARKS.items():
            if name in acts:
                handles.append(
                    Line2D([], [], marker=marker, color=theme.ink, ls="", ms=7, label=name)
                )
        if self._ducked:
            handles.append(
                Patch(facecolor="none", edgecolor=theme.agent, hatch="////", label="ducked")
            )
        kinds = {event.kind for event in self._scene.events}
        if "partial" in kinds:
            handles.append(
                Line2D([], [], marker="|", color=theme.caller, ls="", ms=7, label="partial result")
            )
        if "error" in kinds:
            handles.append(Line2D([], [], color=theme.error, lw=1.5, label="error"))
        return handles

    # --- a row ------------------------------------------------------------------------------

    def row(self, axes: Axes, span: Span) -> None:
        self._frame(axes, span)
        self._voices(axes, span)
        self._floor(axes, span)
        self._overlaps(axes, span)
        self._acts(axes, span)
        self._caller_words(axes, span)
        self._agent_words(axes, span)
        self._errors(axes, span)

    def _frame(self, axes: Axes, span: Span) -> None:
        theme = self._theme
        axes.set_xlim(span.start_s, span.end_s)
        axes.set_ylim(BOTTOM, TOP)
        axes.set_facecolor(theme.paper)
        axes.set_yticks([])
        ticks = np.arange(math.ceil(span.start_s), span.end_s + 0.01, tick_s(span.length_s))
        axes.set_xticks(ticks, [clock(float(t)) for t in ticks])
        axes.tick_params(axis="x", colors=theme.faint, labelsize=8.5, length=0, pad=3)
        axes.vlines(ticks, BOTTOM, TOP, color=theme.grid, lw=0.8, zorder=0)
        for side in axes.spines.values():
            side.set_visible(False)
        for y, name, colour in (
            (BAND + VOICE / 2, "caller", theme.caller),
            (-BAND - VOICE / 2, "agent", theme.agent),
        ):
            axes.annotate(
                name, (0, y), xycoords=("axes fraction", "data"), xytext=(-10, 0),
                textcoords="offset points", ha="right", va="center", fontsize=11, color=colour,
                weight="bold",
            )  # fmt: skip

    def _voices(self, axes: Axes, span: Span) -> None:
        theme = self._theme
        inside = (self._times >= span.start_s - 0.02) & (self._times <= span.end_s + 0.02)
        t = self._times[inside]
        up, down = BAND + 0.02, -BAND - 0.02
        axes.fill_between(t, up, up + self._caller[inside] * VOICE, color=theme.caller, lw=0)
        axes.fill_between(t, down, down - self._agent[inside] * VOICE, color=theme.agent, lw=0)
        for ducked in self._ducked:
            part = common(ducked, span)
            if part:
                axes.fill_between(
                    [part.start_s, part.end_s], down, down - VOICE, facecolor="none",
                    edgecolor=theme.agent, hatch="////", lw=0, alpha=0.28, zorder=1,
                )  # fmt: skip

    def _floor(self, axes: Axes, span: Span) -> None:
        for states, state in self._states:
            part = common(states, span)
            if part:
                axes.fill_between(
                    [part.start_s, part.end_s], -BAND, BAND, color=self._colours[state], lw=0
                )
        axes.hlines(
            (-BAND, BAND),
            span.start_s,
            min(span.end_s, self._scene.end_s),
            color=self._theme.grid,
            lw=0.6,
        )

    def _acts(self, axes: Axes, span: Span) -> None:
        for event in self._within(span, "act"):
            name = event.text("name").lower()
            if name in ACT_MARKS:
                marker, size, _ = ACT_MARKS[name]
                axes.scatter(
                    [event.t], [0], marker=marker, s=size, color=self._theme.ink,
                    edgecolors=self._theme.paper, linewidths=0.8, zorder=6, clip_on=False,
                )  # fmt: skip
            else:
                axes.vlines(event.t, -BAND, BAND, color=self._theme.ink, lw=0.9, alpha=0.55)

    def _overlaps(self, axes: Axes, span: Span) -> None:
        lanes = Lanes(1, axes, span)
        for event in self._within(span, "overlap"):
            p = event.number("p")
            label = clean(overlap_class(event) + ("" if p is None else f" {p:.2f}"))
            x, _ = lanes.place(event.t + 0.06, label, WORD_PT)
            axes.text(
                x, BAND + VOICE - 0.02, label, fontsize=WORD_PT, style="italic", va="top",
                color=self._theme.ink, parse_math=False, zorder=7, clip_on=True,
                bbox={"facecolor": self._theme.paper, "alpha": 0.88, "lw": 0, "pad": 1.2},
            )  # fmt: skip
            axes.vlines(event.t, 0, BAND + VOICE, color=self._theme.faint, lw=0.9, ls=(0, (3, 2)))

    def _caller_words(self, axes: Axes, span: Span) -> None:
        partials = [event.t for event in self._within(span, "partial")]
        y = BAND + VOICE + 0.10
        axes.scatter(
            partials,
            [y] * len(partials),
            marker="|",
            s=34,
            color=self._theme.caller,
            lw=1,
            alpha=0.75,
        )
        lanes = Lanes(2, axes, span)
        for line in self._scene.lines:
            if line.who != "caller" or not span.start_s <= line.start_s < span.end_s:
                continue
            text = short(clean(line.text), 90)
            x, lane = lanes.place(line.start_s, text, TEXT_PT)
            axes.text(
                x, y + 0.13 + lane * 0.28, text, fontsize=TEXT_PT, color=self._theme.caller,
                va="bottom", weight="bold", parse_math=False,
            )  # fmt: skip

    def _agent_words(self, axes: Axes, span: Span) -> None:
        theme = self._theme
        top = -BAND - VOICE - 0.12
        lanes = Lanes(WORD_LANES, axes, span)
        words = [(e.t, clean(e.text("text")), False) for e in self._within(span, "agent_word")]
        cuts = [
            (line.end_s, line) for line in self._scene.lines if line.who == "agent" and line.cut
        ]
        words += [
            (t, short(clean(line.unheard), 40), True)
            for t, line in cuts
            if span.start_s <= t < span.end_s
        ]
        for t, text, unheard in sorted(words):
            if unheard:
                text = f"✂ {text}"
            x, lane = lanes.place(t, text, WORD_PT)
            axes.text(
                x, top - lane * LANE, text, fontsize=WORD_PT, va="top", parse_math=False,
                color=theme.faint if unheard else theme.ink,
                style="italic" if unheard else "normal",
            )  # fmt: skip
            if not unheard:
                axes.vlines(
                    t, top - lane * LANE + 0.01, top + 0.10, color=theme.agent, lw=0.7, alpha=0.5
                )

    def _errors(self, axes: Axes, span: Span) -> None:
        for event in self._within(span, "error"):
            text = next(
                (event.text(n) for n in ("message", "error", "text", "what") if event.text(n)),
                "error",
            )
            axes.vlines(event.t, BOTTOM, TOP, color=self._theme.error, lw=1.5, zorder=8)
            axes.annotate(
                short(clean(text), 60), (event.t, BAND + VOICE * 0.55), xytext=(4, 0),
                textcoords="offset points", fontsize=WORD_PT, color=self._theme.error,
                weight="bold", parse_math=False, zorder=8,
                bbox={"facecolor": self._theme.paper, "alpha": 0.85, "lw": 0, "pad": 1.5},
            )  # fmt: skip

    def _within(self, span: Span, kind: str) -> list[Event]:
        return [
            e for e in self._scene.events if e.kind == kind and span.start_s <= e.t < span.end_s
        ]


def _matplotlib() -> tuple[type[Figure], Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DrawingUnavailable(
            "Drawing a conversation needs matplotlib: pip install 'parley[report]'."
        ) from error
    return Figure, FigureCanvasAgg
