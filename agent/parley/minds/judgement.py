"""Judgements of a language model while the user speaks: one token each, from its own prompt.

*Has the user finished?* The user's turn is left open in the prompt, and the model is asked what
comes next: the probability that it is the mark which ends a turn (or the punctuation that an ASR
leaves out before it). *What was said over the agent?* The model chooses one of three letters.

Both are one request of one token whose prompt is the conversation's, so that the prefix cache has
all but its end, and both are raw numbers of a model that was never taught to judge: only calibrated
ones are given (``scripts/calibrate_judgements.py``), and without a calibration none are asked for.
An answer that is later than ``BUDGET_S`` is no answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parley.minds.base import OverlapOpinion
from parley_speech.types import OverlapEvidence

BUDGET_S = 0.12
LETTERS = ("A", "B", "C")
"""Floor, backchannel, aside."""
OVERLAP_QUESTION = (
    "While you were speaking, this was said on the caller's side: {words} "
    "What was it? A: the caller wants to speak now. B: the caller only shows that they listen. "
    "C: it was not said to you. Answer A, B or C."
)
SENTENCE_ENDS = frozenset([".", "?", "!", "。", "？", "！"])
"""Recognisers often leave them out; a model expects them before the mark that ends a turn."""
LEAST = 1e-6
"""Probabilities are kept this far from 0 and 1: a judgement is never certain."""


class CalibrationError(ValueError):
    """The file is not what ``scripts/calibrate_judgements.py`` writes."""


# --- raw numbers out of an answer -----------------------------------------------------------


def p_end(answer: Mapping[str, object], end: str) -> float:
    """Raw P(the turn ends here) from a chat completion of one token with ``top_logprobs``, where
    ``end`` is the token that ends a user's turn. Raises ValueError when it has no logprobs."""
    total = sum(math.exp(logprob) for token, logprob in _alternatives(answer) if _ends(token, end))
    return min(max(total, LEAST), 1 - LEAST)


def p_letters(answer: Mapping[str, object]) -> tuple[float, float, float]:
    """Raw P of the three LETTERS, which sum to 1. Raises ValueError."""
    found = dict.fromkeys(LETTERS, LEAST)
    for token, logprob in _alternatives(answer):
        letter = token.strip()
        if letter in found:
            found[letter] += math.exp(logprob)
    if max(found.values()) == LEAST:
        raise ValueError("the answer holds none of the letters that were to choose from")
    a, b, c = (found[letter] / sum(found.values()) for letter in LETTERS)
    return a, b, c


def _ends(token: str, end: str) -> bool:
    return token == end or token.strip() in SENTENCE_ENDS


def _alternatives(answer: Mapping[str, object]) -> Iterable[tuple[str, float]]:
    """(token, natural logarithm of its probability) of the first place."""
    try:
        place = answer["choices"][0]["logprobs"]["content"][0]  # type: ignore[index]
        return [(str(a["token"]), float(a["logprob"])) for a in place["top_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError("the answer has no top_logprobs for its first token") from error


# --- calibration ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Platt:
    """P = sigmoid(slope * logit(raw) + offset) (Platt 1999)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, raw: float) -> float:
        return sigmoid(self.slope * logit(raw) + self.offset)


@dataclass(frozen=True, slots=True)
class LetterCalibration:
    """P = softmax(slope * log(raw) + offset of the letter): Platt's for three choices."""

    slope: float = 1.0
    offsets: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __call__(self, raw: Sequence[float]) -> tuple[float, float, float]:
        scores = [
            self.slope * math.log(max(p, LEAST)) + o for p, o in zip(raw, self.offsets, strict=True)
        ]
        top = max(scores)
        a, b, c = (math.exp(s - top) for s in scores)
        total = a + b + c
        return a / total, b / total, c / total


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of one model. None: this judgement is not offered."""

    end: Platt | None = None
    overlap: LetterCalibration | None = None
    overlap_weight: float = 0.0


def load_calibration(path: Path, model: str) -> Calibration | None:
    """The model's entry of a calibration file; None when it has none. Raises CalibrationError."""
    try:
        entry = json.loads(path.read_text())["models"].get(model)
        return None if entry is None else _calibration(entry)
    except OSError as error:
        raise CalibrationError(f"cannot read the calibration {path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CalibrationError(
            f"{path} is no calibration ({error}); make one with scripts/calibrate_judgements.py"
        ) from error


def _calibration(entry: Mapping[str, dict[str, object]]) -> Calibration:
    end, overlap = entry.get("end"), entry.get("overlap")
    weight = float(overlap["weight"]) if overlap else 0.0  # type: ignore[arg-type]
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is {weight}; expected 0..1")
    return Calibration(
        Platt(float(end["slope"]), float(end["offset"])) if end else None,  # type: ignore[arg-type]
        LetterCalibration(float(overlap["slope"]), tuple(overlap["offsets"]))  # type: ignore[arg-type]
        if overlap
        else None,
        weight,
    )


# --- use ------------------------------------------------------------------------------------


def weigh(evidence: OverlapEvidence, opinion: OverlapOpinion) -> OverlapEvidence:
    """The evidence of the sound with the opinion about its words, mixed in log-odds: with weight w,
    logit(p) = (1 - w) logit(p of the sound) + w logit(p of the opinion)."""
    if opinion.weight <= 0:
        return evidence
    w = min(opinion.weight, 1.0)
    p = sigmoid((1 - w) * logit(evidence.p_interruption) + w * logit(opinion.p_floor))
    return replace(evidence, p_interruption=p)


def logit(p: float) -> float:
    p = min(max(p, LEAST), 1 - LEAST)
    return math.log(p / (1 - p))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
