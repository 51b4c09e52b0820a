"""What a grammar allows of a sound: a beam search for its likeliest sentence.

The decoder's own probabilities are kept as they are; what the grammar does not allow is left out.
So its probability tells a sentence of the grammar that was said, however oddly (-0.1 to -1.4 nats a
token), from something else (-2 and less: a word in a noise; -8: other speech).
Punctuation may stand anywhere between words; a word has several spellings (``spelling``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parley_speech.asr.moonshine import tempo
from parley_speech.asr.moonshine.model import Cache, Speech
from parley_speech.asr.moonshine.spelling import BEGIN, END, GLUE, Spelling
from parley_speech.asr.moonshine.word_graph import WordGraph

BEAM = 8
"""Hypotheses kept. Of 164 sentences in a desk's grammar 150 are right with 4, 155 with 8; 153
with those left out that fall ``BEHIND``."""
UNFINISHED = -4.0
"""Nats for a sentence after which the grammar does not allow to stop: it may go on."""
BEHIND = 5.0
"""Nats by which a hypothesis may fall behind the best one and still be kept."""
HOPELESS = -3.5
"""Nats a token: a search whose best hypothesis is worse is over. What is right has -1.4 or more."""
PATIENCE = 4
"""Tokens before a search may be given up: an odd voice may begin oddly."""
MOST_STATES = 4000
"""Of a grammar, kept with what may follow them."""


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere in the grammar: a node, the rest of a word that leads to it."""

    node: int
    rest: tuple[int, ...] = ()
    glued: bool = False
    """The next word may follow without a space."""


State = frozenset[tuple[Place, tuple[str, ...]]]
"""Places that the tokens so far lead to, each with its words."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """The likeliest that the grammar allows."""

    words: tuple[str, ...]
    log_p: float
    whole: bool
    """The grammar allows to stop after it."""


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    log_p: float
    state: State
    last: int = BEGIN


_Way = tuple[float, int, int, State]
"""Log P, the hypothesis that it goes on from, its token, the state after it."""


class Constraint:
    """A grammar and the spelling of its words."""

    def __init__(self, graph: WordGraph, spelling: Spelling) -> None:
        self._graph = graph
        self._spelling = spelling
        self._marks = set(spelling.punctuation.values())
        self._hyphen = spelling.punctuation[GLUE]
        self._known: dict[Place, tuple[tuple[int, Place, str], ...]] = {}

    def likeliest(
        self, speech: Speech, sounding_ms: float, begun: Sequence[Sequence[str]] = ()
    ) -> Sentence | None:
        """The likeliest sentence in ``speech``, in which a voice sounded for ``sounding_ms``; None
        where none is likely. ``begun``: words of sentences that this one may go on with."""
        starts = {self._graph.start, *(n for words in begun for n in self._graph.along(words))}
        live = [_Hypothesis(0.0, frozenset((Place(node), ()) for node in starts))]
        cache, best = Cache(), None
        for count in range(1, speech.most + 5):
            tokens = np.array([[h.last] for h in live], np.int64)
            logs, cache = speech.model.step(speech.states, tokens, cache)
            ways = [
                (h.log_p + float(logs[row, 0, token]), row, token, state)
                for row, h in enumerate(live)
                for token, state in self._follow(h.state).items()
            ]
            ways.sort(key=lambda way: -way[0])
            for log_p, row, token, _ in ways[: 2 * BEAM]:
                if token == END:
                    best = _better(best, self._ended(live[row].state, log_p, sounding_ms))
            kept = self._kept(ways, best, count)
            if not kept:
                break
            live = [_Hypothesis(log_p, state, token) for log_p, _, token, state in kept]
            cache = cache.of([row for _, row, _, _ in kept])
        return best

    def _kept(self, ways: Sequence[_Way], best: Sentence | None, count: int) -> Sequence[_Way]:
        """Of the ways to go on, the likeliest first, those that may still win."""
        going_on = [way for way in ways if way[2] != END]
        if not going_on or (count > PATIENCE and going_on[0][0] < HOPELESS * count):
            return []
        bar = going_on[0][0] - BEHIND
        bar = bar if best is None else max(bar, best.log_p)
        return [way for way in going_on[:BEAM] if way[0] > bar]

    def _ended(self, state: State, log_p: float, sounding_ms: float) -> Sentence | None:
        """With the fewest and shortest words that these tokens may be: a "2" that no figure
        followed is no "twenty"."""
        whole = [words for place, words in state if self._may_stop(place)]
        ended = whole or [words for place, words in state if not place.rest]
        words = min(ended, key=lambda words: (len(words), sum(map(len, words)), words), default=())
        if not words:
            return None
        log_p += tempo.log_fit(sum(map(len, words)), sounding_ms)
        return Sentence(words, log_p if whole else log_p + UNFINISHED, bool(whole))

    def _may_stop(self, place: Place) -> bool:
        return not place.rest and self._graph.whole(place.node)

    def _follow(self, state: State) -> dict[int, State]:
        """Tokens that may come, each with the state after it."""
        after: dict[int, set[tuple[Place, tuple[str, ...]]]] = {}
        for place, words in state:
            for token, then, word in self._after(place):
                after.setdefault(token, set()).add((then, (*words, word) if word else words))
        return {token: frozenset(places) for token, places in after.items()}

    def _after(self, place: Place) -> tuple[tuple[int, Place, str], ...]:
        """(token, place after it, the word that begins with it or nothing)."""
        if place.rest:
            return ((place.rest[0], Place(place.node, place.rest[1:], place.glued), ""),)
        if place not in self._known:
            if len(self._known) >= MOST_STATES:
                self._known.clear()
            self._known[place] = tuple(dict.fromkeys(self._ways(place)))
        return self._known[place]

    def _ways(self, place: Place) -> list[tuple[int, Place, str]]:
        ways = [(END, place, "")]
        for mark in self._marks:
            ways.append((mark, Place(place.node, (), place.glued or mark == self._hyphen), ""))
        for word, node in self._graph.after(place.node):
            for glued in (False, True) if place.glued else (False,):
                for tokens, joins in self._spelling.ways(word, glued=glued):
                    ways.append((tokens[0], Place(node, tokens[1:], joins), word))
        return ways


def _better(best: Sentence | None, other: Sentence | None) -> Sentence | None:
    if best is None or other is None:
        return best or other
    return other if other.log_p > best.log_p else best
