"""Numbers as people say them: "one two three", "twenty three forty five", "double seven", "12345".

Works on normalised tokens. A *run* is the longest stretch of tokens that can be read as digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ONES = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5,
    "six": 6, "seven": 7, "eight": 8, "nine": 9,
}  # fmt: skip
TEENS = {
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15,
    "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
TIMES = {"double": 2, "triple": 3}
SCALES = ("hundred", "thousand")
# Read as digits only behind two real ones: a recogniser writes "four two too" for 4 2 2.
SOUND_ALIKE = {"oh": 0, "o": 0, "to": 2, "too": 2, "won": 1, "for": 4, "ate": 8}
NUMBER_WORDS = frozenset({*ONES, *TEENS, *TENS, *TIMES, *SCALES})

MAX_DIGITS = 30  # nobody says more; longer ones are cut here so that int() stays cheap


@dataclass(frozen=True, slots=True)
class Run:
    """``tokens[start:end]`` read as ``digits``."""

    start: int
    end: int
    digits: str
    can_grow: bool
    """The last word asks for another one: "twenty ...", "one hundred and ...", "double ..."."""


def is_numeric(token: str) -> bool:
    return token in NUMBER_WORDS or (token.isascii() and token.isdigit())


def runs(tokens: tuple[str, ...]) -> list[Run]:
    """All runs in ``tokens``, none of them touching."""
    found: list[Run] = []
    at = 0
    while at < len(tokens):
        run = _run(tokens, at)
        if run is None:
            at += 1
        else:
            found.append(run)
            at = run.end
    return found


def say_digits(digits: str) -> str:
    """``"12345"`` -> ``"1 2 3 4 5"``, which every voice reads digit by digit."""
    return " ".join(digits)


def _run(tokens: tuple[str, ...], start: int) -> Run | None:
    digits, at, can_grow = "", start, False
    while at < len(tokens) and len(digits) < MAX_DIGITS:
        group = _group(tokens, at)
        if group is None and len(digits) >= 2 and tokens[at] in SOUND_ALIKE:
            group = (str(SOUND_ALIKE[tokens[at]]), at + 1, False)
        if group is None:
            break
        digits, at, can_grow = digits + group[0], group[1], group[2]
    if not digits and not can_grow:
        return None
    return Run(start, at, digits[:MAX_DIGITS], can_grow)


def _group(tokens: tuple[str, ...], at: int) -> tuple[str, int, bool] | None:
    """One spoken group from ``at``: its digits, where it ends, whether it asks for more."""
    token = tokens[at]
    if token.isascii() and token.isdigit():
        return token, at + 1, False
    if token == "oh" and at + 1 < len(tokens) and tokens[at + 1] in ONES:
        return "0", at + 1, False
    if token in TIMES:
        after = tokens[at + 1] if at + 1 < len(tokens) else ""
        if after in ONES:
            return str(ONES[after]) * TIMES[token], at + 2, False
        return ("", at + 1, True) if not after else None
    return _cardinal(tokens, at)


def _cardinal(tokens: tuple[str, ...], at: int) -> tuple[str, int, bool] | None:
    """ "twelve thousand three hundred and forty five" -> 12345."""
    if tokens[at] == "zero":
        return "0", at + 1, False
    head = _below_thousand(tokens, at)
    if head is None:
        return None
    value, end, can_grow = head
    if end < len(tokens) and tokens[end] == "thousand":
        value, end, can_grow = value * 1000, end + 1, True
        tail = _tail(tokens, end, _below_thousand)
        if tail is not None:
            value, end, can_grow = value + tail[0], tail[1], tail[2]
    return str(value), end, can_grow


def _below_thousand(tokens: tuple[str, ...], at: int) -> tuple[int, int, bool] | None:
    head = _below_hundred(tokens, at)
    if head is None:
        return None
    value, end, can_grow = head
    if end < len(tokens) and tokens[end] == "hundred":
        value, end, can_grow = value * 100, end + 1, True
        tail = _tail(tokens, end, _below_hundred)
        if tail is not None:
            value, end, can_grow = value + tail[0], tail[1], tail[2]
    return value, end, can_grow


def _below_hundred(tokens: tuple[str, ...], at: int) -> tuple[int, int, bool] | None:
    token = tokens[at]
    if token in TENS:
        after = ONES.get(tokens[at + 1], 0) if at + 1 < len(tokens) else 0
        if after:
            return TENS[token] + after, at + 2, False
        return TENS[token], at + 1, True
    small = ONES.get(token, TEENS.get(token, 0))
    return (small, at + 1, False) if small else None


def _tail(
    tokens: tuple[str, ...],
    at: int,
    part: Callable[[tuple[str, ...], int], tuple[int, int, bool] | None],
) -> tuple[int, int, bool] | None:
    """What follows "hundred" or "thousand", with or without an "and"."""
    if at < len(tokens) and tokens[at] == "and":
        at += 1
    return part(tokens, at) if at < len(tokens) else None
