"""Parley's voice activity detectors as a LiveKit VAD, usable alone in any `AgentSession`.

Audio of any rate is taken to 16 kHz mono and judged in frames of 20 ms; events carry the caller's
own samples (mono, at the rate they came in). The engine runs on the event loop's thread: a frame
takes about 0.1 ms, less than handing it to another thread would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from livekit import agents, rtc
from livekit.agents.vad import VADEvent, VADEventType

from parley_speech import registry
from parley_speech import types as speech
from parley_speech.audio import Framer, StreamResampler, to_mono
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, Pcm
from parley_speech.vad.gate import GateState, SpeechGate
from parley_speech.vad.silero import SileroVad

from .log import logger

FRAME_S = FRAME_MS / 1000


@dataclass(frozen=True, slots=True)
class VADOptions:
    """When speech begins and ends; durations in seconds, as everywhere in LiveKit."""

    activation_threshold: float
    deactivation_threshold: float
    min_speech_duration: float
    min_silence_duration: float
    prefix_padding_duration: float
    max_buffered_speech: float

    def gate(self) -> SpeechGate:
        """Raises ValueError where the thresholds or durations contradict each other."""
        for name in ("prefix_padding_duration", "max_buffered_speech"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} must be 0 or more seconds, got {value}")
        return SpeechGate(
            on=self.activation_threshold,
            off=self.deactivation_threshold,
            min_speech_ms=round(self.min_speech_duration * 1000),
            hangover_ms=round(self.min_silence_duration * 1000),
        )


class VAD(agents.vad.VAD):
    """Voice activity detection with one of Parley's engines.

    Args:
        engine: an engine's name ("silero", "webrtc", "fusion", or one that another package adds),
            or what makes one for each stream. Silero is the surest; fusion opens sooner, but may
            take the start of a loud noise for a voice.
        min_speech_duration: seconds of voice in a row that start speech.
        min_silence_duration: seconds of silence in a row that end it. LiveKit's turn detector
            wants 0.25 or more.
        prefix_padding_duration: seconds of audio before the speech that its events carry.
        activation_threshold: probability from which a frame is voice.
        deactivation_threshold: probability below which a frame is silence while speech goes on.
        max_buffered_speech: seconds of speech that an event carries at most; the rest is left out.

    Raises ValueError for thresholds and durations out of range, and EngineUnavailable for an
    engine that cannot run here.
    """

    def __init__(
        self,
        engine: str | Callable[[], speech.Vad] = SileroVad,
        *,
        min_speech_duration: float = 0.05,
        min_silence_duration: float = 0.25,
        prefix_padding_duration: float = 0.5,
        activation_threshold: float = 0.5,
        deactivation_threshold: float = 0.35,
        max_buffered_speech: float = 60.0,
    ) -> None:
        super().__init__(capabilities=agents.vad.VADCapabilities(update_interval=FRAME_S))
        self._make: Callable[[], speech.Vad] = (
            registry.load("vad", engine) if isinstance(engine, str) else engine
        )
        self._name = engine if isinstance(engine, str) else getattr(engine, "__name__", "custom")
        self._options = VADOptions(
            activation_threshold=activation_threshold,
            deactivation_threshold=deactivation_threshold,
            min_speech_duration=min_speech_duration,
            min_silence_duration=min_silence_duration,
            prefix_padding_duration=prefix_padding_duration,
            max_buffered_speech=max_buffered_speech,
        )
        self._options.gate()  # refuses what cannot be met, here rather than in a call
        self._make()  # likewise an engine that cannot run; what it loads is shared by the streams

    @property
    def model(self) -> str:
        return self._name

    @property
    def provider(self) -> str:
        return "parley"

    @property
    def min_silence_duration(self) -> float:
        """LiveKit checks it against what its turn detector needs."""
        return self._options.min_silence_duration

    def stream(self) -> VADStream:
        return VADStream(self, self._make(), self._options)


class VADStream(agents.vad.VADStream):
    """One call's voice activity. Made by `VAD.stream`."""

    def __init__(self, vad: VAD, engine: speech.Vad, options: VADOptions) -> None:
        self._segments = Segments(engine, options)
        super().__init__(vad)  # starts _main_task

    async def _main_task(self) -> None:
        microphone = Microphone()
        async for item in self._input_ch:
            if not isinstance(item, rtc.AudioFrame):
                microphone.reset()
                self._segments.reset()
                continue
            for frame, own in microphone.push(item):
                for event in self._segments.push(frame, own, microphone.rate_hz):
                    self._event_ch.send_nowait(event)


