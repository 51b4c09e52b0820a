"""The agent of the floor's bench in rooms: a worker as in production, a mind and a voice of zero
latency, and the scene of each call in a file beside its journal.

``python -m livekit.plugins.parley.bench.floor_room_agent`` runs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path

from livekit import rtc
from livekit.agents import JobContext, JobProcess
from livekit.plugins.parley import worker
from livekit.plugins.parley.assembly import Engines, Parts
from livekit.plugins.parley.bench.agent import VOICE, begin, make_server, serve
from livekit.plugins.parley.settings import Settings

from parley.bench import instant
from parley.bench.floor.play import DESK
from parley.bench.floor.scene import Scene
from parley.bench.floor.texts import TEXTS
from parley.minds.base import MindSession
from parley.minds.flow import FlowMind

NAME = "floor-bench"
ASK = "floor-bench-ask"
"""Topic of the caller's message that makes the application speak."""


def scene_file(folder: Path, room: str) -> Path:
    """What a call is about."""
    return folder / f"{room}.scene.json"


class SceneMind(instant.InstantMind):
    """Learns from the call's scene what it says and what it expects to hear."""

    def __init__(self) -> None:
        super().__init__(hearing=FlowMind(DESK).session())

    def play(self, scene: Scene) -> None:
        self.text = TEXTS["short" if scene.agent == "talks" else scene.reply]
        if scene.hearing == "open":
            self._hearing: MindSession | None = None


def prewarm(process: JobProcess, *, settings: Settings) -> None:
    worker.quick_loop()
    mind = SceneMind()
    voice = instant.InstantVoice(instant.load(Path(os.environ[VOICE])))
    engines = Parts(mind=mind, voice=voice, asr=settings.asr, vad=settings.vad).engines()
    engines.preload()
    process.userdata.update(settings=settings, mind=mind, engines=engines)


async def entrypoint(ctx: JobContext) -> None:
    """One call, as its scene has it."""
    settings: Settings = ctx.proc.userdata["settings"]
    engines: Engines = ctx.proc.userdata["engines"]
    assert settings.journal_dir is not None, "the bench sets PARLEY_JOURNAL_DIR"
    path = scene_file(settings.journal_dir, ctx.job.room.name)
    scene = Scene.of(json.loads(await asyncio.to_thread(path.read_text)))
    ctx.proc.userdata["mind"].play(scene)
    session, _ = await begin(ctx, engines, settings)

    def on_data(packet: rtc.DataPacket) -> None:
        if packet.topic == ASK:
            session.say(TEXTS[scene.reply])

    ctx.room.on("data_received", on_data)


def main() -> int:
    worker.configure_logging(dev=False)
    settings = Settings(greet=False, rejoin_s=0.0, agent_name=NAME)
    return serve(make_server(settings, partial(prewarm, settings=settings), entrypoint))


if __name__ == "__main__":
    # The processes of the calls find prewarm and entrypoint by the name of their module.
    from livekit.plugins.parley.bench.floor_room_agent import main as run

    sys.exit(run())
