"""A line without a room: a microphone that can be spoken into, a loudspeaker that remembers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.voice import io
from livekit.plugins import parley
from livekit.plugins.parley.assembly import Parts
from livekit.plugins.parley.room_output import RoomOutput

from agent.fakes import (
    LOUD,
    QUIET,
    CleanLine,
    DurationOverlap,
    LevelVad,
    ScriptedMind,
    ScriptedRecognizer,
    ToneVoice,
)
from parley.dialogue import events as ev
from parley.dialogue.engine import Engine
from parley.dialogue.policy import FloorPolicy
from parley.minds.base import Context
from parley.minds.filler import FillerPolicy
from parley_speech.types import MIC_HZ

from agent.fakes import Script  # isort: skip


class SharedMind:
    """One scripted session, handed to the call."""

    def __init__(self, answer: Callable[[Context], Script]) -> None:
        self.one = ScriptedMind(answer)

    async def start(self) -> None: ...
    async def aclose(self) -> None: ...

    def session(self) -> ScriptedMind:
        return self.one


class SharedRecognizer:
    def __init__(self, words: list[str]) -> None:
        self.one = ScriptedRecognizer(words)

    async def start(self) -> None: ...
    async def aclose(self) -> None: ...

    def stream(self) -> ScriptedRecognizer:
        return self.one


class Microphone(io.AudioInput):
    def __init__(self) -> None:
        super().__init__(label="test")
        self.pcm = QUIET

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.sleep(0.02)
        return rtc.AudioFrame(self.pcm.tobytes(), MIC_HZ, 1, len(self.pcm))


class Loudspeaker:
    """Takes the place of rtc.AudioSource."""

    def __init__(self) -> None:
        self.frames: list[np.ndarray[Any, Any]] = []

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        self.frames.append(np.frombuffer(frame.data, np.int16).copy())

    async def aclose(self) -> None: ...

    @property
    def pcm(self) -> np.ndarray[Any, Any]:
        return np.concatenate(self.frames) if self.frames else np.empty(0, np.int16)


class Line:
    """An AgentSession on FullDuplex with scripted parts; ``async with`` it."""

    def __init__(
        self,
        answer: Callable[[Context], Script],
        words: list[str] | None = None,
        *,
        agent: Agent | None = None,
        voice: ToneVoice | None = None,
        filler: FillerPolicy | None = None,
        **session: Any,
    ) -> None:
        """``session``: more of AgentSession's arguments."""
        self.mind = SharedMind(answer)
        self.recognizer = SharedRecognizer(words or [])
        parts = Parts(
            mind=self.mind,  # type: ignore[arg-type]
            voice=voice or ToneVoice(),  # type: ignore[arg-type]
            asr=self.recognizer,  # type: ignore[arg-type]
            vad=LevelVad,
            canceller=CleanLine,
            overlap=DurationOverlap,
        )
        self.events: list[ev.EngineEvent] = []
        self.model = parley.FullDuplex(
            parts=parts,
            policy=FloorPolicy(no_input_ms=None),
            filler=filler,
            observer=lambda _, e: self.events.append(e),
        )
        self.session: AgentSession[Any] = parley.full_duplex_session(self.model, **session)
        self.agent = agent or Agent(instructions="be kind")
        self.microphone, self.loudspeaker = Microphone(), Loudspeaker()

    async def __aenter__(self) -> Line:
        self.session.input.audio = self.microphone
        self.session.output.audio = RoomOutput(
            None,
            self.model.heard,
            source=self.loudspeaker,  # type: ignore[arg-type]
        )
        await self.session.start(self.agent)
        return self

    async def __aexit__(self, *exc: object) -> None:
        with contextlib.suppress(RuntimeError):
            await self.session.aclose()
        await self.model.aclose()

    async def says(self, seconds: float) -> None:
        self.microphone.pcm = LOUD
        await asyncio.sleep(seconds)
        self.microphone.pcm = QUIET

    def says_directly(self, seconds: float) -> None:
        """Straight into the engine, past LiveKit."""
        for _ in range(round(seconds * 50)):
            self.engine.push_mic(LOUD)

    @property
    def engine(self) -> Engine:
        assert self.model.newest is not None and self.model.newest.engine is not None
        return self.model.newest.engine

    async def until(self, condition: Callable[[], object], seconds: float = 30) -> None:
        for _ in range(int(seconds * 100)):
            if condition():
                return
            await asyncio.sleep(0.01)
        told = [e for e in self.events if not isinstance(e, ev.ReplyFrame)]
        raise AssertionError(f"it did not happen in {seconds} s; events: {told[-8:]}")

    def of(self, kind: type[Any]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]

    @property
    def history(self) -> list[tuple[str, str]]:
        """(role, text) of what LiveKit keeps."""
        return [
            (item.role, item.text_content or "")
            for item in self.session.history.items
            if item.type == "message" and item.role != "system"
        ]
