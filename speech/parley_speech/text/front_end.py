"""Source text in, in deltas; spoken text out, as soon as it cannot change, with the way back.

`TextFrontEnd` never waits for a sentence: a word is given when the character after it is known,
and a few words (prices, dates, names of several words) when the next word is. However the deltas
are cut, what is given is the same in the end.

A `Spoken` piece is one written word and how it is read; a `Break` ends what the model speaks in one
go: at mark-up for a pause, and at the end of a sentence where much was said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from parley_speech.text.lexer import Lexeme, Lexer
from parley_speech.text.locales import locale_of
from parley_speech.text.numbers import Figures
from parley_speech.text.speaking import Reader, Undecided, _core

SENTENCE_CHARS = 240
"""Spoken characters after which the end of a sentence ends the piece, about 16 s of speech."""
CLAUSE_CHARS, WORD_CHARS = 400, 600
"""The same for the end of a clause, and for any word: a piece is never longer."""
_FIGURES_BY_THE_MODEL = frozenset(("zh", "yue", "ja", "ko"))
_SENTENCE_ENDS, _CLAUSE_ENDS = ".!?。！？", ",;:…，；：、"
_CLOSERS = "\"'”’»)]}」』）*_"


@dataclass(frozen=True, slots=True)
class Spoken:
    text: str
    """To be spoken, with the space that follows; "" where the written word has no sound."""
    char_start: int
    char_end: int
    """``char_start:char_end`` slices the source: the word with its punctuation."""


@dataclass(frozen=True, slots=True)
class Break:
    """What follows is spoken for itself, after ``pause_ms`` of silence."""

    pause_ms: int
    char_start: int
    char_end: int
    """The mark-up in the source; empty where there is none."""


class TextFrontEnd:
    """One utterance.

    Args:
        language: a tag such as "en-US"; its language decides how figures are read.
        overrides: how words, or several words in a row, are to be pronounced: spoken as they stand,
            whatever the case of the source.
        normalise: False leaves figures and abbreviations to the model.

    Raises EngineUnavailable where figures are to be read out and num2words is missing.
    """

    def __init__(
        self,
        language: str = "en",
        *,
        overrides: Mapping[str, str] | None = None,
        normalise: bool = True,
    ) -> None:
        locale = locale_of(language)
        reads = normalise and locale.language not in _FIGURES_BY_THE_MODEL
        figures = None
        if reads and Figures.knows(locale.language):
            figures = Figures(locale.language)
        elif not reads:
            locale = locale_of("und")
        self._reader = Reader(locale, figures)
        self._overrides = {tuple(k.lower().split()): v for k, v in (overrides or {}).items()}
        if () in self._overrides:
            raise ValueError("an override has no word to be found by: give it one")
        self._lexer = Lexer()
        self._waiting: deque[Lexeme] = deque()
        self._before = ""
        self._chars = 0  # spoken since the last break

    def push(self, text: str) -> list[Spoken | Break]:
        self._waiting.extend(self._lexer.push(text))
        return self._take(ended=False)

    def end(self) -> list[Spoken | Break]:
        """The rest."""
        self._waiting.extend(self._lexer.end())
        return self._take(ended=True)

    def _take(self, *, ended: bool) -> list[Spoken | Break]:
        given: list[Spoken | Break] = []
        while self._waiting:
            try:
                given += self._next(ended)
            except Undecided:
                break
        return given

    def _next(self, ended: bool) -> list[Spoken | Break]:
        first = self._waiting[0]
        if first.pause_ms is not None:
            self._waiting.popleft()
            self._before, self._chars = "", 0
            return [Break(first.pause_ms, first.start, first.end)]
        pieces = self._overridden(ended) or [self._read(ended)]
        self._chars += sum(len(piece.text) for piece in pieces)
        last = pieces[-1]
        if not self._is_enough(last.text):
            return list(pieces)
        self._chars = 0
        return [*pieces, Break(0, last.char_end, last.char_end)]

    def _read(self, ended: bool) -> Spoken:
        word = self._waiting[0]
        said = self._reader.read(self._before, word.text, self._after(ended))
        self._waiting.popleft()
        self._before = _core(word.text) if word.spaced or not said else ""
        return Spoken(said + " " * (word.spaced and bool(said)), word.start, word.end)

    def _after(self, ended: bool) -> str | None:
        if len(self._waiting) > 1:
            return self._waiting[1].text if self._waiting[1].pause_ms is None else ""
        return "" if ended else None

    def _is_enough(self, spoken: str) -> bool:
        """Whether the piece may end after this word."""
        if self._chars < SENTENCE_CHARS:
            return False
        end = spoken.rstrip().rstrip(_CLOSERS)[-1:]
        if end and end in _SENTENCE_ENDS:
            return True
        clause = bool(end) and end in _CLAUSE_ENDS
        return self._chars >= (CLAUSE_CHARS if clause else WORD_CHARS)

    # --- pronunciations ---

    def _overridden(self, ended: bool) -> list[Spoken]:
        """The words that wait, if they are the longest pronunciation that is known."""
        found: tuple[str, ...] = ()
        for words in self._overrides:
            fits = self._fits(words, ended)
            if fits is None:
                raise Undecided
            if fits and len(words) > len(found):
                found = words
        return self._replaced(found) if found else []

    def _fits(self, words: tuple[str, ...], ended: bool) -> bool | None:
        """Whether the words that wait are these; None: more words are needed to say so."""
        for at, wanted in enumerate(words):
            if at == len(self._waiting):
                return False if ended else None
            word = self._waiting[at]
            if word.pause_ms is not None or _core(word.text).lower() != wanted:
                return False
            inner = at < len(words) - 1
            if inner and not word.text.lower().endswith(wanted):
                return False  # punctuation stands between
        return True

    def _replaced(self, words: tuple[str, ...]) -> list[Spoken]:
        """The pronunciation is said for the first word; the others have sounded with it."""
        taken = [self._waiting.popleft() for _ in words]
        first, last = taken[0], taken[-1]
        opening = first.text[: first.text.lower().find(words[0])]
        closing = last.text[last.text.lower().rfind(words[-1]) + len(words[-1]) :]
        said = opening + self._overrides[words] + closing + " " * last.spaced
        self._before = ""
        return [Spoken(said, first.start, last.end)]
