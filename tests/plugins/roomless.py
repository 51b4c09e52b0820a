"""A stock `AgentSession` without a room: a microphone that plays recorded speech in real time, and
a loudspeaker that keeps what it is given and says, like a real one, how far it has played."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
from livekit import rtc
from livekit.agents.voice import io

from parley_speech import audio
from parley_speech.types import Pcm

CLIPS = Path(__file__).parents[1] / "data" / "audio"


def clip(name: str, rate_hz: int = 16_000) -> Pcm:
    return audio.read(CLIPS / f"{name}.flac", rate_hz)


def silence(ms: int, rate_hz: int = 16_000) -> Pcm:
    return np.zeros(rate_hz * ms // 1000, np.int16)


def to_frames(pcm: Pcm, rate_hz: int, ms: int = 20) -> list[rtc.AudioFrame]:
    size = rate_hz * ms // 1000
    pieces = [pcm[at : at + size] for at in range(0, len(pcm), size)]
    return [rtc.AudioFrame(piece.tobytes(), rate_hz, 1, len(piece)) for piece in pieces]


class Microphone(io.AudioInput):
    """Plays ``pcm`` in real time, then silence without end."""

    def __init__(self, pcm: Pcm, rate_hz: int) -> None:
        super().__init__(label="recorded speech")
        self._frames = iter(to_frames(pcm, rate_hz))
        self._quiet = to_frames(silence(20, rate_hz), rate_hz)[0]
        self._due: float | None = None
        self.ended_at = 0.0
        """time.time() at which the speech had been given."""

    async def __anext__(self) -> rtc.AudioFrame:
        now = time.perf_counter()
        self._due = now if self._due is None else self._due + 0.02
        await asyncio.sleep(max(0.0, self._due - now))
        frame = next(self._frames, None)
        if frame is None:
            self.ended_at = self.ended_at or time.time()
        return frame or self._quiet


class Loudspeaker(io.AudioOutput):
    """Keeps what it is given; a reply plays in real time once it has begun."""

    def __init__(self, rate_hz: int) -> None:
        super().__init__(
            label="kept", capabilities=io.AudioOutputCapabilities(pause=False), sample_rate=rate_hz
        )
        self.frames: list[rtc.AudioFrame] = []
        self.first_at = 0.0
        """time.perf_counter() of the first frame."""
        self.began = asyncio.Event()
        self._began = 0.0
        self._duration = 0.0
        self._finishing: asyncio.TimerHandle | None = None

    @property
    def pcm(self) -> Pcm:
        pieces = [np.frombuffer(frame.data, np.int16) for frame in self.frames]
        return np.concatenate([np.zeros(0, np.int16), *pieces])

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._began:
            self._began = self.first_at = time.perf_counter()
            self.began.set()
            self.on_playback_started(created_at=time.time())
        self.frames.append(frame)
        self._duration += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._began:
            left = self._began + self._duration - time.perf_counter()
            loop = asyncio.get_running_loop()
            self._finishing = loop.call_later(max(0.0, left), self._finish, False)

    def clear_buffer(self) -> None:
        if self._began:
            self._finish(True)

    def _finish(self, interrupted: bool) -> None:
        if self._finishing is not None:
            self._finishing.cancel()
        played = min(self._duration, time.perf_counter() - self._began)
        self._began = self._duration = 0.0
        self.on_playback_finished(playback_position=played, interrupted=interrupted)


class Subtitles(io.TextOutput):
    """Keeps the transcript of what the agent says."""

    def __init__(self) -> None:
        super().__init__(label="kept", next_in_chain=None)
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    async def capture_text(self, text: str) -> None:
        self.pieces.append(text)

    def flush(self) -> None:
        pass
