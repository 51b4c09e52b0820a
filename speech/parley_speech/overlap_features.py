"""What the overlap classifier looks at: one vector of sound shape per 20 ms frame.

Two log-mel spectra (a window every 10 ms), their levels, how periodic the sound is and at what
pitch, and the detector's probability of a voice. Levels are only ever used relative to the
loudest frame so far, so that the answer does not depend on the gain of the line.

Two steps: ``FrameFeatures.push`` turns audio into raw vectors as it comes; ``normalise`` brings
a run of raw vectors to what the network takes. Training and inference use the same two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parley_speech.audio import FULL_SCALE, check_pcm
from parley_speech.types import MIC_FRAME, MIC_HZ, Pcm

FloatArray = NDArray[np.float32]

HOP = MIC_FRAME // 2  # samples: 10 ms, two spectra per frame
WINDOW = 400  # samples: 25 ms, the usual length for speech
FFT = 512
BANDS = 22
LOW_HZ, HIGH_HZ = 80.0, 7600.0

PITCH_WINDOW = 512  # samples: 32 ms, two periods of the lowest voices
PITCH_FFT = 1024  # twice the window: the autocorrelation does not wrap around
MIN_PITCH_HZ, MAX_PITCH_HZ = 62.5, 500.0

# Places in a raw vector.
MEL = slice(0, 2 * BANDS)  # log power of each band, hop by hop
LEVEL = slice(2 * BANDS, 2 * BANDS + 2)  # log power of each hop
PERIODIC = 2 * BANDS + 2  # 0..1: the largest normalised autocorrelation
PITCH = 2 * BANDS + 3  # octaves from 160 Hz
VOICE = 2 * BANDS + 4  # P(a voice sounds)
SIZE = 2 * BANDS + 5

FLOOR = float(np.log(10.0 ** (-60 / 10)))  # below -60 dBFS all is silence
DEPTH = 12.0  # nats (52 dB): what is further below the peak than this is not looked at


def _mel(hz: float | NDArray[np.floating]) -> NDArray[np.float64]:
    """O'Shaughnessy's formula, as in HTK."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0))


def _filters() -> FloatArray:
    """Triangles of equal width in mel, (FFT // 2 + 1, BANDS), each with unit sum."""
    edges_mel = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), BANDS + 2)
    bins_mel = _mel(np.fft.rfftfreq(FFT, 1.0 / MIC_HZ))
    rise = (bins_mel[:, None] - edges_mel[:-2]) / np.diff(edges_mel)[:-1]
    fall = (edges_mel[2:] - bins_mel[:, None]) / np.diff(edges_mel)[1:]
    triangles = np.maximum(0.0, np.minimum(rise, fall))
    return np.asarray(triangles / triangles.sum(0), np.float32)


_FILTERS = _filters()
_HANN = np.hanning(WINDOW).astype(np.float32)
_PITCH_HANN = np.hanning(PITCH_WINDOW).astype(np.float32)
_LAGS = slice(round(MIC_HZ / MAX_PITCH_HZ), round(MIC_HZ / MIN_PITCH_HZ))
# What the window itself does to the autocorrelation at each lag (Boersma 1993, eq. 9).
_TAPER = np.fft.irfft(np.abs(np.fft.rfft(_PITCH_HANN, PITCH_FFT)) ** 2)[_LAGS]
_UNTAPER = (np.sum(_PITCH_HANN**2) / _TAPER).astype(np.float32)
_OCTAVES = np.log2(MIC_HZ / 160.0 / np.arange(_LAGS.start + 1, _LAGS.stop)).astype(np.float32)

HISTORY = PITCH_WINDOW + HOP  # samples that one vector looks at, its frame being the last of them


