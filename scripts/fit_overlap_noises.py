"""Noises and hums made from nothing: for fit_overlap.py.

``r`` is the random generator of one run everywhere; sounds are float, 16 kHz, any level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.signal import lfilter

from parley_speech.types import MIC_HZ as HZ

Rng = np.random.Generator
Sound = np.ndarray


def resonance(x: Sound, hz: float, width_hz: float) -> Sound:
    radius = np.exp(-np.pi * width_hz / HZ)
    return lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * hz / HZ), radius**2], x)


def strike(samples: int, attack_s: float, decay_s: float) -> Sound:
    t = np.arange(samples) / HZ
    return np.minimum(1, t / attack_s) * np.exp(-np.maximum(0, t - attack_s) / decay_s)


def bark(r: Rng) -> Sound:
    n = int(HZ * r.uniform(0.1, 0.3))
    t = np.arange(n) / HZ
    arc = np.sin(np.pi * np.minimum(1, t / t[-1]))
    f0 = r.uniform(180, 900) * (1 + r.uniform(0.1, 0.8) * arc * r.choice([1, -0.3]))
    phase = 2 * np.pi * np.cumsum(f0) / HZ
    x = sum(np.sin(k * phase) / k ** r.uniform(0.3, 1.2) for k in range(1, 9))
    x = x + r.uniform(0.2, 2) * r.standard_normal(n)
    x = resonance(x, r.uniform(500, 1100), 150) + resonance(x, r.uniform(1200, 2600), 300)
    return x * strike(n, r.uniform(0.005, 0.04), r.uniform(0.04, 0.15))


def barks(r: Rng) -> Sound:
    out = []
    for _ in range(r.integers(1, 4)):
        out += [bark(r), np.zeros(int(HZ * r.uniform(0.05, 0.4)))]
    return np.concatenate(out)


def cough(r: Rng) -> Sound:
    out = []
    for _ in range(r.integers(1, 3)):
        n = int(HZ * r.uniform(0.12, 0.4))
        x = r.standard_normal(n)
        throat = (550, 1300, 2500, 3600)
        y = sum(resonance(x, f * r.uniform(0.85, 1.15), r.uniform(80, 250)) for f in throat)
        if r.random() < 0.6:  # the voiced end of a cough
            t = np.arange(n) / HZ
            f0 = r.uniform(90, 260) * (1 - 0.3 * t / t[-1])
            buzz = np.sign(np.sin(2 * np.pi * np.cumsum(f0) / HZ)) * 0.6
            buzz = buzz + r.standard_normal(n) * 0.4
            y = y + r.uniform(0.3, 1.5) * sum(
                resonance(buzz, f * r.uniform(0.85, 1.15), 120) for f in (600, 1200, 2500)
            ) * np.clip((t / t[-1] - 0.25) * 4, 0, 1)
        out += [
            y * strike(n, 0.008, r.uniform(0.03, 0.15)),
            np.zeros(int(HZ * r.uniform(0.05, 0.2))),
        ]
    return np.concatenate(out)


def horn(r: Rng) -> Sound:
    n = int(HZ * r.uniform(0.3, 1.5))
    t = np.arange(n) / HZ
    x = np.zeros(n)
    for f in [r.uniform(250, 520)] + [r.uniform(300, 620)] * (r.random() < 0.7):
        phase = 2 * np.pi * np.cumsum(f * (1 + 0.01 * np.minimum(1, t / 0.05))) / HZ
        x += sum(np.sin(k * phase + r.uniform(0, 6)) / k ** r.uniform(0.0, 1) for k in range(1, 12))
    return x * np.minimum(1, t / r.uniform(0.005, 0.06))


def siren(r: Rng) -> Sound:
    n = int(HZ * 1.5)
    t = np.arange(n) / HZ
    f = r.uniform(400, 900) + r.uniform(100, 500) * (
        np.sin(2 * np.pi * r.uniform(0.2, 5) * t + r.uniform(0, 6))
        if r.random() < 0.7
        else np.sign(np.sin(2 * np.pi * r.uniform(0.5, 2) * t))
    )
    phase = 2 * np.pi * np.cumsum(f) / HZ
    x = sum(np.sin(k * phase) / k ** r.uniform(0.7, 2.5) for k in range(1, 7))
    return x * np.minimum(1, t / r.uniform(0.01, 0.5))


def ring(r: Rng) -> Sound:
    n = int(HZ * 1.4)
    t = np.arange(n) / HZ
    kind = r.integers(3)
    if kind == 0:  # the tone of a North American line
        x = np.sin(2 * np.pi * 440 * t) + np.sin(2 * np.pi * 480 * t)
    elif kind == 1:  # a warble
        one, other = r.uniform(600, 2200), r.uniform(600, 2200)
        first = np.sin(2 * np.pi * r.uniform(8, 25) * t) > 0
        x = np.where(first, np.sin(2 * np.pi * one * t), np.sin(2 * np.pi * other * t))
        x = x + 0.3 * x**3
    else:  # a melody
        x, at = np.zeros(n), 0
        while at < n:
            m = int(HZ * r.uniform(0.06, 0.25))
            s = np.arange(m) / HZ
            f = r.uniform(300, 2400)
            note = sum(np.sin(2 * np.pi * f * h * s) / h**2 for h in (1, 2, 3))
            x[at : at + m] = (note * np.exp(-s / r.uniform(0.05, 0.4)))[: n - at]
            at += m
    return x * ((t % r.uniform(0.3, 2)) < r.uniform(0.2, 1.2))


def bang(r: Rng) -> Sound:
    n = int(HZ * r.uniform(0.05, 0.5))
    x = r.standard_normal(n)
    y = sum(resonance(x, r.uniform(60, 3500), r.uniform(50, 800)) for _ in range(3))
    y = y + 0.2 * x * np.exp(-np.arange(n) / 300)
    return y * strike(n, 0.002, r.uniform(0.01, 0.15))


def bangs(r: Rng) -> Sound:
    return np.concatenate(
        [
            np.concatenate([bang(r), np.zeros(int(HZ * r.uniform(0.02, 0.3)))])
            for _ in range(r.integers(1, 5))
        ]
    )


def engine(r: Rng) -> Sound:
    n = int(HZ * 1.4)
    t = np.arange(n) / HZ
    f = r.uniform(20, 130) * (1 + 0.1 * np.sin(2 * np.pi * r.uniform(0.2, 2) * t))
    phase = 2 * np.pi * np.cumsum(f) / HZ
    x = sum(np.sin(k * phase + r.uniform(0, 6)) * r.uniform(0.2, 1) / k**0.5 for k in range(1, 20))
    hiss = r.uniform(0.2, 3) * resonance(r.standard_normal(n), r.uniform(100, 700), 400)
    return (x + hiss * (1 + 0.7 * np.sin(phase))) * np.minimum(1, t / r.uniform(0.02, 0.5))


def breath(r: Rng) -> Sound:
    n = int(HZ * r.uniform(0.2, 0.9))
    x = r.standard_normal(n)
    y = sum(
        resonance(x, f * r.uniform(0.8, 1.2), 300) * r.uniform(0.2, 1)
        for f in (700, 1600, 3000, 5000)
    )
    return y * np.hanning(n)


def music(r: Rng) -> Sound:
    n = int(HZ * 1.4)
    x, at = np.zeros(n), 0
    while at < n:
        m = int(HZ * r.uniform(0.12, 0.6))
        s = np.arange(m) / HZ
        chord = 110 * 2 ** (r.integers(0, 36, r.integers(1, 4)) / 12)
        y = sum(
            sum(
                np.sin(2 * np.pi * f * h * s + r.uniform(0, 6)) / h ** r.uniform(0.8, 2)
                for h in range(1, 8)
            )
            for f in chord
        ) * np.exp(-s / r.uniform(0.1, 0.8))
        x[at : at + m] += y[: n - at]
        at += m
    return x


NOISES: Sequence[Callable[[Rng], Sound]] = (
    barks, barks, barks, cough, cough, cough, horn, siren, ring, bangs, engine, breath, music,
    breath,
)  # fmt: skip


def hum(r: Rng) -> Sound:
    """Mm-hm with the mouth closed, in two swells or one: no noise, a backchannel.

    A buzz through a nasal murmur: a strong pole near 270 Hz, weak ones near 1 and 2.2 kHz.
    """
    two = r.random() < 0.75
    base = r.uniform(85, 260)
    poles = r.uniform(220, 340), r.uniform(850, 1300), r.uniform(1900, 2600)
    second, third = r.uniform(0.02, 0.25), r.uniform(0.01, 0.12)
    out = []
    for swell in range(2 if two else 1):
        n = int(HZ * (r.uniform(0.1, 0.26) if two else r.uniform(0.18, 0.5)))
        t = np.linspace(0, 1, n)
        f = base * (1 + r.uniform(-0.15, 0.2) * swell + r.uniform(-0.25, 0.3) * (t - 0.3))
        phase = 2 * np.pi * np.cumsum(f * (1 + 0.008 * r.standard_normal())) / HZ
        x = np.zeros(n)
        for k in range(1, int(min(40, 7000 / base))):
            x += np.sin(k * phase) / k ** r.uniform(0.9, 1.1)
        x += r.uniform(0.01, 0.15) * r.standard_normal(n)
        y = resonance(x, poles[0], r.uniform(60, 120))
        y = y + second * resonance(x, poles[1], 150) * 3 + third * resonance(x, poles[2], 200) * 3
        edge = np.minimum(t / r.uniform(0.05, 0.2), (1 - t) / r.uniform(0.1, 0.4))
        out.append(y * np.minimum(1, edge + 0.02))
        if two and swell == 0:
            gap = int(HZ * r.uniform(0.015, 0.09))
            aspirated = resonance(r.standard_normal(gap), r.uniform(600, 1500), 600)
            out.append(aspirated * r.uniform(0.02, 0.3) * np.std(y))
    return np.concatenate(out)
