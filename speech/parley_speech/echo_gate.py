"""Takes out of the microphone what our own voice explains of it, band by band."""

from __future__ import annotations

import numpy as np

from parley_speech.audio import to_pcm
from parley_speech.echo_power import BAND_CENTRES_HZ, BANDS
from parley_speech.echo_tape import Samples
from parley_speech.types import MIC_FRAME, MIC_HZ, Pcm

_TAPS = 64
_LATE = _TAPS // 2  # samples: the filter's delay, 2 ms
_FLOOR_GAIN = np.float32(0.03)  # -30 dB
_OVER = np.float32(2.0)
"""Echo is taken to be this much stronger (power) than expected, where it is taken out."""


def _design() -> Samples:
    """From gains in the bands to the taps of a linear-phase filter, (64, bands): all linear."""
    grid = np.linspace(0.0, MIC_HZ / 2, _TAPS // 2 + 1)
    window = np.hanning(_TAPS + 1)[:_TAPS]
    columns = []
    for one in np.eye(BANDS):
        response = np.interp(grid, BAND_CENTRES_HZ, one)
        columns.append(np.roll(np.fft.irfft(response, _TAPS), _LATE) * window)
    return np.array(columns, np.float32).T


_DESIGN = _design()


class BandGate:
    """Lowers each band of the microphone by what our voice explains of it: a Wiener filter of 64
    taps a frame, faded from one frame's to the next. 2 ms late while it works."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._past = np.zeros(_TAPS - 1, np.float32)
        self._taps = _through()
        self.open = True
        """The last frame was given as it came."""

    def process(self, mic: Pcm, heard: Samples, echo: Samples) -> Pcm:
        """One frame (320,), its powers in bands and the echo expected in them, (bands,)."""
        joined = np.concatenate((self._past, mic.astype(np.float32)))
        self._past = joined[1 - _TAPS :]
        gains = np.maximum(1.0 - _OVER * echo / np.maximum(heard, 1.0), _FLOOR_GAIN)
        untouched = bool(gains.min() > 0.9)
        if untouched and self.open:
            return mic
        before, was_open = self._taps, self.open
        self._taps, self.open = _through() if untouched else _DESIGN @ gains, untouched
        now = mic if untouched else np.convolve(joined, self._taps, "valid")
        last = mic if was_open else np.convolve(joined, before, "valid")
        return to_pcm(last + _FADE * (now - last))


_FADE: Samples = np.linspace(0.0, 1.0, MIC_FRAME, dtype=np.float32)


def _through() -> Samples:
    taps = np.zeros(_TAPS, np.float32)
    taps[_LATE] = 1.0
    return taps
