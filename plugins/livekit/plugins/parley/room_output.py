"""Our own way out into the room: no queue between the decision and the network.

LiveKit's RoomIO cuts audio into 50 ms pieces and holds 200 ms of it, so a duck or a stop would be
heard that much later. The engine already plays at the pace of time, 20 ms a tick; this output
hands every frame straight to WebRTC. Between replies it sends silence: a receiver whose stream
never stops needs no time to find its footing again, and loses no first word.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import numpy as np
from livekit import rtc
from livekit.agents.voice import io

from parley_speech.types import FRAME_MS, SPEAKER_HZ

_TEN_MS = SPEAKER_HZ // 100  # samples; what WebRTC takes at a time from an unbuffered source
_FRAME_S = FRAME_MS / 1000
_QUIET = rtc.AudioFrame(bytes(2 * _TEN_MS), SPEAKER_HZ, 1, _TEN_MS)


class RoomOutput(io.AudioOutput):
    """Publishes the agent's track. ``heard(samples)`` gives the words of the reply that its first
    samples sounded."""

    def __init__(
        self,
        room: rtc.Room | None,
        heard: Callable[[int], str] | None = None,
        *,
        source: rtc.AudioSource | None = None,
    ) -> None:
        super().__init__(
            label="ParleyRoomOutput",
            capabilities=io.AudioOutputCapabilities(pause=False),
            sample_rate=SPEAKER_HZ,
        )
        self._room = room
        self._heard = heard
        self._source = source or rtc.AudioSource(SPEAKER_HZ, 1, queue_size_ms=0)
        self._publication: rtc.LocalTrackPublication | None = None
        self._played = 0
        self._last = 0
        self._open = False
        self._slopes: set[asyncio.Task[None]] = set()
        self._silence: asyncio.Task[None] | None = None
        self._last_at = 0.0

    async def start(self) -> None:
        """Publish the track; needs a connected room."""
        if self._room is None:
            raise RuntimeError("RoomOutput.start needs a room; without one, use it as it is")
        track = rtc.LocalAudioTrack.create_audio_track("agent", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self._publication = await self._room.local_participant.publish_track(track, options)
        self._silence = asyncio.create_task(self._fill(), name="parley-silence")

    async def _fill(self) -> None:
        """Silence whenever nothing was played for a frame's time."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + _FRAME_S, loop.time())
            await asyncio.sleep(due - loop.time())
            if not self._open and loop.time() - self._last_at >= _FRAME_S:
                for _ in range(2):
                    await self._source.capture_frame(_QUIET)

    @property
    def track_sid(self) -> str | None:
        return self._publication.sid if self._publication is not None else None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._open:
            self._open = True
            self._played = 0
            self.on_playback_started(created_at=time.time())
        self._played += frame.samples_per_channel
        self._last = frame.data[-1]
        self._last_at = asyncio.get_running_loop().time()
        for part in _tens(frame):
            await self._source.capture_frame(part)

    def flush(self) -> None:
        super().flush()
        self._finish(interrupted=False)

    def clear_buffer(self) -> None:
        """Nothing waits here that could be cleared; a voice cut in mid-wave is sloped off."""
        self._finish(interrupted=True)
        if self._last:
            task = asyncio.create_task(self._slope_off(), name="parley-slope")
            self._slopes.add(task)
            task.add_done_callback(self._slopes.discard)

    def _finish(self, *, interrupted: bool) -> None:
        if not self._open:
            return
        self._open = False
        self.on_playback_finished(
            playback_position=self._played / SPEAKER_HZ,
            interrupted=interrupted,
            synchronized_transcript=self._heard(self._played) if self._heard is not None else None,
        )

    async def _slope_off(self) -> None:
        """10 ms from the last sample to zero: a cut by the application ends in a slope."""
        slope = self._last * (1 + np.cos(np.linspace(0, np.pi, _TEN_MS))) / 2
        self._last = 0
        pcm = slope.astype(np.int16).tobytes()
        await self._source.capture_frame(rtc.AudioFrame(pcm, SPEAKER_HZ, 1, _TEN_MS))

    async def aclose(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            await asyncio.gather(self._silence, return_exceptions=True)
        await asyncio.gather(*self._slopes, return_exceptions=True)
        await self._source.aclose()


def _tens(frame: rtc.AudioFrame) -> Iterator[rtc.AudioFrame]:
    """The frame in pieces of 10 ms, the last one filled up with silence."""
    pcm = np.frombuffer(frame.data, np.int16)
    pcm = np.pad(pcm, (0, -len(pcm) % _TEN_MS))
    for part in pcm.reshape(-1, _TEN_MS):
        yield rtc.AudioFrame(part.tobytes(), SPEAKER_HZ, 1, _TEN_MS)
