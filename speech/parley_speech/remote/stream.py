"""An utterance that outlives what speaks it: when a source is lost, the next goes on.

A source is anything that opens a `SpeechStream` which raises `SourceLost` when it is lost. Knows
no network: `synthesizer` says which sources there are.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from parley_speech.remote.errors import SourceBusy, SourceLost
from parley_speech.remote.resume import Continuation, Given, Place
from parley_speech.types import AudioChunk, SpeechStream

MAX_CHARS = 100_000


class Source(Protocol):
    """Something that can speak."""

    def stream(self) -> SpeechStream:
        """Raises SourceLost."""
        ...

    def is_busy(self, retry_s: float) -> None:
        """It had no slot and said when to come again."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """When a source failed an utterance, and when it said to come again (time.monotonic)."""

    at: float
    again: float | None = None
    times: int = 1


Failures = Mapping[Source, Failure]
"""Sources that failed an utterance since somebody spoke last."""


class Sources(Protocol):
    def best(self, failed: Failures) -> Source | None:
        """The source to use now, of those that are ready; None: none is, right now."""
        ...

    async def wait(self, failed: Failures, since: float, problem: SourceLost | None) -> Source:
        """As `best`, but waits a while; nobody has spoken ``since``. Raises SpeechServersLost when
        none comes."""
        ...


class ResumingStream:
    """Meets `parley_speech.types.SpeechStream`."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._text = ""
        self._ended = False
        self._cancelled = False
        self._stopped = asyncio.Event()
        self._given = Given()
        self._ready: deque[AudioChunk] = deque()
        self._over = False
        self._source: Source | None = None
        self._stream: SpeechStream | None = None
        self._continuation = Continuation(Place(), 0)
        self._chunks: AsyncIterator[AudioChunk] | None = None  # of the stream
        self._began_at = Place()  # the source
        self._silent_since: float | None = None  # nobody speaks
        self._failed: dict[Source, Failure] = {}
        self._old: list[SpeechStream] = []
        source = sources.best(self._failed)
        if source is not None:
            self._begin(source)

    # --- text in ------------------------------------------------------------------------------

    def push(self, text: str) -> None:
        if self._cancelled:
            return
        if self._ended:
            raise RuntimeError("push() after end(): open a new stream for a new utterance")
        if len(self._text) + len(text) > MAX_CHARS:
            raise OverflowError(f"an utterance may have {MAX_CHARS} characters")
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
        self._text += text
        if self._stream is not None:
            self._stream.push(text)

    def end(self) -> None:
        """Idempotent."""
        if not (self._ended or self._cancelled):
            self._ended = True
            if self._stream is not None:
                self._stream.end()

    # --- audio out ----------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[AudioChunk]:
        return self

    async def __anext__(self) -> AudioChunk:
        """Raises SpeechServersLost when nobody is left to speak."""
        while not self._ready or self._cancelled:
            if self._cancelled or self._over:
                raise StopAsyncIteration
            try:
                await self._pull()
            except SourceLost as problem:
                await self._go_on(problem)
        chunk = self._ready.popleft()
        self._given.add(chunk)
        if self._silent_since is not None and self._given.place() != self._began_at:
            # It goes on, and not only over again: who failed before may be well by now.
            self._silent_since = None
            self._failed.clear()
        return chunk

    async def _pull(self) -> None:
        if self._chunks is None:
            await self._go_on(None)
            return
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._ready.extend(self._continuation.finish())
            self._over = True
        else:
            self._ready.extend(self._continuation.take(chunk))

    async def _go_on(self, problem: SourceLost | None) -> None:
        """The next source begins where the last one was lost."""
        self._let_go(problem)
        place = self._given.place()
        if self._ended and not self._text[place.char :].strip():
            self._over = True  # only the news that all was said is missing
            return
        source = self._sources.best(self._failed) or await self._awaited(problem)
        if source is not None:
            self._begin(source)

    def _let_go(self, problem: SourceLost | None) -> None:
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        if self._source is None or self._stream is None:
            return
        now, again = time.monotonic(), None
        if isinstance(problem, SourceBusy):
            self._source.is_busy(problem.retry_s)
            again = now + problem.retry_s
        before = self._failed.get(self._source)
        times = 1 + (before.times if before is not None else 0)
        self._failed[self._source] = Failure(now, again, times)
        self._stream.cancel()
        self._old.append(self._stream)
        self._source = self._stream = self._chunks = None

    async def _awaited(self, problem: SourceLost | None) -> Source | None:
        """Waits for a source, but not beyond a cancel: then None."""
        assert self._silent_since is not None
        coming = self._sources.wait(self._failed, self._silent_since, problem)
        waiting = asyncio.ensure_future(coming)
        stopping = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()
            stopping.cancel()

    def _begin(self, source: Source) -> None:
        place = self._given.place()
        try:
            stream = source.stream()
        except SourceLost:
            self._failed[source] = Failure(time.monotonic())
            return
        self._source, self._stream, self._chunks = source, stream, aiter(stream)
        self._began_at = place
        self._continuation = Continuation(place, self._given.samples)
        if text := self._text[place.char :]:
            stream.push(text)
        if self._ended:
            stream.end()

    def cancel(self) -> None:
        self._cancelled = True
        self._ready.clear()
        if self._stream is not None:
            self._stream.cancel()
        self._stopped.set()

    async def aclose(self) -> None:
        """Cancels, and returns when nothing is computed for it anywhere."""
        self.cancel()
        streams = [*self._old, *([self._stream] if self._stream is not None else [])]
        self._old.clear()
        for stream in streams:
            await stream.aclose()
