"""A scripted caller: a real participant of a real room, for demonstrations, tests and benchmarks.

It speaks recorded clips at known times, hears the agent, and records both on one time line::

    async with Caller(server.url, server.token("caller", "room", agent="")) as caller:
        await caller.wait_agent()
        said_at = await caller.say("question.flac")
        heard_at = await caller.wait_speech(after=said_at)
        await caller.wait_silence(800)
    caller.recording().save("call.wav")

All times are wall-clock seconds as of ``time.time()`` when the caller was made, carried on by a
monotonic clock, so that a step of the system's clock cannot tear a recording.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import soundfile
import soxr
from livekit import rtc
from livekit.rtc.participant import PublishTrackError
from numpy.typing import NDArray

from parley.report.recording import Recorder, Recording
from parley_speech.types import MIC_HZ, Pcm

from .caller_ears import Ears, Pulse, Sound, Transcript
from .caller_microphone import FIRST_ECHO_MS, FRAME_MS, CallerError, Echo, Microphone, Utterance

__all__ = ["Caller", "CallerError", "Sound", "Transcript", "Utterance"]

log = logging.getLogger("parley.caller")

T = TypeVar("T")

TRANSCRIPTION_TOPIC = "lk.transcription"
CONNECT_TIMEOUT_S = 10.0
WAIT_S = 30.0


class Caller:
    """One caller. As an asynchronous context manager it joins on entry and leaves at the end.

    ``rate_hz``, ``channels``: of its microphone. ``agent``: the identity that is listened to; None
    takes every participant whose token says that it is an agent.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        rate_hz: int = 48_000,
        channels: int = 1,
        agent: str | None = None,
    ) -> None:
        self.url = url
        self._token = token
        self._agent = agent
        self._epoch = time.time() - time.perf_counter()
        self._recorder = Recorder()
        self._pulse = Pulse()
        self._ears = Ears(self._recorder, self.now, self._pulse)
        self._microphone = Microphone(rate_hz, channels, self._recorder, self.now)
        self._room: rtc.Room | None = None
        self._source: rtc.AudioSource | None = None
        self._track: rtc.LocalAudioTrack | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._heard: dict[str, rtc.Track] = {}  # the agent's audio, by track id
        self._agent_heard: str | None = None
        self._echo: Echo | None = None
        self._echo_tasks: list[asyncio.Task[None]] = []

    def now(self) -> float:
        """Wall-clock time on this caller's clock."""
        return self._epoch + time.perf_counter()

    # --- in and out of the room -------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.join()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.leave()
        if error is None:
            self._check()

    @property
    def room(self) -> rtc.Room:
        """The room as LiveKit's client sees it, for whatever this class does not do."""
        if self._room is None:
            raise CallerError("The caller is in no room: join() first.")
        return self._room

    async def join(self) -> None:
        """Joins (again) and publishes the microphone. Raises CallerError."""
        if self._room is not None:
            raise CallerError("The caller is in the room already.")
        room = rtc.Room()
        room.on("track_subscribed", self._on_track)
        room.on("track_unsubscribed", self._on_track_gone)
        room.on("disconnected", self._on_disconnected)
        room.register_text_stream_handler(TRANSCRIPTION_TOPIC, self._on_text)
        self._room, self._failure = room, None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await room.connect(self.url, self._token)
                await self._publish(room)
        except (rtc.ConnectError, PublishTrackError, TimeoutError) as error:
            await self.leave()
            raise CallerError(
                f"Cannot join the room at {self.url}: {error or 'no answer'}. "
                "Is the server running, and was the token made with its key and secret?"
            ) from error
        except BaseException:
            await self.leave()
            raise

    async def leave(self) -> None:
        """Leaves; what was recorded stays. Clips not said yet are dropped. Idempotent."""
        room, self._room = self._room, None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # _finished keeps their errors
        self._microphone.mixer.drop_all()
        self._heard.clear()
        if room is not None:
            await room.disconnect()
        if self._source is not None:
            await self._source.aclose()
        self._source = self._track = None
        self._pulse.beat()

    async def _publish(self, room: rtc.Room) -> None:
        microphone = self._microphone
        # Unbuffered: what is captured is sent at once (20 ms sooner than any queue; and a queue of
        # 200 ms, the agent framework's own choice, would hide what is sent when).
        self._source = rtc.AudioSource(microphone.rate_hz, microphone.channels, queue_size_ms=0)
        self._track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        self._spawn(microphone.run(self._source))
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await room.local_participant.publish_track(self._track, options)
        if microphone.muted:
            self._track.mute()

    # --- speaking ---------------------------------------------------------------------------

    def say(
        self,
        clip: Pcm | str | Path,
        *,
        at: float | None = None,
        gain_db: float = 0.0,
        rate_hz: int = MIC_HZ,
    ) -> Utterance:
        """Says a clip: mono int16 PCM at ``rate_hz``, or a sound file.

        ``at``: the wall-clock time of its first sample (to the sample; at once if that is past),
        mixed with whatever sounds then. None: now, or after the clips already said without a time.
        Awaiting the Utterance waits for the end and gives the time of the first sample;
        ``await utterance.started()`` gives it as soon as it is known.
        """
        if self._room is None:
            raise CallerError("The caller is in no room: join() before say().")
        samples = _samples(clip, rate_hz, self._microphone.rate_hz)
        return self._microphone.mixer.add(samples * np.float32(10 ** (gain_db / 20)), at)

    def mute(self) -> None:
        """Others see the microphone muted and hear nothing; clips go on unheard."""
        self._microphone.muted = True
        if self._track:
            self._track.mute()

    def unmute(self) -> None:
        self._microphone.muted = False
        if self._track:
            self._track.unmute()

    def echo(self, delay_ms: float, gain_db: float) -> None:
        """From now on, returns the agent's voice into the microphone, as a loudspeaker in a room
        would: ``delay_ms`` from hearing to sending, at least 30, exact to about a millisecond."""
        if delay_ms < FIRST_ECHO_MS:
            raise ValueError(f"An echo takes at least {FIRST_ECHO_MS} ms here, not {delay_ms:g}.")
        self.echo_off()
        self._echo = Echo(self._microphone, delay_ms / 1000, 10 ** (gain_db / 20))
        for track in self._heard.values():
            self._echo_tasks.append(self._spawn(self._echo.run(track, self.now)))

    def echo_off(self) -> None:
        self._echo = None
        for task in self._echo_tasks:
            task.cancel()
        self._echo_tasks.clear()

    @property
    def lateness_ms(self) -> tuple[float, float]:
        """P50 and maximum of how late the last minute's frames were sent."""
        late = self._microphone.late_ms
        return (statistics.median(late), max(late)) if late else (0.0, 0.0)

    # --- hearing ----------------------------------------------------------------------------

    @property
    def sounds(self) -> list[Sound]:
        """Every stretch in which the agent was heard, oldest first (live, in steps of 10 ms)."""
        return list(self._ears.gate.sounds)

    @property
    def transcripts(self) -> list[Transcript]:
        """Every transcription that came, of both sides, in order."""
        return list(self._ears.transcripts)

    def recording(self) -> Recording:
        """Both sides until now. Raises ValueError when nothing was sent or heard."""
        return self._recorder.recording()

    async def wait_agent(self, *, timeout_s: float = WAIT_S) -> str:
        """Until the agent's audio can be heard; its identity."""
        return await self._until(
            lambda: self._agent_heard if self._heard else None,
            timeout_s,
            "no agent published audio",
        )

    async def wait_speech(self, *, after: float | None = None, timeout_s: float = WAIT_S) -> float:
        """When the agent was first heard at or after ``after`` (None: from now on)."""
        since = self.now() if after is None else after
        return await self._until(
            lambda: self._ears.gate.sound_since(since), timeout_s, "the agent was not heard"
        )

    async def wait_silence(self, ms: float, *, timeout_s: float = WAIT_S) -> float:
        """Waits until nothing was heard of the agent for ``ms``; when that silence began."""
        began = self.now()

        def silent() -> float | None:
            since = self._ears.gate.silent_since() or began
            return since if self.now() - since >= ms / 1000 else None

        return await self._until(
            silent, timeout_s, f"the agent was not silent for {ms:g} ms", FRAME_MS / 1000
        )

    async def wait_transcript(
        self, accept: Callable[[Transcript], bool], *, timeout_s: float = WAIT_S
    ) -> Transcript:
        """The first transcription, of those that came and those to come, that ``accept`` takes."""
        return await self._until(
            lambda: next(filter(accept, self._ears.transcripts), None),
            timeout_s,
            "no such transcription came",
        )

    async def _until(
        self,
        found: Callable[[], T | None],
        timeout_s: float,
        failure: str,
        look_every_s: float = 1.0,
    ) -> T:
        """Looks whenever something changed (and every ``look_every_s``) until there is a result."""
        deadline = self.now() + timeout_s
        while (result := found()) is None:
            self._check()
            if self._room is None:
                raise CallerError(f"The caller is in no room (join() it first), so {failure}.")
            left_s = deadline - self.now()
            if left_s <= 0:
                raise TimeoutError(f"In {timeout_s:g} s {failure}.")
            await self._pulse.wait(min(left_s, look_every_s))
        return result

    # --- what the room tells us ---------------------------------------------------------------

    def _on_track(
        self,
        track: rtc.Track,
        publication: rtc.RemoteTrackPublication,
        participant: rtc.RemoteParticipant,
    ) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO and self._is_agent(participant):
            self._heard[track.sid] = track
            self._agent_heard = participant.identity
            self._spawn(self._ears.listen(track))
            if self._echo:
                self._echo_tasks.append(self._spawn(self._echo.run(track, self.now)))
            self._pulse.beat()

    def _on_track_gone(
        self,
        track: rtc.Track,
        publication: rtc.RemoteTrackPublication,
        participant: rtc.RemoteParticipant,
    ) -> None:
        self._heard.pop(track.sid, None)

    def _is_agent(self, participant: rtc.Participant) -> bool:
        if self._agent is not None:
            return participant.identity == self._agent
        return participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT

    def _on_text(self, reader: rtc.TextStreamReader, identity: str) -> None:
        mine = self._room is not None and identity == self._room.local_participant.identity
        self._spawn(self._ears.read(reader, "caller" if mine else "agent"))

    def _on_disconnected(self, reason: object) -> None:
        if self._room is not None:  # else we left
            self._fail(CallerError(f"The room was closed or lost (reason {reason})."))

    # --- tasks ------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Runs until leave(), which cancels and awaits it; an error makes the next wait fail."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._pulse.beat()

    def _check(self) -> None:
        if self._failure is not None:
            raise CallerError(f"The call failed: {self._failure}") from self._failure


def _samples(clip: Pcm | str | Path, rate_hz: int, wanted_hz: int) -> NDArray[np.float32]:
    """A clip as mono float32 on the int16 scale, at ``wanted_hz``."""
    if isinstance(clip, str | Path):
        data, rate_hz = soundfile.read(clip, dtype="float32", always_2d=True)
        samples = data.mean(axis=1) * np.float32(32768)
    elif clip.ndim == 1 and clip.dtype == np.int16:
        samples = clip.astype(np.float32)
    else:
        raise ValueError(f"A clip is int16 of shape (samples,), not {clip.dtype} of {clip.shape}.")
    resampled: NDArray[np.float32] = soxr.resample(samples, rate_hz, wanted_hz)
    return resampled.astype(np.float32)
