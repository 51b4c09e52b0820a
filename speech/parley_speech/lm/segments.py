"""What a plan asks of an engine: feed these ids, then sample at most so many tokens.

An utterance is a session of one or more segments that share one context (KV cache). The last
token sampled in a segment ends it and never enters the context: a stop token, or the token that
the length allows no more. That is how vLLM's streaming input works, and just what the interleaved
layout needs: the fill token, sampled or forced, is never fed back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Rule:
    """How tokens are drawn, the same for a whole utterance.

    Repetition-aware sampling (VALL-E 2, section 4.2; CosyVoice 2): a token is drawn from the
    nucleus; if it occurs at least ``window * tau`` times among the last ``window`` tokens, it is
    struck out and another is drawn from the whole distribution. ``tau`` 0 turns that off.
    """

    top_p: float = 0.8
    top_k: int = 25
    """0: no limit."""
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative scores of tokens already sampled (CTRL, §4.1)."""
    window: int = 10
    tau: float = 0.1
    greedy: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.top_p <= 1 or self.top_k < 0 or self.window < 0 or not 0 <= self.tau <= 1:
            raise ValueError(f"{self}: expected 0 < top_p <= 1, top_k >= 0, window >= 0, tau 0..1")
        if self.temperature <= 0 or self.repetition_penalty <= 0:
            raise ValueError(f"{self}: temperature and repetition_penalty must be above 0")


RAS = Rule()
"""As CosyVoice 2 is published."""
GREEDY = Rule(greedy=True)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which ids may be drawn.

    With a ``cycle`` above 1 the range moves with the position: token number n of the utterance
    comes from ``low + (n % cycle) * width ..`` and ``ends`` are possible only where n % cycle
    is 0. That is the layout of a codec with several codebooks in one sequence of tokens.
    """

    low: int
    width: int
    cycle: int = 1
    ends: tuple[int, ...] = ()
    """Ids outside the range that may be drawn as well."""
    never: tuple[int, ...] = ()
    not_before: tuple[int, ...] = ()
    """Ids that are possible from token number ``from_step`` of the utterance on."""
    from_step: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    feed: tuple[int, ...]
    """Ids to put into the context, at least one."""
    max_tokens: int
    """Tokens to sample, the one that is dropped included."""
    stops: frozenset[int]
    """Sampling one of these ends the segment."""
    allowed: Allowed
    history: tuple[int, ...] = ()
    """The last tokens of the utterance before this segment, the window of `Rule`."""
    step: int = 0
    """How many tokens the utterance had before this segment."""
    last: bool = False
    """No segment follows: the session may be closed once this one has ended."""


@dataclass(frozen=True, slots=True)
class Dice:
    """Where an utterance's random numbers come from: token n takes numbers (n, 0) and (n, 1)."""

    seed: int
    table: tuple[tuple[float, ...], ...] = field(default=())
    """Recorded numbers in [0, 1) to use instead, one tuple per token."""


class Plan(Protocol):
    """One utterance's sequence layout: pure, no model, no clock. Ids are the engine's."""

    def feed(self, text_ids: Sequence[int]) -> None:
        """More text, as one piece."""
        ...

    def end(self) -> None:
        """No more text."""
        ...

    def next(self) -> Segment | None:
        """What to do now; None: wait for more text, or nothing is left (see ``finished``)."""
        ...

    @property
    def finished(self) -> bool: ...

    def take(self, token: int) -> int | None:
        """A token that was sampled: the codec token it is, None for one that only steers."""
        ...
