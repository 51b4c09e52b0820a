"""Conversations of the floor's bench with systems that read clocks: each lasts as long as it lasts.

Several go on at the same time. What was played is kept by its scene alone, since such a system's
code does not change with ours.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from parley.bench.floor.line import Line
from parley.bench.floor.outcome import judged
from parley.bench.floor.play import sounds_of
from parley.bench.floor.played import Played, PlayedReply
from parley.bench.floor.run import Setting, keep, read, wrong
from parley.bench.floor.scene import Scene
from parley.bench.floor.texts import TEXTS
from parley.bench.floor.utterances import Studio
from parley.bench.instant import Rendering
from parley_speech.types import FRAME_MS, MIC_HZ, SPEAKER_HZ, Pcm


class LiveStage(Protocol):
    """A system that scenes can be played with."""

    async def play(self, scene: Scene) -> Played:
        """In real time."""
        ...


async def line_of(
    scene: Scene, studio: Studio, renderings: Mapping[str, Rendering]
) -> tuple[Line, str]:
    """The scene's line, and what the agent answers to whatever is said."""
    long = renderings[TEXTS[scene.reply]]
    line = Line(scene, await sounds_of(studio, scene), len(long.pcm) / SPEAKER_HZ)
    return line, TEXTS["short" if scene.agent == "talks" else scene.reply]


def played_of(
    scene: Scene,
    line: Line,
    replies: list[PlayedReply],
    frames: Sequence[Pcm],
    renderings: dict[str, Rendering],
) -> Played:
    """``frames``: what the agent played at each step, and the one that nobody heard any more."""
    return Played(
        scene=scene,
        placed=line.placed,
        replies=replies,
        moves=[],
        words=[],
        renderings=renderings,
        mic=np.concatenate(line.mic),
        agent=np.concatenate(frames[:-1]),
        seconds=line.now / MIC_HZ,
        floor_s=0.0,
        cpu_s=0.0,
    )


def told_words(line: Line) -> str:
    """What a recogniser hears that is never wrong: the words of the latest sound; of a noise,
    none."""
    return " ".join(p.text for p in line.placed[-1:] if p.cue.kind != "noise")


class Ticks:
    """Twenty milliseconds by the clock, again and again; one that is late is not made up for by
    waiting less than nothing."""

    def __init__(self) -> None:
        self._due = time.perf_counter()

    async def next(self) -> None:
        self._due += FRAME_MS / 1000
        await asyncio.sleep(max(0.0, self._due - time.perf_counter()))


async def play_all(
    kind: str,
    stage: LiveStage,
    scenes: Sequence[Scene],
    setting: Setting,
    results: Path,
    *,
    seconds: float | None = None,
    at_once: int = 4,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> list[dict[str, Any]]:
    """As ``parley.bench.floor.run.run``, in real time."""
    kept = await asyncio.to_thread(read, results)
    missing = deque(s for s in scenes if f"{kind}/{s.name}/{s.seed}" not in kept)
    until = time.monotonic() + seconds if seconds is not None else None
    results.parent.mkdir(parents=True, exist_ok=True)

    async def work() -> None:
        while missing and (until is None or time.monotonic() < until):
            scene = missing.popleft()
            played = await stage.play(scene)
            found = await asyncio.to_thread(judged, played)
            if wrong(found):
                await asyncio.to_thread(keep, played, setting.calls)
            key = f"{kind}/{scene.name}/{scene.seed}"
            line = json.dumps({"key": key, **found}, ensure_ascii=False)
            kept[key] = json.loads(line)
            with results.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            tell(len(scenes) - len(missing), len(scenes))

    async with asyncio.TaskGroup() as group:
        _ = [group.create_task(work()) for _ in range(at_once)]
    keys = [f"{kind}/{s.name}/{s.seed}" for s in scenes]
    return [kept[key] for key in keys if key in kept]
