"""Do two transcripts ask the same? Then a reply made for one of them answers the other too.

A speculated reply is made for what the recogniser believed a moment before the turn was over. The
final words often differ in nothing that matters. The rule, in the order it is applied:

1. Writing is not meaning: letter case, punctuation, accents' encoding (NFKC), typographic
   apostrophes and white space are ignored. "." and "," between digits stay: 1.5 is not 15.
2. Contractions count as their words: "what's" is "what is", "can't" is "can not".
3. Fillers and repairs count for nothing: "um", "uh", "please", "well", "so", and a word or pair of
   words said twice in a row, unless it is a number: "the the order", "I want I want". Never
   ignored is anything that can change the answer: "not", "no", "yes", names, numbers, "?" or
   other words of content.
4. Numbers count as digits when they are said as digits: "one two three" is "1 2 3".
5. What remains must be equal, word by word and in order.

So "Um, what are your opening hours?" agrees with "what are your opening hours", and "my order is
12345" never agrees with "my order is 12346". Equality is deliberately strict: a wrong "same" says
something wrong to the caller, a wrong "different" costs one more request.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_FILLERS = "um uh uhm er erm ah eh hm hmm mm mhm please well so just actually basically oh"
FILLERS = frozenset(_FILLERS.split())
_CONTRACTIONS = {
    "i'd": "i would", "i'm": "i am", "i've": "i have", "i'll": "i will", "you're": "you are",
    "you've": "you have", "you'll": "you will", "you'd": "you would", "we're": "we are",
    "we've": "we have", "we'll": "we will", "they're": "they are", "it's": "it is",
    "that's": "that is", "what's": "what is", "where's": "where is", "when's": "when is",
    "who's": "who is", "how's": "how is", "there's": "there is", "here's": "here is",
    "let's": "let us", "don't": "do not", "doesn't": "does not", "didn't": "did not",
    "can't": "can not", "cannot": "can not", "won't": "will not", "isn't": "is not",
    "aren't": "are not", "wasn't": "was not", "haven't": "have not", "hasn't": "has not",
    "wouldn't": "would not", "couldn't": "could not", "shouldn't": "should not",
    "gonna": "going to", "wanna": "want to", "gotta": "got to", "ok": "okay",
}  # fmt: skip
_ONES = "zero one two three four five six seven eight nine"
_TENS = (
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty "
    "forty fifty sixty seventy eighty ninety hundred thousand million double triple"
)
_DIGITS = {word: str(n) for n, word in enumerate(_ONES.split())}
_NUMBERS = frozenset([*_ONES.split(), *_TENS.split()])
_APOSTROPHES = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "`": "'", "´": "'"})
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*")


def agrees(one: str, other: str) -> bool:
    """Whether a reply to ``one`` answers ``other``. Symmetric; two texts without any words of
    content agree only when they are written alike."""
    if one == other:
        return True
    words = content(one)
    return bool(words) and words == content(other)


@lru_cache(maxsize=512)  # the floor asks with the same words every 20 ms
def content(text: str) -> tuple[str, ...]:
    """The words that matter, in one spelling."""
    plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
    words: list[str] = []
    for found in _WORD.findall(plain):
        words += _CONTRACTIONS.get(found, found).split()
    spoken = [word for word in words if word not in FILLERS]
    return tuple(_DIGITS.get(word, word) for word in _without_repairs(spoken))


def _without_repairs(words: list[str]) -> list[str]:
    """Without words, or pairs of them, that are said twice in a row. Numbers are meant twice."""
    kept: list[str] = []
    for word in words:
        kept.append(word)
        for n in (1, 2):
            again = kept[-n:]
            if kept[-2 * n : -n] == again and not any(map(_is_number, again)):
                del kept[-n:]
                break
    return kept


def _is_number(word: str) -> bool:
    return word[0].isdigit() or word in _NUMBERS