class FrameFeatures:
    """Raw feature vectors of one call's microphone, one per frame, while they are wanted."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._history = np.zeros((1, HISTORY), np.float32)

    def restart(self, frames: Sequence[Pcm], p_voice: FloatArray) -> FloatArray:
        """Forgets what came before these frames, each (320,), the oldest first.

        Gives the vectors of the last n of them, (n, SIZE), for (n,) probabilities of a voice."""
        lead = np.zeros(HISTORY, np.int16)
        samples = np.concatenate([lead, *frames]).astype(np.float32) / np.float32(FULL_SCALE)
        self._history[0] = samples[-HISTORY:]
        windows = np.lib.stride_tricks.sliding_window_view(samples, HISTORY)[::-MIC_FRAME]
        return raw_features(windows[: len(p_voice)][::-1], p_voice)

    def push(self, frame: Pcm, p_voice: float) -> FloatArray:
        """One microphone frame (320,) and its probability of a voice; gives (SIZE,)."""
        check_pcm(frame, "frame", MIC_FRAME)
        self._history[0, :-MIC_FRAME] = self._history[0, MIC_FRAME:]
        self._history[0, -MIC_FRAME:] = frame / np.float32(FULL_SCALE)
        raw: FloatArray = raw_features(self._history, np.array([p_voice], np.float32))[0]
        return raw


def raw_features(history: FloatArray, p_voice: FloatArray) -> FloatArray:
    """(n, HISTORY) samples, full scale 1, and (n,) probabilities; gives (n, SIZE)."""
    hops = np.empty((len(history), 2, WINDOW), np.float32)
    np.multiply(history[:, -HOP - WINDOW : -HOP], _HANN, out=hops[:, 0])
    np.multiply(history[:, -WINDOW:], _HANN, out=hops[:, 1])
    raw = np.empty((len(history), SIZE), np.float32)
    raw[:, MEL] = (_power(hops, FFT) @ _FILTERS).reshape(-1, 2 * BANDS)
    raw[:, LEVEL] = np.einsum("nhw,nhw->nh", hops, hops)
    levels = raw[:, : LEVEL.stop]
    levels *= np.float32(1.0 / WINDOW)
    levels += np.float32(1e-10)
    np.log(levels, out=levels)
    raw[:, PERIODIC], raw[:, PITCH] = _pitch(history[:, -PITCH_WINDOW:])
    raw[:, VOICE] = p_voice
    return raw


def _power(x: FloatArray, size: int) -> FloatArray:
    """(..., samples) to the power of the ``size // 2 + 1`` lines of its spectrum."""
    spectrum = np.fft.rfft(x, size)
    power: FloatArray = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    return power


def _pitch(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n, PITCH_WINDOW) samples; how periodic, 0..1, and the pitch in octaves from 160 Hz, (n,)."""
    x = (x - np.add.reduce(x, 1, keepdims=True) * np.float32(1 / PITCH_WINDOW)) * _PITCH_HANN
    curve = np.fft.irfft(_power(x, PITCH_FFT))[:, _LAGS] * _UNTAPER
    # The first peak nearly as high as the highest: else half the pitch wins at random.
    inner = curve[:, 1:-1]
    summit = inner > np.float32(0.92) * np.maximum.reduce(inner, 1, keepdims=True)
    summit &= inner >= curve[:, :-2]
    summit &= inner >= curve[:, 2:]
    at = summit.argmax(1)
    energy = np.einsum("nw,nw->n", x, x) + np.float32(1e-6)
    periodic = np.minimum(np.maximum(inner[np.arange(len(x)), at] / energy, 0.0), 1.0)
    return periodic, _OCTAVES[at]


def normalise(raw: FloatArray, peak: float) -> FloatArray:
    """A raw vector (SIZE,), given the peak from ``peak_after``, as the network takes it (SIZE,)."""
    x = raw.copy()
    x[: LEVEL.stop] = np.clip((raw[: LEVEL.stop] - peak) / DEPTH, -1.0, 0.25) * 2.0 + 1.0
    # Pitch of an aperiodic frame is a random number: fade it out.
    x[PITCH] *= raw[PERIODIC]
    return x


def peak_after(raw: FloatArray, peak: float = FLOOR) -> float:
    """The loudest level up to and with this raw vector, never below the floor."""
    return max(peak, float(raw[LEVEL].max()))
