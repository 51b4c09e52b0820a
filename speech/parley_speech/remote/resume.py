"""Where an utterance goes on when what spoke it is lost in the middle. Pure.

The listener has samples and word marks of the first source. A second source speaks the text from
the first word on that was not heard whole. Of a word that was heard in part, the second source's
sound is skipped by the share that was heard, so that the word is heard once, and its mark is not
given again. Samples and characters count through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from parley_speech.types import AudioChunk, WordMark

SILENCE = 64
"""Of 32768, -54 dBFS: quieter samples are a pause."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go on."""

    char: int = 0
    """The second source is given the text from here on."""
    given_to: int = 0
    """Words up to this character had their marks given."""
    share: float = 0.0
    """How much of the word that begins at ``char`` was heard, 0..1."""


class Given:
    """What a listener was given of an utterance: samples and marks that count through."""

    def __init__(self) -> None:
        self.samples = 0
        self._char_end = 0  # of the last word whose mark was given
        self._unheard: deque[WordMark] = deque()  # marks that were given before all their samples

    def add(self, chunk: AudioChunk) -> None:
        self.samples += len(chunk.pcm)
        self._unheard.extend(chunk.marks)
        if chunk.marks:
            self._char_end = chunk.marks[-1].char_end
        while self._unheard and self._unheard[0].end <= self.samples:
            self._unheard.popleft()

    @property
    def end_of_words(self) -> int:
        """The sample up to which the words reach whose marks were given."""
        return max((mark.end for mark in self._unheard), default=0)

    def place(self) -> Place:
        """At the first word that was not heard whole."""
        if not self._unheard:
            return Place(self._char_end, self._char_end)
        word = self._unheard[0]
        heard = max(0, self.samples - word.start)
        return Place(word.char_start, self._char_end, min(1.0, heard / (word.end - word.start)))


class Continuation:
    """Turns the chunks of a source that goes on at a place into chunks of the utterance."""

    def __init__(self, place: Place, at: int) -> None:
        """``at``: the utterance's sample at which the source goes on."""
        self._place = place
        self._at = at
        self._skip = 0  # samples of the source that are not given
        self._waiting: list[AudioChunk] = []
        self._aligning = place.share > 0.0
        self._seen = 0  # samples of the source
        self._marks: tuple[WordMark, ...] = ()  # whose samples so far were all skipped

    def take(self, chunk: AudioChunk) -> list[AudioChunk]:
        """What can be given now. Until the first word's mark is known, nothing can."""
        if self._aligning:
            self._waiting.append(chunk)
            if not chunk.marks:
                return []
            first = chunk.marks[0]
            self._aligning = False
            self._skip = first.start + round(self._place.share * (first.end - first.start))
            ready, self._waiting = self._waiting, []
        else:
            ready = [chunk]
        return [given for one in ready if (given := self._given(one)) is not None]

    def finish(self) -> list[AudioChunk]:
        """The source has ended; what waited for a mark that never came."""
        ready, self._waiting = self._waiting, []
        return [given for one in ready if (given := self._given(one)) is not None]

    def _given(self, chunk: AudioChunk) -> AudioChunk | None:
        drop = min(len(chunk.pcm), max(0, self._skip - self._seen))
        self._seen += len(chunk.pcm)
        self._marks += tuple(m for mark in chunk.marks if (m := self._mark(mark)) is not None)
        if drop == len(chunk.pcm):
            return None
        marks, self._marks = self._marks, ()
        return AudioChunk(chunk.pcm[drop:], marks)

    def _mark(self, mark: WordMark) -> WordMark | None:
        """A mark of the source as one of the utterance; None: the word was given already."""
        start = self._at + max(0, mark.start - self._skip)
        end = self._at + max(0, mark.end - self._skip)
        moved = WordMark(
            mark.text,
            mark.char_start + self._place.char,
            mark.char_end + self._place.char,
            start,
            end,
        )
        known = self._place.given_to
        if moved.char_start >= known:
            return moved
        if moved.char_end <= known:
            return None
        # The source takes more for one word: what of it is new gets the mark.
        new = moved.text[known - moved.char_start :].lstrip()
        return replace(moved, text=new, char_start=moved.char_end - len(new)) if new else None


def whole_words(chunks: Iterable[AudioChunk], given: Given) -> deque[AudioChunk]:
    """What of the chunks that wait for a listener is kept when their source is lost.

    They are cut behind the last whole word, so that the next source begins with a word, unless
    the listener is already in the middle of that word.
    """
    waiting = list(chunks)
    marks = [mark for chunk in waiting for mark in chunk.marks]
    received = given.samples + sum(len(chunk.pcm) for chunk in waiting)
    complete = [mark for mark in marks if mark.end <= received]
    partial = [mark for mark in marks if mark.end > received]
    if given.end_of_words > received:
        return deque(waiting)  # the listener is within a word that goes on
    keep = max(given.samples, given.end_of_words, *(mark.end for mark in complete), 0)
    if partial and partial[0].start > keep:
        keep = min(partial[0].start, received)  # the pause between them was received
    elif not partial:
        keep = _behind_pause(waiting, given.samples, keep)
    return _cut(waiting, given.samples, keep, {id(mark) for mark in partial})


def _behind_pause(waiting: list[AudioChunk], at: int, keep: int) -> int:
    """As far as it stays quiet after ``keep``."""
    pcm = np.concatenate([np.zeros(0, np.int16), *(chunk.pcm for chunk in waiting)])[keep - at :]
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > SILENCE)
    return keep + (int(loud[0]) if loud.size else len(pcm))


def _cut(waiting: list[AudioChunk], at: int, keep: int, gone: set[int]) -> deque[AudioChunk]:
    """The chunks up to sample ``keep``, without the marks that are gone."""
    kept: deque[AudioChunk] = deque()
    for chunk in waiting:
        pcm = chunk.pcm[: max(0, keep - at)]
        at += len(chunk.pcm)
        marks = tuple(mark for mark in chunk.marks if id(mark) not in gone)
        if len(pcm):
            kept.append(AudioChunk(pcm, marks))
    return kept
