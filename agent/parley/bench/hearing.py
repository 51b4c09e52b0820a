"""What a recording tells about a reply whose words and sound are known beforehand.

Nothing here trusts the agent: a reply is found in the caller's recording by its level, laid over
its rendering by correlation (``parley.report.levels.align``), and where it became softer, fell
silent and was cut is read from the difference. All times are wall-clock seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parley.bench.cuts import Cut, FadeFit, piece_of, place
from parley.bench.instant import Rendering
from parley.dialogue.ledger import middle
from parley.dialogue.mixer import AUDIBLE
from parley.report.levels import HOP_MS, Alignment, Span, align, levels_dbfs, sounds
from parley.report.recording import Recording
from parley_speech.types import SPEAKER_HZ, Pcm

SOUND_DBFS = -55.0
"""The agent sounds above this level: a ducked voice does, what Opus leaves of a cut does not."""
JOIN_MS = 450
"""Pauses within a reply. Between replies there is more: the floor waits for the user's end."""
LEAD_S = 0.25
BEHIND_S = 0.15
PIECE = SPEAKER_HZ
SEARCH = SPEAKER_HZ * 3 // 10
"""A reply is followed in pieces of a second, each within 300 ms of where the last one ended."""
FOLLOWED = 0.6
"""The score below which a piece was not heard well enough to say where it is."""
LEFT_S = 0.3
"""A reply that sounds until so shortly before the recording's end was not cut: the caller left."""
DUCKED_DB = -6.0
SILENT_DB = -35.0
HOLD_HOPS = 4
"""A level is lower when it stays so for 40 ms: one hop is good to about 2 dB."""
QUIET_DBFS = -40.0
"""Where the rendering itself is softer than this, nothing can be said about its gain."""
WHOLE_S = 0.12
"""A reply that misses less than this of its end was played to its end."""

SLACK_MS = 15
"""The place of the last sounds before a cut is looked for again, within this of the alignment."""

_MS = SPEAKER_HZ // 1000


