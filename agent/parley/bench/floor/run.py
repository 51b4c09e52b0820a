"""Many conversations, over processes, in parts: what was played is kept and not played again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parley.bench import instant
from parley.bench.floor.fingerprint import fingerprint
from parley.bench.floor.goals import LATE_MS, played_out
from parley.bench.floor.lockstep import LockstepRecognizer, Pace
from parley.bench.floor.outcome import judged
from parley.bench.floor.play import Maker, Stage
from parley.bench.floor.played import Played
from parley.bench.floor.scene import Scene
from parley.bench.floor.texts import TEXTS
from parley.bench.floor.utterances import Studio
from parley.dialogue.policy import FloorPolicy
from parley_speech import audio
from parley_speech.tts.espeak import EspeakSynthesizer
from parley_speech.types import MIC_HZ, SPEAKER_HZ, AudioChunk, WordMark

AGENT_VOICE = "en-us+steph3"
"""In no split's cast."""
AGENT_PITCH = 55
LEAD_MS = 2
"""Silence left before the agent's first sound: its voice is to have no latency."""


@dataclass(frozen=True)
class Setting:
    """What a worker process is made from. Picklable."""

    make: Maker
    """A function of a module: the processes import it."""
    cache: Path
    clips: Path
    calls: Path
    """Where sounds of conversations that went wrong are kept."""
    policy: FloorPolicy | None = None
    pace: Pace | None = None
    told: bool = False
    """The words come from the scenes: a recogniser that is never wrong."""
    asr: str = "pocketsphinx"
    """Who recognises otherwise: pocketsphinx or moonshine."""


def run(
    scenes: Sequence[Scene],
    setting: Setting,
    results: Path,
    *,
    jobs: int = 2,
    seconds: float | None = None,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> list[dict[str, Any]]:
    """Plays what ``results`` (JSON lines) does not hold yet, for about ``seconds``, and gives all
    that is there, in the order of the scenes. Raises what a conversation raised."""
    kept = read(results)
    keys = [key(s, setting) for s in scenes]
    missing = [s for s, k in zip(scenes, keys, strict=True) if k not in kept]
    renderings(setting.cache)  # once, before the processes want it
    results.parent.mkdir(parents=True, exist_ok=True)
    tell(len(scenes) - len(missing), len(scenes))
    with results.open("a", encoding="utf-8") as file:
        for found in _play_all(missing, setting, jobs, seconds):
            line = json.dumps(found, ensure_ascii=False)
            kept[found["key"]] = json.loads(line)  # as it will be read the next time
            file.write(line + "\n")
            file.flush()
            tell(sum(k in kept for k in keys), len(scenes))
    return [kept[k] for k in keys if k in kept]


def read(results: Path) -> dict[str, dict[str, Any]]:
    """What was played, by its key; a half-written last line is left out."""
    kept: dict[str, dict[str, Any]] = {}
    if results.is_file():
        for line in results.read_text("utf-8").splitlines():
            try:
                found = json.loads(line)
            except json.JSONDecodeError:
                continue
            kept[found["key"]] = found
    return kept


def key(scene: Scene, setting: Setting) -> str:
    """The same for the same scene, code and setting, another one as soon as any of it changes."""
    what = [
        scene.as_json(),
        fingerprint(),
        str(setting.policy),
        str(setting.pace),
        setting.told,
        setting.asr,
    ]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _play_all(
    scenes: Sequence[Scene], setting: Setting, jobs: int, seconds: float | None
) -> Iterator[dict[str, Any]]:
    """In the order in which they end. Two a process wait at most, so that stopping is quick."""
    if not scenes:
        return
    until: float | None = None  # counts from when something has been begun
    left = iter(scenes)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _begin, (setting,)) as pool:
        running: set[Future[dict[str, Any]]] = set()
        while True:
            in_time = until is None or time.monotonic() < until
            while in_time and len(running) < 2 * jobs and (scene := next(left, None)):
                running.add(pool.submit(_play, scene))
            if until is None and seconds is not None:
                until = time.monotonic() + seconds
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


# --- in a worker process ------------------------------------------------------------------------


class _Worker:
    """A process's stage and the loop it plays on."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.runner = asyncio.Runner()
        self.stage = self.runner.run(self._stage())

    async def _stage(self) -> Stage:
        setting = self.setting
        recognizer = LockstepRecognizer(setting.pace, setting.asr)
        await recognizer.start()
        studio = Studio(setting.cache, setting.clips)
        voices = renderings(setting.cache)
        return Stage(setting.make, recognizer, studio, voices, setting.policy, told=setting.told)

    def play(self, scene: Scene) -> dict[str, Any]:
        played = self.runner.run(self.stage.play(scene))
        found = judged(played)
        if wrong(found):
            keep(played, self.setting.calls)
        return {"key": key(scene, self.setting), **found}


_worker: _Worker | None = None


def _begin(setting: Setting) -> None:
    global _worker
    _worker = _Worker(setting)


def _play(scene: Scene) -> dict[str, Any]:
    assert _worker is not None, "the pool's initialiser makes it"
    return _worker.play(scene)


def wrong(found: dict[str, Any]) -> bool:
    """Worth listening to."""
    return bool(wrong_rows(found))


def wrong_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sounds with which something went wrong."""
    return [row for row in found["rows"] if _wrong(row)]


def _wrong(row: dict[str, Any]) -> bool:
    match row["kind"]:
        case "turn":
            late = row["answered_ms"] is None or row["answered_ms"] > 600
            return bool(row["cut_in_ms"]) or late
        case "interruption":
            missed = row["silent_ms"] is None or row["silent_ms"] > LATE_MS
            return row["over_agent"] and missed and not played_out(row)
        case _:
            return bool(row["stopped"]) or row["answered_ms"] is not None


def keep(played: Played, folder: Path) -> Path:
    """A WAV file: left what the agent was given, right what it said, 16 kHz."""
    folder.mkdir(parents=True, exist_ok=True)
    said = audio.resample(played.agent, SPEAKER_HZ, MIC_HZ)[: len(played.mic)]
    both = np.zeros((len(played.mic), 2), np.int16)
    both[:, 0] = played.mic
    both[: len(said), 1] = said
    path = folder / f"{played.scene.name}.wav"
    audio.write(path, both, MIC_HZ)
    return path


# --- the agent's voice --------------------------------------------------------------------------


def renderings(cache: Path) -> dict[str, instant.Rendering]:
    """How the agent's texts sound, made once and kept."""
    path = cache / "agent.npz"
    if path.is_file():
        kept = instant.load(path)
        if set(kept) == set(TEXTS.values()):
            return kept
    made = asyncio.run(_render(TEXTS.values()))
    instant.save(path, made)
    return made


async def _render(texts: Iterable[str]) -> dict[str, instant.Rendering]:
    voice = EspeakSynthesizer(AGENT_VOICE, pitch=AGENT_PITCH)
    await voice.start()
    try:
        found = await instant.render(texts, voice)
    finally:
        await voice.aclose()
    return {text: trimmed(rendering) for text, rendering in found.items()}


def trimmed(rendering: instant.Rendering) -> instant.Rendering:
    """Without the silence before its first sound, as one chunk."""
    pcm = rendering.pcm
    loud = abs(pcm.astype("int32")) >= 100
    cut = max(0, int(loud.argmax()) - SPEAKER_HZ * LEAD_MS // 1000)
    marks = tuple(
        WordMark(m.text, m.char_start, m.char_end, max(0, m.start - cut), m.end - cut)
        for m in rendering.marks
    )
    return instant.Rendering(rendering.text, (AudioChunk(pcm[cut:], marks),))
