"""The log-mel spectrogram that Whisper models take (Radford et al. 2022, section 2.2), in numpy.

16 kHz, windows of 25 ms every 10 ms, 80 bands after Slaney (Auditory Toolbox, 1998) up to 8 kHz.
The waveform is first brought to zero mean and unit variance, as a feature extractor with
``do_normalize`` does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parley_speech.types import MIC_HZ

FloatArray = NDArray[np.float32]

WINDOW, HOP, BANDS = 400, 160, 80
DEPTH = 8.0
"""Decades below the loudest band that are kept."""
_LINEAR_HZ, _LINEAR_MEL = 1000.0, 15.0  # up to here a mel is 66.7 Hz
_OCTAVES_A_MEL = np.log(6.4) / 27.0  # and beyond, so much in the natural logarithm


def log_mel(samples: FloatArray) -> FloatArray:
    """(n,) at 16 kHz, any level; gives (80, n // 160)."""
    x = samples.astype(np.float64)
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-7)
    x = np.pad(x, WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW)[::HOP]
    spectrum = np.fft.rfft(windows * _HANN)[:-1]
    power = np.square(spectrum.real) + np.square(spectrum.imag)  # (frames, lines)
    decades = np.log10(np.maximum(power @ _FILTERS, 1e-10))
    decades = np.maximum(decades, decades.max() - DEPTH)
    return np.asarray((decades.T + 4.0) / 4.0, np.float32)


def _hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's scale: linear up to 1 kHz, logarithmic beyond."""
    beyond = _LINEAR_HZ * np.exp(_OCTAVES_A_MEL * (mel - _LINEAR_MEL))
    return np.asarray(np.where(mel < _LINEAR_MEL, mel * _LINEAR_HZ / _LINEAR_MEL, beyond))


def _filters() -> NDArray[np.float64]:
    """Triangles, (lines, BANDS), each of the same area."""
    top_mel = _LINEAR_MEL + np.log(MIC_HZ / 2 / _LINEAR_HZ) / _OCTAVES_A_MEL
    edges = _hz(np.linspace(0.0, top_mel, BANDS + 2))
    lines = np.fft.rfftfreq(WINDOW, 1.0 / MIC_HZ)[:, None]
    rise = (lines - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - lines) / np.diff(edges)[1:]
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)) * 2.0 / (edges[2:] - edges[:-2]))


_FILTERS = _filters()
_HANN = np.hanning(WINDOW + 1)[:-1]  # periodic
