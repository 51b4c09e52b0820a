"""How a stretch of voice ended: one vector of prosody for each pause.

What phonetics knows of the ends of turns (Local, Kelly & Wells 1986; Gravano & Hirschberg 2011):
the pitch falls to the bottom of the speaker's range, or rises far; the last syllable is long and
the level decays slowly. Somebody who goes on keeps the pitch level or lets it rise a little, and
stops more suddenly. Timbre is left out: it told synthetic voices' ends apart and misled on recorded
ones.

Pitch counts from the speaker's own median and level from the loudest frame, so neither the voice
nor the gain of the line matters. Times are frames of 20 ms. Pure: raw vectors in, a vector out.
"""

from __future__ import annotations

import numpy as np
import numpy.ma  # np.median's first use does it: 70 ms in the middle of a call
from numpy.typing import NDArray

from parley_speech.overlap_features import LEVEL, PERIODIC, PITCH, FloatArray

FRAMES = 150
"""3 s: what lies further back says nothing about the end."""
SOUNDS = 7.8
"""Nats (34 dB) below the loudest frame: what is softer is no sound of this voice any more."""
PITCHED = 0.55
"""How periodic a frame with a pitch is."""
PITCHED_LEVEL = 6.5
"""... and how far below the loudest, at most."""
LEAST = 5
"""Frames with sound: a shorter stretch has no prosody."""

NAMES = (
    "pitch_end", "pitch_lowest", "pitch_highest", "slope_200", "slope_500", "pitch_step",
    "pitch_range", "level_slope_300", "decay", "nucleus", "lengthening", "length",
)  # fmt: skip
SIZE = len(NAMES)
_FAR = 1.0
"""Octaves from the median beyond which a pitch is an error of the tracker."""


def describe(raw: FloatArray, median: float | None = None) -> FloatArray | None:
    """(n, overlap_features.SIZE) vectors from the stretch's first frame to the detector's end of
    it; ``median`` is the speaker's pitch in octaves from 160 Hz, None: that of the stretch.

    Gives (SIZE,) in the order of ``NAMES``; None when there is too little sound."""
    raw = raw[-FRAMES:]
    level = raw[:, LEVEL].max(1)
    peak = float(level.max(initial=-np.inf))
    sounding = np.flatnonzero(level > peak - SOUNDS)
    if len(sounding) < LEAST:
        return None
    raw, level = raw[: sounding[-1] + 1], level[: sounding[-1] + 1] - peak
    pitched = pitched_frames(raw)
    middle = median if median is not None else _middle(raw[pitched, PITCH])
    pitched &= np.abs(raw[:, PITCH] - middle) < _FAR
    found = [
        *_pitch(raw[:, PITCH] - middle, pitched),
        _fall(level),
        *_timing(level, pitched),
    ]
    return np.array(found, np.float32)


def pitched_frames(raw: FloatArray) -> NDArray[np.bool_]:
    """(n,) which frames have a pitch that can be trusted."""
    level = raw[:, LEVEL].max(1)
    pitched = (raw[:, PERIODIC] > PITCHED) & (level > level.max(initial=-np.inf) - PITCHED_LEVEL)
    return np.asarray(pitched)


def _middle(pitch: FloatArray) -> float:
    return float(np.median(pitch)) if len(pitch) else 0.0


def _pitch(pitch: FloatArray, pitched: NDArray[np.bool_]) -> list[float]:
    """Octaves from the speaker's median, and octaves a second."""
    at = np.flatnonzero(pitched)
    if len(at) < 3:
        return [0.0] * 7
    n = len(pitch)
    known = pitch[at]
    last = known[-4:]
    recent = known[at >= n - 25] if at[-1] >= n - 25 else last
    before = known[(at < n - 10) & (at >= n - 60)]
    end = float(np.median(last))
    return [
        end,
        float(np.quantile(recent, 0.1)),
        float(np.quantile(recent, 0.9)),
        _slope(at, known, at[-1] - 10),
        _slope(at, known, at[-1] - 25),
        end - float(np.median(before)) if len(before) else 0.0,
        float(np.quantile(known, 0.9) - np.quantile(known, 0.1)),
    ]


def _slope(at: NDArray[np.intp], values: FloatArray, since: int) -> float:
    """Per second, by least squares."""
    t, y = at[at > since] * 0.02, values[at > since]
    if len(t) < 3:
        return 0.0
    t = t - t.mean()
    return float(np.clip((t @ y) / max(float(t @ t), 1e-6), -8.0, 8.0))


def _fall(level: FloatArray) -> float:
    """Of the last 300 ms, in nats from the loudest frame: slope in units of 10 nats a second."""
    tail = level[-15:].clip(-SOUNDS)
    return _slope(np.arange(len(tail)), tail, -1) / 10


def _timing(level: FloatArray, pitched: NDArray[np.bool_]) -> list[float]:
    """Lengths in units of 100 ms of what follows the last pitch and of the last nucleus; how much
    longer it is than those before it (log); length of the stretch (log s)."""
    runs = _runs(pitched)
    decay = len(pitched) - runs[-1][1] if runs else len(pitched)
    lengths = [end - begin for begin, end in runs if end - begin >= 2] or [3]
    last = lengths[-1]
    before = float(np.mean(lengths[:-1])) if len(lengths) > 1 else 6.0
    return [
        min(decay, 25) / 5,
        min(last, 40) / 5,
        float(np.log(last / before)),
        float(np.log(len(level) * 0.02)),
    ]


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
