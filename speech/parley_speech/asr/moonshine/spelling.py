"""From words to the tokens that a text decoder would write for them, and back to text.

The tokeniser is Llama's: byte pairs, merged in the order of their numbers, "▁" for a space. A text
decoder writes as people do: with capitals, punctuation and figures. A grammar has neither, so each
of its words has several ways to be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from parley_speech.asr import spoken

BEGIN, END = 1, 2
SPACE = "\u2581"
GLUE = "-"
PUNCTUATION = (",", ".", "?", "!", GLUE, ";", ":")

WAYS: dict[str, tuple[str, ...]] = {
    "someone": ("some one",),
    "anyone": ("any one",),
    "something": ("some thing",),
    "today": ("to-day",),
    "tonight": ("to-night",),
    "tomorrow": ("to-morrow",),
    "goodbye": ("good-bye", "good bye"),
    "okay": ("ok",),
    "mhm": ("mm-hmm", "mm-hm", "mmhmm"),
    "hmm": ("hm",),
    "uh-huh": ("uh huh",),
    "oh": ("o", "0"),
}
"""Other spellings of a word that are the same to the ear."""
_FIGURES = {word: str(value) for value, word in enumerate(spoken.UNITS)}
_TENS = {word: value + 2 for value, word in enumerate(spoken.TENS)}

Way = tuple[tuple[int, ...], bool]
"""Tokens, and whether another word may follow without a space, as in a run of figures."""


class Spelling:
    """The tokeniser's vocabulary and what words look like in it."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """``pieces``: of each token, by its number."""
        self._pieces = pieces
        self._numbers = {piece: number for number, piece in enumerate(pieces)}
        self._ways: dict[tuple[str, bool], tuple[Way, ...]] = {}
        self.punctuation = {mark: self._numbers[mark.encode()] for mark in PUNCTUATION}

    def text(self, tokens: Sequence[int]) -> str:
        """What they spell, specials left out."""
        spelled = b"".join(self._pieces[token] for token in tokens if token > END)
        return spelled.decode("utf-8", "replace").replace(SPACE, " ").strip()

    def begins_word(self, token: int) -> bool:
        return self._pieces[token].startswith(SPACE.encode())

    def tokens(self, text: str) -> tuple[int, ...]:
        """``text`` in byte pairs: always the pair that has the lowest number as a whole."""
        parts = [character.encode() for character in text.replace(" ", SPACE)]
        while True:
            merges = [
                (self._numbers[left + right], at)
                for at, (left, right) in enumerate(pairwise(parts))
                if left + right in self._numbers
            ]
            if not merges:
                break
            _, at = min(merges)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        unknown = 0
        return tuple(self._numbers.get(part, unknown) for part in parts)

    def ways(self, word: str, *, glued: bool = False) -> tuple[Way, ...]:
        """How a grammar's word may be written: behind a space, or ``glued`` to what is before."""
        key = (word, glued)
        if key not in self._ways:
            self._ways[key] = tuple(dict.fromkeys(self._written(word, "" if glued else " ")))
        return self._ways[key]

    def _written(self, word: str, lead: str) -> list[Way]:
        plain = [word, *WAYS.get(word, ())] if lead else [word]
        ways = [(self.tokens(lead + way), way.isdigit()) for way in plain]
        if lead:
            ways += [(self.tokens(lead + way[0].upper() + way[1:]), False) for way in plain]
            ways += [(self.tokens(lead + way.upper()), False) for way in plain if len(way) < 3]
        if word in _FIGURES:
            ways.append((self.tokens(lead + _FIGURES[word]), True))
        if word in _TENS:
            ways.append((self.tokens(f"{lead}{10 * _TENS[word]}"), False))
            ways.append((self.tokens(f"{lead}{_TENS[word]}"), True))  # the "2" of "22"
        return ways


def read_pieces(path: Path) -> list[bytes]:
    """The tokeniser's file: for each token its length (one byte, or two above 127: the lower
    seven bits first) and its bytes. Raises ValueError for a file that is none."""
    data = path.read_bytes()
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        length = data[at]
        at += 1
        if length > 127 and at < len(data):
            length = length - 128 + 128 * data[at]
            at += 1
        pieces.append(data[at : at + length])
        at += length
    if len(pieces) < 1000 or pieces[BEGIN : END + 1] != [b"<s>", b"</s>"]:
        raise ValueError(f"{path} is not a tokeniser's file")
    return pieces
