"""A bad network: a relay that loses, delays and jitters datagrams between a caller and a server.

    caller ── 127.0.0.1:port (the caller's network) ── relay ── 127.0.0.1:port (ours) ── server

Media (UDP) suffers what `Impairment` says, in each direction on its own; signalling (TCP) passes as
it is, as a lost segment there would only be sent again. What becomes of a packet is drawn from a
seeded generator, packet by packet, so that a run can be had again. Packets do not overtake each
other: a packet that is held up holds up those behind it, as a queue in a router does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

Address = tuple[str, int]
MAX_DATAGRAM = 65_536
MOST_UNDER_WAY = 5_000
"""Packets that are held at one time; more are lost, as in any router."""
BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class Impairment:
    """Of each direction."""

    loss: float = 0.0
    """Share of the packets that are lost, 0 to 1."""
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    """Up to so much more, evenly distributed."""

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1 or self.delay_ms < 0 or self.jitter_ms < 0:
            raise ValueError(
                f"loss {self.loss:g}, delay {self.delay_ms:g} ms, jitter {self.jitter_ms:g} ms: "
                "expected a loss of 0 up to 1 and times from 0 on"
            )


class Fate:
    """What becomes of one direction's packets."""

    def __init__(self, impairment: Impairment, seed: int) -> None:
        self._impairment = impairment
        self._draw = random.Random(seed)
        self._last = float("-inf")
        self.given = 0
        self.lost = 0

    def due(self, now_s: float) -> float | None:
        """When a packet that came now leaves; None: never."""
        self.given += 1
        lost = self._draw.random() < self._impairment.loss
        held_ms = self._impairment.delay_ms + self._draw.random() * self._impairment.jitter_ms
        if lost:
            self.lost += 1
            return None
        # Later than the one before by as little as there is: what is due at once is swapped.
        self._last = max(math.nextafter(self._last, math.inf), now_s + held_ms / 1000)
        return self._last


class Sockets:
    """Sockets that were made where the server is; the caller's network cannot make them any more.

    Bounded: a relay takes one for every address of a caller, and for every TCP connection.
    """

    def __init__(self, udp: list[socket.socket], tcp: list[socket.socket]) -> None:
        self._udp, self._tcp = udp, tcp

    @classmethod
    def make(cls, count: int = 64) -> Sockets:
        return cls(*([socket.socket(socket.AF_INET, kind) for _ in range(count)] for kind in KINDS))

    def udp(self) -> socket.socket:
        return _one_of(self._udp)

    def tcp(self) -> socket.socket:
        return _one_of(self._tcp)

    def close(self) -> None:
        for one in (*self._udp, *self._tcp):
            one.close()


KINDS = (socket.SOCK_DGRAM, socket.SOCK_STREAM)


def _one_of(sockets: list[socket.socket]) -> socket.socket:
    if not sockets:
        raise RuntimeError("the relay has used up the sockets that it was given")
    found = sockets.pop()
    found.setblocking(False)
    return found


class UdpRelay:
    """Datagrams of any number of callers to one server, and back. Runs on an event loop between
    `open` and `close`."""

    def __init__(
        self, listen: Address, server: Address, outside: Sockets, up: Fate, down: Fate
    ) -> None:
        self.up, self.down = up, down
        self._server = server
        self._outside = outside
        self._inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inner.setblocking(False)
        try:
            self._inner.bind(listen)
        except OSError:
            self._inner.close()
            raise
        self._ways: dict[Address, socket.socket] = {}
        self._under_way: set[asyncio.TimerHandle] = set()

    @property
    def address(self) -> Address:
        found: Address = self._inner.getsockname()
        return found

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._inner, self._from_callers)

    def close(self) -> None:
        """What is under way is lost."""
        loop = asyncio.get_running_loop()
        for handle in self._under_way:
            handle.cancel()
        self._under_way.clear()
        for one in (self._inner, *self._ways.values()):
            loop.remove_reader(one)
            one.close()

    def _from_callers(self) -> None:
        for data, caller in _datagrams(self._inner):
            way = self._ways.get(caller)
            if way is None:
                way = self._ways[caller] = self._outside.udp()
                way.connect(self._server)
                asyncio.get_running_loop().add_reader(way, self._from_server, caller, way)
            self._hold(self.up, _sender(way, data))

    def _from_server(self, caller: Address, way: socket.socket) -> None:
        for data, _ in _datagrams(way):
            self._hold(self.down, _sender(self._inner, data, caller))

    def _hold(self, fate: Fate, send: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        due = fate.due(loop.time())
        if due is None or len(self._under_way) >= MOST_UNDER_WAY:
            return

        def go() -> None:
            self._under_way.discard(handle)
            send()

        handle = loop.call_at(due, go)
        self._under_way.add(handle)


def _datagrams(one: socket.socket) -> list[tuple[bytes, Address]]:
    found = []
    with contextlib.suppress(BlockingIOError, ConnectionRefusedError):  # nobody listens there yet
        while True:
            found.append(one.recvfrom(MAX_DATAGRAM))
    return found


def _sender(one: socket.socket, data: bytes, to: Address | None = None) -> Callable[[], None]:
    def send() -> None:
        # A full buffer or a closed port loses a datagram, as everywhere.
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            one.send(data) if to is None else one.sendto(data, to)

    return send


# --- signalling -----------------------------------------------------------------------------------


@asynccontextmanager
async def tcp_relay(listen: Address, server: Address, outside: Sockets) -> AsyncIterator[Address]:
    """TCP connections to ``listen`` go on to ``server``, unharmed. Gives where it listens."""
    passing: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        passing.add(task)
        try:
            await _pass(reader, writer, server, outside.tcp())
        except OSError:
            writer.close()  # the server is gone: so is the connection
        finally:
            passing.discard(task)

    listening = await asyncio.start_server(serve, *listen)
    try:
        yield listening.sockets[0].getsockname()
    finally:
        listening.close()
        for task in tuple(passing):
            task.cancel()
        await asyncio.gather(*tuple(passing), return_exceptions=True)


async def _pass(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    server: Address,
    onward: socket.socket,
) -> None:
    await asyncio.get_running_loop().sock_connect(onward, server)
    far_reader, far_writer = await asyncio.open_connection(sock=onward)
    try:
        ways = ((reader, far_writer), (far_reader, writer))
        copying = [asyncio.create_task(_copy(*way), name="relay") for way in ways]
        try:
            await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in copying:
                task.cancel()
            await asyncio.gather(*copying, return_exceptions=True)
    finally:
        far_writer.close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(BLOCK):
        writer.write(data)
        await writer.drain()
