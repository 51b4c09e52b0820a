"""How long a prompt may become, and what has to go when it is too long. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from parley.minds.base import Item, Said

FIRST_GUESS = 0.4
"""Tokens for each character before the server has counted any: more than most languages need."""
PER_MESSAGE = 16
"""Characters that a template adds to a message, about."""
MARGIN = 1.05
"""Estimates are taken to be this much too low."""


class TokenMeter:
    """Estimates a prompt's tokens from its size; the ratio is learnt from the server's counts."""

    def __init__(self) -> None:
        self._tokens_per_char = FIRST_GUESS

    def note(self, size: int, tokens: int) -> None:
        """A prompt of this ``size`` had so many tokens."""
        if size > 0 and tokens > 0:
            self._tokens_per_char = tokens / size

    def tokens(self, size: int) -> int:
        return round(size * self._tokens_per_char * MARGIN)


def size(messages: Iterable[Mapping[str, object]], tools: object = None) -> int:
    """Characters of a prompt, what its template adds included."""
    total = len(json.dumps(tools)) if tools else 0
    for message in messages:
        content = message.get("content")
        calls = message.get("tool_calls")
        total += PER_MESSAGE + (len(content) if isinstance(content, str) else 0)
        total += len(json.dumps(calls)) if calls else 0
    return total


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens of a prompt. Folding begins early, in the background, and takes much away at once, so
    that it is rare: after each fold the prefix cache has to be filled anew."""

    most: int
    """Above this, the oldest turns are dropped on the spot."""
    begin: float = 0.7
    """Share of ``most`` at which a summary is asked for."""
    keep: float = 0.35
    """Share of ``most`` that stays as it is."""

    def __post_init__(self) -> None:
        if self.most < 1 or not 0 < self.keep < self.begin < 1:
            raise ValueError(
                f"most={self.most}, begin={self.begin}, keep={self.keep}: expected most > 0 and "
                "0 < keep < begin < 1"
            )

    def wants_summary(self, tokens: int) -> bool:
        return tokens > self.begin * self.most

    def too_long(self, tokens: int) -> bool:
        return tokens > self.most

    def old(self, items: tuple[Item, ...], fixed: int, tokens_of: Mapping[int, int]) -> int:
        """How many of the oldest items to fold so that the rest, with ``fixed`` tokens beside it,
        is within ``keep``. ``tokens_of[i]``: tokens of item i and all after it. What stays begins
        with a user's turn, so that no result loses its call, and is never empty; 0: nothing can
        be folded."""
        starts = [i for i in range(1, len(items)) if _begins_turn(items, i)]
        goal = self.keep * self.most - fixed
        return next((i for i in starts if tokens_of[i] <= goal), starts[-1] if starts else 0)


def _begins_turn(items: tuple[Item, ...], i: int) -> bool:
    item, before = items[i], items[i - 1]
    is_user = isinstance(item, Said) and item.role == "user"
    return is_user and not (isinstance(before, Said) and before.role == "user")
