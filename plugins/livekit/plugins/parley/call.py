"""What a worker does around a call: start it, bring back a caller who dropped out, end it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, JobContext
from livekit.plugins.parley.full_duplex import FullDuplex
from livekit.plugins.parley.room_start import start
from livekit.plugins.parley.session import FullDuplexSession
from livekit.plugins.parley.settings import Settings

from parley.dialogue import events as ev
from parley.report.journal import Journal

logger = logging.getLogger("livekit.plugins.parley")

LAST_WORDS_S = 0.4
"""From the last sample sent to the last one heard: network and jitter buffer."""

HAND_OVER = "parley.hand_over"
"""Attribute of the agent: to whom the call goes."""


class Call:
    """One job of the worker."""

    def __init__(
        self, ctx: JobContext, session: AgentSession[Any], model: FullDuplex, settings: Settings
    ) -> None:
        self._ctx = ctx
        self._session = session
        self._settings = settings
        self._journal = self._open_journal()
        self._goodbye: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        model.observers.append(self._on_event)

    async def begin(self, agent: Agent) -> None:
        room = self._ctx.room
        room.on("participant_disconnected", self._on_left)
        room.on("participant_connected", self._on_came)
        await start(self._session, agent, room=room)
        if self._settings.greet:
            await self._ctx.wait_for_participant()
            self._session.generate_reply()

    async def aclose(self) -> None:
        if self._goodbye is not None:
            self._goodbye.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._journal is not None:
            self._journal.close()

    # --- the caller comes and goes -------------------------------------------------------------

    def _on_left(self, _: rtc.RemoteParticipant) -> None:
        if self._ctx.room.remote_participants or self._goodbye is not None:
            return
        logger.info("the caller is gone; waiting %.0f s", self._settings.rejoin_s)
        loop = asyncio.get_running_loop()
        self._goodbye = loop.call_later(self._settings.rejoin_s, self._give_up)

    def _on_came(self, _: rtc.RemoteParticipant) -> None:
        if self._goodbye is not None:
            self._goodbye.cancel()
            self._goodbye = None

    def _give_up(self) -> None:
        self._ctx.shutdown(reason="the caller did not come back")

    # --- the flow ends the call ----------------------------------------------------------------

    def _on_event(self, _: FullDuplexSession, event: ev.EngineEvent) -> None:
        if self._journal is not None:
            self._journal.note(event)
        match event:
            case ev.HungUp():
                self._own(self._hang_up())
            case ev.HandedOver(to=to):
                self._own(self._hand_over(to))
            case _:
                pass

    async def _hang_up(self) -> None:
        await asyncio.sleep(LAST_WORDS_S)  # the words are on their way; there is nothing to await
        await self._ctx.delete_room()
        self._ctx.shutdown(reason="the conversation is over")

    async def _hand_over(self, to: str) -> None:
        """A telephone caller is transferred where ``to`` is a number; in a room, the agent says
        to whom the caller goes (its attribute ``parley.hand_over``) and leaves them the room."""
        await asyncio.sleep(LAST_WORDS_S)
        caller = self._telephone_caller()
        if caller is not None and to.startswith(("tel:", "sip:")):
            await self._ctx.transfer_sip_participant(caller, to)
        else:
            await self._ctx.room.local_participant.set_attributes({HAND_OVER: to})
        self._ctx.shutdown(reason=f"handed over to {to}")

    def _telephone_caller(self) -> rtc.RemoteParticipant | None:
        kind = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
        callers = self._ctx.room.remote_participants.values()
        return next((p for p in callers if p.kind == kind), None)

    def _own(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine, name="parley-call")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the call could not be ended properly", exc_info=task.exception())

    def _open_journal(self) -> Journal | None:
        folder = self._settings.journal_dir
        return None if folder is None else Journal(Path(folder) / f"{self._ctx.room.name}.jsonl")
