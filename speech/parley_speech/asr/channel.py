"""How a caller's voice and line colour the spectrum, estimated from the speech alone.

The acoustic model expects cepstra without their long-term mean. The decoder's own running mean
starts from a fixed guess that weighs as much as five seconds of speech, and counts silence as
speech, so the first short utterances of a call are decoded with the wrong mean. Here the mean is
taken over the speech frames so far, with a prior of half a second, and handed to the decoder.
(A maximum a posteriori estimate of the mean, as in speaker adaptation of Gaussians.)

The cepstra are those of the model's front end (its feat.params): 25 mel filters from 130 to
6800 Hz on 25.6 ms Hamming windows every 10 ms, DCT to 13, liftered by 22.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parley_speech.types import MIC_HZ, Pcm

FloatArray = NDArray[np.float64]

WINDOW = 410  # samples, 25.6 ms
HOP = 160  # samples, 10 ms
FFT = 512
FILTERS = 25
CEPSTRA = 13
LIFTER = 22
LOW_HZ, HIGH_HZ = 130.0, 6800.0
PRE_EMPHASIS = 0.97
FLOOR = 1e-4
"""Keeps the logarithm of digital silence finite."""

PRIOR: FloatArray = np.array([40.0, 3.0, -1.0] + [0.0] * 10)
"""The decoder's own starting mean (its option ``cmninit``)."""
PRIOR_FRAMES = 50.0
SPEECH_FRAMES = 80.0
"""Weights of the prior and, at most, of the speech. The prior's silences belong to what the model
was trained on, so it never quite goes: of unlimited speech, 80 frames and five other estimates, 80
got most of 33 utterances right (29; unlimited 27, which loses long ones)."""
SPEECH_RANGE = 35.0
"""A frame is speech when its c0 lies within this of the utterance's loudest: about 30 dB."""
MEMORY_FRAMES = 300.0
"""Speech of earlier utterances counts for at most 3 s, so that a new voice soon prevails."""


def _mel_filters() -> FloatArray:
    """Triangles of equal area, (FILTERS, FFT // 2 + 1)."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (LOW_HZ, HIGH_HZ))
    mel_edges = np.linspace(low, high, FILTERS + 2)
    bin_hz = MIC_HZ / FFT
    edges = np.round(700 * (10 ** (mel_edges / 2595) - 1) / bin_hz) * bin_hz
    hz = np.arange(FFT // 2 + 1) * bin_hz
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    slopes = np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre))
    triangles: FloatArray = np.clip(slopes, 0, None) * 2 / (right - left)
    return triangles


def _dct() -> FloatArray:
    """Orthonormal DCT-II and lifter in one matrix, (FILTERS, CEPSTRA)."""
    order = np.arange(CEPSTRA)
    basis = np.cos(np.pi * np.outer(np.arange(FILTERS) + 0.5, order) / FILTERS)
    basis *= np.sqrt(2 / FILTERS)
    basis[:, 0] *= np.sqrt(0.5)
    lifted: FloatArray = basis * (1 + LIFTER / 2 * np.sin(np.pi * order / LIFTER))
    return lifted


_MEL_T = _mel_filters().T
_DCT = _dct()
_HAMMING = np.hamming(WINDOW)


def cepstra(pcm: Pcm) -> FloatArray:
    """(samples,) at 16 kHz -> (frames, CEPSTRA); no frames below one window of samples."""
    if len(pcm) < WINDOW:
        return np.empty((0, CEPSTRA))
    x = pcm.astype(np.float64)
    x[1:] -= PRE_EMPHASIS * x[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(x, WINDOW)[::HOP] * _HAMMING
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2
    result: FloatArray = np.log(np.maximum(power @ _MEL_T, FLOOR)) @ _DCT
    return result


class ChannelMean:
    """The cepstral mean of one call's speech. Not shared between calls."""

    def __init__(self) -> None:
        self._sum = np.zeros(CEPSTRA)
        self._frames = 0.0
        self.speech_frames = 0
        """Speech frames that the last ``estimate`` found in its utterance."""

    def estimate(self, utterance: FloatArray) -> FloatArray:
        """The mean (CEPSTRA,) given earlier utterances and (frames, CEPSTRA) of the present one."""
        speech = _speech(utterance)
        self.speech_frames = len(speech)
        frames = self._frames + len(speech)
        if frames == 0:
            return PRIOR.copy()
        weight = min(frames, SPEECH_FRAMES)
        spoken = (self._sum + speech.sum(axis=0)) / frames
        mean: FloatArray = (PRIOR * PRIOR_FRAMES + spoken * weight) / (PRIOR_FRAMES + weight)
        return mean

    def learn(self, utterance: FloatArray) -> None:
        """The utterance is over: later ones may rely on it."""
        speech = _speech(utterance)
        self._sum += speech.sum(axis=0)
        self._frames += len(speech)
        if self._frames > MEMORY_FRAMES:
            self._sum *= MEMORY_FRAMES / self._frames
            self._frames = MEMORY_FRAMES

    def fade(self) -> None:
        """What was learnt did not help: trust it half as much."""
        self._sum *= 0.5
        self._frames *= 0.5


def distance(a: FloatArray, b: FloatArray) -> float:
    """How different two means colour the speech: RMS over all coefficients but the loudness."""
    return float(np.sqrt(np.mean(np.square(a[1:] - b[1:]))))


def _speech(utterance: FloatArray) -> FloatArray:
    if len(utterance) == 0:
        return utterance
    loudness = utterance[:, 0]
    speech: FloatArray = utterance[loudness > loudness.max() - SPEECH_RANGE]
    return speech
