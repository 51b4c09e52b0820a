"""Measures on recorded sound: levels, sounds and gaps, clicks, and alignment to what was sent.

All functions take mono int16 PCM of shape (samples,) and its rate, and give times in seconds from
its first sample. Levels are dBFS of the root mean square, full scale being 32768; digital silence
is ``FLOOR_DBFS``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parley_speech.types import Pcm

FLOOR_DBFS = -100.0
HOP_MS = 10
FULL_SCALE = 32768.0
_POWER_FLOOR = 10 ** (FLOOR_DBFS / 10)

Levels = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """From the first to behind the last instant, in seconds."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


def levels_dbfs(pcm: Pcm, rate_hz: int, hop_ms: int = HOP_MS) -> Levels:
    """The level of each hop, (hops,); a last hop that is not full counts what there is."""
    hop = rate_hz * hop_ms // 1000
    if pcm.size == 0:
        return np.empty(0)
    edges = np.arange(0, pcm.size, hop)
    squares = np.add.reduceat((pcm.astype(np.float64) / FULL_SCALE) ** 2, edges)
    lengths = np.diff(np.append(edges, pcm.size))
    power: Levels = squares / lengths
    levels: Levels = 10 * np.log10(np.maximum(power, _POWER_FLOOR))
    return levels


def level_dbfs(pcm: Pcm) -> float:
    """The level of the whole piece; FLOOR_DBFS when it is empty."""
    if pcm.size == 0:
        return FLOOR_DBFS
    power = float(np.mean((pcm.astype(np.float64) / FULL_SCALE) ** 2))
    return float(10 * np.log10(max(power, _POWER_FLOOR)))


def sounds(
    pcm: Pcm,
    rate_hz: int,
    *,
    threshold_dbfs: float = -50.0,
    join_ms: int = 100,
    least_ms: int = 0,
) -> list[Span]:
    """Where something sounds: hops above the threshold, joined over pauses up to ``join_ms``.

    Starts and ends are refined to the first and last sample that reaches the threshold's amplitude,
    so that an onset is exact to a fraction of a hop. Sounds shorter than ``least_ms`` are left out.
    """
    hop = rate_hz * HOP_MS // 1000
    loud = np.flatnonzero(levels_dbfs(pcm, rate_hz) > threshold_dbfs)
    if loud.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(loud) * HOP_MS > join_ms + HOP_MS)
    firsts = loud[np.concatenate(([0], breaks + 1))]
    lasts = loud[np.append(breaks, loud.size - 1)]
    amplitude = FULL_SCALE * 10 ** (threshold_dbfs / 20)
    spans = []
    for first, last in zip(firsts, lasts, strict=True):
        part = np.abs(pcm[first * hop : (last + 1) * hop].astype(np.int32))
        above = np.flatnonzero(part >= amplitude)
        start = first * hop + int(above[0])
        end = first * hop + int(above[-1]) + 1
        if (end - start) * 1000 >= least_ms * rate_hz:
            spans.append(Span(start / rate_hz, end / rate_hz))
    return spans


def gaps(
    pcm: Pcm, rate_hz: int, *, threshold_dbfs: float = -50.0, least_ms: int = 30
) -> list[Span]:
    """Holes of at least ``least_ms`` between sounds (silence before the first and after the last
    one is none)."""
    found = sounds(pcm, rate_hz, threshold_dbfs=threshold_dbfs, join_ms=0)
    holes = (Span(before.end_s, after.start_s) for before, after in itertools.pairwise(found))
    return [hole for hole in holes if hole.length_s * 1000 >= least_ms]


