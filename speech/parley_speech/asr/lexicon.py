"""Pronunciations of words that the dictionary does not have.

In this order: letters spelled out ("sms"), a known word with an ending ("parley's"), two known
words in one ("checkout"), and last a rough letter-to-sound table. A guess is reported, so that
somebody can give the recogniser the right one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Lookup = Callable[[str], str | None]
"""Phones of a known word ("HH AH L OW"), None for an unknown one."""

LETTERS = {
    "a": "EY", "b": "B IY", "c": "S IY", "d": "D IY", "e": "IY", "f": "EH F", "g": "JH IY",
    "h": "EY CH", "i": "AY", "j": "JH EY", "k": "K EY", "l": "EH L", "m": "EH M", "n": "EH N",
    "o": "OW", "p": "P IY", "q": "K Y UW", "r": "AA R", "s": "EH S", "t": "T IY", "u": "Y UW",
    "v": "V IY", "w": "D AH B AH L Y UW", "x": "EH K S", "y": "W AY", "z": "Z IY",
}  # fmt: skip

# Longest spelling first; a rule with "$" holds at the end of a word only.
SOUNDS: tuple[tuple[str, str], ...] = (
    ("tion", "SH AH N"), ("sion", "ZH AH N"), ("ough", "AO"), ("augh", "AO"), ("eigh", "EY"),
    ("igh", "AY"), ("tch", "CH"), ("sch", "SH"), ("que$", "K"), ("dge", "JH"),
    ("le$", "AH L"), ("es$", "IH Z"), ("ed$", "D"), ("er$", "ER"), ("ey$", "IY"), ("ie$", "IY"),
    ("y$", "IY"), ("o$", "OW"), ("a$", "AH"), ("i$", "IY"), ("e$", ""),
    ("ch", "CH"), ("sh", "SH"), ("th", "TH"), ("ph", "F"), ("wh", "W"), ("ck", "K"), ("ng", "NG"),
    ("qu", "K W"), ("kn", "N"), ("wr", "R"), ("gh", "G"),
    ("ee", "IY"), ("ea", "IY"), ("oo", "UW"), ("ou", "AW"), ("ow", "OW"), ("oa", "OW"),
    ("oi", "OY"), ("oy", "OY"), ("ai", "EY"), ("ay", "EY"), ("au", "AO"), ("aw", "AO"),
    ("ei", "EY"), ("ie", "IY"), ("ue", "UW"), ("ew", "UW"), ("ar", "AA R"), ("er", "ER"),
    ("ir", "ER"), ("ur", "ER"), ("or", "AO R"),
    ("ce", "S EH"), ("ci", "S IH"), ("cy", "S IY"), ("ge", "JH EH"),
    ("a", "AE"), ("b", "B"), ("c", "K"), ("d", "D"), ("e", "EH"), ("f", "F"), ("g", "G"),
    ("h", "HH"), ("i", "IH"), ("j", "JH"), ("k", "K"), ("l", "L"), ("m", "M"), ("n", "N"),
    ("o", "AA"), ("p", "P"), ("q", "K"), ("r", "R"), ("s", "S"), ("t", "T"), ("u", "AH"),
    ("v", "V"), ("w", "W"), ("x", "K S"), ("y", "IH"), ("z", "Z"),
)  # fmt: skip

_VOICED = {"B", "D", "DH", "G", "JH", "L", "M", "N", "NG", "R", "V", "W", "Y", "Z", "ZH"}
_VOWELS = {
    "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW",
}  # fmt: skip
VOICELESS = {"CH", "F", "HH", "K", "P", "S", "SH", "T", "TH"}
HISSING = {"S", "Z", "SH", "ZH", "CH", "JH"}
PHONES = _VOWELS | _VOICED | VOICELESS
MIN_PART = 3
"""Letters that each half of a compound must have."""

_TAG_OR_NAME = re.compile(r"<[^>]*>|\{[^}]*\}|/[^/]*/")
_WORD = re.compile(r"[^\s()\[\]|+*;=]+")


def words_of(source: str) -> Iterator[str]:
    """The words of a JSGF text, each once, in order."""
    rules = [line.split("=", 1)[1] for line in source.split(";") if "=" in line]
    found = (word for rule in rules for word in _WORD.findall(_TAG_OR_NAME.sub(" ", rule)))
    return iter(dict.fromkeys(found))


def check_phones(word: str, phones: str) -> str:
    """Raises ValueError for phones that the acoustic model does not have."""
    unknown = [phone for phone in phones.split() if phone not in PHONES]
    if unknown or not phones.split():
        raise ValueError(
            f"the pronunciation {phones!r} of {word!r} has {unknown or 'no phones'}; "
            f"expected some of {' '.join(sorted(PHONES))}"
        )
    return " ".join(phones.split())


def guess(word: str, lookup: Lookup) -> str:
    """Phones of an unknown word. Raises ValueError for a word that has no letters a to z."""
    word = word.lower().replace("-", "").replace("_", "")
    letters = re.sub(r"[^a-z]", "", word)
    if not letters:
        raise ValueError(f"{word!r} has no letters that could be pronounced: write it as words")
    ended = _with_ending(word, lookup)
    if ended:
        return ended
    if not re.search("[aeiouy]", letters):
        return " ".join(LETTERS[letter] for letter in letters)
    return _compound(letters, lookup) or _sounded(letters)


def _with_ending(word: str, lookup: Lookup) -> str | None:
    """A possessive or plural of a known word."""
    for ending in ("'s", "s'", "s"):
        stem = lookup(word.removesuffix(ending)) if word.endswith(ending) else None
        if stem:
            return f"{stem} {_s_after(stem.split()[-1])}"
    return None


def _s_after(phone: str) -> str:
    if phone in HISSING:
        return "IH Z"
    return "S" if phone in VOICELESS else "Z"


def _compound(letters: str, lookup: Lookup) -> str | None:
    """The split whose halves are nearest in length."""
    middle = len(letters) / 2
    places = range(MIN_PART, len(letters) - MIN_PART + 1)
    for at in sorted(places, key=lambda at: abs(at - middle)):
        first, second = lookup(letters[:at]), lookup(letters[at:])
        if first and second:
            return f"{first} {second}"
    return None


def _sounded(letters: str) -> str:
    phones: list[str] = []
    at = 0
    while at < len(letters):
        spelling, sound = next(rule for rule in SOUNDS if _fits(rule[0], letters, at))
        phones += sound.split()
        at += len(spelling.removesuffix("$"))
        while at < len(letters) and letters[at] == letters[at - 1] and letters[at] not in "aeiou":
            at += 1  # a doubled consonant sounds once
    return " ".join(phones) or LETTERS[letters[0]]


def _fits(spelling: str, letters: str, at: int) -> bool:
    if spelling.endswith("$"):
        return at > 0 and letters[at:] == spelling[:-1]
    return letters.startswith(spelling, at)
