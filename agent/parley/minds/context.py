"""How one call is written down for its model: only ever at the end.

A request is cheap when its prompt begins as the one before it did: vLLM then computes the new end
alone (prefix cache). So what was written once stays as it was written:

* A stage direction ("the caller has been silent for a while") that led to a reply which was heard
  stays where it stood, though it is in no ledger.
* Old turns that no longer fit are folded into a summary, many at a time and rarely; between two
  folds nothing changes but the end.

* Only a hand-off to another agent, whose instructions and tools stand first in every template,
  begins the prompt anew: once, and what was said stays.

What is written is only what was heard, and a turn that was cut says so (``vllm_messages``). Where
the application replaces the history, what is remembered here about the old one no longer matches
and is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from parley.minds.base import Context, Item, Said, ToolCall
from parley.minds.vllm_messages import direction_of

SUMMARY = "What was said before, in short: {summary}"
DROPPED = "The beginning of the conversation is left out."
MOST_DIRECTIONS = 64
"""Remembered at one time; older ones stand in turns that are folded by then."""


@dataclass(frozen=True, slots=True)
class Fold:
    """The oldest items of a conversation, written as a few words."""

    items: tuple[Item, ...]
    summary: str = ""
    """Empty: they were dropped without a summary."""

    def covers(self, items: tuple[Item, ...]) -> bool:
        return items[: len(self.items)] == self.items


@dataclass(frozen=True, slots=True)
class _Direction:
    text: str
    after: int
    """Place in the items."""
    last: Item | None
    """The item before it: another history has another one there."""


class Transcript:
    """One call's. Remembers what the ledger does not hold."""

    def __init__(self) -> None:
        self.fold: Fold | None = None
        self._directions: list[_Direction] = []

    def heard(self, context: Context) -> None:
        """A reply to ``context`` is being heard: from now on its direction belongs to the call."""
        text = direction_of(context)
        if text:
            last = context.items[-1] if context.items else None
            self._directions.append(_Direction(text, len(context.items), last))
            del self._directions[:-MOST_DIRECTIONS]

    def written(self, context: Context) -> Context:
        """The same context with directions and summary among its items."""
        fold = self.fold
        if fold is not None and not fold.covers(context.items):
            fold = self.fold = None
        if fold is None and not self._directions:
            return context
        begin = len(fold.items) if fold is not None else 0
        items: list[Item] = [] if fold is None else [Said("user", f"({_folded(fold)})")]
        for place in range(begin, len(context.items)):
            items += self._directions_at(place, context.items)
            items.append(context.items[place])
        return replace(context, items=tuple(items))

    def _directions_at(self, place: int, items: tuple[Item, ...]) -> list[Item]:
        """Where nobody answered it, it led to nothing and is left out."""
        item = items[place]
        if not isinstance(item, ToolCall) and not (isinstance(item, Said) and item.role == "agent"):
            return []
        last = items[place - 1] if place else None
        return [
            Said("user", direction.text)
            for direction in self._directions
            if direction.after == place and direction.last == last
        ]


def _folded(fold: Fold) -> str:
    return SUMMARY.format(summary=fold.summary) if fold.summary else DROPPED
