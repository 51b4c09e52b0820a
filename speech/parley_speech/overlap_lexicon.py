"""What the words of an overlap say about its kind: listening on, or wanting the floor.

Tables are keyed by language; a language without a table leaves the decision to the sound.
English backchannels after Jurafsky et al., "Lexical, prosodic, and syntactic cues for dialog
acts" (1998), table 2, less those that usually begin an answer ("no", "well").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Words(Enum):
    """What the words so far are."""

    NONE = "none"  # nothing heard, or no table for the language
    BACKCHANNEL = "backchannel"  # all of them are: "yeah okay"
    ONE = "one"  # a single word that could be anything: recognisers make those of noise
    CONTENT = "content"  # two words or more that are no backchannel
    OPENER = "opener"  # an opener of interruptions stands first: "wait", "no", "hold on"


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Phrases in lower case, words separated by one space."""

    backchannels: frozenset[str]
    openers: frozenset[str]
    fillers: frozenset[str]
    """Neither one nor the other: "um", and what recognisers write for noise."""


LEXICONS = {
    "en": Lexicon(
        backchannels=frozenset(
            (
                "yes", "yeah", "yep", "yup", "ya", "yea", "mhm", "mm", "mmm", "mm-hmm", "mm-hm",
                "mm hmm", "mm hm", "mhmm", "hm", "hmm", "um-hum", "um-hmm", "uh-huh", "uh huh",
                "huh", "aha", "ah", "oh", "okay", "ok", "o.k.", "right", "sure", "alright",
                "all right", "i see", "got it", "i know", "of course", "exactly", "great",
                "good", "fine", "cool", "true", "really", "wow", "nice",
            )
        ),
        openers=frozenset(
            (
                "no", "nope", "not", "don't", "stop", "wait", "hold on", "hang on", "hold it",
                "excuse me", "sorry", "i'm sorry", "pardon", "actually", "but", "hey", "hello",
                "listen", "look", "what", "why", "when", "where", "who", "which", "how", "can",
                "could", "would", "let me", "one moment", "one second", "just a", "never mind",
                "cancel", "repeat", "again", "slow down", "speak up", "help", "shut up", "enough",
            )
        ),
        fillers=frozenset(("um", "uh", "er", "uhm", "[noise]", "[unk]", "<unk>", "++noise++")),
    ),
}  # fmt: skip


def classify(words: Sequence[str], language: str = "en") -> Words:
    """The words of a partial hypothesis so far; ``language`` is a BCP 47 tag ("en", "en-GB")."""
    lexicon = LEXICONS.get(language.split("-")[0].lower())
    if lexicon is None:
        return Words.NONE
    said = [word.lower().strip('.,!?;:"') for word in words]
    said = [word for word in said if word and word not in lexicon.fillers]
    rest = _without_backchannels(said, lexicon.backchannels)
    if not rest:
        return Words.BACKCHANNEL if said else Words.NONE
    if rest[0] in lexicon.openers or " ".join(rest[:2]) in lexicon.openers:
        return Words.OPENER
    return Words.CONTENT if len(rest) >= 2 else Words.ONE


def _without_backchannels(said: list[str], phrases: frozenset[str]) -> list[str]:
    """Leading backchannels taken off: of "yes but why" stays "but why"."""
    at = 0
    while at < len(said):
        if " ".join(said[at : at + 2]) in phrases and at + 2 <= len(said):
            at += 2
        elif said[at] in phrases:
            at += 1
        else:
            break
    return said[at:]
