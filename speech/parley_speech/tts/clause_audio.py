"""From a synthesiser's PCM of one clause to loudspeaker chunks with word marks.

The clause is given word by word: audio leaves as soon as it is known where its word ends, so that
every mark leaves with the chunk in which the word begins. On the way the level is set, peaks are
limited, silence at both ends is cut (pauses are the caller's, in whole samples), and the rate is
changed. The rate changes by 160/147, so a clause padded to a multiple of 147 samples has an exact
length at 24 kHz, and positions convert without drift.

Memory is one word of audio. Cost per sample does not grow with the length of the clause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import gcd

import numpy as np
import soxr
from numpy.typing import NDArray

from parley_speech.tts.words import Aligner, Clause, Span
from parley_speech.types import SPEAKER_HZ, AudioChunk, Pcm, WordMark

CHUNK = 60 * SPEAKER_HZ // 1000  # samples: the longest chunk
SILENCE = 20  # of 32767, -64 dBFS, in what the synthesiser gives: below it nothing is heard
EDGE_MS = 5  # of quiet left before the first sound, so that it does not begin with a click
LIMIT_FROM, LIMIT_TO = 0.6, 0.98  # of full scale: the limiter's knee and ceiling


class ClauseAudio:
    """One clause on its way out. ``push`` as the synthesiser goes on, then ``finish`` once.

    Args:
        clause: what is spoken.
        unspoken: text right before the clause that could not be spoken by itself; the first mark
            takes it in.
        at: sample of the stream, at 24 kHz, at which the clause begins with ``pause`` samples of
            silence.
        gain: factor on the synthesiser's samples.
        source_hz: the synthesiser's rate.
        emit: takes each chunk.
    """

    def __init__(
        self,
        clause: Clause,
        *,
        unspoken: str,
        at: int,
        pause: int,
        gain: float,
        source_hz: int,
        emit: Callable[[AudioChunk], None],
    ) -> None:
        self._clause = clause
        self._unspoken = unspoken
        self._at = at  # stream sample of the next chunk
        self._pause = pause
        self._base = at + pause  # stream sample of the clause's first sound
        self._gain = gain / 32768
        self._emit = emit
        self._aligner = Aligner(clause.text)
        self._resampler = soxr.ResampleStream(source_hz, SPEAKER_HZ, 1, dtype="float32")
        self._up = SPEAKER_HZ // gcd(source_hz, SPEAKER_HZ)  # 160 for 22.05 kHz
        self._down = source_hz // gcd(source_hz, SPEAKER_HZ)  # 147
        self._edge = EDGE_MS * source_hz // 1000
        self._held: Pcm = np.zeros(0, np.int16)
        self._held_from = 0  # clause sample of held[0]
        self._known = 0  # clause sample up to which the words are known
        self._origin: int | None = None  # clause sample of the first one given; None: none yet
        self._spans: list[Span] = []  # of words that were not given yet

    def push(self, pcm: Pcm, words: Iterable[tuple[int, int]]) -> None:
        """PCM (samples,) and the words that begin at or after it, as (character, sample)."""
        self._held = np.concatenate((self._held, pcm))
        for char, sample in words:
            self._know(self._aligner.word(char, sample))
        self._release(self._known)

    def finish(self) -> int:
        """Gives the rest; returns the stream sample after it (unchanged if nothing is heard)."""
        loud = np.flatnonzero(_is_loud(self._held))
        end = self._held_from + (int(loud[-1]) + 1 if loud.size else 0)
        self._know(self._aligner.finish(max(end, self._known)))
        missing = max(0, self._known - self._held_from - len(self._held))
        self._held = np.concatenate((self._held, np.zeros(missing, np.int16)))
        self._release(max(end, self._known))
        if self._origin is not None:
            padding = np.zeros(-(self._held_from - self._origin) % self._down, np.float32)
            self._give(self._resampler.resample_chunk(padding, last=True), last=True)
        return self._at

    def _know(self, spans: list[Span]) -> None:
        self._spans += spans
        if spans:
            self._known = spans[-1].end

    def _release(self, upto: int) -> None:
        """Gives the samples held before ``upto``, from the first one that can be heard on."""
        ready, rest = np.split(self._held, [max(0, upto - self._held_from)])
        if self._origin is None:
            loud = np.flatnonzero(_is_loud(ready))
            if not loud.size:
                return
            self._origin = max(0, int(loud[0]) - self._edge)
            ready = ready[self._origin :]
            self._held_from = self._origin
            self._silence()
        self._held = rest
        self._held_from += len(ready)
        self._give(self._resampler.resample_chunk(ready.astype(np.float32) * self._gain))

    def _silence(self) -> None:
        while self._pause > 0:
            samples = min(CHUNK, self._pause)
            self._pause -= samples
            self._at += samples
            self._emit(AudioChunk(np.zeros(samples, np.int16)))

    def _give(self, sound: NDArray[np.float32], *, last: bool = False) -> None:
        pcm = limit(sound)
        for start in range(0, len(pcm), CHUNK):
            piece = pcm[start : start + CHUNK]
            self._at += len(piece)
            is_last = last and start + CHUNK >= len(pcm)
            self._emit(AudioChunk(piece, self._marks_before(self._at, everything=is_last)))

    def _marks_before(self, sample: int, *, everything: bool) -> tuple[WordMark, ...]:
        """Takes the marks of the words known to begin before this sample of the stream."""
        begun = [s for s in self._spans if everything or self._at_24k(s.start) < sample]
        self._spans = self._spans[len(begun) :]
        return tuple(self._mark(span) for span in begun)

    def _mark(self, span: Span) -> WordMark:
        text = self._clause.text[span.char_start : span.char_end]
        if self._unspoken:
            text = (self._unspoken + self._clause.text[: span.char_end]).lstrip()
            self._unspoken = ""
        char_end = self._clause.start + span.char_end
        start, end = self._at_24k(span.start), self._at_24k(span.end)
        return WordMark(text, char_end - len(text), char_end, start, end)

    def _at_24k(self, sample: int) -> int:
        return self._base + max(0, sample - (self._origin or 0)) * self._up // self._down


def limit(sound: NDArray[np.float32]) -> Pcm:
    """Sound at full scale 1.0 as 16 bit; peaks above `LIMIT_FROM` bend towards `LIMIT_TO`.

    It has no memory: the same sample gives the same sample, however the sound was cut.
    """
    room = LIMIT_TO - LIMIT_FROM
    level = np.abs(sound)
    bent = LIMIT_FROM + room * np.tanh((level - LIMIT_FROM) / room)
    limited = np.sign(sound) * np.where(level > LIMIT_FROM, bent, level)
    pcm: Pcm = np.rint(limited * 32767).astype(np.int16)
    return pcm


def _is_loud(pcm: Pcm) -> NDArray[np.bool_]:
    return np.abs(pcm.astype(np.int32)) > SILENCE
