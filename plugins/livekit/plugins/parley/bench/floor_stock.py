"""LiveKit's own ``AgentSession`` in the conversations of the floor's bench, without a room.

The same line, the same agent's voice, and a recogniser that is told the words (``--told`` is the
run to compare with).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from livekit import rtc
from livekit.agents import Agent, AgentSession, LanguageCode, stt, utils
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)
from livekit.agents.voice import io
from livekit.plugins.parley.bench.floor_live import Ticks, line_of, played_of, told_words
from livekit.plugins.parley.bench.stock import InstantLLM
from livekit.plugins.parley.tts import TTS

from parley.bench.floor.line import SILENCE, Line
from parley.bench.floor.played import Played, PlayedReply
from parley.bench.floor.scene import Scene
from parley.bench.floor.texts import TEXTS
from parley.bench.floor.utterances import Studio
from parley.bench.instant import InstantVoice, Rendering
from parley_speech.types import MIC_FRAME, MIC_HZ, SPEAKER_FRAME, SPEAKER_HZ, Pcm

Kind = Literal["stock", "stock-tuned"]


def session_of(kind: Kind, line: Line, voice: InstantVoice, answer: str) -> AgentSession[Any]:
    """``stock``: silero's and the session's defaults, turns by VAD. ``stock-tuned``: the smallest
    delays that work without a cloud. Raises ImportError without livekit-plugins-silero."""
    from livekit.plugins import silero

    parts: dict[str, Any] = {"stt": ToldSTT(line), "llm": InstantLLM(answer), "tts": TTS(voice)}
    if kind == "stock":
        return AgentSession(vad=silero.VAD.load(), turn_handling={"turn_detection": "vad"}, **parts)
    return AgentSession(
        vad=silero.VAD.load(min_silence_duration=0.25),
        turn_handling={
            "turn_detection": "vad",
            "endpointing": {"min_delay": 0.0},
            "interruption": {"min_duration": 0.05},
        },
        aec_warmup_duration=None,
        **parts,
    )


class StockStage:
    """Plays scenes with one kind of session."""

    def __init__(self, kind: Kind, studio: Studio, renderings: Mapping[str, Rendering]) -> None:
        self._kind = kind
        self._studio = studio
        self._renderings = dict(renderings)

    async def play(self, scene: Scene) -> Played:
        """In real time."""
        line, answer = await line_of(scene, self._studio, self._renderings)
        session = session_of(self._kind, line, InstantVoice(self._renderings), answer)
        microphone, loudspeaker = Microphone(), Loudspeaker(line)
        session.input.audio = microphone
        session.output.audio = loudspeaker
        await session.start(Agent(instructions=""))
        try:
            frames = await self._run(line, scene, session, microphone, loudspeaker)
        finally:
            await session.aclose()
        return played_of(scene, line, loudspeaker.replies, frames, self._renderings)

    async def _run(
        self,
        line: Line,
        scene: Scene,
        session: AgentSession[Any],
        microphone: Microphone,
        loudspeaker: Loudspeaker,
    ) -> list[Pcm]:
        frames = [SILENCE]
        ticks = Ticks()
        while not line.over:
            microphone.give(line.step(frames[-1]))
            if line.asks():
                loudspeaker.asked = True
                session.say(TEXTS[scene.reply])
            frames.append(loudspeaker.take())
            await ticks.next()
        return frames


class Microphone(io.AudioInput):
    """Gives the session what the line brings."""

    def __init__(self) -> None:
        super().__init__(label="line")
        self._frames: asyncio.Queue[Pcm] = asyncio.Queue(maxsize=500)

    def give(self, pcm: Pcm) -> None:
        self._frames.put_nowait(pcm)

    async def __anext__(self) -> rtc.AudioFrame:
        pcm = await self._frames.get()
        return rtc.AudioFrame(pcm.tobytes(), MIC_HZ, 1, MIC_FRAME)


@dataclass
class _Segment:
    """One speech of the session."""

    reply: PlayedReply
    waiting: deque[Pcm] = field(default_factory=deque)
    ended: bool = False
    played: int = 0


class Loudspeaker(io.AudioOutput):
    """Plays in step with the line; can pause, as a room's output can."""

    def __init__(self, line: Line) -> None:
        capabilities = io.AudioOutputCapabilities(pause=True)
        super().__init__(label="line", capabilities=capabilities, sample_rate=SPEAKER_HZ)
        self.replies: list[PlayedReply] = []
        self.asked = False
        """The application has asked for the next speech."""
        self._line = line
        self._segments: deque[_Segment] = deque()
        self._paused = False

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._segments or self._segments[-1].ended:
            cause = "instructed" if self.asked else "user"
            self.asked = False
            self._segments.append(_Segment(PlayedReply(len(self.replies), -1, cause, "")))
        self._segments[-1].waiting.append(np.frombuffer(frame.data, np.int16))

    def flush(self) -> None:
        super().flush()
        if self._segments:
            self._segments[-1].ended = True

    def clear_buffer(self) -> None:
        if self._segments:
            self._end(interrupted=True)
            self._segments.clear()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def take(self) -> Pcm:
        """The next 20 ms."""
        if not self._segments:
            return SILENCE
        segment = self._segments[0]
        if not self._paused and not segment.played and segment.waiting:
            segment.reply.at_ms = self._line.now * 1000 // MIC_HZ
            self.replies.append(segment.reply)
            self.on_playback_started(created_at=time.time())
        out = SILENCE if self._paused else _next(segment)
        if segment.played:
            segment.reply.frames.append(out)
        if segment.ended and not segment.waiting:
            self._end(interrupted=False)
            self._segments.popleft()
        return out

    def _end(self, *, interrupted: bool) -> None:
        segment = self._segments[0]
        segment.reply.cut = interrupted
        self.on_playback_finished(
            playback_position=segment.played / SPEAKER_HZ, interrupted=interrupted
        )


def _next(segment: _Segment) -> Pcm:
    out = np.zeros(SPEAKER_FRAME, np.int16)
    at = 0
    while at < SPEAKER_FRAME and segment.waiting:
        block = segment.waiting.popleft()
        n = min(len(block), SPEAKER_FRAME - at)
        out[at : at + n] = block[:n]
        if n < len(block):
            segment.waiting.appendleft(block[n:])
        at += n
    segment.played += at
    return out


class ToldSTT(stt.STT[Any]):
    """Knows at once what was said: the words of the line's latest sound; of a noise, none."""

    def __init__(self, line: Line) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._line = line

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        heard = stt.SpeechData(language=LanguageCode("en"), text=told_words(self._line))
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[heard])
