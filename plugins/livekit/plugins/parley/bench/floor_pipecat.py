"""Pipecat in the conversations of the floor's bench: its pipeline, its local turn strategies.

The same line, the same agent's voice, a recogniser that is told the words and a mind without
latency. What is Pipecat's own: the pipeline, silero's VAD and smart-turn v3 (both in its wheel),
its strategies for when a user's turn begins (which interrupts the agent) and ends, its output's
chunks of 40 ms. It comes with the extra ``bench-pipecat``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Literal

import numpy as np
from livekit.plugins.parley.bench.floor_live import Ticks, line_of, played_of, told_words
from loguru import logger as pipecats_log
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    StartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner

from parley.bench.floor.line import SILENCE, Line
from parley.bench.floor.played import Played, PlayedReply
from parley.bench.floor.scene import Scene
from parley.bench.floor.texts import TEXTS
from parley.bench.floor.utterances import Studio
from parley.bench.instant import Rendering
from parley_speech.types import MIC_HZ, SPEAKER_FRAME, SPEAKER_HZ, Pcm

Kind = Literal["pipecat", "pipecat-tuned"]

START_S = 30.0
"""Longest wait for a pipeline to begin; its models are loaded before."""
VAD: dict[Kind, VADParams] = {
    "pipecat": VADParams(),
    # Half as long to believe in a voice: the delay of every interruption. Silence stays as it is,
    # since smart-turn was trained behind 0.2 s of it.
    "pipecat-tuned": VADParams(start_secs=0.1),
}


class PipecatStage:
    """Plays scenes with one kind of pipeline."""

    def __init__(self, kind: Kind, studio: Studio, renderings: Mapping[str, Rendering]) -> None:
        self._kind: Kind = kind
        self._studio = studio
        self._renderings = dict(renderings)
        pipecats_log.disable("pipecat")  # it tells of each frame's fate

    async def play(self, scene: Scene) -> Played:
        """In real time."""
        line, answer = await line_of(scene, self._studio, self._renderings)
        loudspeaker = Loudspeaker(line)
        microphone = Microphone()
        worker = PipelineWorker(
            self._pipeline(line, microphone, loudspeaker, answer),
            params=PipelineParams(audio_in_sample_rate=MIC_HZ, audio_out_sample_rate=SPEAKER_HZ),
            cancel_on_idle_timeout=False,
            idle_timeout_secs=None,
            enable_rtvi=False,
        )
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        running = asyncio.create_task(runner.run(), name="pipecat")
        try:
            async with asyncio.timeout(START_S):
                await microphone.begun.wait()
            frames = await self._run(line, scene, worker, microphone, loudspeaker)
        finally:
            await worker.cancel()
            with suppress(asyncio.CancelledError):
                await running
        return played_of(scene, line, loudspeaker.replies, frames, self._renderings)

    def _pipeline(
        self, line: Line, microphone: Microphone, loudspeaker: Loudspeaker, answer: str
    ) -> Pipeline:
        vad = SileroVADAnalyzer(params=VAD[self._kind])
        user, assistant = LLMContextAggregatorPair(
            LLMContext(), user_params=LLMUserAggregatorParams(vad_analyzer=vad)
        )
        return Pipeline(
            [
                microphone,
                ToldWords(line),
                user,
                InstantAnswer(answer),
                RenderedVoice(self._renderings),
                Output(loudspeaker),
                assistant,
            ]
        )

    async def _run(
        self,
        line: Line,
        scene: Scene,
        worker: PipelineWorker,
        microphone: Microphone,
        loudspeaker: Loudspeaker,
    ) -> list[Pcm]:
        frames = [SILENCE]
        ticks = Ticks()
        while not line.over:
            await microphone.give(line.step(frames[-1]))
            if line.asks():
                loudspeaker.asked = True
                await worker.queue_frame(TTSSpeakFrame(TEXTS[scene.reply]))
            frames.append(loudspeaker.take())
            await ticks.next()
        return frames


class Loudspeaker:
    """Plays in step with the line. Holds a frame or two: who is interrupted is silent at once."""

    def __init__(self, line: Line) -> None:
        self.replies: list[PlayedReply] = []
        self.asked = False
        """The application has asked for the next speech."""
        self._line = line
        self._waiting: deque[Pcm] = deque()
        self._room = asyncio.Event()
        self._reply: PlayedReply | None = None
        self._ended = False
        """No more is to come of this reply."""

    async def give(self, pcm: Pcm) -> None:
        """Returns when the next piece is wanted, or this one is not any more."""
        if self._reply is None or self._ended:
            self._close()
            cause = "instructed" if self.asked else "user"
            self.asked = False
            self._reply = PlayedReply(len(self.replies), -1, cause, "")
        self._waiting += [pcm[at : at + SPEAKER_FRAME] for at in range(0, len(pcm), SPEAKER_FRAME)]
        self._room.clear()
        await self._room.wait()

    def end(self) -> None:
        """All of the reply was given."""
        self._ended = True

    def clear(self) -> None:
        """An interruption."""
        if self._reply is not None and (self._waiting or not self._ended):
            self._reply.cut = True
        self._waiting.clear()
        self._close()
        self._room.set()

    def take(self) -> Pcm:
        """The next 20 ms."""
        out = np.zeros(SPEAKER_FRAME, np.int16)
        if self._waiting and self._reply is not None:
            if not self._reply.frames:
                self._reply.at_ms = self._line.now * 1000 // MIC_HZ
                self.replies.append(self._reply)
            piece = self._waiting.popleft()
            out[: len(piece)] = piece
            self._reply.frames.append(out)
        elif self._reply is not None and self._ended:
            self._close()
        if len(self._waiting) < 2:
            self._room.set()
        return out

    def _close(self) -> None:
        self._reply, self._ended = None, False


class Microphone(BaseInputTransport):
    """Gives the pipeline what the line brings."""

    def __init__(self) -> None:
        super().__init__(TransportParams(audio_in_enabled=True))
        self.begun = asyncio.Event()
        """The pipeline runs."""

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self.begun.set()

    async def give(self, pcm: Pcm) -> None:
        await self.push_audio_frame(InputAudioRawFrame(pcm.tobytes(), MIC_HZ, 1))


class Output(BaseOutputTransport):
    """The way to the loudspeaker."""

    def __init__(self, loudspeaker: Loudspeaker) -> None:
        super().__init__(TransportParams(audio_out_enabled=True))
        self._loudspeaker = loudspeaker

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        await self._loudspeaker.give(np.frombuffer(frame.audio, np.int16))
        return True

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if not isinstance(frame, InterruptionFrame):
            await super().process_frame(frame, direction)
            return
        self._loudspeaker.clear()
        await super().process_frame(frame, direction)
        self._loudspeaker.clear()  # a piece that came before its queue was emptied

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        if isinstance(frame, BotStoppedSpeakingFrame):
            self._loudspeaker.end()
        await super().push_frame(frame, direction)


class ToldWords(FrameProcessor):
    """A recogniser that knows at once what was said, when the VAD says that it was."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame) and (said := told_words(self._line)):
            heard = TranscriptionFrame(said, "caller", time_now_iso8601(), finalized=True)
            await self.push_frame(heard)


class InstantAnswer(FrameProcessor):
    """A language model with one answer to everything, at once."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._answer = answer

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        await self.push_frame(LLMTextFrame(self._answer))
        await self.push_frame(LLMFullResponseEndFrame())


class RenderedVoice(TTSService):
    """The agent's voice of the bench, whose texts were rendered before."""

    def __init__(self, renderings: Mapping[str, Rendering]) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            sample_rate=SPEAKER_HZ,
            settings=TTSSettings(model=None, voice=None, language=None),
        )
        self._renderings = renderings

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        for chunk in self._renderings[text.strip()].chunks:
            yield TTSAudioRawFrame(
                audio=chunk.pcm.tobytes(),
                sample_rate=SPEAKER_HZ,
                num_channels=1,
                context_id=context_id,
            )
