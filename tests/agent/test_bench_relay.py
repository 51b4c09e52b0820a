"""The relay: what it loses, holds up and passes, measured on its own packets."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from parley.bench.own_network import NO_NETWORK
from parley.bench.relay import Fate, Impairment, Sockets, UdpRelay, tcp_relay

BAD = Impairment(loss=0.2, delay_ms=30, jitter_ms=20)
LOOPBACK = ("127.0.0.1", 0)

# --- a packet's fate ------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_fates() -> None:
    first, again, other = (Fate(BAD, seed) for seed in (1, 1, 2))
    times = [n * 0.02 for n in range(500)]
    fates = [[fate.due(at) for at in times] for fate in (first, again, other)]
    assert fates[0] == fates[1] != fates[2]


def test_losses_and_delays_are_those_that_were_asked_for() -> None:
    fate = Fate(BAD, 7)
    times = [n * 0.1 for n in range(20_000)]  # so far apart that none waits for another
    held = [due - at for at in times if (due := fate.due(at)) is not None]
    assert fate.given == 20_000
    assert fate.lost / fate.given == pytest.approx(0.2, abs=0.01)
    assert min(held) == pytest.approx(0.030, abs=0.0005)
    assert max(held) == pytest.approx(0.050, abs=0.0005)
    assert sum(held) / len(held) == pytest.approx(0.040, abs=0.0005)


def test_packets_do_not_overtake_each_other() -> None:
    fate = Fate(Impairment(jitter_ms=500), 3)
    due = [fate.due(n * 0.02) for n in range(2000)]
    assert due == sorted(due)  # type: ignore[type-var]


@pytest.mark.parametrize("wrong", [(1.0, 0, 0), (-0.1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_an_impossible_network_is_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected a loss of 0 up to 1"):
        Impairment(*wrong)


# --- datagrams ------------------------------------------------------------------------------------


class Server(asyncio.DatagramProtocol):
    """Answers each datagram with itself, and keeps when it came."""

    def __init__(self) -> None:
        self.came: list[tuple[bytes, float]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str | object, int]) -> None:
        self.came.append((data, time.monotonic()))
        self._transport.sendto(data, address)


class Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: list[bytes] = []

    def datagram_received(self, data: bytes, _: object) -> None:
        self.came.append(data)


@asynccontextmanager
async def relayed(up: Fate, down: Fate, count: int = 4) -> AsyncIterator[tuple[Server, UdpRelay]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(Server, LOOPBACK)
    outside = Sockets.make(count)
    relay = UdpRelay(LOOPBACK, transport.get_extra_info("sockname"), outside, up, down)
    relay.open()
    try:
        yield server, relay
    finally:
        relay.close()
        outside.close()
        transport.close()


async def client(relay: UdpRelay) -> tuple[asyncio.DatagramTransport, Client]:
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(Client, remote_addr=relay.address)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - packets tell nobody that they came
            await asyncio.sleep(0.01)


async def test_what_arrives_is_what_was_not_lost_in_order_and_never_too_early() -> None:
    up, down = Fate(BAD, 1), Fate(BAD, 2)
    async with relayed(up, down) as (server, relay):
        transport, heard = await client(relay)
        sent: dict[bytes, float] = {}
        for number in range(200):
            data = number.to_bytes(2, "big")
            sent[data] = time.monotonic()
            transport.sendto(data)
            await asyncio.sleep(0)
        await until(lambda: up.given == 200)
        await until(lambda: len(server.came) == 200 - up.lost)
        await until(lambda: down.given == len(server.came))
        await until(lambda: len(heard.came) == down.given - down.lost)
        transport.close()
    assert up.lost > 10 and down.lost > 10
    names = [data for data, _ in server.came]
    assert names == sorted(names) and heard.came == sorted(heard.came)
    assert set(heard.came) < set(names) < set(sent)
    # A clock of a millisecond or so in the event loop may wake a moment before.
    assert all(at - sent[data] > 0.028 for data, at in server.came)


async def test_every_caller_gets_its_own_answers() -> None:
    none = Impairment()
    async with relayed(Fate(none, 1), Fate(none, 2)) as (_, relay):
        ends = [await client(relay) for _ in range(3)]
        for number, (transport, _) in enumerate(ends):
            transport.sendto(bytes([number]))
        for number, (_, heard) in enumerate(ends):
            await until(lambda heard=heard: heard.came)
            assert heard.came == [bytes([number])]
        for transport, _ in ends:
            transport.close()


def test_sockets_are_bounded() -> None:
    outside = Sockets.make(1)
    outside.udp().close()
    with pytest.raises(RuntimeError, match="used up"):
        outside.udp()
    outside.close()


# --- signalling -----------------------------------------------------------------------------------


async def test_tcp_passes_both_ways_and_ends_with_either_side() -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.readline():
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(upper, *LOOPBACK)
    outside = Sockets.make(4)
    address = server.sockets[0].getsockname()
    async with server, tcp_relay(LOOPBACK, address, outside) as here:
        reader, writer = await asyncio.open_connection(*here)
        writer.write(b"hello\n")
        async with asyncio.timeout(30):
            assert await reader.readline() == b"HELLO\n"
            writer.write_eof()
            assert await reader.read() == b""
        writer.close()
    outside.close()


async def test_a_server_that_is_gone_closes_the_connection() -> None:
    with socket.socket() as unused:
        unused.bind(LOOPBACK)
        nobody = unused.getsockname()
        outside = Sockets.make(1)
        async with tcp_relay(LOOPBACK, nobody, outside) as here:
            reader, writer = await asyncio.open_connection(*here)
            async with asyncio.timeout(30):
                assert await reader.read() == b""
            writer.close()
        outside.close()


# --- a network of one's own -----------------------------------------------------------------------

INSIDE = """
import socket, sys
from parley.bench import own_network

server = ("127.0.0.1", int(sys.argv[1]))
try:
    socket.create_connection(server, timeout=5)
    print("reached it directly")
except OSError:
    print("cut off")
way = own_network.outside.tcp()
way.setblocking(True)
way.connect(server)
print(way.recv(100).decode())
"""


def test_only_sockets_made_before_reach_the_network_outside(tmp_path: Path) -> None:
    (tmp_path / "inside_of_it.py").write_text(INSIDE)
    with socket.create_server(LOOPBACK) as server:
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), *sys.path])
        with subprocess.Popen(
            [sys.executable, "-m", "parley.bench.own_network", "inside_of_it",
             str(server.getsockname()[1])],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:  # fmt: skip
            server.settimeout(0.1)
            while process.poll() is None:
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(b"hello from outside")
            assert process.stdout is not None and process.stderr is not None
            said, complaint = process.stdout.read(), process.stderr.read()
    if process.returncode == NO_NETWORK:
        pytest.skip(complaint.strip())
    assert process.returncode == 0, complaint
    assert said.splitlines() == ["cut off", "hello from outside"]
