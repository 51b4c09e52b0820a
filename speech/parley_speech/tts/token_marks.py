"""Which word of a codec-token voice sounds when.

A token LM says nothing about words. What is known is enough for marks that are right to about a
syllable: words sound in order and take time by their letters; what is sampled before a word was
given to the model cannot hold it; speech never runs ahead of its text; and as soon as the model has
ended, often long before its sound is heard, the length of the whole is known and the words still to
come share what is left of it.

Positions are samples from the start of one piece of speech (one utterance of the LM).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from parley_speech.token_voice import TokenPrompt
from parley_speech.tts.words import tokens, weight
from parley_speech.types import SPEAKER_HZ, WordMark

LETTERS_PER_S = 14.5  # of read English; a voice's own pace is taken from its reference
PACE_RANGE = (0.6, 1.7)  # how far a voice's pace may be from it: more is an error in its text
CJK_LETTERS = 3.0  # a Chinese character or a kana takes as long as so many letters
COMMA_LETTERS, STOP_LETTERS = 2.0, 5.0  # pauses, about 150 and 350 ms
MIN_PROMPT_LETTERS = 20  # less text says nothing about a pace


def spoken_letters(text: str) -> float:
    """How long a text takes to say, in letters of average length, pauses included."""
    letters = float(weight(text))
    letters += (CJK_LETTERS - 1) * sum("\u3040" <= c <= "\u9fff" for c in text)
    if letters == 0:
        return 0.0
    letters += COMMA_LETTERS * sum(c in ",;:，；：、" for c in text)
    return letters + STOP_LETTERS * sum(c in ".!?。！？" for c in text.rstrip()[-1:])


def samples_per_letter(prompt: TokenPrompt, samples_per_token: float) -> float:
    """The pace of a voice, from its reference where that has a text."""
    usual = SPEAKER_HZ / LETTERS_PER_S
    letters = spoken_letters(prompt.text)
    if letters < MIN_PROMPT_LETTERS:
        return usual
    own = len(prompt.tokens) * samples_per_token / letters
    return min(max(own, usual * PACE_RANGE[0]), usual * PACE_RANGE[1])


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    char_start: int
    letters: float
    earliest: float
    """No sample before it can belong to the word."""


class WordClock:
    """The words of one piece of speech, as marks."""

    def __init__(self, samples_per_letter: float) -> None:
        self._pace = samples_per_letter
        self._words: deque[_Word] = deque()
        self._at = 0  # where the first word that was not given begins
        self._given_upto = 0  # samples given to the listener

    @property
    def waiting(self) -> int:
        """Words without a mark."""
        return len(self._words)

    def add(self, source: str, char_start: int, spoken: str, received: float) -> None:
        """A piece of source text, how it is spoken, and the samples that the model had made."""
        spans = tokens(source)
        shares = [max(1, weight(source[a:b])) for a, b in spans]
        letters = spoken_letters(spoken)
        for (a, b), share in zip(spans, shares, strict=True):
            part = letters * share / sum(shares)
            self._words.append(_Word(source[a:b], char_start + a, part, received))

    def marks(
        self, upto: int, *, received: int, total: int | None, base: int, closing: bool = False
    ) -> tuple[WordMark, ...]:
        """Marks of the words that begin before ``upto`` and are sure enough.

        Args:
            upto: samples given to the listener with this call.
            received: samples that the model has made so far.
            total: all that it makes, where it has ended.
            base: the stream's sample at which this piece begins.
            closing: no sample follows: all words are given.
        """
        edges = self._edges(received, total)
        marks = []
        for start, end in pairwise(edges):
            sure = total is not None or end <= received
            if not (closing or (start < upto and sure)):
                break
            word = self._words.popleft()
            char_end = word.char_start + len(word.text)
            marks.append(WordMark(word.text, word.char_start, char_end, base + start, base + end))
            self._at = end
        self._given_upto = max(self._given_upto, upto)
        return tuple(marks)

    def _edges(self, received: int, total: int | None) -> list[int]:
        """Where each word begins, and where the last one ends."""
        if total is not None:
            return self._shared(max(total, self._given_upto, self._at))
        edges, at = [float(self._at)], float(self._at)
        for word in self._words:
            begin = max(at, word.earliest)
            edges[-1] = begin
            at = begin + word.letters * self._pace
            edges.append(at)
        if self._words and at < received:  # slower than thought: the text is not said yet
            return self._shared(received)
        return self._after_what_was_given([round(edge) for edge in edges])

    def _shared(self, end: int) -> list[int]:
        """The words share the samples up to ``end`` by their letters."""
        letters = [word.letters for word in self._words]
        whole = sum(letters)
        if whole == 0:
            return [self._at] * len(letters) + [end]
        edges, done = [self._at], 0.0
        for part in letters:
            done += part
            edges.append(self._at + round((end - self._at) * done / whole))
        return self._after_what_was_given(edges, end)

    def _after_what_was_given(self, edges: list[int], end: int | None = None) -> list[int]:
        """A word that was not given ends after the last sample that was: the first one took all
        that time, and the samples that are left (up to ``end``) are shared anew."""
        if len(edges) < 2 or edges[1] > self._given_upto:
            return edges
        last = edges[-1] if end is None else end
        span, first = edges[-1] - edges[0], edges[0]
        room = max(last - self._given_upto, len(edges) - 1 if end is None else 0)
        scale = room / span if span > 0 else 0.0
        upto = self._given_upto + (room > 0)  # of what is left, the first word has one at least
        later = (self._given_upto + round((edge - first) * scale) for edge in edges[1:])
        return [first, *(max(upto, edge) for edge in later)]
