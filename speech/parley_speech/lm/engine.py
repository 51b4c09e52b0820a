"""What a token LM asks of whatever computes: sessions that are fed and sampled in segments."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from parley_speech.lm.segments import Dice, Rule, Segment


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an engine is, for admission control and metrics."""

    slots: int
    """Utterances that can be computed at once."""
    running: int
    waiting: int
    kv_used: float
    """Share of the KV cache that is in use, 0..1."""
    ready: bool
    """False while it starts, and while it is being started again."""


class Session(Protocol):
    """One utterance's context."""

    def run(self, segment: Segment) -> AsyncGenerator[Sequence[int], None]:
        """Feeds and samples; yields every token sampled, the one that ends the segment too."""
        ...

    async def close(self) -> None:
        """Gives slot and KV back, in the middle of a segment or after it. Idempotent."""
        ...


class Engine(Protocol):
    @property
    def context(self) -> int:
        """Tokens that a session holds at most."""
        ...

    @property
    def load(self) -> Load: ...

    async def start(self) -> None: ...

    async def open(self, rule: Rule, dice: Dice) -> Session:
        """Waits for a free slot.

        Raises:
            LmBusy: as many as may wait are waiting.
            EngineDied: it does not run and will not be started again.
        """
        ...

    async def aclose(self) -> None: ...
