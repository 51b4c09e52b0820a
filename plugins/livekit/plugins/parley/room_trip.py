"""The room's own round trip, measured with clicks between two plain participants.

Every latency that a caller measures in a room contains what the room itself costs: encoding, the
way to the server and back, and two jitter buffers. This measures that share in the same run: one
participant sends clicks, another returns each frame the moment it comes, and the recording tells
how long each click was under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import numpy as np
from livekit import rtc

from parley.report.levels import sounds
from parley.report.recording import Recording
from parley_speech.types import Pcm

from .caller import Caller

RATE_HZ = 48_000
CLICK_S = 0.02
CLICK_HZ = 1_000.0
SETTLE_S = 1.0  # jitter buffers are at their longest when a track begins
CLICK_DBFS = -30.0
ECHO = "echo"
"""The identity of who sends the clicks back."""
Token = Callable[[str, str], str]
"""(identity, room) -> token, as LiveKitServer.token."""


@dataclass(frozen=True, slots=True)
class RoomTrip:
    """Round trips of single clicks in milliseconds, in the order sent."""

    clicks_ms: tuple[float, ...]
    lost: int
    """Clicks that did not come back."""

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.clicks_ms)

    @property
    def p95_ms(self) -> float:
        return float(np.percentile(self.clicks_ms, 95))


async def room_trip(url: str, token: Token, *, clicks: int = 12, every_s: float = 0.3) -> RoomTrip:
    """Sends ``clicks`` clicks through a room of its own; takes ``clicks * every_s + 2`` s or so.

    Raises RuntimeError when none came back.
    """
    room = f"trip-{uuid.uuid4().hex[:8]}"
    async with echo_bot(url, token(ECHO, room)):
        return await clicks_through(url, token("clicker", room), clicks=clicks, every_s=every_s)


async def clicks_through(
    url: str, token: str, *, clicks: int = 12, every_s: float = 0.3
) -> RoomTrip:
    """The clicker's side alone, in a room with an `echo_bot`. Raises RuntimeError."""
    caller = Caller(url, token, rate_hz=RATE_HZ, agent=ECHO)
    async with caller:
        await caller.wait_agent()
        first_at = caller.now() + SETTLE_S
        times = [first_at + i * every_s for i in range(clicks)]
        said = [caller.say(click(), at=at, rate_hz=RATE_HZ) for at in times]
        sent_at = [await utterance for utterance in said]
        await caller.wait_silence(every_s * 1000)
    return _trips(caller.recording(), sent_at, every_s)


def click() -> Pcm:
    """A tone burst with a hard onset, 20 ms: short, and nothing that Opus would smear away."""
    t = np.arange(round(CLICK_S * RATE_HZ)) / RATE_HZ
    return (16_000 * np.cos(2 * np.pi * CLICK_HZ * t)).astype(np.int16)


def _trips(recording: Recording, sent_at: list[float], every_s: float) -> RoomTrip:
    trips = []
    for at in sent_at:
        window = recording.between(at, at + every_s)
        heard = sounds(window.agent, window.rate_hz, threshold_dbfs=CLICK_DBFS)
        if heard:
            trips.append(float(window.started_at - at + heard[0].start_s) * 1000)
    if not trips:
        raise RuntimeError(f"None of {len(sent_at)} clicks came back through the room.")
    return RoomTrip(tuple(trips), len(sent_at) - len(trips))


@contextlib.asynccontextmanager
async def echo_bot(url: str, token: str) -> AsyncIterator[None]:
    """A participant that sends back, unbuffered, every frame of the first audio track it hears."""
    room = rtc.Room()
    source = rtc.AudioSource(RATE_HZ, 1, queue_size_ms=0)
    heard = asyncio.get_running_loop().create_future()

    def on_track(track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO and not heard.done():
            heard.set_result(track)

    async def send_back() -> None:
        stream = rtc.AudioStream.from_track(
            track=await heard, sample_rate=RATE_HZ, num_channels=1, frame_size_ms=10
        )
        try:
            async for event in stream:
                await source.capture_frame(event.frame)
        finally:
            await stream.aclose()

    room.on("track_subscribed", on_track)
    await room.connect(url, token)
    try:
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        track = rtc.LocalAudioTrack.create_audio_track("echo", source)
        await room.local_participant.publish_track(track, options)
        task = asyncio.create_task(send_back())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    finally:
        await room.disconnect()
        await source.aclose()
