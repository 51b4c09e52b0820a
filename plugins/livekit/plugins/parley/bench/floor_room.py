"""The scenes of the floor's bench in real rooms, over a network as bad as one likes.

A livekit-server and a worker run here as in production; the caller is a process in a network of
its own (`floor_room_caller`), and every packet of its media goes through a relay that loses, delays
and jitters. One conversation at a time, in real time. Clicks that a participant on this side sends
back tell what the same way costs by itself, in the same run.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from livekit.plugins.parley.bench import agent as bench_agent
from livekit.plugins.parley.bench import floor_room_agent
from livekit.plugins.parley.room_trip import ECHO, echo_bot
from livekit.plugins.parley.server import LiveKitServer
from livekit.plugins.parley.worker_process import WorkerProcess
from rich.console import Console

from parley.bench import instant
from parley.bench.floor.fingerprint import fingerprint
from parley.bench.floor.run import read, renderings
from parley.bench.floor.scene import Scene
from parley.bench.own_network import NO_NETWORK
from parley.bench.relay import Impairment

CLICKS = 12
CALLER = "livekit.plugins.parley.bench.floor_room_caller"


class NoBadNetwork(RuntimeError):
    """This machine has no network namespaces for us; the message says why."""


class CallerFailed(RuntimeError):
    """The caller's process ended in the middle; its last lines are in the message."""


@dataclass
class RoomRun:
    """What a run was, beside its conversations."""

    impairment: Impairment
    clicks_ms: list[float] = field(default_factory=list)
    clicks_lost: int = 0
    packets: int = 0
    lost: int = 0
    """Of the packets, those that the relay dropped."""
    failures: list[str] = field(default_factory=list)
    """Calls that could not be measured."""

    @property
    def trip_ms(self) -> float | None:
        """Median way there and back, without an agent."""
        return statistics.median(self.clicks_ms) if self.clicks_ms else None

    def told(self) -> dict[str, Any]:
        return {**asdict(self), "trip_ms": self.trip_ms}

    def words(self) -> str:
        """For people."""
        bad = self.impairment
        trip = "unknown" if self.trip_ms is None else f"{self.trip_ms:.0f} ms"
        return (
            f"in rooms, each way {100 * bad.loss:g} % loss, {bad.delay_ms:g} ms delay, up to "
            f"{bad.jitter_ms:g} ms jitter; the way there and back alone (clicks): {trip}"
        )


@dataclass(frozen=True)
class Place:
    """Where a run keeps what it makes."""

    folder: Path
    cache: Path
    clips: Path

    @property
    def results(self) -> Path:
        return self.folder / "results.jsonl"

    @property
    def journals(self) -> Path:
        return self.folder / "journals"


async def play_all(
    scenes: Sequence[Scene],
    place: Place,
    impairment: Impairment,
    *,
    seed: int = 1,
    seconds: float | None = None,
    clicks: int = CLICKS,
    console: Console | None = None,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[dict[str, Any]], RoomRun]:
    """Plays what the results do not hold yet, and gives all that is there.

    Raises NoBadNetwork, CallerFailed, and ServerUnavailable without a livekit-server."""
    kept = await asyncio.to_thread(read, place.results)
    keys = [key(scene, impairment, seed) for scene in scenes]
    missing = [(k, s) for k, s in zip(keys, scenes, strict=True) if k not in kept]
    run = RoomRun(impairment)
    if missing:
        tell(len(scenes) - len(missing), len(scenes))
        await _play(
            missing, place, run, seed, seconds, clicks, console,
            lambda left: tell(len(scenes) - left, len(scenes)),
        )  # fmt: skip
        kept = await asyncio.to_thread(read, place.results)
    return [kept[k] for k in keys if k in kept], run


def key(scene: Scene, impairment: Impairment, seed: int) -> str:
    """Another one as soon as scene, code or network changes."""
    what = ["room", scene.as_json(), fingerprint(), asdict(impairment), seed]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


async def _play(
    missing: Sequence[tuple[str, Scene]],
    place: Place,
    run: RoomRun,
    seed: int,
    seconds: float | None,
    clicks: int,
    console: Console | None,
    tell: Callable[[int], None],
) -> None:
    voices = await asyncio.to_thread(renderings, place.cache)
    place.journals.mkdir(parents=True, exist_ok=True)
    voice = instant.save(place.folder / "voice.npz", voices)
    async with AsyncExitStack() as stack:
        log = place.folder / "livekit-server.log"
        server = await stack.enter_async_context(LiveKitServer(console=console, log_file=log))
        environment = {
            **server.environment(),
            "PARLEY_JOURNAL_DIR": str(place.journals.resolve()),
            bench_agent.VOICE: str(voice.resolve()),
        }
        arguments = ("-m", floor_room_agent.__name__)
        worker = WorkerProcess(
            environment, log_file=place.folder / "worker.log", arguments=arguments
        )
        await stack.enter_async_context(worker)
        echo_room = f"trip-{secrets.token_hex(4)}"
        if clicks:
            await stack.enter_async_context(echo_bot(server.url, server.token(ECHO, echo_room)))
        orders = {
            "port": server.port,
            "udp_port": server.udp_port,
            "folder": str(place.journals.resolve()),
            "results": str(place.results.resolve()),
            "calls": str((place.folder / "calls").resolve()),
            "cache": str(place.cache.resolve()),
            "clips": str(place.clips.resolve()),
            "scenes": [[k, scene.as_json()] for k, scene in missing],
            "impairment": asdict(run.impairment),
            "seed": seed,
            "seconds": seconds,
            "echo_room": echo_room,
            "clicks": clicks,
        }
        path = place.folder / "orders.json"
        await asyncio.to_thread(path.write_text, json.dumps(orders), encoding="utf-8")
        await _caller(path, server.environment(), place.folder / "caller.log", run, tell)


async def _caller(
    orders: Path,
    environment: dict[str, str],
    log_file: Path,
    run: RoomRun,
    tell: Callable[[int], None],
) -> None:
    """The caller's process from beginning to end."""
    command = [sys.executable, "-m", "parley.bench.own_network", CALLER, str(orders)]
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                _took(run, json.loads(line), tell)
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode == 0:
        return
    text = await asyncio.to_thread(log_file.read_text, errors="replace")
    lines = text.splitlines()[-20:]
    if process.returncode == NO_NETWORK:
        raise NoBadNetwork("\n".join(lines))
    raise CallerFailed(
        f"the caller's process ended with status {process.returncode}. Its last lines:\n  "
        + "\n  ".join(lines)
    )


def _took(run: RoomRun, news: dict[str, Any], tell: Callable[[int], None]) -> None:
    match news:
        case {"left": left}:
            tell(left)
        case {"failed": name, "why": why}:
            run.failures.append(f"{name}: {why}")
        case {"clicks_ms": clicks, "clicks_lost": lost}:
            run.clicks_ms, run.clicks_lost = list(clicks), lost
        case {"packets": packets, "lost": lost}:
            run.packets, run.lost = packets, lost
