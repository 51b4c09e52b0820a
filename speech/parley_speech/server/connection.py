"""One WebSocket: reads its messages, owns its utterances, gives each its turn to send.

What a client sends ends its own connection at worst. Garbage closes it; a wrong value ends the
utterance that it belongs to.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from parley_speech.server import protocol as wire
from parley_speech.server.catalogue import UnknownVoice
from parley_speech.server.failures import ClientGone
from parley_speech.server.outlet import FIRST, Outlet
from parley_speech.server.utterance import Services, Utterance

logger = logging.getLogger("parley_speech.server")

MAX_UTTERANCES = 256
"""Of one connection at one time, those that wait for a slot included."""
STALLED_S = 20.0
"""A client that reads nothing for so long is let go."""


class Connection:
    """Serves one accepted WebSocket until it is closed."""

    def __init__(self, socket: WebSocket, services: Services) -> None:
        self._socket = socket
        self._services = services
        self._outlet = Outlet()
        self._utterances: dict[int, Utterance] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._newest = -1
        self._broken = asyncio.Event()
        """It takes no more messages; everything that waits for it should stop."""

    async def serve(self) -> None:
        self._services.metrics.connections.inc()
        conversing = asyncio.create_task(self._converse(), name="conversing")
        breaking = asyncio.create_task(self._broken.wait(), name="breaking")
        both: set[asyncio.Task[Any]] = {conversing, breaking}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._broken.set()
            conversing.cancel()
            self._services.metrics.connections.dec()
            for utterance in list(self._utterances.values()):
                utterance.abandon()
            await asyncio.wait(both | self._tasks)
        if not conversing.cancelled() and (error := conversing.exception()) is not None:
            raise error

    async def drain(self) -> None:
        """Tells the client that nothing new will be begun."""
        try:
            await self._answer(wire.Draining())
        except ClientGone:
            logger.debug("a client left while the server drained")

    async def _converse(self) -> None:
        hello = wire.Hello(
            voices=self._services.catalogue.names, max_text_chars=self._services.max_chars
        )
        try:
            await self._answer(hello)
            while (data := await self._receive()) is not None:
                await self._take(wire.read_client(data))
        except wire.ProtocolError as error:
            logger.warning("a client broke the protocol: %s", error.message)
            await self._answer(wire.Error(code="bad_message", message=error.message))
            await self._close(wire.BAD_MESSAGE, "bad_message")
        except ClientGone:
            logger.debug("a client left")

    async def _receive(self) -> str | bytes | None:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    # --- what the client says -----------------------------------------------------------------

    async def _take(self, message: wire.ClientMessage) -> None:
        if isinstance(message, wire.AskStats):
            await self._answer(self._stats())
        elif isinstance(message, wire.Open):
            await self._open(message)
        elif message.id > self._newest:
            raise wire.ProtocolError(f"{message.type} for an utterance that was never opened")
        elif (utterance := self._utterances.get(message.id)) is not None:
            self._tell(utterance, message)
        # else it has ended, and this message crossed with the news

    def _tell(
        self,
        utterance: Utterance,
        message: wire.Text | wire.Flush | wire.End | wire.Cancel | wire.Taken,
    ) -> None:
        match message:
            case wire.Text(text=text):
                utterance.push(text)
            case wire.Flush():
                utterance.flush()
            case wire.End():
                utterance.end()
            case wire.Cancel():
                utterance.cancel()
            case wire.Taken(samples=samples):
                utterance.take(samples)

    async def _open(self, request: wire.Open) -> None:
        if request.id <= self._newest:
            raise wire.ProtocolError("open: ids only grow within a connection")
        self._newest = request.id
        refusal = self._refusal(request)
        if refusal is not None:
            await self._answer(refusal)
            return
        utterance = Utterance(request, self._services, self._send)
        self._utterances[utterance.id] = utterance
        task = utterance.start()
        if request.text:
            utterance.push(request.text)
        if request.end:
            utterance.end()
        utterance.begin()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._utterances.pop(utterance.id, None))

    def _refusal(self, request: wire.Open) -> wire.Error | wire.Busy | None:
        if len(self._utterances) >= MAX_UTTERANCES:
            return wire.Busy(id=request.id, retry_ms=1000, reason="full")
        if request.rate_hz not in wire.RATES_HZ:
            rates = ", ".join(map(str, wire.RATES_HZ))
            said = f"rate_hz is {request.rate_hz}, expected one of {rates}"
            return wire.Error(id=request.id, code="bad_request", message=said)
        try:
            self._services.catalogue.takes(request.voice)
        except UnknownVoice as error:
            return wire.Error(id=request.id, code="unknown_voice", message=str(error))
        return None

    def _stats(self) -> wire.Stats:
        admission = self._services.admission
        return wire.Stats(
            speaking=admission.speaking,
            slots=admission.slots,
            waiting=admission.waiting,
            draining=admission.closed == "draining",
        )

    # --- sending ------------------------------------------------------------------------------

    async def _answer(self, message: wire.Plain) -> None:
        await self._send(wire.text_of(message), FIRST)

    async def _send(self, data: str | bytes, deadline: float) -> None:
        """Raises ClientGone, also for a client that does not read."""
        async with self._outlet.turn(deadline):
            if self._broken.is_set():
                raise ClientGone
            stalling = asyncio.get_running_loop().call_later(STALLED_S, self._broken.set)
            try:
                if isinstance(data, str):
                    await self._socket.send_text(data)
                else:
                    await self._socket.send_bytes(data)
            except (WebSocketDisconnect, RuntimeError) as error:
                self._broken.set()
                raise ClientGone from error
            finally:
                stalling.cancel()

    async def _close(self, code: int, reason: str) -> None:
        async with self._outlet.turn():
            self._broken.set()
            try:
                await self._socket.close(code, reason)
            except (WebSocketDisconnect, RuntimeError) as error:
                raise ClientGone from error
