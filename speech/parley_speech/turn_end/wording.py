"""P(the turn is finished | its words), for open English and without a language model.

A phrase tells by its last words whether it asks for more: "the number of the", "could you", "I
would like to" do, "please" and "tomorrow" do not; "is there a train" is short for a question.
``describe`` notes which of a few lists the last words are in, and how long and of what kind the
phrase is; the judgement is a logistic regression over these notes:

    P = 1 / (1 + exp(-(sum of the weights of what is so)))

Fitted by scripts/fit_wording.py with ends and pauses weighted so that both are equally likely: the
log-odds of P are the evidence of the words alone. Half of what it has learnt from was heard by the
open recogniser, one word in three wrong, so it is as sure as such words deserve. Weights:
data/turn_end_wording.json. Not known here: the conversation, the sound, any language but English.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from importlib import resources

WEIGHTS = "turn_end_wording.json"


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


def _phrases(listed: str) -> frozenset[str]:
    return frozenset(" ".join(phrase.split()) for phrase in listed.split("|"))


LISTS: Mapping[str, frozenset[str]] = {
    "determiner": _words(
        "a an the my your his her our their its these those every each some any whose"
    ),
    "preposition": _words(
        "of to at for from with in on by into onto about near before after until till between "
        "without under over through behind during since against towards beside per than like"
    ),
    "conjunction": _words(
        "and or but because if that which who whom when whether while so as where how what why "
        "unless although though"
    ),
    "auxiliary": _words(
        "is are was were be been am has have had do does did can could will would should shall "
        "must may might isn't aren't wasn't don't doesn't didn't can't couldn't won't wouldn't "
        "haven't hasn't not"
    ),
    "contraction": _words(
        "i'm i'd i've i'll it's we're we've we'd we'll they're they've that's there's what's "
        "where's who's how's he's she's you're let's"
    ),
    "subject": _words("i we he she they"),
    "filler": _words("um uh er erm hm hmm mm ah oh well mean actually maybe perhaps"),
    "governor": _words(
        "want wanted need needed like get got tell give send sent take make made change check book "
        "know think thought say said ask asked find found bring put buy bought use see let call "
        "called looking look wondering going trying try keep tried wanting needs wants"
    ),
    "modifier": _words(
        "very too more most much many really just only also quite such other next first second "
        "last same new old another big small no better rather"
    ),
    "number": _words(
        "zero oh one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy "
        "eighty ninety hundred thousand"
    ),
    "object": _words("it you me him them us this there here one anything something nothing"),
    "closing": _words(
        "please thanks today tomorrow tonight yesterday now again yet already anymore goodbye bye "
        "evening morning afternoon week month year day minutes hours ago later soon tuesday "
        "monday wednesday thursday friday saturday sunday"
    ),
}
"""By what they are at the end of a phrase. A word in several lists counts in the first."""
ANSWERS = _phrases("""
    yes | no | yeah | yep | nope | hello | hi | hey | okay | ok | right | sure | thanks |
    thank you | bye | goodbye | stop | wait | yes please | no thanks | no thank you | that's right |
    that is right | of course | all right | never mind | good morning | that's all | that is all |
    not really | not yet | i do | i don't | it is | help | exactly | correct | wrong |
    thank you very much | how are you | i see | very good | fine | great | cancel
""")
"""What is whole though it is short."""
QUESTION = LISTS["auxiliary"] | _words("what where when who how why which what's where's who's")
"""First words of a question."""
NAMES = (
    "bias", "answer", "one word", "two words", "three words", "length", "question",
    "short question", "clause", "repeats", *LISTS,
)  # fmt: skip
LONG = 10
"""Words from which on a phrase is as long as any."""
STORY = 16
"""Words from which on a turn is a story: longer than those it has learnt from, and with more pauses
than its one end, however whole its clauses are."""
STORY_NATS = 1.0
"""Against the end of a story, where nothing it says can speak for it."""
KNOWN = 0.25
"""Least share of words that are in some list: other languages have few of them."""

_WORD = re.compile(r"[a-z']+")
_ENGLISH = frozenset().union(*LISTS.values(), *(a.split() for a in ANSWERS))


def describe(text: str) -> dict[str, float]:
    """What there is to note of a phrase, by names of ``NAMES``; what is not so is left out. Empty
    for no words, and for words that do not look English."""
    words = _WORD.findall(text.lower())
    known = sum(word in _ENGLISH for word in words)
    if not words or not text.isascii() or known < KNOWN * len(words):
        return {}
    n, last = len(words), words[-1]
    asks = words[0] in QUESTION
    notes = {
        "bias": 1.0,
        "length": min(n, LONG) / LONG,
        "answer": float(" ".join(words) in ANSWERS),
        "one word": float(n == 1),
        "two words": float(n == 2),
        "three words": float(n == 3),
        "question": float(asks and n > 4),
        "short question": float(asks and n <= 4),
        "clause": float(_has_clause(words)),
        "repeats": float(n > 1 and last == words[-2] and last not in LISTS["number"]),
    }
    kind = next((name for name, listed in LISTS.items() if last in listed), None)
    if kind is not None:
        notes[kind] = 1.0
    return {name: value for name, value in notes.items() if value}


def _has_clause(words: list[str]) -> bool:
    """A verb, and something behind it that is not a mere function word."""
    verbs = [i for i, word in enumerate(words) if _is_verb(word)]
    return bool(verbs) and any(word not in _OPEN for word in words[verbs[0] + 1 :])


def _is_verb(word: str) -> bool:
    return word in LISTS["auxiliary"] or word in LISTS["governor"] or word in LISTS["contraction"]


_OPEN = frozenset().union(
    *(LISTS[n] for n in ("determiner", "preposition", "conjunction", "auxiliary", "subject"))
)


@functools.lru_cache(maxsize=1)
def load() -> Mapping[str, float]:
    """The fitted weights that come with the package, by name. Raises ValueError for others."""
    source = resources.files("parley_speech").joinpath("data", WEIGHTS).read_text("utf-8")
    weights: dict[str, float] = json.loads(source)
    if set(weights) != set(NAMES):
        raise ValueError(
            f"{WEIGHTS}: expected weights of {sorted(NAMES)}, got {sorted(weights)}: "
            "fit them again with scripts/fit_wording.py"
        )
    return weights


@functools.lru_cache(maxsize=8)  # asked every frame about the same words; no store of them
def p_finished(text: str) -> float | None:
    """P(the user's turn is finished | these words); None: no words, or hardly English ones."""
    notes = describe(text)
    if not notes:
        return None
    weights = load()
    logit = sum(weights[name] * value for name, value in notes.items())
    if len(text.split()) > STORY:
        logit = min(logit, 0.0) - STORY_NATS
    return 1.0 / (1.0 + math.exp(-logit))
