"""One speech server, kept connected: its WebSocket carries all our utterances there.

A lost connection is made anew, at once and then ever more slowly. Utterances that were on it are
told so and never come back to it: they go on elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from parley_speech.remote.errors import SourceLost
from parley_speech.remote.utterance import AHEAD_MS, RemoteUtterance
from parley_speech.server import protocol as wire

logger = logging.getLogger("parley_speech.remote")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0
CONNECT_S = 3.0
PING_S = 5.0
"""A server that answers no ping for so long is gone."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How our utterances are to be spoken."""

    voice: str = ""
    speed: float = 1.0
    instructions: str = ""
    stall_s: float = 5.0


class Replica:
    """Owns the task that keeps the connection. ``start`` before use, ``aclose`` at the end."""

    def __init__(
        self, url: str, token: str | None, manner: Manner, on_change: Callable[[], None]
    ) -> None:
        self.url = url
        self.problem = "not connected yet"
        """Why it is not connected, as of the last attempt."""
        self.refused = False
        """It does not let us in, or does not have the voice: no use to wait."""
        self.ready = False
        """Connected, and not about to stop."""
        self.tried = asyncio.Event()
        """One attempt to connect has ended, well or not."""
        self.since = 0.0
        """When it was connected last (time.monotonic)."""
        self._token = token
        self._manner = manner
        self._on_change = on_change
        self._free_at = 0.0  # when it said that a slot may be free
        self._next_id = 0  # grows over all connections: an id never means two utterances
        self._utterances: dict[int, RemoteUtterance] = {}
        self._due: dict[int, RemoteUtterance] = {}
        self._something_due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Idempotent."""
        if self._task is None:
            self.tried.clear()
            self._task = asyncio.create_task(self._keep(), name=f"replica {self.url}")

    async def aclose(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    # --- utterances ---------------------------------------------------------------------------

    @property
    def load(self) -> int:
        return len(self._utterances)

    @property
    def busy_s(self) -> float:
        """How long it asked us not to come."""
        return max(0.0, self._free_at - time.monotonic())

    def is_busy(self, retry_s: float) -> None:
        self._free_at = time.monotonic() + retry_s

    def stream(self) -> RemoteUtterance:
        """Raises SourceLost."""
        if not self.ready:
            raise SourceLost(f"{self.url}: {self.problem}")
        request = wire.Open(
            id=self._next_id,
            voice=self._manner.voice,
            speed=self._manner.speed,
            instructions=self._manner.instructions,
            pace="taken",
            ahead_ms=AHEAD_MS,
            opened=False,
        )
        self._next_id += 1
        utterance = RemoteUtterance(request, stall_s=self._manner.stall_s, wake=self._is_due)
        self._utterances[utterance.id] = utterance
        return utterance

    def _is_due(self, utterance: RemoteUtterance) -> None:
        self._due[utterance.id] = utterance
        self._something_due.set()

    # --- the connection -----------------------------------------------------------------------

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._one_life()
                pause_s = FIRST_PAUSE_S
            except _NotConnected as error:
                self._report(str(error))
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
            finally:
                self.tried.set()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("speech server %s: %s", self.url, problem)
        self.problem = problem

    async def _one_life(self) -> None:
        """Connects, and returns when a connection that was good is lost."""
        async with self._connected() as socket:
            hello = await self._hello(socket)
            if self._manner.voice and self._manner.voice not in hello.voices:
                self.refused = True
                has = ", ".join(hello.voices)
                raise _NotConnected(f"it has no voice {self._manner.voice!r}; it has: {has}")
            self._begin()
            writing = asyncio.create_task(self._write(socket), name=f"writing {self.url}")
            try:
                problem = await self._read(socket)
            finally:
                writing.cancel()
                self._end()
                await asyncio.wait({writing})
            self._report(problem)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection]:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            socket = await connect(
                self.url,
                subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
                additional_headers=headers,
                compression=None,
                proxy=None,
                open_timeout=CONNECT_S,
                ping_interval=PING_S,
                ping_timeout=PING_S,
                close_timeout=1.0,
                max_size=wire.MAX_MESSAGE_BYTES,
            )
        except InvalidStatus as error:
            self.refused = error.response.status_code in {401, 403, 404}
            raise _NotConnected(_told(error)) from error
        except (OSError, WebSocketException, TimeoutError) as error:
            raise _NotConnected(f"cannot be reached: {error or type(error).__name__}") from error
        try:
            yield socket
        finally:
            await socket.close()

    async def _hello(self, socket: ClientConnection) -> wire.Hello:
        try:
            async with asyncio.timeout(CONNECT_S):
                hello = wire.read_server(await socket.recv())
        except (WebSocketException, TimeoutError, wire.ProtocolError) as error:
            raise _NotConnected(f"it said no hello: {error}") from error
        if not isinstance(hello, wire.Hello) or hello.version != wire.VERSION:
            raise _NotConnected(f"it does not speak version {wire.VERSION} of the protocol")
        return hello

    def _begin(self) -> None:
        self.problem = ""
        self.refused = False
        self._free_at = 0.0
        self.since = time.monotonic()
        self.ready = True
        self.tried.set()
        self._on_change()

    def _end(self) -> None:
        self.ready = False
        lost = SourceLost(f"{self.url}: the connection to the speech server was lost")
        for utterance in self._utterances.values():
            utterance.lose(lost)
        self._utterances.clear()
        self._due.clear()

    async def _read(self, socket: ClientConnection) -> str:
        """Gives why it ended."""
        try:
            async for data in socket:
                self._receive(wire.read_server(data))
        except wire.ProtocolError as error:
            return f"it broke the protocol: {error}"
        except (OSError, WebSocketException) as error:
            return f"connection lost: {error or type(error).__name__}"
        return "it closed the connection"

    def _receive(self, message: wire.ServerMessage) -> None:
        if isinstance(message, wire.Draining):
            self.ready = False  # what runs is finished
            self.problem = "it is about to stop"
        elif isinstance(message, wire.Error) and message.id is None:
            raise wire.ProtocolError(f"it says that we broke it: {message.message}")
        elif not isinstance(message, wire.Hello | wire.Stats):
            assert message.id is not None
            self._deliver(message.id, message)

    def _deliver(self, number: int, message: wire.ServerMessage) -> None:
        utterance = self._utterances.get(number)
        if utterance is None:
            return  # it was given up, and this crossed with the news
        utterance.receive(message)
        if utterance.over:
            del self._utterances[number]

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                await self._something_due.wait()
                self._something_due.clear()
                due, self._due = self._due, {}
                for utterance in due.values():
                    for message in utterance.outgoing():
                        await socket.send(message)
                    if utterance.over:
                        self._utterances.pop(utterance.id, None)
        except (OSError, WebSocketException):
            pass  # the reader learns of it too, and says why


class _NotConnected(Exception):
    """An attempt to connect has failed."""


def _told(error: InvalidStatus) -> str:
    status = error.response.status_code
    if status == 401:
        return "it does not let us in: set PARLEY_SPEECH_TOKEN to its access token"
    return f"it answered with HTTP status {status}: is it a speech server of Parley?"
