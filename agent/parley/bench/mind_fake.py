"""A language model of exactly 200 ms: it speaks vLLM's protocol and has one answer.

For figures about *when* things are asked, a model whose time is known says more than a real one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FIRST_S = 0.2
BETWEEN_S = 0.02
"""50 tokens a second, about what a model of 8 B parameters gives one of a few callers."""
_TEXT = (
    "Let me have a look at that for you . It will only take a moment , and then I can tell you "
    "more about it ."
)
ANSWER = _TEXT.split()


class FakeModel:
    """Counts what it was asked for and what it gave."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0
        self.tokens = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the reply was thrown away
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if "/models" in head:
            models = {"data": [{"id": "fake", "owned_by": "vllm", "max_model_len": 8192}]}
            writer.write(_head("application/json") + json.dumps(models).encode())
            await writer.drain()
            return
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        self.asked += 1
        writer.write(_head("text/event-stream"))
        await writer.drain()
        gone = asyncio.create_task(reader.read(1))  # gives b"" when the client closes
        try:
            await self._stream(writer, body["max_tokens"], _continues(body), gone)
        finally:
            gone.cancel()

    async def _stream(
        self, writer: asyncio.StreamWriter, most: int, after: int, gone: asyncio.Task[bytes]
    ) -> None:
        words = ANSWER[after:]
        loop = asyncio.get_running_loop()
        due = loop.time() + FIRST_S
        for n, word in enumerate(words[:most], 1):
            await asyncio.wait({gone}, timeout=max(0.0, due - loop.time()))
            if gone.done():
                return
            self.tokens += 1
            writer.write(_chunk({"content": f"{word} "}, None, n))
            await writer.drain()
            due += BETWEEN_S
        reason = "length" if most < len(words) else "stop"
        writer.write(_chunk({}, reason, min(most, len(words))) + b"data: [DONE]\n\n")
        await writer.drain()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def fake_model() -> AsyncIterator[FakeModel]:
    fake = FakeModel()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield fake
    finally:
        server.close()
        await fake.close()


def _continues(body: dict[str, object]) -> int:
    """Words of the answer that were given before."""
    messages = body["messages"]
    if not body.get("continue_final_message") or not isinstance(messages, list):
        return 0
    return len(str(messages[-1]["content"]).split())


def _head(kind: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode()


def _chunk(delta: dict[str, str], reason: str | None, tokens: int) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    usage = {"prompt_tokens": 100, "completion_tokens": tokens}
    return f"data: {json.dumps({'choices': [choice], 'usage': usage})}\n\n".encode()
