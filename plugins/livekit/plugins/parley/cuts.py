"""What LiveKit is told of a reply that the caller has cut, and of the tools that it has called.

LiveKit cancels the tools of a speech that is interrupted. Tools that run are to go on although the
caller spoke over the words that announced them, so their speech is left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from livekit.agents import ConversationItemAddedEvent, llm
from livekit.plugins.parley.generation import Generation

if TYPE_CHECKING:
    from livekit.agents import AgentSession
    from livekit.agents.voice import SpeechHandle

logger = logging.getLogger("livekit.plugins.parley")


class Cuts:
    """Of one call. ``session`` gives LiveKit's, None while there is none. ``cancelled`` is told of
    calls whose results will never come."""

    def __init__(
        self,
        session: Callable[[], AgentSession[Any] | None],
        cancelled: Callable[[set[str]], None],
    ) -> None:
        self._session = session
        self._cancelled = cancelled
        self._with_tools: set[SpeechHandle] = set()
        """Speeches whose tools may still run."""
        self._owned: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        await asyncio.gather(*self._owned, return_exceptions=True)

    def called(self, generation: Generation) -> None:
        """It is about to call a tool."""
        if generation.speech is not None and not generation.calls:
            self._with_tools.add(generation.speech)
            generation.speech.add_done_callback(lambda _: self._done(generation))

    def _done(self, generation: Generation) -> None:
        """LiveKit has nothing more to do for it: a tool without a result was cancelled."""
        if generation.speech is not None:
            self._with_tools.discard(generation.speech)
        self._cancelled(generation.calls)

    def cut(self, generation: Generation, running: frozenset[str]) -> None:
        """The caller took the floor from it while these tools ran; closes it."""
        if generation.calls & running:
            self._mark(generation)
            generation.close()
            return
        task = asyncio.create_task(self._interrupt(generation), name="parley-cut")
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)

    async def _interrupt(self, generation: Generation) -> None:
        """What was played is through, then LiveKit may mark the message as interrupted (it drops
        what its queues still hold, which is nothing), and what it has queued behind. While tools
        run, this speech alone: ``session.interrupt()`` would end them."""
        try:
            await generation.drained()
            session = self._session()
            if session is None or session.current_speech is None:
                return
            if not self._with_tools:
                session.interrupt()
            elif generation.speech is not None:
                generation.speech.interrupt()
        except RuntimeError as e:  # a session that closes at this moment
            logger.debug("the cut could not be marked: %s", e)
        finally:
            generation.close()

    def _mark(self, generation: Generation) -> None:
        """Only the message: the speech goes on."""
        session, speech = self._session(), generation.speech
        if session is None or speech is None:
            return

        def added(event: ConversationItemAddedEvent) -> None:
            if isinstance(event.item, llm.ChatMessage) and event.item.id == generation.message_id:
                event.item.interrupted = True

        session.on("conversation_item_added", added)
        speech.add_done_callback(lambda _: session.off("conversation_item_added", added))
