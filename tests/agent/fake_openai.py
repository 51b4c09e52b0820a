"""An HTTP server that answers chat completions as a test tells it, faults included.

Written on plain sockets, since the faults are of the kind that HTTP frameworks prevent: a status
line without a body, half an event, a reset in mid-sentence, silence.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Exchange:
    """One request, and the means to answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """The client has closed the connection."""

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, kind: str = "text/event-stream", **more: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def json(self, status: int, body: object, **more: str) -> None:
        await self.head(status, "application/json", **more)
        await self.raw(json.dumps(body).encode())

    async def event(self, chunk: object) -> None:
        data = chunk if isinstance(chunk, str) else json.dumps(chunk)
        await self.raw(f"data: {data}\n\n".encode())

    async def say(self, *texts: str) -> None:
        for text in texts:
            await self.event(delta(content=text))

    async def end(self, reason: str = "stop") -> None:
        await self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        await self.event("[DONE]")

    def reset(self) -> None:
        """The connection dies without a goodbye (RST)."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


def delta(**fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def call_delta(index: int | None = 0, **fields: Any) -> dict[str, object]:
    """A fragment of a tool call; name and arguments go into its function."""
    function = {key: fields.pop(key) for key in ("name", "arguments") if key in fields}
    place = {} if index is None else {"index": index}
    return delta(tool_calls=[{**place, **fields, "function": function}])


async def answer(exchange: Exchange) -> None:
    """What a healthy server does."""
    await exchange.head()
    await exchange.say("Good", " morning.")
    await exchange.end()


class FakeOpenAI:
    """Answers the n-th completion with the n-th behaviour; the last one serves for the rest."""

    def __init__(self, *behaviours: Behaviour, models: object = None):
        self.behaviours = list(behaviours or (answer,))
        self.models: object = models or {"object": "list", "data": [{"id": "tiny"}]}
        self.models_status = 200
        self.completions: list[Exchange] = []
        self.url = ""
        self.asked = asyncio.Event()
        """A completion was asked for."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._exchange(reader, writer)
        except* (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, which is what many tests are about
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        body = json.loads(content) if content else {}
        exchange = Exchange(method, path, headers, body, writer, reader)
        if path.endswith("/models"):
            await exchange.json(self.models_status, self.models)
            return
        self.completions.append(exchange)
        self.asked.set()
        behaviour = self.behaviours[min(len(self.completions), len(self.behaviours)) - 1]
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch(exchange))
            await behaviour(exchange)
            watch.cancel()

    async def _watch(self, exchange: Exchange) -> None:
        try:
            while await exchange.reader.read(1024):
                pass
        except ConnectionError:
            pass
        exchange.gone.set()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def fake_openai(*behaviours: Behaviour, models: object = None) -> AsyncIterator[FakeOpenAI]:
    fake = FakeOpenAI(*behaviours, models=models)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fake.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield fake
    finally:
        server.close()
        await fake.close()
