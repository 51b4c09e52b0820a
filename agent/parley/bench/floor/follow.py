"""What was heard of a reply: its samples laid over its rendering, which are known.

The line between them is exact (no codec, no clock of its own), so the rendering's sample k is the
reply's sample k until somebody loses or repeats one; whether that happened is measured here, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parley.bench.instant import Rendering
from parley.dialogue.ledger import middle
from parley.dialogue.mixer import AUDIBLE
from parley_speech.types import SPEAKER_HZ, Pcm

HOP_MS = 5
HOP = SPEAKER_HZ * HOP_MS // 1000
QUIET_DBFS = -50.0
"""Where the rendering itself is softer, nothing can be said about its gain."""
ALIKE = 0.9
"""Correlation of a hop with its rendering below which it is another sound."""
SEARCH = SPEAKER_HZ // 2
PATTERN = SPEAKER_HZ * 60 // 1000
_MS = SPEAKER_HZ // 1000

Gains = NDArray[np.float64]


@dataclass(frozen=True)
class Followed:
    """One reply, hop by hop."""

    gain: Gains
    """(hops,) linear; NaN where the rendering is quiet."""
    slips: tuple[int, ...]
    """Where it did not go on where it was: samples lost (positive) or repeated (negative)."""

    def lowered_ms(self, after_ms: float, below_db: float) -> float | None:
        """The first time from ``after_ms`` on at which it stays ``below_db`` for 15 ms, in ms
        of the reply; None: it never does."""
        bar = 10 ** (below_db / 20)
        known = np.flatnonzero(~np.isnan(self.gain))
        low = self.gain[known] <= bar
        for i in range(len(known)):
            if known[i] * HOP_MS >= after_ms - HOP_MS and low[i : i + 3].all():
                return float(max(known[i] * HOP_MS, after_ms))
        return None

    @property
    def last_heard_ms(self) -> float:
        """Behind the last hop above -35 dB."""
        heard = np.flatnonzero(np.nan_to_num(self.gain) > 10 ** (-35 / 20))
        return float(heard[-1] + 1) * HOP_MS if heard.size else 0.0


def follow(rendered: Pcm, played: Pcm) -> Followed:
    """``played`` begins with the rendering's first sample, at whatever gain."""
    gains: list[float] = []
    slips: list[int] = []
    lag = 0
    for first in range(0, len(played) - HOP + 1, HOP):
        got = played[first : first + HOP].astype(np.float64)
        want = _piece(rendered, first + lag)
        gain, alike = _fit(want, got)
        if alike < ALIKE and _loud(got) and (moved := _find(rendered, played, first, lag)):
            slips.append(moved)
            lag += moved
            gain, _ = _fit(_piece(rendered, first + lag), got)
        gains.append(gain)
    return Followed(np.array(gains), tuple(slips))


def _piece(rendered: Pcm, first: int) -> NDArray[np.float64]:
    out = np.zeros(HOP)
    part = rendered[max(0, first) : max(0, first + HOP)]
    out[: len(part)] = part
    return out


def _fit(want: NDArray[np.float64], got: NDArray[np.float64]) -> tuple[float, float]:
    """(gain, correlation); NaN and 1 where the rendering is quiet."""
    power = float(want @ want)
    if power / HOP < (32768 * 10 ** (QUIET_DBFS / 20)) ** 2:
        return float("nan"), 1.0
    energy = float(got @ got)
    product = float(want @ got)
    return max(0.0, product / power), product / np.sqrt(power * energy) if energy else 1.0


def _loud(got: NDArray[np.float64]) -> bool:
    return float(np.sqrt(np.mean(got**2))) > 32768 * 10 ** (QUIET_DBFS / 20)


def _find(rendered: Pcm, played: Pcm, first: int, lag: int) -> int:
    """By how many samples the rendering is ahead of where it should be; 0: it is not found."""
    pattern = played[first : first + PATTERN].astype(np.float64)
    begin = max(0, first + lag - SEARCH)
    around = rendered[begin : first + lag + PATTERN + SEARCH].astype(np.float64)
    if len(pattern) < PATTERN or len(around) <= PATTERN:
        return 0
    products = np.correlate(around, pattern, mode="valid")
    sums = np.concatenate(([0.0], np.cumsum(around**2)))
    energy = np.maximum(sums[PATTERN:] - sums[:-PATTERN], 1e-9) * float(pattern @ pattern)
    scores = products / np.sqrt(energy)
    best = int(np.argmax(scores))
    return best + begin - first - lag if scores[best] > ALIKE else 0


# --- words ------------------------------------------------------------------------------------


def heard_words(rendering: Rendering, followed: Followed, played_samples: int) -> tuple[int, int]:
    """(fewest, most) words that were heard, by the samples: those of which at least half sounded
    audibly. Between the two the closing ramp leaves it open."""
    audible = np.flatnonzero(np.nan_to_num(followed.gain, nan=1.0) >= AUDIBLE)
    last = min(int(audible[-1] + 1) * HOP if audible.size else 0, played_samples)
    reach = 30 * _MS  # the ramp
    low = sum(1 for mark in rendering.marks if last - reach >= middle(mark))
    high = sum(1 for mark in rendering.marks if last + HOP >= middle(mark))
    return low, high


def words_of(text: str | None) -> int:
    return len((text or "").split())
