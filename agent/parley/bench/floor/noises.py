"""Sounds that are nobody's words: bursts and what goes on all the time. Seeded, at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from parley_speech import audio
from parley_speech.types import MIC_HZ, Pcm

Samples = NDArray[np.float64]
_Maker = Callable[[np.random.Generator], Samples]
BURST_PEAK_DBFS = -9.0


def burst(name: str, seed: int) -> Pcm:
    """One of ``BURSTS``, its peak at -9 dBFS. Raises KeyError for another name."""
    x = BURSTS[name](np.random.default_rng(seed))
    return audio.to_pcm(x / np.abs(x).max() * 32768 * 10 ** (BURST_PEAK_DBFS / 20))


def steady(name: str, seconds: float, snr_db: float, seed: int) -> Pcm:
    """One of ``STEADY``, its RMS ``snr_db`` below a voice of -20 dBFS."""
    rng = np.random.default_rng(seed)
    x = STEADY[name](rng, round(seconds * MIC_HZ))
    rms = float(np.sqrt(np.mean(x**2)))
    return audio.to_pcm(x / rms * 32768 * 10 ** ((-20.0 - snr_db) / 20))


def _t(seconds: float) -> Samples:
    return np.arange(round(seconds * MIC_HZ)) / MIC_HZ


def _decay(seconds: float, fall_s: float) -> Samples:
    out: Samples = np.exp(-_t(seconds) * 6.9 / fall_s)
    return out


def _smooth(x: Samples, samples: int) -> Samples:
    return np.asarray(np.convolve(x, np.ones(samples) / samples, mode="same"), np.float64)


def _slam(rng: np.random.Generator) -> Samples:
    """A door: a low thump and a rattle behind it."""
    thump = _smooth(rng.standard_normal(len(_t(0.5))), 24) * 6 * _decay(0.5, 0.25)
    rattle = rng.standard_normal(len(_t(0.5))) * _decay(0.5, 0.12) * 0.4
    return thump + rattle


def _clatter(rng: np.random.Generator) -> Samples:
    """Dishes: a handful of rings."""
    out = np.zeros(len(_t(0.9)))
    for _ in range(int(rng.integers(3, 7))):
        at, ring = int(rng.uniform(0, 0.5) * MIC_HZ), _t(0.35)
        tones = sum(np.sin(2 * np.pi * rng.uniform(1500, 6000) * ring) for _ in range(4))
        out[at : at + len(ring)] += tones * _decay(0.35, rng.uniform(0.08, 0.3))
    return out


def _cough(rng: np.random.Generator) -> Samples:
    """One or two bursts of breath, with formants and no voice."""
    parts: list[Samples] = []
    for _ in range(int(rng.integers(1, 3))):
        n = len(_t(0.32))
        breath = rng.standard_normal(n)
        low = _smooth(breath, 9) * 3
        rise = np.minimum(1.0, np.arange(n) / (0.015 * MIC_HZ))
        parts += [(low + 0.5 * breath) * rise * _decay(0.32, 0.3), np.zeros(len(_t(0.12)))]
    return np.concatenate(parts)


def _keys(rng: np.random.Generator) -> Samples:
    """Typing."""
    out = np.zeros(len(_t(1.2)))
    at = 0.0
    while at < 1.1:
        click = rng.standard_normal(len(_t(0.03))) * _decay(0.03, 0.02)
        first = int(at * MIC_HZ)
        out[first : first + len(click)] += click * rng.uniform(0.4, 1.0)
        at += rng.uniform(0.07, 0.22)
    return out


def _tap(rng: np.random.Generator) -> Samples:
    """A knock on the microphone."""
    t = _t(0.12)
    return np.sin(2 * np.pi * rng.uniform(70, 160) * t) * _decay(0.12, 0.1)


def _rustle(rng: np.random.Generator) -> Samples:
    """Paper."""
    n = len(_t(0.8))
    crackle = rng.standard_normal(n) * (rng.random(n) < 0.02) * 6
    return np.diff(rng.standard_normal(n + 1)) * _smooth(np.abs(crackle), 400)


def _white(rng: np.random.Generator, n: int) -> Samples:
    return rng.standard_normal(n)


def _pink(rng: np.random.Generator, n: int) -> Samples:
    """-3 dB an octave, above 30 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hz = np.fft.rfftfreq(n, 1 / MIC_HZ)
    shaped: Samples = np.fft.irfft(spectrum / np.sqrt(np.maximum(hz, 30.0)), n)
    return shaped


def _hum(rng: np.random.Generator, n: int) -> Samples:
    """A fan: mains harmonics in a breath of noise."""
    t = np.arange(n) / MIC_HZ
    tones = sum(np.sin(2 * np.pi * 50 * k * t + rng.uniform(0, 6.3)) / k for k in range(1, 9))
    out: Samples = tones + 0.4 * _pink(rng, n) / 0.01
    out /= np.abs(out).max()
    return out


def _traffic(rng: np.random.Generator, n: int) -> Samples:
    """Low noise that swells and falls."""
    t = np.arange(n) / MIC_HZ
    swell = 1 + 0.8 * np.sin(2 * np.pi * rng.uniform(0.1, 0.3) * t + rng.uniform(0, 6.3))
    return _smooth(_pink(rng, n), 12) * swell


BURSTS: dict[str, _Maker] = {
    "slam": _slam,
    "clatter": _clatter,
    "cough": _cough,
    "keys": _keys,
    "tap": _tap,
    "rustle": _rustle,
}
STEADY: dict[str, Callable[[np.random.Generator, int], Samples]] = {
    "white": _white,
    "pink": _pink,
    "hum": _hum,
    "traffic": _traffic,
}
