"""The caller of the floor's bench in rooms: one scene after the other, over a bad network.

Runs as a process in a network of its own (``parley.bench.own_network``), whose only way out is the
relay. The wire of the bench (`Line`) is the caller's microphone and ear: it hears what the room
brings, in real time, and gives what the microphone takes. What is heard is recorded and judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from livekit.plugins.parley.bench.agent import agent_file
from livekit.plugins.parley.bench.floor_room_agent import ASK, NAME, scene_file
from livekit.plugins.parley.caller import Caller
from livekit.plugins.parley.caller_ears import SoundGate
from livekit.plugins.parley.caller_microphone import ClipMixer
from livekit.plugins.parley.room_trip import clicks_through
from livekit.plugins.parley.script import JournalTail
from livekit.plugins.parley.server import make_token

from parley.bench import own_network
from parley.bench.floor.line import SILENCE, Line
from parley.bench.floor.outcome import judged
from parley.bench.floor.overheard import overheard
from parley.bench.floor.play import sounds_of
from parley.bench.floor.run import keep, renderings, wrong
from parley.bench.floor.scene import Scene
from parley.bench.floor.texts import TEXTS
from parley.bench.floor.utterances import Studio
from parley.bench.instant import Rendering
from parley.bench.relay import Fate, Impairment, UdpRelay, tcp_relay
from parley_speech.types import MIC_HZ, SPEAKER_FRAME, SPEAKER_HZ, Pcm

AHEAD = 8
"""Pieces of 10 ms that may wait to be heard: more is a burst after a stall, and old."""
CALL_S = 150.0
OVER_S = 15.0
ATTEMPTS = 2
"""A call that this machine tore is made once more."""


class Torn(RuntimeError):
    """This process stalled: the call does not show what the agent does."""


@dataclass(frozen=True)
class Orders:
    """What the parent process wants, as JSON on the command line."""

    port: int
    udp_port: int
    folder: Path
    """Journals, scenes and agents' files."""
    results: Path
    calls: Path
    cache: Path
    clips: Path
    scenes: tuple[tuple[str, Scene], ...]
    """With their keys."""
    impairment: Impairment
    seed: int
    seconds: float | None
    """No scene is begun after so long."""
    echo_room: str
    clicks: int

    @staticmethod
    def of(data: Mapping[str, Any]) -> Orders:
        fields = dict(data)
        for name in ("folder", "results", "calls", "cache", "clips"):
            fields[name] = Path(data[name])
        fields["scenes"] = tuple((key, Scene.of(scene)) for key, scene in data["scenes"])
        fields["impairment"] = Impairment(**data["impairment"])
        return Orders(**fields)


class LineMixer(ClipMixer):
    """The microphone brings what the line has: two frames of 10 ms are a tick of it."""

    def __init__(self, line: Line) -> None:
        super().__init__(MIC_HZ)
        self.heard: deque[Pcm] = deque(maxlen=1000)
        """Pieces of 10 ms at 24 kHz."""
        self.over = asyncio.Event()
        self.asked = asyncio.Event()
        self.began: float | None = None
        """Wall-clock time of the line's first sample."""
        self.torn = False
        self._line = line
        self._rest: Pcm | None = None
        self._listening = False

    def begin(self) -> None:
        """The conversation starts with the next frame."""
        self._listening = True
        self.heard.clear()

    def frame(self, first: int, count: int, zero_at: float) -> Pcm:
        if not self._listening or self.over.is_set():
            return np.zeros(count, np.int16)
        if self._rest is not None:
            rest, self._rest = self._rest, None
            return rest
        at = zero_at + first / MIC_HZ - self._line.now / MIC_HZ
        if self.began is None:
            self.began = at
        self.torn |= abs(at - self.began) > 0.001
        tick = self._line.step(self._hear())
        if self._line.asks():
            self.asked.set()
        if self._line.over:
            self.over.set()
        self._rest = tick[count:]
        return tick[:count]

    def _hear(self) -> Pcm:
        while len(self.heard) > AHEAD:
            self.heard.popleft()
        pieces = [self.heard.popleft() for _ in range(min(2, len(self.heard)))]
        out = SILENCE.copy()
        if pieces:
            joined = np.concatenate(pieces)[:SPEAKER_FRAME]
            out[: len(joined)] = joined
        return out


class Gate(SoundGate):
    """Gives the line what the ears hear, too."""

    def __init__(self, mixer: LineMixer) -> None:
        super().__init__()
        self._mixer = mixer

    def push(self, pcm: Pcm, at: float) -> None:
        super().push(pcm, at)
        self._mixer.heard.append(pcm)


class LineCaller(Caller):
    """A caller whose microphone and ears are a line."""

    def __init__(self, url: str, token: str, mixer: LineMixer) -> None:
        super().__init__(url, token, rate_hz=MIC_HZ)
        self._microphone.mixer = mixer
        self._ears.gate = Gate(mixer)