def clicks(pcm: Pcm, rate_hz: int, *, ratio: float = 4.0, least: int = 600) -> NDArray[np.float64]:
    """Times of jumps that the sound around them does not explain: (clicks,).

    A jump is a second difference of at least ``least`` (of 32768) that exceeds ``ratio`` times
    every other one within 12 ms: a cut without a ramp, a lost frame, a wrapped sample. It stands
    alone, where the pulses of a voice (every 3 to 12 ms) and the burst of a consonant have
    neighbours as high. So a click within a loud voice is found only if it is louder still.
    """
    own, reach = max(2, rate_hz // 4000), rate_hz * 12 // 1000
    bend = np.pad(np.abs(np.diff(pcm.astype(np.int64), n=2)), reach)
    found = []
    alone = bend >= least
    for shift in (own + 1, own + 4, own + 9):  # sorts out almost all, at the cost of three passes
        alone &= (bend > ratio * np.roll(bend, shift)) & (bend > ratio * np.roll(bend, -shift))
    for i in np.flatnonzero(alone):
        before, after = bend[i - reach : i - own], bend[i + own + 1 : i + reach + 1]
        around = bend[i - own : i + own + 1]
        others = max(int(before.max()), int(after.max()))
        if bend[i] > ratio * others and int(np.argmax(around)) == own:
            found.append(i - reach + 1)
    return np.array(found) / rate_hz


# --- alignment --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alignment:
    """How a reference is found in a recording of it, behind a codec and a jitter buffer."""

    delay_s: float
    """The reference's first sample lies this long after the recording's first sample."""
    score: float
    """Normalised correlation of the parts, each at its own delay, weighted by the energy of the
    reference: 1 for a copy (at any volume), about 0.9 through Opus, below 0.5 when the reference is
    not there."""
    gain_db: NDArray[np.float64]
    """(hops,) of the reference: recorded level over reference level; NaN where the reference is
    silent, FLOOR_DBFS at least."""
    delays_s: NDArray[np.float64]
    """(hops,): the delay around each hop; differs from ``delay_s`` where a jitter buffer stretched
    or shortened the sound."""

    def cut_s(self, below_db: float = -25.0) -> float | None:
        """Until where of the reference it was heard; None when it was heard to its end."""
        known = np.flatnonzero(~np.isnan(self.gain_db))
        heard = known[self.gain_db[known] > below_db]
        if known.size == 0 or (heard.size and heard[-1] == known[-1]):
            return None
        return float((heard[-1] + 1) * HOP_MS / 1000) if heard.size else 0.0

    def quieter(self, than_db: float = -4.0, least_ms: int = 40) -> list[Span]:
        """Where in the reference's time it was ducked: gain between ``than_db`` and -40 dB."""
        known = np.flatnonzero(~np.isnan(self.gain_db))
        low = (self.gain_db[known] < than_db) & (self.gain_db[known] > -40.0)
        spans: list[Span] = []
        for run in np.split(np.arange(known.size), np.flatnonzero(np.diff(low)) + 1):
            if run.size and low[run[0]]:
                span = Span(known[run[0]] * HOP_MS / 1000, (known[run[-1]] + 1) * HOP_MS / 1000)
                if span.length_s * 1000 >= least_ms:
                    spans.append(span)
        return spans


def align(
    reference: Pcm,
    recording: Pcm,
    rate_hz: int,
    *,
    silence_dbfs: float = -45.0,
    drift_ms: float = 60.0,
) -> Alignment:
    """Finds ``reference`` in ``recording`` and how loud each part of it is there.

    Both at ``rate_hz``. The whole is placed by normalised cross-correlation; then each stretch of
    200 ms is placed again within ``drift_ms`` of that, as a jitter buffer may stretch
    time by some milliseconds; then levels are compared hop by hop. Works through Opus, which keeps
    the waveform of speech well enough; the gain of one hop is good to about 2 dB there.
    """
    if reference.size == 0 or recording.size == 0:
        raise ValueError("Both reference and recording need at least one sample.")
    ref, rec = (x.astype(np.float64) / FULL_SCALE for x in (reference, recording))
    lag = _best_lag(ref, rec)
    hop = rate_hz * HOP_MS // 1000
    hops = -(-ref.size // hop)
    lags, score = _local_lags(ref, rec, lag, rate_hz, round(drift_ms * rate_hz / 1000), hops)
    gain = np.full(hops, np.nan)
    for i in range(hops):
        # Twice the hop's length, centred: one hop alone is too short for a stable level.
        first, last = max(0, i * hop - hop // 2), min(ref.size, (i + 1) * hop + hop // 2)
        want = _power(ref, first, last)
        if 10 * np.log10(max(want, _POWER_FLOOR)) > silence_dbfs:
            got = _power(rec, first + lags[i], last + lags[i])
            gain[i] = max(FLOOR_DBFS, 10 * np.log10(max(got, _POWER_FLOOR) / want))
    return Alignment(lag / rate_hz, score, gain, lags / rate_hz)


def _best_lag(ref: NDArray[np.float64], rec: NDArray[np.float64]) -> int:
    """The shift of ``ref`` in ``rec`` (may be negative) with the highest correlation."""
    size = 1 << (ref.size + rec.size - 1).bit_length()
    spectrum = np.fft.rfft(rec, size) * np.conj(np.fft.rfft(ref, size))
    cross = np.fft.irfft(spectrum, size)
    lags = np.concatenate((np.arange(rec.size), np.arange(-ref.size + 1, 0)))
    values = np.concatenate((cross[: rec.size], cross[size - ref.size + 1 :]))
    return int(lags[np.argmax(values)])


def _local_lags(
    ref: NDArray[np.float64],
    rec: NDArray[np.float64],
    lag: int,
    rate_hz: int,
    drift: int,
    hops: int,
) -> tuple[NDArray[np.int64], float]:
    """The lag around each hop, (hops,), and how well the blocks match there on the whole.

    Blocks of 200 ms, each searched within ``drift`` samples of ``lag``.
    """
    block = rate_hz // 5
    hop = rate_hz * HOP_MS // 1000
    centres, found, scores, energies = [], [], [], []
    for first in range(0, ref.size, block):
        part = ref[first : first + block]
        around = _slice(rec, first + lag - drift, first + part.size + lag + drift)
        cross = _correlate(around, part)
        windows = np.concatenate(([0.0], np.cumsum(around**2)))
        energy = windows[part.size :] - windows[: -part.size]
        match = cross / np.sqrt(np.maximum(energy * np.sum(part**2), 1e-12))
        best = int(np.argmax(match))
        scores.append(float(match[best]))
        energies.append(float(np.sum(part**2)))
        if match[best] > 0.6:  # else silent, cut or too noisy to tell
            centres.append((first + part.size / 2) / hop)
            found.append(lag - drift + best)
    score = float(np.average(scores, weights=energies)) if sum(energies) > 0 else 0.0
    if not found:
        return np.full(hops, lag), score
    local: NDArray[np.int64] = np.rint(np.interp(np.arange(hops) + 0.5, centres, found)).astype(int)
    return local, score


def _correlate(around: NDArray[np.float64], part: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every full overlap of ``part`` with ``around``, by FFT: (around - part + 1,)."""
    size = 1 << (around.size - 1).bit_length()
    spectrum = np.fft.rfft(around, size) * np.conj(np.fft.rfft(part, size))
    return np.fft.irfft(spectrum, size)[: around.size - part.size + 1]


def _slice(x: NDArray[np.float64], first: int, last: int) -> NDArray[np.float64]:
    """x[first:last] with zeros where there is nothing."""
    part = x[min(max(first, 0), x.size) : min(max(last, 0), x.size)]
    before = min(max(-first, 0), last - first)
    return np.pad(part, (before, last - first - before - part.size))


def _power(x: NDArray[np.float64], first: int, last: int) -> float:
    """Mean power of x[first:last], zeros where there is nothing."""
    part = x[max(first, 0) : max(last, 0)]
    return float(np.sum(part**2)) / max(1, last - first)
