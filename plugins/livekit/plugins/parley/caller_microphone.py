"""The microphone of a scripted caller: clips mixed on one time line, sent without ever pausing.

A microphone never stops: when there is nothing to say it sends silence. Frames of 10 ms leave on a
schedule that does not drift (each is due at the start plus its number times 10 ms), into an
unbuffered source, so that what is sent when is known to the sample.

Convention: a sample's time is when its frame was due to be handed to WebRTC, plus its place in the
frame. A real sound card would have heard it 10 ms earlier.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from parley.report.recording import Recorder
from parley_speech.types import Pcm

log = logging.getLogger("parley.caller")

FRAME_MS = 10
RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
# A late frame is sent at once, and the schedule is kept. Later than this it is not: the burst would
# sit in the receiver's jitter buffer and delay everything after it.
SKIP_AFTER_S = 0.2
FIRST_ECHO_MS = 30  # less than this could not be sent in time


class CallerError(RuntimeError):
    """The caller cannot do what was asked; the message says why."""


class Utterance:
    """A clip that is to be said, being said, or said. ``await utterance`` waits for its end.

    Awaiting gives the time of its first sample; raises CallerError if the caller left before.
    """

    def __init__(self) -> None:
        self.started_at: float | None = None
        """Wall-clock time of the first sample."""
        self.ended_at: float | None = None
        """Wall-clock time behind the last sample."""
        self._started = asyncio.Event()
        self._ended = asyncio.Event()

    async def started(self) -> float:
        await self._started.wait()
        return self._known(self.started_at)

    async def done(self) -> float:
        """The wall-clock time behind the last sample, once it was sent."""
        await self._ended.wait()
        return self._known(self.ended_at)

    def __await__(self) -> Generator[object, None, float]:
        yield from self._ended.wait().__await__()
        self._known(self.ended_at)
        return self._known(self.started_at)

    def _known(self, at: float | None) -> float:
        if at is None:
            raise CallerError("The caller left the room before this clip was said to its end.")
        return at

    def _start(self, at: float) -> None:
        self.started_at = at
        self._started.set()

    def _end(self, at: float | None) -> None:
        self.ended_at = at
        self._started.set()
        self._ended.set()


@dataclass(eq=False)  # a clip is itself, whatever it holds
class _Clip:
    samples: NDArray[np.float32]
    utterance: Utterance | None = None
    at: float | None = None
    """Wall-clock time asked for; None: after the clip before it."""
    start: int | None = None
    """Its first sample's number on the microphone's line, once it is known."""


@dataclass
class ClipMixer:
    """The microphone's line of samples: which clips sound in each frame. Pure; no clock of its own.

    Clips given without a time follow each other; clips given with a time, and echo, are mixed in.
    """

    rate_hz: int
    _queue: deque[_Clip] = field(default_factory=deque)
    _timed: list[_Clip] = field(default_factory=list)
    _free: int = 0
    """Where the queue's next clip may begin."""

    def add(self, samples: NDArray[np.float32], at: float | None) -> Utterance:
        clip = _Clip(samples, Utterance(), at)
        if at is None:
            self._queue.append(clip)
        else:
            self._timed.append(clip)
        return clip.utterance or Utterance()

    def add_at(self, samples: NDArray[np.float32], start: int) -> None:
        """Mixes samples in from number ``start`` on; what is past by then is lost."""
        self._timed.append(_Clip(samples, start=start))

    def frame(self, first: int, count: int, zero_at: float) -> Pcm:
        """Samples ``first`` to ``first + count``; ``zero_at``: the wall-clock time of number 0."""
        line = np.zeros(count, np.float32)
        while self._queue and max(first, self._free) < first + count:
            clip = self._queue[0]
            if clip.start is None:
                clip.start = max(first, self._free)
            if not self._mix(clip, line, first, zero_at):
                break
            self._queue.popleft()
            self._free = clip.start + clip.samples.size
        for clip in list(self._timed):
            if clip.start is None and clip.at is not None:
                due = round((clip.at - zero_at) * self.rate_hz)
                if due >= first + count:
                    continue
                clip.start = max(due, first)
            if self._mix(clip, line, first, zero_at):
                self._timed.remove(clip)
        return np.clip(np.rint(line), -32768, 32767).astype(np.int16)

    def _mix(self, clip: _Clip, line: NDArray[np.float32], first: int, zero_at: float) -> bool:
        """Adds the clip's part in this frame; True when that was its last."""
        assert clip.start is not None
        begin, end = clip.start - first, clip.start - first + clip.samples.size
        part = clip.samples[max(0, -begin) : max(0, line.size - begin)]
        place = max(0, begin)
        line[place : place + part.size] += part
        if clip.utterance:
            if clip.utterance.started_at is None:
                clip.utterance._start(zero_at + clip.start / self.rate_hz)
            if end <= line.size:
                clip.utterance._end(zero_at + (clip.start + clip.samples.size) / self.rate_hz)
        return end <= line.size

    def drop_all(self) -> None:
        """Forgets every clip; those who wait for one get an error."""
        for clip in (*self._queue, *self._timed):
            if clip.utterance:
                clip.utterance._end(None)
        self._queue.clear()
        self._timed.clear()


