"""LiveKit's own ``AgentSession`` in the conversations of the floor's bench, without a room.

The same line, the same agent's voice, and a recogniser that is told the words (``--told`` is the
run to compare with). A session reads clocks, so these conversations take as long as they last;
several go on at the same time.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
from livekit.plugins.parley.bench.stock import InstantLLM
from livekit.plugins.parley.tts import TTS

from parley.bench.floor import noises
from parley.bench.floor.line import SILENCE, Line
from parley.bench.floor.outcome import judged
from parley.bench.floor.played import Played, PlayedReply
from parley.bench.floor.run import Setting, keep, read, renderings, wrong
from parley.bench.floor.scene import Cue, Scene
from parley.bench.floor.texts import TEXTS
from parley.bench.floor.utterances import Studio, Utterance, Voiced
from parley.bench.instant import InstantVoice, Rendering
from parley_speech import audio
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, SPEAKER_FRAME, SPEAKER_HZ, Pcm

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
        sounds = [await self._sound(cue, scene.seed + n) for n, cue in enumerate(scene.cues)]
        long = self._renderings[TEXTS[scene.reply]]
        line = Line(scene, sounds, len(long.pcm) / SPEAKER_HZ)
        answer = TEXTS["short" if scene.agent == "talks" else scene.reply]
        session = session_of(self._kind, line, InstantVoice(self._renderings), answer)
        microphone, loudspeaker = Microphone(), Loudspeaker(line)
        session.input.audio = microphone
        session.output.audio = loudspeaker
        await session.start(Agent(instructions=""))
        try:
            frames = await self._run(line, scene, session, microphone, loudspeaker)
        finally:
            await session.aclose()
        return Played(
            scene=scene,
            placed=line.placed,
            replies=loudspeaker.replies,
            moves=[],
            words=[],
            renderings=self._renderings,
            mic=np.concatenate(line.mic),
            agent=np.concatenate(frames[:-1]),
            seconds=line.now / MIC_HZ,
            floor_s=0.0,
            cpu_s=0.0,
        )

    async def _run(
        self,
        line: Line,
        scene: Scene,
        session: AgentSession[Any],
        microphone: Microphone,
        loudspeaker: Loudspeaker,
    ) -> list[Pcm]:
        frames = [SILENCE]
        due = time.perf_counter()
        while not line.over:
            microphone.give(line.step(frames[-1]))
            if line.asks():
                loudspeaker.asked = True
                session.say(TEXTS[scene.reply])
            frames.append(loudspeaker.take())
            due += FRAME_MS / 1000
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        return frames

    async def _sound(self, cue: Cue, seed: int) -> Utterance:
        if cue.kind != "noise":
            return await self._studio.utter(cue)
        recorded = cue.say.endswith(".flac")
        found = self._studio.recording(cue.say) if recorded else noises.burst(cue.say, seed)
        pcm = audio.scaled(found, cue.gain_db)
        return Utterance(pcm, (Voiced(0, len(pcm), cue.say),), cue.say)


async def play_all(
    kind: Kind,
    scenes: Sequence[Scene],
    setting: Setting,
    results: Path,
    *,
    seconds: float | None = None,
    at_once: int = 4,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> list[dict[str, Any]]:
    """As ``parley.bench.floor.run.run``, in real time. Kept by scene alone: LiveKit's code does not
    change with ours."""
    stage = StockStage(kind, Studio(setting.cache, setting.clips), renderings(setting.cache))
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
        said = [p.text for p in self._line.placed[-1:] if p.cue.kind != "noise"]
        heard = stt.SpeechData(language=LanguageCode("en"), text=" ".join(said))
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[heard])
