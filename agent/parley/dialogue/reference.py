"""What we played, as the echo canceller wants it: 16 kHz, one frame per microphone frame."""

from __future__ import annotations

from collections import deque

import numpy as np

from parley_speech.types import MIC_FRAME, MIC_HZ, SPEAKER_FRAME, SPEAKER_HZ, Pcm

_MOST = 10
"""Frames that may wait; more would move the reference out of the canceller's window."""


class FarEnd:
    """A short queue of played frames. Both sides run at 50 frames a second on average; when the
    microphone pauses, the oldest frames go, and when it hurries, silence is given."""

    def __init__(self) -> None:
        self._frames: deque[Pcm] = deque(maxlen=_MOST)
        self._silence = np.zeros(MIC_FRAME, np.int16)
        self._last = 0.0

    def put(self, pcm: Pcm) -> None:
        """A loudspeaker frame (480,) at 24 kHz."""
        if not pcm.any():
            self._frames.append(self._silence)
            self._last = 0.0
            return
        self._frames.append(self._down(pcm))

    def take(self) -> Pcm:
        """The next reference frame (320,)."""
        return self._frames.popleft() if self._frames else self._silence

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
