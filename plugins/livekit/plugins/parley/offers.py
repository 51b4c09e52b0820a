"""Replies that the engine begins of its own accord are offered to LiveKit, which may not take them.

That is so while LiveKit hands over to another agent, and while it waits for a reply that it has
asked for: it plays in the order in which speeches were made, and would let this one wait unheard.
The turn that such a reply answers is owed one (``owed``) and offered again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from livekit.agents import SpeechCreatedEvent
from livekit.plugins.parley.generation import Generation
from livekit.plugins.parley.owed import Owed, Turn

from parley.dialogue import events as ev
from parley.dialogue.engine import Engine
from parley.minds.base import Cause

if TYPE_CHECKING:
    from livekit.agents import AgentSession

logger = logging.getLogger("livekit.plugins.parley")

SETTLE_S = 0.1
"""After LiveKit has set up a new agent, and after a reply: time for what the agent says next of
its own accord."""
AGAIN_S = 1.0
"""A turn that LiveKit could not take is offered again after this time at the latest."""


class Offers:
    """Of one call. ``rewrite`` brings the ledger up to date with ``words``; ``busy`` says that
    LiveKit waits for a reply that it has asked for."""

    def __init__(self, rewrite: Callable[[], None], busy: Callable[[], bool]) -> None:
        self._rewrite = rewrite
        self._busy = busy
        self._engine: Engine | None = None
        self._owed = Owed()
        self._ended: Turn | None = None
        self._timer: asyncio.TimerHandle | None = None

    def use(self, engine: Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        self._engine = None
        if self._timer is not None:
            self._timer.cancel()

    @property
    def words(self) -> Iterator[str]:
        """Of the turns that are asked about again: they belong into the context."""
        return self._owed.words

    def ended(self, turn: Turn) -> None:
        """The user's turn is over; the reply that is committed next answers it."""
        self._ended = turn

    def answered(self, event: ev.ReplyCommitted) -> tuple[Turn, ...]:
        """The user's turns that this reply answers."""
        ended, self._ended = self._ended, None
        if ended is not None:
            if self._owed.request is not None and self._engine is not None:
                self._engine.withdraw(self._owed.request)  # one reply answers all of it
            return (*self._owed.take(), ended)
        if event.request is not None and event.request == self._owed.request:
            return self._owed.take()
        return ()

    def refused(self, turns: tuple[Turn, ...]) -> None:
        """Nobody hears the reply to these: they are owed one."""
        self._owed.add(*turns)
        self._rewrite()
        if self._owed:
            logger.info("a turn of the user waits until the session can take it")
            self._after(AGAIN_S)

    def soon(self) -> None:
        """The agent may be another one now, or a reply is over: a good moment."""
        if self._owed:
            self._after(SETTLE_S)

    def _after(self, seconds: float) -> None:
        """The latest reason to offer counts."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._offer)

    def _offer(self) -> None:
        """Ask for a reply to what is owed, after everything that LiveKit has asked for: the end
        of each reply leads here again."""
        if self._engine is None or not self._owed:
            return
        if self._busy() or self._engine.floor.has_agent:
            return
        self._owed.offer()
        self._rewrite()
        if self._owed.request is None:
            self._owed.ask(self._engine.request(Cause.INSTRUCTED))


def taken(
    session: AgentSession[object] | None, generation: Generation, tell: Callable[[], None]
) -> bool:
    """Whether LiveKit takes the reply that ``tell`` announces: it makes a speech of it there and
    then, or drops it. Without the session we cannot know."""
    speeches: list[SpeechCreatedEvent] = []

    def made(event: SpeechCreatedEvent) -> None:
        speeches.append(event)

    if session is not None:
        session.on("speech_created", made)
    try:
        tell()
    finally:
        if session is not None:
            session.off("speech_created", made)
    generation.speech = speeches[0].speech_handle if speeches else None
    return bool(speeches) or session is None
