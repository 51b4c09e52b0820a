"""Listens to one user's voice and says, at each of its pauses, how finished it sounds.

While the voice sounds its frames are only kept (3 s). When the detector closes, their features
are computed at once (prosody) and the network asked (net): 4 ms of CPU a pause, nothing between.
What the speaker's own pitch is, is learnt from one stretch to the next.

Not known here: words, turns, the floor, the clock. One object per call.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from parley_speech.audio import check_pcm
from parley_speech.overlap_features import HISTORY, PITCH, FloatArray, FrameFeatures
from parley_speech.turn_end import net
from parley_speech.turn_end.prosody import FRAMES, describe, pitched_frames
from parley_speech.types import MIC_FRAME, Pcm

LEAD = -(-(HISTORY - MIC_FRAME) // MIC_FRAME)
"""Frames that features look back on."""
BEFORE = 6
"""Frames before the detector opened that belong to the stretch: it opens late."""
PITCHES = 600
"""Latest frames with a pitch from which the speaker's median is taken: about 20 s of voice."""
ENOUGH_PITCHES = 40
"""... and how many make one: 0.8 s of pitched voice. Before, an end is judged by the stretch's own
median, and the evidence counts half: a lone "yes" of an unknown voice tells little by its pitch."""


class Finality:
    """One call's user."""

    def __init__(self, weights: net.Weights | None = None) -> None:
        """``weights``: None for the package's own."""
        self._weights = weights or net.load()
        self._features = FrameFeatures()
        self._frames: deque[tuple[Pcm, float]] = deque(maxlen=FRAMES + LEAD)
        self._pitches: deque[float] = deque(maxlen=PITCHES)
        self._sounding = False
        self._stretch = 0  # frames of the running stretch that are kept
        self.p_finished: float | None = None
        """Of the latest pause; None while the voice sounds, and where too little is known of it."""

    def push(self, frame: Pcm, p_voice: float, voice: bool) -> float | None:
        """One microphone frame (320,) after echo cancellation, its probability of a voice, and
        whether the detector holds. Gives ``p_finished``."""
        check_pcm(frame, "frame", MIC_FRAME)
        self._frames.append((frame, p_voice))
        if voice:
            if not self._sounding:
                self._stretch = BEFORE
                self.p_finished = None
            self._stretch = min(self._stretch + 1, FRAMES)
        elif self._sounding:
            self.p_finished = self._judge()
        self._sounding = voice
        return self.p_finished

    def _judge(self) -> float | None:
        x = self.describe()
        if x is None:
            return None
        p = net.probability(self._weights, x)
        return p if self._knows_speaker else _halved(p)

    @property
    def _knows_speaker(self) -> bool:
        return len(self._pitches) >= ENOUGH_PITCHES

    def describe(self) -> FloatArray | None:
        """The prosody of the stretch that has just ended; what it tells of the speaker's pitch is
        learnt. (SIZE,), None for too little sound."""
        frames = [frame for frame, _ in self._frames]
        count = min(self._stretch, max(0, len(frames) - LEAD))
        p_voice = np.array([p for _, p in self._frames][len(frames) - count :], np.float32)
        if not count:
            return None
        raw = self._features.restart(frames, p_voice)
        self._pitches.extend(float(pitch) for pitch in raw[pitched_frames(raw), PITCH])
        return describe(raw, float(np.median(self._pitches)) if self._knows_speaker else None)


def _halved(p: float) -> float:
    """With half the log-odds."""
    p = min(max(p, 1e-6), 1.0 - 1e-6)
    return 1.0 / (1.0 + math.sqrt((1.0 - p) / p))
