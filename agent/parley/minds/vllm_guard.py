"""Keeps a runaway model from talking for ever."""

from __future__ import annotations

CHECK_EVERY = 40  # new characters between two looks at the tail
SHORTEST_TAIL = 160  # characters; "no, no, no" is speech, forty of them are not
LONGEST_TAIL = 640
REPEATS = 4
"""Said this many times in a row (and for SHORTEST_TAIL characters), it is a loop."""


class Repetition(Exception):
    """The model goes round in a circle."""


class TextGuard:
    """Watches the text of one reply."""

    def __init__(self, max_chars: int, *, goes_on: bool = False):
        """``goes_on``: the text continues words that were given already."""
        self._left = max_chars
        self._tail = ""
        self._unchecked = 0
        self.spoke = goes_on
        """Something other than white space was given."""

    @property
    def full(self) -> bool:
        return self._left <= 0

    def take(self, text: str) -> str:
        """What of ``text`` may be said: all of it, or up to the last whole word that fits, without
        the white space that some models begin with. Raises Repetition."""
        self._tail = (self._tail + text)[-LONGEST_TAIL:]
        self._unchecked += len(text)
        if self._unchecked >= CHECK_EVERY:
            self._unchecked = 0
            if repeats(self._tail):
                raise Repetition
        if len(text) > self._left:
            cut = text[: self._left]
            # A first piece without any space may be a language that has none.
            text = cut[: cut.rfind(" ") + 1] or ("" if self.spoke else cut)
            self._left = 0
        else:
            self._left -= len(text)
        if not self.spoke:
            text = text.lstrip()
            self.spoke = bool(text)
        return text


def repeats(tail: str) -> bool:
    """Whether the end of ``tail`` is one piece said at least REPEATS times."""
    if len(tail) < SHORTEST_TAIL:
        return False
    # border[i]: longest proper border of the first i characters of the reversed tail (KMP); its
    # complement is the shortest period of the tail's last i characters.
    text = tail[::-1]
    border = [0] * (len(text) + 1)
    k = 0
    for i in range(1, len(text)):
        while k and text[i] != text[k]:
            k = border[k]
        k += text[i] == text[k]
        border[i + 1] = k
        length = i + 1
        if length >= SHORTEST_TAIL and (length - k) * REPEATS <= length:
            return True
    return False
