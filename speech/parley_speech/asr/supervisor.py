"""One child process and its supervision: started, listened to, replaced when it dies or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import parley_speech
from parley_speech.asr import wire
from parley_speech.asr.wire import Kind
from parley_speech.types import EngineUnavailable

logger = logging.getLogger(__name__)

START_S = 60.0
"""Longest wait for a child's models, on a very busy machine."""
HANG_S = 15.0
"""A child that owes something and says nothing for so long is replaced."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Before a child is replaced; doubles from one death to the next, until one became ready."""
READ_BYTES = 65536


class Client(Protocol):
    """What a worker knows of a stream."""

    @property
    def waiting(self) -> bool:
        """The child owes this stream something."""
        ...

    def attach(self) -> None:
        """A child is ready that knows nothing of this stream."""
        ...

    def detach(self) -> None:
        """The child has died."""
        ...

    def receive(self, message: wire.Message) -> None: ...


class Worker:
    """Keeps one child running until it is closed."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = json.dumps(options)
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._pause_s = FIRST_PAUSE_S
        self._next = 0
        self.clients: dict[int, Client] = {}
        self.ready = False
        """A child runs that has loaded its models."""
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Returns when the child is ready. Raises EngineUnavailable if it cannot be."""
        self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._supervise(), name="recogniser-child")
        await asyncio.shield(self._first)

    async def aclose(self) -> None:
        """Ends the child; streams that are still open get nothing more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._first is not None and not self._first.done():
            self._first.cancel()

    # --- streams -------------------------------------------------------------------------------

    def join(self, client: Client) -> int:
        """The number of a new stream. Its ``attach`` is called for every child that is ready from
        now on; if one is ready already, the stream does that itself."""
        number = self._next
        self._next += 1
        self.clients[number] = client
        return number

    def leave(self, number: int) -> None:
        del self.clients[number]
        self.send(wire.encode(Kind.CLOSE, number))

    def send(self, data: bytes) -> None:
        """Nothing happens without a child: the next one is told everything by ``attach``."""
        if self.ready and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(data)

    # --- supervision ---------------------------------------------------------------------------

    async def _supervise(self) -> None:
        while True:
            try:
                problem = await self._one_life()
            except OSError as error:
                problem = f"it could not be started: {error}"
            if self._first is not None and not self._first.done():
                self._first.set_exception(EngineUnavailable(f"the recogniser's child: {problem}"))
                return
            self.restarts += 1
            logger.error("the recogniser's child has to be replaced: %s", problem)
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    async def _one_life(self) -> str:
        """Starts a child and listens to it until it dies. Gives the cause."""
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "parley_speech.asr.child",
            self._options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(),
        )
        try:
            return await self._listen(process)
        finally:
            self.ready = False
            self._process = None
            await _end(process)
            for client in self.clients.values():
                client.detach()

    async def _listen(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        reader = wire.Reader()
        problem = ""
        while True:
            try:
                async with asyncio.timeout(HANG_S if self.ready else START_S):
                    data = await process.stdout.read(READ_BYTES)
            except TimeoutError:
                if not self.ready or any(c.waiting for c in self.clients.values()):
                    return "it hung"
                continue
            if not data:
                return problem or f"it ended with status {await process.wait()}"
            for message in reader.feed(data):
                problem = self._receive(message) or problem

    def _receive(self, message: wire.Message) -> str:
        """Gives what the child said before it gave up, if it did."""
        if message.kind is Kind.READY:
            self._on_ready()
        elif message.kind is Kind.PROBLEM and not self.ready:
            return str(message.fields["message"])
        elif message.stream in self.clients:  # not one that has left
            self.clients[message.stream].receive(message)
        return ""

    def _on_ready(self) -> None:
        self.ready = True
        self._pause_s = FIRST_PAUSE_S
        for client in self.clients.values():
            client.attach()
        if self._first is not None and not self._first.done():
            self._first.set_result(None)


def _environment() -> dict[str, str]:
    """The child finds this package where the parent found it."""
    root = str(Path(parley_speech.__file__).parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills and reaps; a child has nothing to save."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