@dataclass(frozen=True)
class HeardReply:
    """One reply in the recording."""

    span: Span
    """Wall-clock time from its first sound to its last."""
    rendering: Rendering
    alignment: Alignment
    origin: float
    """Wall-clock time of the first sample of the recording that was aligned."""
    recording: Recording
    """That part of it."""
    score: float
    """How surely this is the reply: ``Alignment.score`` of the part that sounds."""
    left: bool
    """It still sounded when the caller left."""

    @property
    def start(self) -> float:
        """When the rendering's first sample was heard."""
        return self.origin + float(self.alignment.delays_s[0])

    @property
    def whole(self) -> bool:
        """It was heard to its end."""
        length = len(self.rendering.pcm) / SPEAKER_HZ
        return bool(self.span.end_s >= self.start + length - _tail_s(self.rendering) - WHOLE_S)

    # --- levels -----------------------------------------------------------------------------

    @property
    def times(self) -> NDArray[np.float64]:
        """(hops,): when each hop's middle was heard."""
        hops = np.arange(len(self.alignment.gain_db))
        return self.origin + self.alignment.delays_s + (hops + 0.5) * HOP_MS / 1000

    def ducked_at(self, onset: float) -> float | None:
        """When, after ``onset``, it was first at least 6 dB below its level before; None: never.

        Where the agent pauses just then, the first sound after the pause tells."""
        times, gain = self._known()
        base = _base(times, gain, onset)
        low = gain <= base + DUCKED_DB
        after = np.flatnonzero(times >= onset)
        for i in after:
            if low[i : i + HOLD_HOPS].all():
                return float(times[i])
        return self.silent_at() if self.stopped(onset) else None

    def silent_at(self) -> float:
        """Behind the last instant at which it was above -35 dB of its rendering."""
        times, gain = self._known()
        heard = np.flatnonzero(gain > SILENT_DB)
        return float(times[heard[-1]]) + HOP_MS / 2000 if heard.size else self.start

    def stopped(self, onset: float) -> bool:
        """It ended after ``onset`` and before its time."""
        return not self.whole and not self.left and bool(self.span.end_s >= onset - 0.02)

    def ducked_ms(self, start: float, end: float) -> float:
        """For how long between two times it was at least 6 dB softer than rendered.

        Where the rendering pauses, its neighbourhood tells."""
        known = ~np.isnan(self.alignment.gain_db)
        if not known.any():
            return 0.0
        base = _base(*self._known(), start)
        low = (self.alignment.gain_db[known] <= base + DUCKED_DB).astype(float)
        hops = np.arange(len(known))
        inside = (self.times >= start) & (self.times < end)
        everywhere = np.interp(hops, hops[known], low) >= 0.5
        return float(np.count_nonzero(everywhere & inside) * HOP_MS)

    def _known(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        known = ~np.isnan(self.alignment.gain_db)
        return self.times[known], self.alignment.gain_db[known]

    # --- words ------------------------------------------------------------------------------

    def cut(self) -> Cut:
        """Where a cut reply fell below what counts as heard.

        The mixer's fade is known, so its place is the one whose shape explains the recording best
        (least squares, in steps of half a millisecond)."""
        hop_end = self.alignment.cut_s(below_db=20 * np.log10(AUDIBLE))
        if hop_end is None:
            return self._cut_in_silence()
        about = round(hop_end * SPEAKER_HZ)
        return FadeFit(self._pieces(about)).cut().moved(about - FadeFit.REACH)

    def _cut_in_silence(self) -> Cut:
        """It ended where the rendering pauses: anywhere from there to the rendering's next sound,
        or it was not cut at all."""
        length = len(self.rendering.pcm)
        if self.whole:
            return Cut(length, length, length)
        known = np.flatnonzero(~np.isnan(self.alignment.gain_db))
        first = (int(known[-1]) + 1) * HOP_MS * _MS if known.size else 0
        loud = levels_dbfs(self.rendering.pcm[first:], SPEAKER_HZ) > QUIET_DBFS
        silent = int(np.argmax(loud)) if loud.any() else len(loud)
        return Cut(first, first, min(length, first + (silent + 1) * HOP_MS * _MS))

    def _pieces(self, about: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rendering and recording around the cut, laid over each other to the sample."""
        hop = min(about // (HOP_MS * _MS), len(self.alignment.delays_s) - 1)
        lag = round(float(self.alignment.delays_s[hop]) * SPEAKER_HZ)
        rendered = self.rendering.pcm.astype(np.float64)
        recorded = self.recording.agent.astype(np.float64)
        first, last = about - FadeFit.REACH, about + FadeFit.BEYOND
        want = piece_of(rendered, first, last)
        slack = SLACK_MS * _MS
        wide = piece_of(recorded, first + lag - slack, last + lag + slack)
        sure = FadeFit.REACH - 50 * _MS  # what is before the fade, in most cases
        k = place(want[:sure], wide[: sure + 2 * slack])
        return want, wide[k : k + len(want)]

    def words(self, samples: int) -> str:
        """The text up to the last word of which ``samples`` sound at least the half."""
        n = sum(1 for mark in self.rendering.marks if samples >= middle(mark))
        return self.rendering.text[: self.rendering.marks[n - 1].char_end].strip() if n else ""

    def margin_ms(self, samples: int) -> float:
        """How far the cut is from the nearest point at which a word more, or less, would count."""
        return min(abs(samples - middle(mark)) for mark in self.rendering.marks) / _MS


# --- finding --------------------------------------------------------------------------------


def replies(recording: Recording, rendering: Rendering) -> list[HeardReply]:
    """Every reply in the recording, oldest first. All have the same words."""
    found = sounds(
        recording.agent,
        recording.rate_hz,
        threshold_dbfs=SOUND_DBFS,
        join_ms=JOIN_MS,
        least_ms=20,
    )
    at = recording.started_at
    return [hear(recording, Span(at + s.start_s, at + s.end_s), rendering) for s in found]


def hear(recording: Recording, span: Span, rendering: Rendering) -> HeardReply:
    """The reply that sounds in ``span``, laid over its rendering."""
    part = recording.between(span.start_s - LEAD_S, span.end_s + LEAD_S)
    # What is scored is what sounds; the hops behind a cut are to be seen to be silent.
    sounding = max(1, round(span.length_s * SPEAKER_HZ))
    found = _follow(rendering.pcm[: sounding + round(BEHIND_S * SPEAKER_HZ)], part.agent, sounding)
    left = recording.started_at + recording.duration_s - span.end_s
    return HeardReply(
        span, rendering, found, part.started_at, part, found.score, bool(left < LEFT_S)
    )


def _follow(reference: Pcm, recorded: Pcm, sounding: int) -> Alignment:
    """As ``align``, piece by piece, each looked for around the place of the one before: a jitter
    buffer moves a long reply by more than one search can span. The score is that of the first
    ``sounding`` samples."""
    gains: list[NDArray[np.float64]] = []
    delays: list[NDArray[np.float64]] = []
    scores: list[float] = []
    energies: list[float] = []
    lag = round(LEAD_S * SPEAKER_HZ)  # about where it begins in its part of the recording
    for first in range(0, len(reference), PIECE):
        piece = reference[first : first + PIECE]
        begin = max(0, first + lag - SEARCH)
        around = recorded[begin : first + lag + len(piece) + SEARCH]
        found = align(piece, around, SPEAKER_HZ, silence_dbfs=QUIET_DBFS) if len(around) else None
        if found is not None and (found.score >= FOLLOWED or not gains):
            gains.append(found.gain_db)
            delays.append(found.delays_s + (begin - first) / SPEAKER_HZ)
            lag = round(float(delays[-1][-1]) * SPEAKER_HZ)
        else:  # hardly anything of it was heard: where it would have been
            gains.append(_gains(piece, recorded, first + lag))
            delays.append(np.full(len(gains[-1]), lag / SPEAKER_HZ))
        heard = piece[: max(0, sounding - first)]
        energies.append(float(np.sum(heard.astype(np.float64) ** 2)))
        if found is not None and 0 < len(heard) < len(piece):
            found = align(heard, around, SPEAKER_HZ)
        scores.append(found.score if found is not None else 0.0)
    score = float(np.average(scores, weights=energies)) if sum(energies) > 0 else 0.0
    whole_delays = np.concatenate(delays)
    return Alignment(float(whole_delays[0]), score, np.concatenate(gains), whole_delays)


def _gains(piece: Pcm, recorded: Pcm, at: int) -> NDArray[np.float64]:
    """(hops,): recorded level over the piece's, laid at sample ``at``; NaN where it is quiet."""
    want = levels_dbfs(piece, SPEAKER_HZ)
    got = levels_dbfs(
        piece_of(recorded.astype(np.float64), at, at + len(piece)).astype(np.int16), SPEAKER_HZ
    )
    return np.where(want > QUIET_DBFS, got - want, np.nan)


def _base(times: NDArray[np.float64], gain: NDArray[np.float64], before: float) -> float:
    """The usual gain of the second before; 0 dB, the rendered level, when little is known."""
    recent = gain[(times < before) & (times >= before - 1.0)]
    return float(np.median(recent)) if recent.size >= 10 else 0.0


def _tail_s(rendering: Rendering) -> float:
    """How long the rendering goes on in silence after its last sound."""
    found = sounds(rendering.pcm, SPEAKER_HZ, threshold_dbfs=SOUND_DBFS, join_ms=JOIN_MS)
    return len(rendering.pcm) / SPEAKER_HZ - found[-1].end_s if found else 0.0
