"""Mark-up for pauses, the only one that a text may hold.

``[pause 300ms]``, ``[pause 1.5 s]``, ``<break time="300ms"/>``, ``<break/>``: the latter two
as SSML writes them. Every voice keeps them silent; who shows a text leaves them out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_MARKUP_CHARS = 40
MAX_PAUSE_MS = 10_000
BREAK_MS = 300  # of a break without a time

OPENERS = {"[": ("[pause", "]"), "<": ("<break", ">")}
_OPENER = re.compile(r"[\[<]")
_PAUSE = re.compile(
    r"""\[ \s* pause [\s:=]+ (?P<n>\d+(?:\.\d+)?) \s* (?P<unit>ms|s) \s* \]
      | < break (?: \s+ time \s* = \s* ["']? (?P<m>\d+(?:\.\d+)?) \s* (?P<unit2>ms|s) ["']? )?
        \s* /? >""",
    re.VERBOSE | re.IGNORECASE,
)
_SHOWN = re.compile(rf"\s*(?:{_PAUSE.pattern})", re.VERBOSE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pause:
    """Mark-up at ``start:end`` of a text; no ``end``: more of the text must come to tell."""

    start: int
    end: int | None
    ms: int = 0


def shown(text: str) -> str:
    """A text as its reader should see it: without mark-up for pauses and the space before it."""
    return _SHOWN.sub("", text)


def first_pause(text: str, *, ended: bool) -> Pause | None:
    """The first mark-up of a text that may go on unless it has ``ended``."""
    for opener in _OPENER.finditer(text):
        at = opener.start()
        if (found := pause_at(text, at, ended)) is not None:
            end, ms = found
            return Pause(at, end if end <= len(text) else None, ms)
    return None


def pause_at(text: str, at: int, ended: bool) -> tuple[int, int] | None:
    """End and length in ms of the mark-up at ``at``; an end past the text: it is not whole yet."""
    opener = OPENERS.get(text[at])
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
