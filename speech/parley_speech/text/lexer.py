"""Deltas to words that cannot change any more.

A word is complete when the character after it is known. Where deltas are cut makes no difference:
what is given depends on the text so far, and is given as soon as that decides it. Chinese and
Japanese, written without spaces, are cut character by character. Mark-up for a pause (``markup``)
is one lexeme.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from parley_speech.text.markup import OPENERS, pause_at

MAX_WORD_CHARS = 64  # a longer run is cut: no word is that long

_CJK = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CJK_MARKS = "。，！？；：、…—”’」』）》〉】"
_CJK_WORD = re.compile(rf"[{_CJK}][{_CJK_MARKS}]*")
_SPACE_OR_CJK = re.compile(rf"[\s{_CJK}]")


@dataclass(frozen=True, slots=True)
class Lexeme:
    """``text`` stands at ``start`` in all that was pushed."""

    text: str
    start: int
    spaced: bool = False
    """White space follows."""
    pause_ms: int | None = None
    """This is mark-up for a pause."""

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class Lexer:
    def __init__(self) -> None:
        self._pending = ""
        self._start = 0  # of the pending text in all that was pushed

    def push(self, text: str) -> list[Lexeme]:
        self._pending += text
        return self._take(ended=False)

    def end(self) -> list[Lexeme]:
        """The rest."""
        return self._take(ended=True)

    def _take(self, *, ended: bool) -> list[Lexeme]:
        found: list[Lexeme] = []
        at = 0
        while (at := _past_space(self._pending, at)) < len(self._pending):
            end, pause_ms = _complete(self._pending, at, ended)
            if end is None:
                break
            spaced = end < len(self._pending) and self._pending[end].isspace()
            text = self._pending[at:end]
            found.append(Lexeme(text, self._start + at, spaced, pause_ms))
            at = end
        self._pending = self._pending[at:]
        self._start += at
        return found


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _complete(text: str, at: int, ended: bool) -> tuple[int | None, int | None]:
    """Where the lexeme at ``at`` ends and, if it is one, its pause; None: not known yet."""
    if (markup := pause_at(text, at, ended)) is not None:
        past, pause_ms = markup
        return (past if ended or past < len(text) else None), pause_ms
    end = _word_end(text, at, ended)
    if end is not None and not ended and end == len(text):
        return None, None
    return end, None


def _word_end(text: str, at: int, ended: bool) -> int | None:
    if (cjk := _CJK_WORD.match(text, at)) is not None:
        return cjk.end()
    limit = min(len(text), at + MAX_WORD_CHARS)
    found = _SPACE_OR_CJK.search(text, at, limit)
    stop = found.start() if found else limit
    for position in range(at + 1, stop):
        if text[position] in OPENERS and (m := pause_at(text, position, ended)) is not None:
            return position if m[0] <= len(text) else None
    return stop