class Microphone:
    """LiveKit's frames as microphone frames: 16 kHz, mono, 20 ms each.

    A change of rate starts over: less than one frame is lost.
    """

    def __init__(self) -> None:
        self.rate_hz = 0
        """Of what was pushed last."""
        self.reset()

    def reset(self) -> None:
        self._resampler = StreamResampler(self.rate_hz, MIC_HZ) if self.rate_hz else None
        self._framer = Framer(MIC_HZ)
        self._own: Pcm = np.zeros(0, np.int16)  # mono, as it came, not given yet
        self._frames = 0  # given since the reset

    def push(self, frame: rtc.AudioFrame) -> Iterator[tuple[Pcm, Pcm]]:
        """For every 20 ms: the frame (320,) and the samples it was made from, at ``rate_hz``."""
        if frame.sample_rate != self.rate_hz:
            self.rate_hz = frame.sample_rate
            self.reset()
        assert self._resampler is not None
        pcm = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
        mono = to_mono(pcm)
        self._own = np.concatenate((self._own, mono))
        for out in self._framer.push(self._resampler.push(mono)):
            taken = self._edge(self._frames + 1) - self._edge(self._frames)
            own, self._own = self._own[:taken], self._own[taken:]
            self._frames += 1
            yield out, own

    def _edge(self, frames: int) -> int:
        """Where so many frames end in what came in: 20 ms are not whole samples at every rate."""
        return frames * FRAME_MS * self.rate_hz // 1000


class Segments:
    """Frames in, LiveKit's events out: no task, no clock but the one that measures the engine."""

    def __init__(self, engine: speech.Vad, options: VADOptions) -> None:
        self._engine = engine
        self._gate = options.gate()
        self._padding = round(options.prefix_padding_duration / FRAME_S)  # frames
        self._most = self._padding + max(1, round(options.max_buffered_speech / FRAME_S))
        self._forget()

    def reset(self) -> None:
        """A hard boundary: what comes next is new."""
        self._engine.reset()
        self._gate.reset()
        self._forget()

    def _forget(self) -> None:
        self._heard: list[Pcm] = []  # frames of the padding and of the speech
        self._full = False
        self._now = 0  # frames since the last boundary
        self._speaking = False
        self._speech_s = 0.0  # this speech, hang-over included; 0 in silence
        self._silence_s = 0.0  # since speech ended; 0 in speech
        self._voiced_s = 0.0  # voice in a row
        self._rate_hz = 0

    def push(self, frame: Pcm, own: Pcm, rate_hz: int) -> Iterator[VADEvent]:
        """``frame`` (320,) is judged; ``own`` is the same 20 ms as the caller gave them."""
        if rate_hz != self._rate_hz:
            self._heard, self._rate_hz = [], rate_hz
        began = time.perf_counter()
        probability = self._engine.push(frame)
        took_s = time.perf_counter() - began
        state = self._gate.push(probability)
        self._count(own, state)
        yield self._event(
            VADEventType.INFERENCE_DONE,
            state,
            frames=[self._audio([own])],
            probability=probability,
            inference_duration=took_s,
            raw_accumulated_silence=state.silence_ms / 1000,
            raw_accumulated_speech=self._voiced_s,
        )
        if state.started:
            self._speaking = True
            self._speech_s, self._silence_s = self._voiced_s, 0.0
            frames = [self._audio(self._heard)]
            yield self._event(VADEventType.START_OF_SPEECH, state, frames=frames)
        elif state.ended:
            self._speaking = False
            self._silence_s = state.silence_ms / 1000
            self._speech_s = max(0.0, self._speech_s - self._silence_s)
            frames = [self._audio(self._heard)]
            yield self._event(VADEventType.END_OF_SPEECH, state, frames=frames)
            self._speech_s, self._full = 0.0, False
            self._trim(state)

    def _count(self, own: Pcm, state: GateState) -> None:
        """Books one frame, before what it decides is told."""
        self._now += 1
        self._voiced_s = self._voiced_s + FRAME_S if state.silence_ms == 0 else 0.0
        if self._speaking:
            self._speech_s += FRAME_S
        else:
            self._silence_s += FRAME_S
        if len(self._heard) < self._most:
            self._heard.append(own)
        elif not self._full:
            self._full = True
            logger.warning("max_buffered_speech reached: events carry no more of this speech")
        if not state.speaking and not state.ended:
            self._trim(state)

    def _trim(self, state: GateState) -> None:
        """Keeps the padding, and the voice that may become speech."""
        keep = self._padding + state.speech_ms // FRAME_MS
        del self._heard[: max(0, len(self._heard) - keep)]

    def _event(
        self,
        kind: VADEventType,
        state: GateState,
        *,
        frames: list[rtc.AudioFrame],
        probability: float = 0.0,
        inference_duration: float = 0.0,
        raw_accumulated_silence: float = 0.0,
        raw_accumulated_speech: float = 0.0,
    ) -> VADEvent:
        return VADEvent(
            type=kind,
            samples_index=self._now * MIC_FRAME,
            timestamp=self._now * FRAME_S,
            speech_duration=self._speech_s,
            silence_duration=self._silence_s,
            frames=frames,
            probability=probability,
            inference_duration=inference_duration,
            speaking=self._speaking,
            raw_accumulated_silence=raw_accumulated_silence,
            raw_accumulated_speech=raw_accumulated_speech,
        )

    def _audio(self, pieces: list[Pcm]) -> rtc.AudioFrame:
        pcm = np.concatenate(pieces)
        return rtc.AudioFrame(pcm.tobytes(), self._rate_hz, 1, len(pcm))
