"""A decoder's samples as loudspeaker PCM, without a click at either end of a piece."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parley_speech.audio import StreamResampler
from parley_speech.token_voice import Floats
from parley_speech.types import SPEAKER_HZ, Pcm

EDGE = 5 * SPEAKER_HZ // 1000  # samples over which a loud edge is faded
QUIET = 100  # of 32767, -50 dBFS: an edge below it makes no click


class Sound:
    """The samples of one piece of speech, in order.

    A decoder that ends in silence is left as it is, to the sample. Another rate than 24 kHz is
    changed on the way.
    """

    def __init__(self, rate_hz: int) -> None:
        self._resampler = None if rate_hz == SPEAKER_HZ else StreamResampler(rate_hz, SPEAKER_HZ)
        self._begun = False
        self._level = 0  # of the last sample

    def pcm(self, samples: Floats, *, last: bool) -> Pcm:
        """Samples (n,) in -1..1 to int16 at 24 kHz; ``last``: none follow."""
        sound: Pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
        if self._resampler is not None:
            sound = self._resampler.push(sound)
            if last:
                sound = np.concatenate((sound, self._resampler.flush()))
        if len(sound) and not self._begun:
            self._begun = True
            sound = _risen(sound)
        if len(sound):
            self._level = int(sound[-1])
        return self._fallen(sound) if last and abs(self._level) > QUIET else sound

    def _fallen(self, sound: Pcm) -> Pcm:
        """Fades the end out; where too little is left to fade, the last sample dies away."""
        if len(sound) < EDGE:
            tail = np.rint(self._level * _ramp()[::-1]).astype(np.int16)
            return np.concatenate((sound, tail))
        faded = np.rint(sound[-EDGE:] * _ramp()[::-1]).astype(np.int16)
        return np.concatenate((sound[:-EDGE], faded))


def _risen(sound: Pcm) -> Pcm:
    if abs(int(sound[0])) <= QUIET or len(sound) < EDGE:
        return sound
    return np.concatenate((np.rint(sound[:EDGE] * _ramp()).astype(np.int16), sound[EDGE:]))


def _ramp() -> NDArray[np.float64]:
    """0 to 1 over `EDGE` samples, without a corner at either end."""
    return 0.5 - 0.5 * np.cos(np.pi * np.arange(EDGE) / (EDGE - 1))
