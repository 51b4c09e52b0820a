"""How strong our own voice comes back, in bands.

A codec keeps the power of a hissing sound but not its waveform; a jitter buffer stretches a sound,
and invents what is missing of it; a room smears it. Levels survive all that, so they tell what
correlation cannot: whether the microphone holds anything that our voice does not explain.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from parley_speech.echo_delay import MAX_DELAY_MS, QUIET
from parley_speech.echo_tape import Samples, Tape
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ

F32 = np.float32

_EDGES = np.array([2, 6, 10, 14, 20, 28, 38, 50, 66, 86, 112, 146, 190, 250])  # bins of 25 Hz
BANDS: Final = _EDGES.size
_EDGE_HZ = np.append(_EDGES, MIC_FRAME) * (MIC_HZ / (2 * MIC_FRAME))
BAND_CENTRES_HZ: Final = (_EDGE_HZ[1:] + _EDGE_HZ[:-1]) / 2
_WEIGHTS: Samples = np.repeat(
    np.abs(1.0 - 0.9 * np.exp(-1j * np.pi * np.arange(MIC_FRAME + 1) / MIC_FRAME)) ** 2, 2
).astype(F32)
_DECAY = 0.55  # a frame: power of the room's tail, -2.6 dB (60 dB in 0.46 s)
_GAIN_MEMORY = 0.97  # a frame of echo: the path's power gains are a mean of about 0.7 s
_ENOUGH = 5  # frames of echo before the gains are trusted
_NEIGHBOURS = 1  # frames by which the alignment may be wrong, either way
_ANY = MAX_DELAY_MS // FRAME_MS
_AUDIBLE = (2 * MIC_FRAME) ** 2 / 2 * QUIET**2
"""Of a sound of the level of QUIET in a window of 40 ms (Parseval), all bands together."""
_HEADROOM = 1.5
"""Power by which an echo may exceed what is expected of the loudest that was played lately."""


class EchoPower:
    """What share of the microphone's power in each band our voice accounts for."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A new call."""
        self.forget_echo()
        self._played = Tape(_ANY + 10, (BANDS,))
        self.forget_sound()

    def forget_echo(self) -> None:
        """There is none any more."""
        self._mic_sum = np.zeros(BANDS, F32)
        self._far_sum = np.zeros(BANDS, F32)
        self._learnt = 0

    def forget_sound(self) -> None:
        self.heard = np.zeros(BANDS, F32)
        """Of the last 40 ms of the microphone, (bands,)."""
        self.echo = np.zeros(BANDS, F32)
        """What our voice is expected to give in them, (bands,)."""
        self._reach = np.zeros(BANDS, F32)
        self._played.clear()
        self._last_mic = np.zeros(MIC_FRAME, F32)
        self._waiting: list[Samples] = [np.zeros(MIC_FRAME, F32)]

    @property
    def expects(self) -> bool:
        """An echo that could be heard is due in the last frame."""
        return float(self.echo.sum()) > _AUDIBLE

    def play(self, far: Samples) -> None:
        """What was handed out for playing, (320·k,). Costs nothing until somebody asks."""
        self._waiting += list(far.reshape(-1, MIC_FRAME))
        del self._waiting[: -_ANY - 1]

    def _take_in(self) -> None:
        """The powers of what was played since the last time."""
        for before, frame in pairwise(self._waiting):
            self._played.write(_bands(before, frame)[None])
        del self._waiting[:-1]

    def skip(self, mic: Samples) -> None:
        """A microphone frame about which nobody asks, as no echo is known."""
        self._last_mic = mic
        self.echo = np.zeros(BANDS, F32)

    def push(self, mic: Samples, delay_ms: float) -> tuple[float, float]:
        """One microphone frame (320,), and how long before the newest that we played its sound
        was given. The shares, 0..1, that are explained by what was played just then, and by all
        that was played lately; 0 while nothing is learnt."""
        self._take_in()
        self.heard = _bands(self._last_mic, mic)
        self._last_mic = mic
        newest = self._played.end
        at = newest - 1 - round(delay_ms / FRAME_MS)
        then = self._most(at - _NEIGHBOURS, at + _NEIGHBOURS + 1)
        self._reach = np.maximum(then, F32(_DECAY) * self._reach)
        gains = self._gains()
        self.echo = (gains * self._reach).astype(F32)
        lately = self._most(newest - _ANY, newest)
        return self._explains(self.echo), self._explains(F32(_HEADROOM) * gains * lately)

    def _most(self, start: int, stop: int) -> Samples:
        """The most that was played in each band from frame number ``start`` to ``stop``, as far
        as these were played."""
        newest = self._played.end
        start, stop = min(start, newest - 1), min(stop, newest)
        most: Samples = self._played.read(start, stop).max(axis=0)
        return most

    def _gains(self) -> Samples:
        if self._learnt < _ENOUGH:
            return np.zeros(BANDS, F32)
        gains: Samples = (self._mic_sum / np.maximum(self._far_sum, F32(1.0))).astype(F32)
        return gains

    def _explains(self, echo: Samples) -> float:
        return float(np.minimum(self.heard, echo).sum() / max(float(self.heard.sum()), 1.0))

    def learn(self) -> None:
        """The last frame was echo: its band powers tell the path's gains."""
        self._mic_sum = F32(_GAIN_MEMORY) * self._mic_sum + self.heard
        self._far_sum = F32(_GAIN_MEMORY) * self._far_sum + self._reach
        self._learnt += 1


def _bands(before: Samples, frame: Samples) -> Samples:
    """Powers of 40 ms, weighted like pre-emphasis, (bands,)."""
    spectrum = np.fft.rfft(np.concatenate((before, frame)))
    squares = np.square(spectrum.view(spectrum.real.dtype))  # real and imaginary by turns
    return np.add.reduceat(squares * _WEIGHTS, 2 * _EDGES).astype(F32)
