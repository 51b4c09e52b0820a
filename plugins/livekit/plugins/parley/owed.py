"""User turns that LiveKit could not take, kept until it can.

While LiveKit hands a call over to another agent it takes no new turns (it logs "the speech
scheduling is not running"), and for a moment nobody listens to the model at all. A turn that ends
just then is *owed*: its words leave the context, so that the old agent's last reply does not
answer them, and come back, with a request for a reply, once the new agent is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """A user's turn as LiveKit's history will know it."""

    item_id: str
    text: str


class Owed:
    """The turns of one call that wait for their reply, oldest first. No clock, no I/O."""

    def __init__(self) -> None:
        self._waiting: list[Turn] = []
        self._offered: list[Turn] = []
        self._request: int | None = None

    def __bool__(self) -> bool:
        """Something waits and is not offered yet."""
        return bool(self._waiting)

    @property
    def words(self) -> Iterator[str]:
        """Of the turns that are offered: they belong into the context."""
        return (turn.text for turn in self._offered)

    @property
    def request(self) -> int | None:
        """The engine's request that will answer what is offered."""
        return self._request

    def add(self, *turns: Turn) -> None:
        """These were refused. A turn without words asks for nothing."""
        self._waiting += [turn for turn in turns if turn.text]

    def offer(self) -> None:
        """Everything that waits is about to be asked for; ``ask`` names the request."""
        self._offered += self._waiting
        self._waiting = []

    def ask(self, request: int) -> None:
        self._request = request

    def take(self) -> tuple[Turn, ...]:
        """A reply to all that is offered begins."""
        turns, self._offered, self._request = tuple(self._offered), [], None
        return turns
