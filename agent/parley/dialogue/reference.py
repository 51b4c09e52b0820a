"""What we played, as the echo canceller wants it: 16 kHz, and not a frame more or less."""

from __future__ import annotations

import numpy as np

from parley_speech.types import MIC_FRAME, MIC_HZ, SPEAKER_FRAME, SPEAKER_HZ, Pcm

_MOST = 100
"""Frames that may wait (2 s) while nothing comes from the microphone."""


class FarEnd:
    """Collects what is played until the microphone brings its next frame.

    Nothing is put in and nothing left out, however unevenly the two sides come: the canceller
    counts both, and a frame lost here would move every delay that it knows."""

    def __init__(self) -> None:
        self._frames: list[Pcm] = []
        self._silence = np.zeros(MIC_FRAME, np.int16)
        self._last = 0.0

    def put(self, pcm: Pcm) -> None:
        """A loudspeaker frame (480,) at 24 kHz."""
        del self._frames[: 1 - _MOST]
        if not pcm.any():
            self._frames.append(self._silence)
            self._last = 0.0
            return
        self._frames.append(self._down(pcm))

    def take(self) -> Pcm:
        """All that was played since the last call, (320·k,), oldest first; k may be 0."""
        frames, self._frames = self._frames, []
        return np.concatenate(frames) if frames else np.empty(0, np.int16)

    def _down(self, pcm: Pcm) -> Pcm:
        """24 to 16 kHz, linear between samples after a short low-pass: a reference for a canceller
        needs the right delay more than a clean stop band, and this one has none."""
        x = pcm.astype(np.float32)
        padded = np.concatenate([[self._last], x, [x[-1]]])
        smooth = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
        self._last = float(x[-1])
        at = np.arange(MIC_FRAME) * (SPEAKER_HZ / MIC_HZ)
        low: Pcm = np.interp(at, np.arange(SPEAKER_FRAME), smooth).astype(np.int16)
        return low
