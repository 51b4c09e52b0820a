"""What a decoder tells of an utterance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of an utterance."""

    utterance: int
    text: str
    final: bool
    words: tuple[tuple[str, int, int, float], ...]
    """(text, start_ms, end_ms, confidence); times count from the utterance's first sample."""
    confidence: float
