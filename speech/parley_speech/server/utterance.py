"""One utterance of a WebSocket: it gets a slot, is spoken at its listener's pace, and ends once.

The connection reads the messages and calls the methods here; ``run`` is the utterance's task. It
ends in exactly one of done, cancelled, busy or error, and by then the engine has let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from parley_speech.server import protocol as wire
from parley_speech.server.admission import Admission, ServerBusy
from parley_speech.server.catalogue import Catalogue, NotTaken
from parley_speech.server.failures import ClientGone, log_failure
from parley_speech.server.idle import IdleWatch
from parley_speech.server.metrics import Metrics, Outcome
from parley_speech.server.outlet import FIRST
from parley_speech.server.playout import Playout
from parley_speech.server.precedence import FirstChunks
from parley_speech.server.speech import Speech, TextTooLong
from parley_speech.types import AudioChunk

Send = Callable[[str | bytes, float], Awaitable[None]]
"""Sends a message; the number is its deadline. Raises ClientGone."""

_Last = wire.Done | wire.Cancelled | wire.Busy | wire.Error


@dataclass(frozen=True, slots=True)
class Services:
    """What all utterances of a server share."""

    catalogue: Catalogue
    admission: Admission
    metrics: Metrics
    max_chars: int
    idle_s: float
    first_chunks: FirstChunks = field(default_factory=FirstChunks)


class Utterance:
    """Owned by its connection, which awaits the task that `start` gives.

    Raises UnknownVoice.
    """

    def __init__(self, request: wire.Open, services: Services, send: Send) -> None:
        self.id = request.id
        self.voice = request.voice or services.catalogue.names[0]
        self._services = services
        self._metrics = services.metrics
        self._send = send
        services.catalogue.takes(self.voice)  # an unknown voice is refused before it begins
        self._speech = Speech(
            lambda: services.catalogue.stream(
                self.voice, speed=request.speed, instructions=request.instructions
            ),
            rate_hz=request.rate_hz,
            max_chars=services.max_chars,
        )
        self._tells_opened = request.opened
        self._clocked = request.pace == "clock"
        self._playout = Playout(request.rate_hz, ahead_ms=request.ahead_ms, clocked=self._clocked)
        self._slot = services.admission.slot()
        self._idle = IdleWatch(services.idle_s, self._has_idled)
        self._taken = asyncio.Event()
        self._first_text: float | None = None
        self._first_chunk_ms: int | None = None
        self._stopping: tuple[_Last, Outcome] | None = None
        self._stopped_at = 0.0
        self._may_cancel = False  # its task has begun, and does not close the engine's stream yet
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        self._task = asyncio.create_task(self.run(), name=f"utterance-{self.id}")
        return self._task

    def begin(self) -> None:
        """The engine starts on the text that is there, where a slot is free: before the task has
        its turn, which comes after all other messages that have arrived."""
        try:
            if self._stopping is None and self._slot.at_once():
                self._speech.begin()
        except Exception as error:
            self._stop(*self._failed(error))

    # --- what the client says -----------------------------------------------------------------

    def push(self, text: str) -> None:
        if self._first_text is None and text.strip():
            self._first_text = time.monotonic()
            self._services.first_chunks.awaited(self)
        try:
            self._speech.push(text)
        except Exception as error:
            self._stop(*self._failed(error))
        self._idle.progress()

    def flush(self) -> None:
        self._speech.flush()
        self._idle.progress()

    def end(self) -> None:
        self._speech.end()
        self._idle.progress()

    def take(self, samples: int) -> None:
        self._playout.take(samples)
        self._taken.set()
        self._idle.progress()

    def cancel(self) -> None:
        """At once; ``cancelled`` is sent when the engine has let go. Idempotent."""
        self._stop(wire.Cancelled(id=self.id), "cancelled")

    def abandon(self) -> None:
        """The connection is gone: as `cancel`, with nobody to tell. Its task ends soon."""
        self._stop(wire.Cancelled(id=self.id), "lost")

    def _has_idled(self) -> None:
        said = f"nothing happened for {self._services.idle_s:g} s: send text, taken, end or cancel"
        self._stop(self._error("idle", said), "failed")

    def _stop(self, last: _Last, outcome: Outcome) -> None:
        """Ends it from outside its task. What ends already is left to do so."""
        if self._stopping is not None or self._task is None:
            return
        self._stopping = last, outcome
        self._stopped_at = time.monotonic()
        self._speech.cancel()
        if self._may_cancel:
            self._task.cancel()

    # --- its task -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Ends normally, whatever ended the utterance; only its owner's cancelling is passed on."""
        self._idle.start()
        try:
            last, outcome = await self._until_end()
        finally:
            self._idle.stop()
            self._services.first_chunks.came(self)
        if not isinstance(last, wire.Busy):
            self._count(outcome)
        if outcome != "lost":
            with contextlib.suppress(ClientGone):
                await self._send(wire.text_of(last), FIRST)

    async def _until_end(self) -> tuple[_Last, Outcome]:
        self._may_cancel = True
        try:
            return await self._speak()
        except ClientGone:
            return wire.Cancelled(id=self.id), "lost"
        except asyncio.CancelledError:
            if self._stopping is None:
                self._count("lost")
                raise
            self._metrics.stopped.observe(time.monotonic() - self._stopped_at)
            return self._stopping
        finally:
            self._may_cancel = False

    async def _speak(self) -> tuple[_Last, Outcome]:
        try:
            if self._stopping is None or self._slot.held:
                async with self._slot as queued_ms:
                    await self._say(queued_ms)
        except ClientGone:
            raise
        except Exception as error:
            return self._failed(error)
        return self._stopping or (self._done(), "done")

    async def _say(self, queued_ms: int) -> None:
        """Returns or raises when the engine has let go."""
        self._metrics.queued.observe(queued_ms / 1000)
        try:
            if self._stopping is None:
                self._speech.begin()  # it works while this is told
                if self._tells_opened:
                    opened = wire.Opened(id=self.id, queued_ms=queued_ms)
                    await self._send(wire.text_of(opened), FIRST)
                await self._pump()
        finally:
            self._may_cancel = False
            await self._speech.aclose()

    def _failed(self, error: Exception) -> tuple[_Last, Outcome]:
        """What is said of an error. An engine is a plug-in: its defects end its utterance only."""
        match error:
            case ServerBusy(reason=reason, retry_ms=retry_ms):
                self._metrics.busy.labels(reason).inc()
                return wire.Busy(id=self.id, retry_ms=retry_ms, reason=reason), "failed"
            case NotTaken():
                return self._error("bad_request", str(error)), "failed"
            case TextTooLong():
                return self._error("text_too_long", str(error)), "failed"
            case _:
                return self._error("voice_failed", log_failure(self.voice, error)), "failed"

    async def _pump(self) -> None:
        """Engine to socket, no further ahead of the listener than was asked."""
        async with contextlib.aclosing(self._speech.chunks()) as chunks:
            async for chunk in chunks:
                await self._give(chunk)
                self._services.first_chunks.came(self)
                await self._until_room()
                in_hand_s = self._playout.deadline - time.monotonic()
                await self._services.first_chunks.give_way(in_hand_s)

    async def _until_room(self) -> None:
        wait_s = self._playout.wait_s(time.monotonic())
        if wait_s == 0.0:
            return
        while wait_s != 0.0:
            self._taken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._taken.wait()
            wait_s = self._playout.wait_s(time.monotonic())
        self._playout.held(time.monotonic())

    async def _give(self, chunk: AudioChunk) -> None:
        now = time.monotonic()
        if self._playout.sent_samples == 0 and self._first_text is not None:
            self._first_chunk_ms = round((now - self._first_text) * 1000)
            self._metrics.first_chunk.labels(self.voice).observe(now - self._first_text)
        deadline = self._playout.deadline
        marks = [wire.Mark(m.char_start, m.char_end, m.start, m.end) for m in chunk.marks]
        for start in range(0, len(chunk.pcm), wire.MAX_AUDIO_SAMPLES):
            piece = chunk.pcm[start : start + wire.MAX_AUDIO_SAMPLES]
            at = self._playout.sent_samples
            if self._playout.sent(len(piece), time.monotonic()):
                self._metrics.underruns.labels(self.voice, self._cause).inc()
            while len(marks) > wire.MAX_MARKS:
                some, marks = marks[: wire.MAX_MARKS], marks[wire.MAX_MARKS :]
                nothing = piece[:0]
                await self._send(wire.audio_of(self.id, at, nothing, some), deadline)
            await self._send(wire.audio_of(self.id, at, piece, marks), deadline)
            marks = []
        self._idle.progress()

    # --- what is told -------------------------------------------------------------------------

    @property
    def _cause(self) -> str:
        """Why a buffer ran dry: all the text there was had been spoken, or the voice was slow."""
        return "text" if self._speech.spoken_chars >= self._speech.chars else "voice"

    def _done(self) -> wire.Done:
        return wire.Done(
            id=self.id,
            samples=self._playout.sent_samples,
            chars=self._speech.chars,
            first_chunk_ms=self._first_chunk_ms,
            underruns=self._playout.underruns,
        )

    def _error(self, code: wire.ErrorCode, message: str) -> wire.Error:
        return wire.Error(id=self.id, code=code, message=message)

    def _count(self, outcome: Outcome) -> None:
        self._metrics.utterances.labels(self.voice, outcome).inc()
        seconds = self._playout.sent_samples / self._speech.rate_hz
        self._metrics.audio.labels(self.voice).inc(seconds)
        self._metrics.chars.labels(self.voice).inc(self._speech.chars)
