"""From what a decoder has found to words with times and confidences.

With a grammar: the decoder's acoustic scores are relative to the best-matching sound of every
frame. So the mean score per frame says how much worse the words explain the speech than
unconstrained sounds would: a likelihood ratio against a garbage model, at no cost. A grammar
accepts anything; this is what tells a match from a mismatch.

In open English the words themselves compete, and their posterior probability says more: over 38
recordings the area under the curve for (nearly) right against mostly wrong is 0.82, and 0.76 for
the acoustic score. Before the end of an utterance there are no posteriors; see ``UNPROVEN``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

DECODER_FRAME_MS = 10
SCORE_SCALE = 1024.0
"""A grammar's scores, as the decoder gives them without its lattice (``bestpath``), are shifted
right by ten bits."""
LIKELY = -3.45
"""Mean score per frame, in nats, above which a grammar's match is rather right than wrong. With
the grammar of a shop's front desk: of 57 right matches 1 falls below it, of 80 unrelated sounds
and sentences 4 are accepted (area under the curve 0.99; two human and five synthetic voices)."""
SLOPE = 2.2
"""Per nat; gives a typical right match (-1.8) 0.97 and a typical wrong one (-4.6) 0.07."""
INCOMPLETE = 0.5
"""Factor on the confidence of words after which the grammar does not allow to stop."""
UNPROVEN = 0.3
"""Confidence of open English before the end of an utterance, where the decoder says 1: of an
"uh-huh" it makes "but" and "but the", of a "hello" "where", before it knows better."""
LOWEST = 1e-300
"""Scores come as probabilities; below this they are zero."""

_FILLER = re.compile(r"^([<\[+(]|$)")
_VARIANT = re.compile(r"\(\d+\)$")


@dataclass(frozen=True, slots=True)
class ScoredWord:
    """Times count from the utterance's first sample."""

    text: str
    start_ms: int
    end_ms: int
    score: float
    """Nats per frame, 0 or below; of a grammar's words only."""
    posterior: float
    """0..1, against other words; means little within a grammar."""


def words(decoder: Any) -> Iterator[ScoredWord]:
    """Of the decoder's present best hypothesis, without silences and noises."""
    if decoder.hyp() is None:
        return
    for segment in decoder.seg():
        if not _FILLER.match(segment.word):
            frames = segment.end_frame + 1 - segment.start_frame
            yield ScoredWord(
                _VARIANT.sub("", segment.word),
                segment.start_frame * DECODER_FRAME_MS,
                (segment.end_frame + 1) * DECODER_FRAME_MS,
                SCORE_SCALE * math.log(max(segment.ascore, LOWEST)) / max(frames, 1),
                min(max(segment.prob, 0.0), 1.0),
            )


def confidence(found: Sequence[ScoredWord], *, in_grammar: bool) -> float:
    """0..1 for these words together; 0 for no words."""
    if not found:
        return 0.0
    if not in_grammar:
        return sum(word.posterior for word in found) / len(found)
    spoken_ms = [max(word.end_ms - word.start_ms, 1) for word in found]
    total = sum(word.score * ms for word, ms in zip(found, spoken_ms, strict=True))
    return _likelihood(total / sum(spoken_ms))


def _likelihood(score: float) -> float:
    return 1.0 / (1.0 + math.exp(min(-SLOPE * (score - LIKELY), 700.0)))
