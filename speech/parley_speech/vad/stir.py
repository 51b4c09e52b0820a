"""Has a sound begun? What is louder than this line usually is, before any detector knows its kind.

A voice activity detector needs 20 to 150 ms to be sure. That is too late for what costs little and
can be taken back, such as to lower one's own voice. Here the usual level of the line and its spread
are followed (exponential means over some two seconds without a voice), and a frame stirs that lies
outside. Steady noise, however loud, does not; a rustle, a click or a voice does.

Pure: no clock but the frames themselves, each ``FRAME_MS`` long.
"""

from __future__ import annotations

import math

from parley_speech.audio import SILENCE_DBFS
from parley_speech.vad.offset import QUIETEST_DBFS

LEAST_DBFS = -50.0
"""Softer sounds are nobody's who speaks into a telephone."""
LEAST_DB, SPREADS = 6.0, 5.0
"""Above the usual level: so much, and so many standard deviations."""
RISE, FALL = 0.02, 0.04
"""A frame, of the way to its level. What goes on is usual after some seconds."""
REACH_DB = 6.0
"""One frame counts for no more than this, so that a bang does not hide what follows it."""


class Stir:
    """The usual level of one call's line."""

    def __init__(self) -> None:
        self._usual = SILENCE_DBFS  # not known yet
        self._variance = LEAST_DB / SPREADS

    def push(self, level_dbfs: float, voice: bool) -> bool:
        """A frame's level, and whether the detector holds; True when it stands out. A voice is not
        learnt as usual."""
        level = max(level_dbfs, QUIETEST_DBFS)
        if self._usual == SILENCE_DBFS:
            self._usual = level
        above = level - self._usual
        stands_out = above > max(LEAST_DB, SPREADS * math.sqrt(self._variance))
        if not voice:
            self._learn(above)
        return stands_out and level > LEAST_DBFS

    def _learn(self, above: float) -> None:
        step = min(max(above, -REACH_DB), REACH_DB)
        self._usual += step * (RISE if step > 0 else FALL)
        spread = min(step * step, 9 * self._variance + 1)
        self._variance += RISE * (spread - self._variance)
