"""How the agent's voice comes back into the microphone: loudspeaker, room, delay, drift."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parley.bench.floor.scene import EchoPath
from parley_speech.types import MIC_FRAME, MIC_HZ, SPEAKER_FRAME, Pcm

Samples = NDArray[np.float64]
_UP, _DOWN = 2, 3  # 24 kHz to 16 kHz over 48 kHz
_TAPS = 96
_DRIVE = 20_000.0
"""A small loudspeaker: above this amplitude it bends visibly."""


class Down:
    """24 kHz to 16 kHz, frame by frame: zeros between, a windowed sinc, every third sample."""

    def __init__(self) -> None:
        n = np.arange(_TAPS) - (_TAPS - 1) / 2
        self._filter = np.sinc(n / 3.4) * np.hamming(_TAPS)
        self._filter *= _UP / self._filter.sum()
        self._tail = np.zeros(_TAPS - 1)

    def push(self, frame: Pcm) -> Samples:
        """(480,) to (320,), a millisecond late."""
        up = np.zeros(SPEAKER_FRAME * _UP)
        up[::_UP] = frame
        x = np.concatenate([self._tail, up])
        self._tail = x[-(_TAPS - 1) :]
        out: Samples = np.convolve(x, self._filter, mode="valid")[::_DOWN]
        return out


class EchoRoom:
    """``push`` what is played, ``take`` what of it the microphone picks up meanwhile."""

    def __init__(self, path: EchoPath, seed: int) -> None:
        self._path = path
        self._down = Down()
        self._response = _response(path.room_ms, np.random.default_rng(seed))
        self._tail = np.zeros(len(self._response) - 1)
        self._far = np.zeros(0)
        self._taken = 0

    def push(self, agent: Pcm) -> None:
        """A loudspeaker frame (480,) at 24 kHz."""
        x = _DRIVE * np.tanh(self._down.push(agent) / _DRIVE)
        sound: Samples = np.zeros(MIC_FRAME + len(self._tail))
        if x.any():
            sound += np.convolve(x, self._response)
        sound[: len(self._tail)] += self._tail
        self._tail = sound[MIC_FRAME:]
        self._far = np.concatenate([self._far, sound[:MIC_FRAME]])

    def take(self) -> Samples:
        """(320,) of the microphone, in step with what was pushed."""
        at = self._taken + np.arange(MIC_FRAME)
        self._taken += MIC_FRAME
        late = self._path.delay_ms * MIC_HZ / 1000 + at * self._path.drift_ppm * 1e-6
        gain = 10 ** (self._path.gain_db / 20)
        out: Samples = gain * np.interp(at - late, np.arange(len(self._far)), self._far, left=0.0)
        return out


def _response(room_ms: float, rng: np.random.Generator) -> Samples:
    """The direct sound and a tail of noise that falls by 60 dB in ``room_ms``, of energy 1."""
    n = max(2, round(room_ms * MIC_HZ / 1000))
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail *= 0.7 / np.sqrt(np.sum(tail**2))
    tail[0] += 1.0
    out: Samples = tail / np.sqrt(np.sum(tail**2))
    return out
