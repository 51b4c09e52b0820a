"""Small parts of the picture: where texts go, how high a voice is drawn, how a time reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from parley_speech.types import Pcm

from .levels import HOP_MS, Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 110


class Lanes:
    """Puts texts side by side where there is room, else in the next lane, else a bit later."""

    def __init__(self, count: int, axes: Axes, span: Span) -> None:
        box = axes.get_window_extent()
        self._s_per_px = span.length_s / box.width
        self._end = span.end_s
        self._free = [-math.inf] * count

    def place(self, at: float, text: str, points: float) -> tuple[float, int]:
        """(x, lane) for a text that wants to begin at ``at``."""
        width = (len(text) * 0.60 * points + 5) * DPI / 72 * self._s_per_px
        x = min(at, self._end - width)
        lane = next((i for i, free in enumerate(self._free) if free <= x), None)
        if lane is None:
            lane = min(range(len(self._free)), key=self._free.__getitem__)
            x = self._free[lane]
        self._free[lane] = x + width
        return x, lane


def envelope(pcm: Pcm, rate_hz: int) -> NDArray[np.float64]:
    """The peak of each hop, (hops,), 0..1."""
    hop = rate_hz * HOP_MS // 1000
    if pcm.size == 0:
        return np.zeros(0)
    peaks = np.maximum.reduceat(np.abs(pcm.astype(np.int32)), np.arange(0, pcm.size, hop))
    return peaks / 32768.0


def scaled(envelope: NDArray[np.float64]) -> NDArray[np.float64]:
    """Its loud parts reach 1; a side that is almost silent stays small."""
    loud = envelope[envelope > 0.01]
    top = float(np.percentile(loud, 98)) if loud.size else 1.0
    return np.minimum(envelope / max(top, 0.05), 1.0)


def common(a: Span, b: Span) -> Span | None:
    start, end = max(a.start_s, b.start_s), min(a.end_s, b.end_s)
    return Span(start, end) if end > start else None


def clean(text: str) -> str:
    """Text as one line of characters that a font can draw."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def tick_s(length_s: float) -> float:
    return 1.0 if length_s <= 30 else 5.0


def clock(t: float) -> str:
    """m:ss"""
    return f"{int(t) // 60}:{int(t) % 60:02d}"
