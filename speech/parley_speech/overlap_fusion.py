"""The formula that says how likely a sound over the agent's voice wants the floor.

A sum of log-odds, each term one kind of evidence, so that each can be read and fitted alone:

    L = sound + duration + end + words          p_interruption = sigmoid(L) · P(it is the user)
    U = user - other_per_nat · other            P(it is the user) = sigmoid(U)

    sound      log-odds of the network's belief, the lower of two frames: one frame decides nothing
    duration   0 up to ``long_from_ms`` of voice, then ``long_per_s`` a second: nods are short, and
               who still speaks has more to say. It settles what the network leaves open: a sound
               that it takes for a nod (below ``open``) may be a long one ("oh, I see") and counts
               as speech from ``endless_from_ms``. Never for a noise: a siren goes on, too
    end        ``end`` once a sound has been over for ``end_ms``: the network has heard all of it,
               and what is not decided now ("no", "stop") will be given up in a moment
    words      of the recogniser, late but telling: ``WORDS``. Those that want the floor are worth
               nothing for a noise, as a grammar will make words of that as well
    other      log-odds that somebody else in the room speaks (``second_talker``), who may say what
               they like: however sure the rest, the product is no larger. Only words that are for
               us make it likelier that it is the user, after all, who is far from the microphone

The floor acts at one bar (``FloorPolicy.cut_in``, the same as ``overlap.DECIDE_INTERRUPTION``).
The numbers of ``Terms`` were chosen on the validation split (``measure_overlap.py --sweep``), those
of ``WORDS`` and of the other talker by hand. docs/overlap.md has what they give on the test split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from parley_speech.overlap_lexicon import Words

DECIDE_NOISE = 0.6
"""``p_noise`` from which a sound is a noise."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The numbers of the formula; log-odds are natural."""

    sound: float = 0.5
    """Added to the network's log-odds: it was fitted with a double cost of stopping for a nod."""
    long_from_ms: int = 450
    long_per_s: float = 20.0
    open: float = 0.4
    """Belief of the network above which a sound may well be an interruption."""
    endless_from_ms: int = 1000
    end_ms: int = 60
    end: float = 0.5
    user: float = 3.0
    other_per_nat: float = 8.0
    """The user is as likely as somebody else at 0.4 nats for the other, and half a nat to either
    side is as good as sure. That is 9 dB below a user who is known, and -31 dBFS where nobody is:
    in the training scenarios side talk is quieter than that."""
    user_by_words: float = 2.0


TERMS = Terms()
WORDS = {
    Words.NONE: 0.0,
    Words.BACKCHANNEL: -6.0,
    Words.ONE: 0.5,
    Words.CONTENT: 7.0,
    Words.OPENER: 7.5,
}
MOST = 5.0
"""Log-odds of a belief are cut here: 150 to 1 is as sure as so small a network can be, and less
than trusted words."""


def fuse(
    p_sound: float,
    p_noise: float,
    *,
    voiced_ms: int,
    silence_ms: int,
    words: Words,
    other: float = -MOST,
    terms: Terms = TERMS,
) -> float:
    """P(interruption), 0..1. ``p_sound``, ``p_noise``: the network's beliefs; ``voiced_ms``: of
    the sound so far; ``silence_ms``: since it was last voiced; ``other``: natural log-odds of
    somebody else's voice."""
    noise = p_noise >= DECIDE_NOISE
    log_odds = logit(p_sound) + terms.sound
    if silence_ms >= terms.end_ms:
        log_odds += terms.end
    if not noise:
        from_ms = terms.long_from_ms if p_sound > terms.open else terms.endless_from_ms
        log_odds += terms.long_per_s * max(0, voiced_ms - from_ms) / 1000
    if not noise or words is Words.BACKCHANNEL:
        log_odds += WORDS[words]
    user = terms.user - terms.other_per_nat * other
    if words in (Words.CONTENT, Words.OPENER):
        user += terms.user_by_words
    return sigmoid(log_odds) * sigmoid(user)


def logit(p: float) -> float:
    """Natural log-odds, between -MOST and MOST."""
    least = sigmoid(-MOST)
    p = min(max(p, least), 1 - least)
    return math.log(p / (1 - p))


def sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
