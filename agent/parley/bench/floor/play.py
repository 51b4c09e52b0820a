"""One conversation of the real engine in virtual time.

A tick: the line gives a microphone frame, the engine hears, decides and plays, then every task that
can go on goes on (the mind and the voice of zero latency have nothing to wait for), and the line
gets what was played. No clock is read, so a conversation is the same on any machine, however busy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from parley.bench.floor import noises
from parley.bench.floor.line import SILENCE, Line
from parley.bench.floor.played import Moved, Played, PlayedReply
from parley.bench.floor.scene import Cue, Scene
from parley.bench.floor.texts import TEXTS
from parley.bench.floor.told import ToldRecognizer
from parley.bench.floor.utterances import Studio, Utterance, Voiced
from parley.bench.instant import InstantMind, InstantVoice, Rendering
from parley.dialogue import events as ev
from parley.dialogue.engine import Engine
from parley.dialogue.policy import FloorPolicy
from parley.minds.base import Cause, Mind
from parley.minds.flow import FlowMind
from parley_speech import audio
from parley_speech.types import MIC_HZ, Recognizer, Synthesizer

SETTLE = 10
"""Rounds of the event loop after a tick: from the request for a reply to its first samples it takes
five."""
DESK = Path(__file__).parent / "scenarios" / "desk.flow.yaml"


class Maker(Protocol):
    """Puts a call's engine together as the product does, around these parts."""

    def __call__(
        self,
        mind: Mind,
        voice: Synthesizer,
        recognizer: Recognizer,
        on_event: Callable[[ev.EngineEvent], None],
        policy: FloorPolicy | None,
    ) -> Awaitable[Engine]: ...


class Stage:
    """What the conversations of a process share."""

    def __init__(
        self,
        make: Maker,
        recognizer: Recognizer,
        studio: Studio,
        renderings: Mapping[str, Rendering],
        policy: FloorPolicy | None = None,
        *,
        told: bool = False,
    ) -> None:
        """``renderings``: how the agent's texts sound, by text. ``told``: words come from the
        scene, not from the recogniser."""
        self._make = make
        self._recognizer = recognizer
        self._studio = studio
        self._renderings = dict(renderings)
        self._policy = policy
        self._told = told
        self._desk = FlowMind(DESK)

    async def play(self, scene: Scene) -> Played:
        """From the first sample until everything has been said and answered."""
        began = time.process_time()
        sounds = await sounds_of(self._studio, scene)
        long = self._renderings[TEXTS[scene.reply]]
        line = Line(scene, sounds, len(long.pcm) / 24_000)
        notes = Notes()
        recognizer = ToldRecognizer(line.placed) if self._told else self._recognizer
        engine = await self._engine(scene, notes, recognizer)
        floor = _Timed(engine)
        frames = [SILENCE]
        try:
            while not line.over:
                notes.frame = SILENCE
                engine.push_mic(line.step(frames[-1]))
                if line.asks():
                    engine.request(Cause.INSTRUCTED, text=TEXTS[scene.reply])
                engine.tick()
                frames.append(notes.frame)
                for _ in range(SETTLE):
                    await asyncio.sleep(0)
        finally:
            await engine.replies.aclose()
            await engine._ears.aclose()
        return Played(
            scene=scene,
            placed=line.placed,
            replies=list(notes.replies.values()),
            moves=notes.moves,
            words=notes.words,
            renderings=self._renderings,
            mic=np.concatenate(line.mic),
            agent=np.concatenate(frames[:-1]),
            seconds=line.now / MIC_HZ,
            floor_s=floor.seconds,
            cpu_s=time.process_time() - began,
        )

    async def _engine(self, scene: Scene, notes: Notes, recognizer: Recognizer) -> Engine:
        answer = "short" if scene.agent == "talks" else scene.reply
        hearing = self._desk.session() if scene.hearing == "desk" else None
        mind = InstantMind(TEXTS[answer], hearing)
        engine = await self._make(
            mind, InstantVoice(self._renderings), recognizer, notes.on_event, self._policy
        )
        engine._expect()
        return engine


async def sounds_of(studio: Studio, scene: Scene) -> list[Utterance]:
    """How its cues sound, one after the other."""
    return [await _sound(studio, cue, scene.seed + n) for n, cue in enumerate(scene.cues)]


async def _sound(studio: Studio, cue: Cue, seed: int) -> Utterance:
    if cue.kind != "noise":
        return await studio.utter(cue)
    if cue.speaker.voice == "clip" or cue.say.endswith(".flac"):
        found = studio.recording(cue.say)
    else:
        found = noises.burst(cue.say, seed)
    pcm = audio.scaled(found, cue.gain_db)
    return Utterance(pcm, (Voiced(0, len(pcm), cue.say),), cue.say)


class Notes:
    """What the engine tells, sorted."""

    def __init__(self) -> None:
        self.frame = SILENCE
        self.replies: dict[int, PlayedReply] = {}
        self.moves: list[Moved] = []
        self.words: list[tuple[int, str, str]] = []
        self._causes: dict[int, str] = {}

    def on_event(self, event: ev.EngineEvent) -> None:
        match event:
            case ev.ReplyFrame(t_ms=t, reply=n, pcm=pcm):
                self.frame = pcm
                reply = self.replies.get(n)
                if reply is None:
                    cause = self._causes.get(n, "")
                    reply = self.replies[n] = PlayedReply(n, t, cause, "")
                reply.frames.append(pcm)
            case ev.ReplyCommitted(reply=n, cause=cause):
                self._causes[n] = cause.value
            case ev.ReplyEnded(reply=n, heard=heard, text=text, cut=cut):
                if n in self.replies:
                    reply = self.replies[n]
                    reply.heard, reply.text, reply.cut = heard, text, cut
            case ev.FloorMoved(t_ms=t, acts=acts):
                self.moves += [
                    Moved(t, type(act).__name__, getattr(act, "reply", -1)) for act in acts
                ]
            case ev.UserText(t_ms=t, text=text):
                self.words.append((t, "text", text))
            case ev.UserTurn(t_ms=t, text=text):
                self.words.append((t, "turn", text))
            case ev.UserAside(t_ms=t, text=text):
                self.words.append((t, "aside", text))
            case ev.Failed(t_ms=t, where=where, error=error):
                self.words.append((t, "failed", f"{where}: {error}"))
            case _:
                pass


class _Timed:
    """Counts the CPU time of the floor's steps."""

    def __init__(self, engine: Engine) -> None:
        self.seconds = 0.0
        inner = engine.floor.step

        def step(percept: object) -> object:
            began = time.thread_time()
            acts = inner(percept)  # type: ignore[arg-type]
            self.seconds += time.thread_time() - began
            return acts

        engine.floor.step = step  # type: ignore[method-assign,assignment]
