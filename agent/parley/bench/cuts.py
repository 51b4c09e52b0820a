"""Where a reply was cut, to the millisecond: the mixer's closing ramp, found in a recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parley.dialogue.mixer import AUDIBLE, Fade
from parley_speech.types import FRAME_MS, SPEAKER_HZ

PAUSE = 0.1
"""What is 20 dB below the loudest around it is a pause: a codec leaves hardly anything of a fade
through it."""
MASKED = 0.06
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
    """Finds the mixer's closing ramp in a recording, by least squares.

    A stop may follow a duck so soon that both ramps lie in what is compared, so each distance
    between them is tried, in the engine's ticks, and so is a gain that has long been steady."""

    REACH = 320 * _MS
    """Samples before the place where the cut is looked for."""
    BEYOND = 180 * _MS
    STEP = _MS
    SEARCH = (-100 * _MS, 90 * _MS)
    """Where the ramp may begin, from that place."""
    BEFORE = 40 * _MS
    AFTER = 60 * _MS
    """What is compared: this much before the ramp begins, and after."""
    DUCKED_BEFORE = tuple(range(FRAME_MS, 220 + FRAME_MS, FRAME_MS))
    """In ms: how long before the stop the duck may have begun."""
    AS_GOOD = 1.2
    """A ramp is possible where it leaves at most this many times what the best one leaves."""

    def __init__(self, pieces: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
        want, got = pieces
        envelope = _envelope(want)
        floor = MASKED * float(envelope.max())
        # A soft consonant is to tell as much as the vowel beside it, down to what a codec hides.
        weight = 1 / (envelope + floor) if floor else np.ones_like(want)
        self._quiet = envelope <= PAUSE * float(envelope.max())
        self._want, self._got = want * weight, got * weight
        self._endings = [_ending(None), *(_ending(ms) for ms in self.DUCKED_BEFORE)]

    def cut(self) -> Cut:
        """In samples of the piece."""
        starts = range(self.REACH + self.SEARCH[0], self.REACH + self.SEARCH[1], self.STEP)
        best = [
            max((*self._fit(start, ending), start) for start in starts) for ending in self._endings
        ]
        score, gain, start = max(best)
        ending = self._endings[best.index((score, gain, start))]
        window = slice(max(0, start - ending.lead - self.BEFORE), None)
        bar = self.AS_GOOD * self._left(start, ending, gain, window)
        possible = sorted(
            at + other.audible(gain)
            for other, (_, gain, _) in zip(self._endings, best, strict=True)
            for at in starts
            if self._left(at, other, gain, window) <= bar
        )
        return self._through_pauses(
            _around(start + ending.audible(gain), possible, FRAME_MS * _MS + self.STEP)
        )

    def _through_pauses(self, cut: Cut) -> Cut:
        """Where the rendering pauses, a cut a little earlier or later sounds the same."""
        loud = np.flatnonzero(~self._quiet)
        before, after = loud[loud < cut.earliest], loud[loud > cut.latest]
        first = int(before[-1]) + 1 if before.size else 0
        last = int(after[0]) if after.size else len(self._quiet)
        return Cut(min(first, cut.earliest), cut.best, max(last, cut.latest))

    def _fit(self, start: int, ending: _Ending) -> tuple[float, float]:
        """(correlation, gain before all) of an ending whose stop begins at ``start``."""
        first = max(0, start - ending.lead - self.BEFORE)
        last = min(len(self._want), start + self.AFTER)
        model, got = self._model(start, ending)[first:last], self._got[first:last]
        power, energy = float(model @ model), float(got @ got)
        if not power or not energy:
            return 0.0, 0.0
        product = max(0.0, float(got @ model))
        return product / np.sqrt(power * energy), product / power

    def _left(self, start: int, ending: _Ending, gain: float, window: slice) -> float:
        """The energy in the window that this ending does not explain."""
        rest = (self._got - gain * self._model(start, ending))[window]
        return float(rest @ rest)

    def _model(self, start: int, ending: _Ending) -> NDArray[np.float64]:
        shape = np.zeros(len(self._want))
        first = start - ending.lead
        shape[: max(0, first)] = 1.0
        ramp = ending.ramp[max(0, -first) : max(0, len(shape) - first)]
        shape[max(0, first) : max(0, first) + len(ramp)] = ramp
        return self._want * shape


@dataclass(frozen=True, slots=True)
class _Ending:
    """How the gain falls to zero, from the first sample that is not at the gain before."""

    ramp: NDArray[np.float64]
    lead: int
    """Samples of it before the stop begins."""

    def audible(self, gain: float) -> int:
        """Samples from the stop's beginning to the last one that counts as heard."""
        above = np.flatnonzero(self.ramp * max(gain, AUDIBLE) >= AUDIBLE)
        return int(above[-1]) + 1 - self.lead


def _around(best: int, possible: list[int], gap: int) -> Cut:
    """The range of places that hang together with the best one: what fits elsewhere is another
    sound."""
    first = last = best
    for at in possible:
        if last <= at <= last + gap:
            last = at
    for at in reversed(possible):
        if first - gap <= at <= first:
            first = at
    return Cut(first, best, last)


def _ending(ducked_before_ms: int | None) -> _Ending:
    """A stop from a steady gain, or one that follows a duck."""
    now, lead = 1.0, np.empty(0)
    if ducked_before_ms is not None:
        target, _ = Fade.DUCK.value
        n = ducked_before_ms * _MS
        duck = now + (target - now) * _rise(Fade.DUCK)
        lead = np.concatenate([duck[:n], np.full(max(0, n - len(duck)), target)])
        now = float(duck[n]) if n < len(duck) else target
    return _Ending(np.concatenate([lead, now * (1 - _rise(Fade.STOP))]), len(lead))


def _rise(fade: Fade) -> NDArray[np.float64]:
    """The mixer's ramp, from 0 to 1."""
    shape: NDArray[np.float64] = np.linspace(0, np.pi, SPEAKER_HZ * fade.value[1] // 1000)
    return (1 - np.cos(shape)) / 2


def place(part: NDArray[np.float64], around: NDArray[np.float64]) -> int:
    """Where in ``around`` the part is found: the highest normalised correlation."""
    products = np.correlate(around, part, mode="valid")
    sums = np.concatenate(([0.0], np.cumsum(around**2)))
    energies = sums[len(part) :] - sums[: -len(part)]
    return int(np.argmax(products / np.sqrt(np.maximum(energies, 1e-9))))


def _envelope(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """RMS over 10 ms around each sample."""
    window = 10 * _MS
    power = np.convolve(x**2, np.ones(window) / window, mode="same")
    envelope: NDArray[np.float64] = np.sqrt(np.maximum(power, 0.0))
    return envelope


def piece_of(x: NDArray[np.float64], first: int, last: int) -> NDArray[np.float64]:
    """x[first:last] with zeros where there is nothing."""
    out = np.zeros(last - first)
    a, b = min(max(first, 0), len(x)), min(max(last, 0), len(x))
    if b > a:
        out[a - first : b - first] = x[a:b]
    return out
