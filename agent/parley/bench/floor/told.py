"""A recogniser that is never wrong: it is told what the user says, and tells it as late as a good
streaming recogniser would.

With the real recogniser a turn that was misheard waits for long, whatever the floor does. To see
the floor alone, its words come from the scene: a word ``word_ms`` after its own end, a final
``final_ms`` after it was asked for. Where in a stretch of voice a word ends is taken from its share
of the letters. Side talk is recognised as well: words do not say who said them. Noise has none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from parley.bench.floor.line import Placed
from parley_speech.types import FRAME_MS, MIC_HZ, Grammar, Hypothesis, Pcm, Word

PRE_ROLL_MS = 300
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Lateness:
    word_ms: float = 160.0
    final_ms: float = 60.0


class ToldRecognizer:
    """Meets `parley_speech.types.Recognizer`, for one conversation."""

    def __init__(self, placed: Sequence[Placed], lateness: Lateness | None = None) -> None:
        """``placed`` grows while the conversation goes on."""
        self._placed = placed
        self._lateness = lateness or Lateness()

    async def start(self) -> None:
        """There is nothing to load."""

    def stream(self) -> ToldStream:
        return ToldStream(self._placed, self._lateness)

    async def aclose(self) -> None:
        """There is nothing to let go of."""


class ToldStream:
    """Meets `parley_speech.types.RecognizerStream`."""

    def __init__(self, placed: Sequence[Placed], lateness: Lateness) -> None:
        self._placed = placed
        self._lateness = lateness
        self._now_ms = 0
        self._number = -1
        self._begun_ms: int | None = None
        self._said_before_ms = 0
        """Words that ended before this belong to earlier utterances."""
        self._partial = ""
        self._due: deque[tuple[float, Hypothesis]] = deque()

    def begin_utterance(self) -> None:
        if self._begun_ms is None:
            self._number += 1
            self._begun_ms = max(self._said_before_ms, self._now_ms - PRE_ROLL_MS)
            self._partial = ""

    def push(self, frame: Pcm) -> None:
        self._now_ms += FRAME_MS
        if self._begun_ms is None:
            return
        words = self._words(self._now_ms - self._lateness.word_ms)
        text = " ".join(word.text for word in words)
        if text != self._partial:
            self._partial = text
            self._tell(words, self._now_ms, final=False)

    def end_utterance(self) -> None:
        if self._begun_ms is None:
            return
        self._tell(self._words(self._now_ms), self._now_ms + self._lateness.final_ms, final=True)
        self._begun_ms = None
        self._said_before_ms = self._now_ms

    def set_grammar(self, grammar: Grammar | None) -> None:
        """Whatever is said is understood."""

    def poll(self) -> list[Hypothesis]:
        found: list[Hypothesis] = []
        while self._due and self._due[0][0] <= self._now_ms:
            found.append(self._due.popleft()[1])
        return found

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    def _words(self, until_ms: float) -> tuple[Word, ...]:
        """Of this utterance, those that had ended by then."""
        assert self._begun_ms is not None, "words are of an utterance"
        return tuple(
            word
            for placed in self._placed
            if placed.cue.kind != "noise"
            for word in words_of(placed)
            if self._begun_ms < word.end_ms <= until_ms
        )

    def _tell(self, words: tuple[Word, ...], at_ms: float, *, final: bool) -> None:
        text = " ".join(word.text for word in words)
        self._due.append((at_ms, Hypothesis(text, self._number, final, words, CONFIDENCE)))


def words_of(placed: Placed) -> list[Word]:
    """Each word with its time, by its share of the letters of its stretch of voice."""
    found: list[Word] = []
    for voiced in placed.voiced:
        words = voiced.text.lower().replace(",", " ").replace(".", " ").replace("?", " ").split()
        letters = sum(map(len, words))
        begin_ms = voiced.first * 1000 / MIC_HZ
        length_ms = (voiced.last - voiced.first) * 1000 / MIC_HZ
        at = 0
        for word in words:
            start = begin_ms + length_ms * at / letters
            at += len(word)
            end = begin_ms + length_ms * at / letters
            found.append(Word(word, round(start), round(end), CONFIDENCE))
    return found
