"""Deltas to words that cannot change any more.

A word is complete when the character after it is known. Where deltas are cut makes no difference:
what is given depends on the text so far, and is given as soon as that decides it. Chinese and
Japanese, written without spaces, are cut character by character.

Mark-up for pauses: ``[pause 300ms]``, ``[pause 1.5 s]``, ``<break time="300ms"/>``, ``<break/>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_WORD_CHARS = 64  # a longer run is cut: no word is that long
MAX_MARKUP_CHARS = 40
MAX_PAUSE_MS = 10_000
BREAK_MS = 300  # of a break without a time

_CJK = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CJK_MARKS = "。，！？；：、…—”’」』）》〉】"
_CJK_WORD = re.compile(rf"[{_CJK}][{_CJK_MARKS}]*")
_SPACE_OR_CJK = re.compile(rf"[\s{_CJK}]")
_PAUSE = re.compile(
    r"""\[ \s* pause [\s:=]+ (?P<n>\d+(?:\.\d+)?) \s* (?P<unit>ms|s) \s* \]
      | < break (?: \s+ time \s* = \s* ["']? (?P<m>\d+(?:\.\d+)?) \s* (?P<unit2>ms|s) ["']? )?
        \s* /? >""",
    re.VERBOSE | re.IGNORECASE,
)
_SHOWN = re.compile(rf"\s*(?:{_PAUSE.pattern})", re.VERBOSE | re.IGNORECASE)
_OPENERS = {"[": ("[pause", "]"), "<": ("<break", ">")}


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


def shown(text: str) -> str:
    """A text as its reader should see it: without mark-up for pauses and the space before it."""
    return _SHOWN.sub("", text)


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _complete(text: str, at: int, ended: bool) -> tuple[int | None, int | None]:
    """Where the lexeme at ``at`` ends and, if it is one, its pause; None: not known yet."""
    if (markup := _markup(text, at, ended)) is not None:
        past, pause_ms = markup
        return (past if ended or past < len(text) else None), pause_ms
    end = _word_end(text, at, ended)
    if end is not None and not ended and end == len(text):
        return None, None
    return end, None


def _markup(text: str, at: int, ended: bool) -> tuple[int, int] | None:
    """End and length in ms of the mark-up at ``at``; an end past the text: it is not whole yet."""
    opener = _OPENERS.get(text[at])
    if opener is None:
        return None
    begins, closer = opener
    candidate = text[at : at + MAX_MARKUP_CHARS]
    if candidate[: len(begins)].lower() != begins[: len(candidate)]:
        return None
    if closer not in candidate:
        waits = not ended and len(candidate) < MAX_MARKUP_CHARS
        return (len(text) + 1, 0) if waits else None
    found = _PAUSE.match(candidate)
    return (at + found.end(), _pause_ms(found)) if found else None


def _pause_ms(found: re.Match[str]) -> int:
    number, unit = found["n"] or found["m"], (found["unit"] or found["unit2"] or "").lower()
    if number is None:
        return BREAK_MS
    return round(min(float(number) * (1000 if unit == "s" else 1), MAX_PAUSE_MS))


def _word_end(text: str, at: int, ended: bool) -> int | None:
    if (cjk := _CJK_WORD.match(text, at)) is not None:
        return cjk.end()
    limit = min(len(text), at + MAX_WORD_CHARS)
    found = _SPACE_OR_CJK.search(text, at, limit)
    stop = found.start() if found else limit
    for position in range(at + 1, stop):
        if text[position] in _OPENERS and (m := _markup(text, position, ended)) is not None:
            return position if m[0] <= len(text) else None
    return stop