class Microphone:
    """Sends what its mixer gives, frame by frame, and records it."""

    def __init__(
        self, rate_hz: int, channels: int, recorder: Recorder, clock: Callable[[], float]
    ) -> None:
        if rate_hz not in RATES_HZ or channels not in (1, 2):
            raise ValueError(
                f"A microphone has a rate of {', '.join(map(str, RATES_HZ))} Hz and 1 or 2 "
                f"channels, not {rate_hz} Hz and {channels}."
            )
        self.rate_hz = rate_hz
        self.channels = channels
        self.mixer = ClipMixer(rate_hz)
        self.muted = False
        self.late_ms = deque[float](maxlen=6000)
        """How late each of the last frames was (a minute's worth)."""
        self.skipped_ms = 0.0
        """Time that was never sent because this process stalled."""
        self._recorder = recorder
        self._clock = clock
        self._next = 0
        self._zero_at = 0.0

    def sample_due(self, at: float) -> int:
        """The number of the sample that is sent at wall-clock time ``at``."""
        return round((at - self._zero_at) * self.rate_hz)

    async def run(self, source: rtc.AudioSource) -> None:
        """Sends for ever; cancel it to stop."""
        count = self.rate_hz * FRAME_MS // 1000
        self._restart()
        run = self._recorder.caller_run(self.rate_hz)
        while True:
            due = self._zero_at + self._next / self.rate_hz
            wait_s = due - self._clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            late_s = max(0.0, self._clock() - due)
            self.late_ms.append(late_s * 1000)
            if late_s > SKIP_AFTER_S:
                log.warning("the microphone stalled for %.0f ms; that time is lost", late_s * 1000)
                self.skipped_ms += late_s * 1000
                self._zero_at += late_s
                due += late_s
                run = self._recorder.caller_run(self.rate_hz)
            pcm = self.mixer.frame(self._next, count, self._zero_at)
            self._next += count
            run.append(np.zeros_like(pcm) if self.muted else pcm, due)
            data = np.repeat(pcm, self.channels).tobytes()
            await source.capture_frame(rtc.AudioFrame(data, self.rate_hz, self.channels, count))

    def _restart(self) -> None:
        """The line begins now, at the number that comes next."""
        self._zero_at = self._clock() - self._next / self.rate_hz


class Echo:
    """Returns a track that is heard into the microphone, later and softer, without gaps.

    The track is received a second time at the microphone's own rate, as a resampler here would take
    longer than the shortest echo.
    """

    SLIP_S = 0.005  # a place that is off by more is given up: a step, once, is better than a shift
    WINDOW = 200  # frames: 2 s, as in a recording

    def __init__(self, microphone: Microphone, delay_s: float, gain: float) -> None:
        self._microphone = microphone
        self._delay_s = delay_s
        self._gain = np.float32(gain)

    async def run(self, track: rtc.Track, clock: Callable[[], float]) -> None:
        """Until the track ends; cancel it to stop."""
        stream = rtc.AudioStream.from_track(
            track=track,
            sample_rate=self._microphone.rate_hz,
            num_channels=1,
            frame_size_ms=FRAME_MS,
        )
        rate_hz = self._microphone.rate_hz
        offsets = deque[float](maxlen=self.WINDOW)
        taken, place = 0, 0
        try:
            async for event in stream:
                pcm = np.frombuffer(event.frame.data, np.int16).astype(np.float32)
                # Frames come late and never early, so the least offset is the track's true place
                # (as parley.report.recording has it).
                offsets.append(clock() - taken / rate_hz)
                at = min(offsets) + taken / rate_hz
                due = self._microphone.sample_due(at + self._delay_s)
                if abs(place - due) > self.SLIP_S * rate_hz:
                    place = due
                self._microphone.mixer.add_at(pcm * self._gain, place)
                place += pcm.size
                taken += pcm.size
        finally:
            await stream.aclose()
