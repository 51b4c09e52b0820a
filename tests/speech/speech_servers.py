"""Speech servers for tests: one in this event loop with any voices, one as a real process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from parley_speech.server import protocol as wire
from parley_speech.server.app import SpeechService
from parley_speech.server.catalogue import Catalogue
from parley_speech.server.main import READY, address_of, listen, uvicorn_config
from parley_speech.server.settings import ServerSettings
from parley_speech.types import Synthesizer

LONG_S = 20.0
"""Nothing here takes so long, however busy the machine is."""


@dataclass
class InLoop:
    """A server of this event loop."""

    url: str
    service: SpeechService
    uvicorn: uvicorn.Server

    def break_connections(self) -> None:
        """As if the machine had lost its power."""
        for connection in list(self.uvicorn.server_state.connections):
            connection.transport.abort()


@asynccontextmanager
async def serving(
    voices: Mapping[str, Synthesizer], *tokens: str, load: bool = True, **settings: Any
) -> AsyncIterator[InLoop]:
    configured = ServerSettings(host="127.0.0.1", port=0, **settings)
    service = SpeechService(configured, Catalogue(voices))
    listener = listen("127.0.0.1", 0)
    server = _Uvicorn(uvicorn_config(configured, service, tokens))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        if load:
            await service.load()
        yield InLoop(address_of("127.0.0.1", listener), service, server)
    finally:
        server.should_exit = server.force_exit = True
        await task
        await service.aclose()


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield  # they are pytest's


@dataclass
class Heard:
    """What came of one utterance."""

    opened: wire.Opened | None = None
    words: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    audio: list[wire.Audio] = field(default_factory=list)
    last: wire.Done | wire.Cancelled | wire.Busy | wire.Error | None = None

    @property
    def samples(self) -> int:
        return sum(len(audio.pcm) for audio in self.audio)


class Talk:
    """A client that speaks the protocol by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: dict[int, Heard] = {}
        self.other: list[wire.ServerMessage] = []
        self._texts: dict[int, str] = {}

    async def send(self, *messages: wire.ClientMessage) -> None:
        for message in messages:
            if isinstance(message, wire.Text | wire.Open):
                self._texts[message.id] = self._texts.get(message.id, "") + message.text
            await self.socket.send(wire.text_of(message))

    async def say(self, number: int, text: str, **options: Any) -> None:
        await self.send(
            wire.Open(id=number, **options), wire.Text(id=number, text=text), wire.End(id=number)
        )

    async def hear(self) -> wire.ServerMessage:
        async with asyncio.timeout(LONG_S):
            message = wire.read_server(await self.socket.recv())
        match message:
            case wire.Audio():
                self.of(message.id).audio.append(message)
                text = self._texts[message.id]
                self.of(message.id).words += [
                    (text[m.char_start : m.char_end], m.char_start, m.char_end, m.start, m.end)
                    for m in message.marks
                ]
            case wire.Opened():
                self.of(message.id).opened = message
            case wire.Done() | wire.Cancelled() | wire.Busy():
                self.of(message.id).last = message
            case wire.Error(id=int(number)):
                self.of(number).last = message
            case _:
                self.other.append(message)
        return message

    def of(self, number: int) -> Heard:
        return self.heard.setdefault(number, Heard())

    async def until_last(self, *numbers: int) -> Heard:
        """Until these utterances have ended; gives the first of them."""
        while any(self.of(number).last is None for number in numbers):
            await self.hear()
        return self.of(numbers[0])

    async def until_samples(self, number: int, samples: int) -> Heard:
        while self.of(number).samples < samples:
            await self.hear()
        return self.of(number)


@asynccontextmanager
async def talking(url: str, token: str | None = None) -> AsyncIterator[Talk]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = url.replace("http", "ws", 1) + wire.PATH
    async with connect(
        address,
        subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
        additional_headers=headers,
        compression=None,
        proxy=None,
        close_timeout=1,
    ) as socket:
        talk = Talk(socket)
        assert isinstance(await talk.hear(), wire.Hello)
        yield talk


async def until(true: Any) -> None:
    """Until a condition holds that nothing announces."""
    async with asyncio.timeout(LONG_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


# --- a real process -------------------------------------------------------------------------------

TOKEN = "a-token-for-the-tests"


class Process:
    """``parley-speech serve`` with the embedded voice."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.url = ""
        self.lines: list[str] = []
        """Of standard output and error, as far as they were read."""
        self._arguments = arguments
        self._environment = {"PARLEY_SPEECH_TOKENS": TOKEN, **environment}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Process:
        await self.start()
        return self

    async def start(self, port: int = 0) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "parley_speech.server.main", "serve", "--port", str(port),
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self._environment},
        )  # fmt: skip
        async with asyncio.timeout(60):
            while not self.url or port:
                line = await self._line()
                if line.startswith(READY):
                    self.url = line.removeprefix(READY).strip()
                    return

    async def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        assert line, f"the server ended: {self.lines}"
        self.lines.append(line)
        return line

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    async def ended(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(LONG_S):
            rest = (await self._process.stdout.read()).decode()
            self.lines += rest.splitlines(keepends=True)
            return await self._process.wait()

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self.ended()
