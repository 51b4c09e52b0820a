"""What was said, as tokens that can be compared: no case, no punctuation, no fillers."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MAX_TOKENS = 80
"""A longer turn is judged by its last words (about half a minute of speech): what somebody wants
stands at the end of a long story, and the cost of matching stays bounded."""
MAX_CHARS = 4000

FILLERS = frozenset(
    [
        "um",
        "uh",
        "uhm",
        "er",
        "erm",
        "ah",
        "eh",
        "hm",
        "hmm",
        "mm",
        "please",
        "well",
        "just",
        "actually",
        "basically",
        "so",
    ]
)
CONTRACTIONS = {
    "i'd": "i would", "i'm": "i am", "i've": "i have", "i'll": "i will",
    "you're": "you are", "you've": "you have", "we're": "we are", "it's": "it is",
    "that's": "that is", "what's": "what is", "where's": "where is", "when's": "when is",
    "who's": "who is", "there's": "there is", "let's": "let us",
    "don't": "do not", "doesn't": "does not", "didn't": "did not", "can't": "can not",
    "cannot": "can not", "won't": "will not", "isn't": "is not", "haven't": "have not",
    "wouldn't": "would not", "couldn't": "could not", "hasn't": "has not",
    "gonna": "going to", "wanna": "want to", "gotta": "got to", "ok": "okay",
}  # fmt: skip
FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "i",
        "you",
        "we",
        "it",
        "he",
        "she",
        "they",
        "me",
        "my",
        "your",
        "our",
        "us",
        "is",
        "are",
        "am",
        "was",
        "be",
        "do",
        "does",
        "can",
        "could",
        "would",
        "will",
        "shall",
        "may",
        "to",
        "of",
        "for",
        "in",
        "on",
        "at",
        "by",
        "with",
        "and",
        "or",
        "if",
        "that",
        "this",
        "there",
        "have",
        "has",
        "had",
        "like",
    ]
)
"""Words that carry little of what somebody wants."""
DANGLING = frozenset(
    [
        "a",
        "an",
        "the",
        "my",
        "your",
        "our",
        "their",
        "to",
        "of",
        "for",
        "with",
        "and",
        "or",
        "but",
        "if",
        "because",
        "in",
        "at",
        "from",
        "about",
        "is",
        "are",
        "am",
        "i",
        "i'd",
        "would",
        "could",
        "can",
        "want",
        "like",
    ]
)
"""Nobody's turn ends on one of these."""

_NUMBER_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@lru_cache(maxsize=512)
def words(text: str) -> tuple[str, ...]:
    """All words, lower case, without punctuation: ``"I'd, um, 12,345!"`` -> i'd um 12345."""
    text = unicodedata.normalize("NFKC", text[-MAX_CHARS:]).lower().replace("’", "'")
    return tuple(_WORD.findall(_NUMBER_COMMA.sub("", text)))


@lru_cache(maxsize=512)
def tokens(text: str) -> tuple[str, ...]:
    """``words`` with contractions written out and fillers dropped; the last MAX_TOKENS of them."""
    out: list[str] = []
    for word in words(text):
        for part in CONTRACTIONS.get(word, word).split():
            part = part.removesuffix("'s")
            if part and part not in FILLERS:
                out.append(part)
    return tuple(out[-MAX_TOKENS:])


def weight(token: str) -> float:
    """How much of the meaning a word carries, beside a content word's 1."""
    return 0.3 if token in FUNCTION_WORDS else 1.0


@lru_cache(maxsize=8192)
def likeness(a: str, b: str) -> float:
    """1 for the same word, 0.7 for a near miss of a recogniser, else 0.

    A near miss differs in one letter (words of 5-7 letters) or in two (longer ones). It counts less
    than what a phrase needs (``flow_match.ENOUGH``), so that "yours" alone is never "hours".
    """
    if a == b:
        return 1.0
    shorter = min(len(a), len(b))
    if shorter < 5 or a.isdigit() or b.isdigit():
        return 0.0
    allowed = 1 if shorter < 8 else 2
    return 0.7 if _distance_at_most(a, b, allowed) else 0.0


def _distance_at_most(a: str, b: str, limit: int) -> bool:
    """Whether Levenshtein's distance is within ``limit``."""
    if abs(len(a) - len(b)) > limit:
        return False
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            change = above + (left != right)
            above = row[j]
            row[j] = min(change, row[j] + 1, row[j - 1] + 1)
        if min(row) > limit:
            return False
    return row[-1] <= limit