class RoomStage:
    """Plays scenes in rooms."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._url = f"ws://127.0.0.1:{orders.port}"
        self._studio = Studio(orders.cache, orders.clips)
        self._renderings: dict[str, Rendering] = renderings(orders.cache)

    async def play(self, scene: Scene) -> dict[str, Any]:
        """Raises Torn, TimeoutError and what a caller raises."""
        sounds = await sounds_of(self._studio, scene)
        reply_s = len(self._renderings[TEXTS[scene.reply]].pcm) / SPEAKER_HZ
        line = Line(scene, sounds, reply_s)
        mixer = LineMixer(line)
        room = f"{NAME}-{secrets.token_hex(6)}"
        path = scene_file(self._orders.folder, room)
        await asyncio.to_thread(path.write_text, json.dumps(scene.as_json()), encoding="utf-8")
        caller = LineCaller(self._url, _token("caller", room, agent=NAME), mixer)
        async with asyncio.timeout(CALL_S), caller:
            await caller.wait_agent()
            asking = asyncio.create_task(_ask(caller, mixer), name="asking")
            try:
                mixer.begin()
                await mixer.over.wait()
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        await self._agent_over(room)
        if mixer.torn or mixer.began is None:
            raise Torn("this machine stalled for more than 200 ms")
        return await asyncio.to_thread(self._judged, scene, line, caller, mixer.began, room)

    def _judged(
        self, scene: Scene, line: Line, caller: Caller, began: float, room: str
    ) -> dict[str, Any]:
        tail = JournalTail(self._orders.folder / f"{room}.jsonl")
        events = list(tail.read())
        timed = [{**event, "t": event["t"] + tail.started_at} for event in events]
        heard = overheard(scene, line, caller.recording(), began, timed, self._renderings)
        found = judged(*heard)
        if wrong(found):
            keep(heard[0], self._orders.calls)
        return found

    async def _agent_over(self, room: str) -> None:
        """Until the agent's process has written its last: one looks, as it is another process."""
        path = agent_file(self._orders.folder, room)
        for _ in range(round(OVER_S / 0.1)):
            if path.is_file() and json.loads(path.read_text()).get("over"):
                return
            await asyncio.sleep(0.1)
        raise TimeoutError(f"the agent of {room} did not end its call")


async def _ask(caller: Caller, mixer: LineMixer) -> None:
    """The application's wish that the agent speaks, sent when the line has it."""
    while True:
        await mixer.asked.wait()
        mixer.asked.clear()
        await caller.room.local_participant.publish_data(b"", topic=ASK)


def _token(identity: str, room: str, *, agent: str | None = None) -> str:
    key, secret = os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"]
    return make_token(key, secret, identity, room, agent=agent)


async def serve(orders: Orders) -> None:
    """The relay, the clicks, the scenes; a line of JSON on stdout for each thing done."""
    outside = own_network.outside
    assert outside is not None, "run it by python -m parley.bench.own_network"
    ours = ("127.0.0.1", orders.udp_port)
    up, down = (Fate(orders.impairment, orders.seed + n) for n in range(2))
    relay = UdpRelay(ours, ours, outside, up, down)
    signalling = ("127.0.0.1", orders.port)
    relay.open()
    try:
        async with tcp_relay(signalling, signalling, outside):
            await _clicks(orders)
            await _scenes(orders)
    finally:
        relay.close()
    _tell(packets=up.given + down.given, lost=up.lost + down.lost)


async def _clicks(orders: Orders) -> None:
    if orders.clicks:
        url = f"ws://127.0.0.1:{orders.port}"
        token = _token("clicker", orders.echo_room)
        way_ms = orders.impairment.delay_ms + orders.impairment.jitter_ms
        every_s = 0.3 + 4 * way_ms / 1000  # a click must be back before the next one leaves
        trip = await clicks_through(url, token, clicks=orders.clicks, every_s=every_s)
        _tell(clicks_ms=trip.clicks_ms, clicks_lost=trip.lost)


async def _scenes(orders: Orders) -> None:
    stage = RoomStage(orders)
    until = None if orders.seconds is None else time.monotonic() + orders.seconds
    for number, (key, scene) in enumerate(orders.scenes, 1):
        if until is not None and time.monotonic() > until:
            return
        for attempt in range(1, ATTEMPTS + 1):
            try:
                found = await stage.play(scene)
            except Exception as error:  # a call that failed must not take the others with it
                why = f"{type(error).__name__}: {error}"
                _tell(failed=f"{scene.name}, attempt {attempt}", why=why)
                continue
            with orders.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, **found}, ensure_ascii=False) + "\n")
            break
        _tell(left=len(orders.scenes) - number)


def _tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def main(arguments: Sequence[str]) -> None:
    orders = Orders.of(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(orders))


if __name__ == "__main__":
    main(sys.argv[1:])
