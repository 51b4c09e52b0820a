"""When did the voice really end? A detector says so late; the level of the sound tells when.

A voice activity detector holds on for some 80 ms after the last sound (silero's windows and its
memory). Waiting for the end of a turn should count from the sound's own end. So the detector
still decides *that* it ended, and this follows the level to say *when*: at the last frame that
stood out from the background, at most ``reach_ms`` before the detector's own end, never after it.

Pure: no clock but the frames themselves, each ``FRAME_MS`` long.
"""

from __future__ import annotations

from parley_speech.audio import SILENCE_DBFS, level_dbfs
from parley_speech.types import FRAME_MS, Pcm

ABOVE_BACKGROUND_DB = 8.0
"""A frame this much above the background sounds."""
BELOW_PEAK_DB = 34.0
"""... unless it is so far below the voice itself: what rings on, or a breath."""
RISE_DB = 0.06
"""A frame, by which the background estimate may rise: 3 dB a second."""
PEAK_FALL_DB = 0.1
"""A frame, by which the voice's level fades from memory."""
QUIETEST_DBFS = -75.0
"""No estimate of a line's usual level is taken below this: digital silence is no room."""


class Offset:
    """Silence since the sound's own end, for one call."""

    def __init__(self, reach_ms: int = 140) -> None:
        """``reach_ms``: the most that the detector is taken to be late."""
        if reach_ms < 0:
            raise ValueError(f"reach_ms must be 0 or more, got {reach_ms}")
        self._reach_ms = reach_ms
        self._background = -50.0
        self._peak = SILENCE_DBFS
        self._quiet_ms = 0  # since a frame sounded
        self._unvoiced_ms = 0  # since the detector last held
        self.level_dbfs = SILENCE_DBFS
        """Of the last frame."""

    def push(self, frame: Pcm, voice: bool) -> int:
        """One microphone frame (320,) and whether the detector holds; silence in ms, 0 in voice."""
        self.level_dbfs = level_dbfs(frame)
        level = max(self.level_dbfs, QUIETEST_DBFS)
        self._background = min(level, self._background + RISE_DB)
        if voice:
            self._peak = max(level, self._peak - PEAK_FALL_DB)
        sounds = level > max(self._background + ABOVE_BACKGROUND_DB, self._peak - BELOW_PEAK_DB)
        self._quiet_ms = 0 if sounds else self._quiet_ms + FRAME_MS
        self._unvoiced_ms = 0 if voice else self._unvoiced_ms + FRAME_MS
        if voice:
            return 0
        return min(max(self._quiet_ms, self._unvoiced_ms), self._unvoiced_ms + self._reach_ms)
