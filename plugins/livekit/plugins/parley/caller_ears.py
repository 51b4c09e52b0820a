"""What a scripted caller hears: the agent's audio and words, on the caller's clock.

Each audio track of the agent is recorded as one run (see ``parley.report.recording`` for how it is
placed) and followed by a simple level gate, which is enough to wait for speech and silence of a
synthetic voice on a quiet line. It is a measuring device and no voice activity detector.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from livekit import rtc

from parley.report.levels import level_dbfs
from parley.report.recording import Recorder
from parley_speech.types import SPEAKER_HZ, Pcm

FRAME_MS = 10
SOUND_DBFS = -55.0  # a voice ducked by 20 dB is still above, Opus's rest of a cut is below
JOIN_S = 0.1  # pauses within a word are part of the sound


class Pulse:
    """Wakes everyone who waits for something to have changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def beat(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Until the next beat, at most ``timeout_s``."""
        try:
            await asyncio.wait_for(self._event.wait(), max(0.0, timeout_s))
        except TimeoutError:
            return  # whoever waits looks at the clock again


@dataclass(slots=True)
class Sound:
    """A stretch in which the agent was heard, wall-clock seconds. ``end`` grows while it lasts."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """A piece of transcription as it came over ``lk.transcription``."""

    at: float
    """Wall-clock time at which it came."""
    speaker: Literal["caller", "agent"]
    segment: str
    text: str
    """Everything of this segment until now."""
    final: bool


class SoundGate:
    """Keeps the stretches in which a level was above SOUND_DBFS."""

    def __init__(self) -> None:
        self.sounds: list[Sound] = []

    def push(self, pcm: Pcm, at: float) -> None:
        """One frame of 10 ms that came at ``at``."""
        if level_dbfs(pcm) <= SOUND_DBFS:
            return
        if self.sounds and at - self.sounds[-1].end <= JOIN_S:
            self.sounds[-1].end = at + FRAME_MS / 1000
        else:
            self.sounds.append(Sound(at, at + FRAME_MS / 1000))

    def sound_since(self, at: float) -> float | None:
        """When, from ``at`` on, something first sounded."""
        return next((max(s.start, at) for s in self.sounds if s.end > at), None)

    def silent_since(self) -> float | None:
        """When the last sound ended; None when there was none yet."""
        return self.sounds[-1].end if self.sounds else None


class Ears:
    """Takes the agent's tracks and transcriptions."""

    def __init__(self, recorder: Recorder, clock: Callable[[], float], pulse: Pulse) -> None:
        self.gate = SoundGate()
        self.transcripts: list[Transcript] = []
        self._recorder = recorder
        self._clock = clock
        self._pulse = pulse

    async def listen(self, track: rtc.Track) -> None:
        """Until the track ends. Cancel it to stop."""
        run = self._recorder.agent_run(SPEAKER_HZ)
        stream = rtc.AudioStream.from_track(
            track=track, sample_rate=SPEAKER_HZ, num_channels=1, frame_size_ms=FRAME_MS
        )
        try:
            async for event in stream:
                at = self._clock()
                pcm = np.frombuffer(event.frame.data, np.int16).copy()
                run.append(pcm, at)
                self.gate.push(pcm, at)
                self._pulse.beat()
        finally:
            await stream.aclose()

    async def read(self, reader: rtc.TextStreamReader, speaker: Literal["caller", "agent"]) -> None:
        """One text stream: an agent's words come as deltas of one stream per segment, a caller's
        as one stream per hypothesis."""
        attributes = reader.info.attributes or {}
        segment = attributes.get("lk.segment_id", reader.info.stream_id)
        text = ""
        async for delta in reader:
            text += delta
            self._keep(Transcript(self._clock(), speaker, segment, text, final=False))
        # The end may bring attributes of its own; they are merged into the stream's.
        attributes = reader.info.attributes or {}
        final = attributes.get("lk.transcription_final", "true") == "true"
        self._keep(Transcript(self._clock(), speaker, segment, text, final))

    def _keep(self, transcript: Transcript) -> None:
        self.transcripts.append(transcript)
        self._pulse.beat()
