"""Where a reply was cut, to the millisecond: the mixer's closing ramp, found in a recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parley.dialogue.mixer import AUDIBLE, Fade
from parley_speech.types import SPEAKER_HZ

MASKED = 0.03
"""What is 30 dB below its surroundings may be the codec's own noise."""

_MS = SPEAKER_HZ // 1000


@dataclass(frozen=True, slots=True)
class Cut:
    """A sample of a rendering at which a reply was cut, and between which samples it must lie.

    Where the rendering is silent a cut leaves no trace: then the range is wide."""

    earliest: int
    best: int
    latest: int

    def moved(self, by: int) -> Cut:
        return Cut(*(max(0, at + by) for at in (self.earliest, self.best, self.latest)))


class FadeFit:
    """Finds the mixer's closing ramp in a recording, by least squares."""

    REACH = 160 * _MS
    """Samples before the place where the cut is looked for."""
    BEYOND = 180 * _MS
    STEP = _MS // 2
    SEARCH = (-100 * _MS, 90 * _MS)
    """Where the ramp may begin, from that place."""
    BEFORE = 40 * _MS
    AFTER = 60 * _MS
    """What is compared: this much before the ramp begins, and after. What is earlier may have
    another gain, as a duck goes before a stop."""
    AS_GOOD = 1.3
    """A ramp is possible where it leaves at most this many times what the best one leaves."""

    def __init__(self, pieces: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
        want, got = pieces
        weight = _evenly(want)
        self._want, self._got = want * weight, got * weight
        length = SPEAKER_HZ * Fade.STOP.value[1] // 1000
        self._ramp = (1 + np.cos(np.linspace(0, np.pi, length))) / 2

    def cut(self) -> Cut:
        """In samples of the piece."""
        starts = np.arange(self.REACH + self.SEARCH[0], self.REACH + self.SEARCH[1], self.STEP)
        fits = [self._fit(int(start)) for start in starts]
        best = max(range(len(fits)), key=lambda i: fits[i][0])
        gain = fits[best][1]
        window = slice(max(0, int(starts[best]) - self.BEFORE), None)
        left = np.array([self._left(int(start), gain, window) for start in starts])
        possible = np.flatnonzero(left <= self.AS_GOOD * left[best])
        # From the best one on without a gap: what fits elsewhere is another sound.
        first = last = best
        while first - 1 in possible:
            first -= 1
        while last + 1 in possible:
            last += 1
        above = np.flatnonzero(self._ramp * max(gain, AUDIBLE) >= AUDIBLE)
        audible = int(above[-1]) + 1
        return Cut(*(int(starts[i]) + audible for i in (first, best, last)))

    def _fit(self, start: int) -> tuple[float, float]:
        """(correlation, gain before the ramp) of a ramp that begins at ``start``."""
        first, last = max(0, start - self.BEFORE), min(len(self._want), start + self.AFTER)
        model, got = self._model(start)[first:last], self._got[first:last]
        power, energy = float(model @ model), float(got @ got)
        if not power or not energy:
            return 0.0, 0.0
        product = max(0.0, float(got @ model))
        return product / np.sqrt(power * energy), product / power

    def _left(self, start: int, gain: float, window: slice) -> float:
        """The energy in the window that a ramp from ``start``, of this gain, does not explain."""
        rest = (self._got - gain * self._model(start))[window]
        return float(rest @ rest)

    def _model(self, start: int) -> NDArray[np.float64]:
        shape = np.zeros(len(self._want))
        shape[:start] = 1.0
        ramp = self._ramp[: max(0, len(shape) - start)]
        shape[start : start + len(ramp)] = ramp
        return self._want * shape


def place(part: NDArray[np.float64], around: NDArray[np.float64]) -> int:
    """Where in ``around`` the part is found: the highest normalised correlation."""
    products = np.correlate(around, part, mode="valid")
    sums = np.concatenate(([0.0], np.cumsum(around**2)))
    energies = sums[len(part) :] - sums[: -len(part)]
    return int(np.argmax(products / np.sqrt(np.maximum(energies, 1e-9))))


def _evenly(want: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights that let a soft consonant tell as much as the vowel beside it, down to what a codec
    hides there."""
    window = 10 * _MS
    power = np.convolve(want**2, np.ones(window) / window, mode="same")
    envelope = np.sqrt(np.maximum(power, 0.0))
    top = float(envelope.max())
    weights: NDArray[np.float64] = 1 / (envelope + MASKED * top) if top else np.ones_like(want)
    return weights


def piece_of(x: NDArray[np.float64], first: int, last: int) -> NDArray[np.float64]:
    """x[first:last] with zeros where there is nothing."""
    out = np.zeros(last - first)
    a, b = min(max(first, 0), len(x)), min(max(last, 0), len(x))
    if b > a:
        out[a - first : b - first] = x[a:b]
    return out
