"""The three acoustic front ends of a voice prompt, in numpy, exactly as the models were trained.

| for | rate | window, hop | bins | scale |
|---|---|---|---|---|
| S3 tokenizer v2 (`whisper_log_mel`) | 16 kHz | 25 ms, 10 ms | 128 Slaney mel | log10, 8 decades |
| CAM++ (`kaldi_fbank`) | 16 kHz | 25 ms, 10 ms, whole frames only | 80 HTK mel, 20 Hz up | ln |
| flow decoder (`prompt_mel`) | 24 kHz | 80 ms, 20 ms | 80 Slaney mel, to 8 kHz | ln of magnitude |

Sources: openai/whisper `audio.py` (log-mel), Kaldi `feature-fbank.cc` (fbank), Matcha-TTS
`mel_spectrogram` as CosyVoice 2 configures it (prompt mel). Each is proven against recorded output.
All take mono samples in -1..1 and give float32.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

S3_HZ = 16_000
SPEAKER_EMBEDDING_HZ = 16_000
PROMPT_HZ = 24_000

WHISPER_FFT, WHISPER_HOP, WHISPER_BINS = 400, 160, 128
FBANK_WINDOW, FBANK_HOP, FBANK_FFT, FBANK_BINS = 400, 160, 512, 80
FBANK_LOW_HZ = 20.0
PREEMPHASIS = 0.97
POVEY_POWER = 0.85  # Kaldi's window: a Hann window to this power
FBANK_FLOOR = float(np.finfo(np.float32).eps)  # Kaldi's floor of a mel energy
PROMPT_FFT, PROMPT_HOP, PROMPT_BINS, PROMPT_HIGH_HZ = 1920, 480, 80, 8000.0


def whisper_log_mel(samples: Floats) -> Floats:
    """Samples at 16 kHz, shape (n,), to log-mel, shape (128, n // 160).

    Raises ValueError for fewer than 201 samples: the edges are mirrored.
    """
    padded = _mirrored(samples, WHISPER_FFT // 2)
    spectrum = _spectrum(padded, WHISPER_FFT, WHISPER_HOP, _hann(WHISPER_FFT))[:-1]
    power = np.abs(spectrum) ** 2
    mel = _slaney_filters(S3_HZ, WHISPER_FFT, WHISPER_BINS, S3_HZ / 2) @ power.T
    log = np.log10(np.maximum(mel, 1e-10))
    log = np.maximum(log, log.max() - 8.0)
    scaled: Floats = ((log + 4.0) / 4.0).astype(np.float32)
    return scaled


def kaldi_fbank(samples: Floats) -> Floats:
    """Samples at 16 kHz, shape (n,), to log filter-bank energies, shape (frames, 80), no dither.

    Raises ValueError for less than one window (400 samples).
    """
    if samples.size < FBANK_WINDOW:
        raise ValueError(f"expected {FBANK_WINDOW} samples (25 ms) or more, got {samples.size}")
    frames = _framed(samples.astype(np.float64), FBANK_WINDOW, FBANK_HOP)
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate((frames[:, :1], frames[:, :-1]), axis=1)
    frames = (frames - PREEMPHASIS * before) * _povey(FBANK_WINDOW)
    power = np.abs(np.fft.rfft(frames, FBANK_FFT)) ** 2
    energies = power @ _kaldi_filters().T
    log: Floats = np.log(np.maximum(energies, FBANK_FLOOR)).astype(np.float32)
    return log


def speaker_features(samples: Floats) -> Floats:
    """What CAM++ takes: `kaldi_fbank` less its mean over time, shape (frames, 80)."""
    fbank = kaldi_fbank(samples)
    centred: Floats = fbank - fbank.mean(axis=0, keepdims=True)
    return centred


def prompt_mel(samples: Floats) -> Floats:
    """Samples at 24 kHz, shape (n,), to the decoder's log-mel frames, shape (n // 480, 80).

    Raises ValueError for fewer than 721 samples: the edges are mirrored.
    """
    padded = _mirrored(samples, (PROMPT_FFT - PROMPT_HOP) // 2)
    spectrum = _spectrum(padded, PROMPT_FFT, PROMPT_HOP, _hann(PROMPT_FFT))
    magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
    mel = magnitude @ _slaney_filters(PROMPT_HZ, PROMPT_FFT, PROMPT_BINS, PROMPT_HIGH_HZ).T
    log: Floats = np.log(np.maximum(mel, 1e-5)).astype(np.float32)
    return log


# --- frames and spectra ---------------------------------------------------------------------


def _mirrored(samples: Floats, edge: int) -> Doubles:
    if samples.size <= edge:
        raise ValueError(f"expected more than {edge} samples, got {samples.size}")
    return np.pad(samples.astype(np.float64), edge, mode="reflect")


def _framed(samples: Doubles, window: int, hop: int) -> Doubles:
    """(n,) to (frames, window): whole frames only."""
    return np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]


def _spectrum(padded: Doubles, fft: int, hop: int, window: Doubles) -> NDArray[np.complex128]:
    """(n,) to (frames, fft // 2 + 1)."""
    return np.fft.rfft(_framed(padded, fft, hop) * window, axis=1)


def _hann(size: int) -> Doubles:
    """Periodic, as torch.hann_window gives it."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)


def _povey(size: int) -> Doubles:
    hann: Doubles = np.hanning(size).astype(np.float64)
    return hann**POVEY_POWER


# --- mel scales -----------------------------------------------------------------------------

_SLANEY_STEP_HZ = 200.0 / 3.0  # below 1 kHz the scale is linear
_SLANEY_LOG_STEP = np.log(6.4) / 27.0  # above it is logarithmic


@cache
def _slaney_filters(rate_hz: int, fft: int, bins: int, high_hz: float) -> Doubles:
    """Triangles on Slaney's mel scale from 0 Hz, each of unit area, shape (bins, fft // 2 + 1)."""
    top = _hz_to_slaney(np.asarray(high_hz))
    edges = _slaney_to_hz(np.linspace(0.0, float(top), bins + 2))
    hz = np.fft.rfftfreq(fft, 1.0 / rate_hz)
    rising = (hz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hz) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: Doubles = triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters


def _hz_to_slaney(hz: Doubles) -> Doubles:
    linear = hz / _SLANEY_STEP_HZ
    log = 15.0 + np.log(np.maximum(hz, 1.0) / 1000.0) / _SLANEY_LOG_STEP
    return np.where(hz < 1000.0, linear, log)


def _slaney_to_hz(mel: Doubles) -> Doubles:
    return np.where(
        mel < 15.0, mel * _SLANEY_STEP_HZ, 1000.0 * np.exp((mel - 15.0) * _SLANEY_LOG_STEP)
    )


@cache
def _kaldi_filters() -> Doubles:
    """Triangles on the HTK mel scale, straight in mel, shape (80, 257); none at half the rate."""
    low, high = _hz_to_htk(FBANK_LOW_HZ), _hz_to_htk(SPEAKER_EMBEDDING_HZ / 2)
    edges = np.linspace(low, high, FBANK_BINS + 2)
    hz: Doubles = np.fft.rfftfreq(FBANK_FFT, 1.0 / SPEAKER_EMBEDDING_HZ).astype(np.float64)
    mel = _hz_to_htk(hz)
    step = edges[1] - edges[0]
    triangles = np.maximum(0.0, 1.0 - np.abs(mel - edges[1:-1, None]) / step)
    triangles[:, -1] = 0.0
    filters: Doubles = triangles
    return filters


def _hz_to_htk(hz: Doubles | float) -> Doubles:
    mel: Doubles = np.asarray(1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0))
    return mel
