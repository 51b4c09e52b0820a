"""The voice activity detector of the WebRTC project: Gaussian mixtures over six bands.

0.1 ms of CPU for a second of sound and an answer every 10 ms, but any loud noise is a voice to it.
"""

from __future__ import annotations

import functools

from parley_speech.audio import check_pcm
from parley_speech.types import MIC_FRAME, MIC_HZ, EngineUnavailable, Pcm

HALF = MIC_FRAME // 2  # samples: 10 ms


class WebRtcVad:
    """Voice activity of one call; the probability is the share of voiced 10 ms steps: 0, ½ or 1."""

    def __init__(self, aggressiveness: int = 3, *, step_ms: int = 10) -> None:
        """``aggressiveness``: 0 (takes almost all for voice) to 3. ``step_ms``: 10 or 20."""
        if aggressiveness not in range(4):
            raise ValueError(f"aggressiveness must be 0, 1, 2 or 3, got {aggressiveness!r}")
        if step_ms not in (10, 20):
            raise ValueError(f"step_ms must be 10 or 20, got {step_ms!r}")
        try:
            import webrtcvad
        except ImportError as error:
            raise EngineUnavailable(
                f"the webrtc VAD cannot be imported ({error}): pip install webrtcvad-wheels"
            ) from error
        self._make = functools.partial(webrtcvad.Vad, aggressiveness)
        self._step = MIC_HZ * step_ms // 1000
        self._vad = self._make()

    def reset(self) -> None:
        self._vad = self._make()

    def push(self, frame: Pcm) -> float:
        """One microphone frame (320,); P(a voice sounds): 0.0, 0.5 or 1.0 (10 ms), 0.0 or 1.0."""
        data = check_pcm(frame, "frame", MIC_FRAME).tobytes()
        size = 2 * self._step  # bytes
        steps = [data[at : at + size] for at in range(0, len(data), size)]
        voiced = sum(bool(self._vad.is_speech(step, MIC_HZ)) for step in steps)
        return voiced / len(steps)
