"""One utterance being made: text pushed in pieces, audio pulled out, at the rate that was asked.

An engine's stream has one text. Here a ``flush`` ends that text and what follows is a new stream
of the engine, one after the other; samples and characters count through. At any time at most one
stream of the engine is open, so that an utterance never holds two of its slots.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import numpy as np
import soxr

from parley_speech.types import SPEAKER_HZ, AudioChunk, Pcm, SpeechStream, WordMark


class TextTooLong(Exception):
    """More text than an utterance may have."""


@dataclass
class _Part:
    """Text between two flushes, as far as its stream is not open yet."""

    text: list[str] = field(default_factory=list)
    ended: bool = False


class Speech:
    """One utterance, one listener.

    Args:
        engine: opens a stream of the voice.
        rate_hz: of the audio given; samples count at this rate.
        max_chars: text that is taken in all.
    """

    def __init__(
        self, engine: Callable[[], SpeechStream], *, rate_hz: int = SPEAKER_HZ, max_chars: int
    ) -> None:
        self.chars = 0
        """Pushed so far."""
        self.spoken_chars = 0
        """Up to the end of the last word whose mark was given."""
        self.cancelled = False
        self.rate_hz = rate_hz
        self._engine = engine
        self._max_chars = max_chars
        self._parts: deque[_Part] = deque([_Part()])
        self._stream: SpeechStream | None = None
        """Of the first part."""
        self._ended = False
        self._changed = asyncio.Event()
        self._char_base = 0
        self._next_char_base = 0
        self._base = 0  # 24 kHz sample of the current stream's first
        self._made = 0  # 24 kHz samples of all streams so far
        self._rate = _Rate(rate_hz)

    # --- text in ---

    def push(self, text: str) -> None:
        """Raises TextTooLong, and what the engine raises."""
        if self._ended or self.cancelled:
            return
        if self.chars + len(text) > self._max_chars:
            raise self._too_long()
        self.chars += len(text)
        if self._stream is not None and len(self._parts) == 1:
            self._next_char_base += len(text)
            self._push(self._stream, text)
        else:
            self._parts[-1].text.append(text)
        self._changed.set()

    def flush(self) -> None:
        """The text so far is complete. Without text since the last flush, nothing happens."""
        if self._ended or self.cancelled:
            return
        last = self._parts[-1]
        if self._stream is not None and len(self._parts) == 1:
            self._stream.end()
        elif not last.text:
            return
        last.ended = True
        self._parts.append(_Part())
        self._changed.set()

    def end(self) -> None:
        """Idempotent."""
        if self._ended or self.cancelled:
            return
        self._ended = self._parts[-1].ended = True
        if self._stream is not None and len(self._parts) == 1:
            self._stream.end()
        self._changed.set()

    # --- audio out ---

    def begin(self) -> None:
        """The engine starts at once on the text that is there, before anybody asks for `chunks`.
        Without text nothing happens. Raises what the engine raises."""
        if self._stream is None and self._parts and self._parts[0].text:
            self._open_stream(self._parts[0])

    async def chunks(self) -> AsyncGenerator[AudioChunk, None]:
        """To the end of the text, or until it is cancelled. Raises what the engine raises."""
        while await self._next_stream():
            assert self._stream is not None
            async for chunk in self._stream:
                if (out := self._given(chunk)) is not None:
                    yield out
            await self._close_stream()
            if self.cancelled:
                return
            self._parts.popleft()
            if not self._parts:
                break
        rest = self._rate.finish()
        if len(rest) and not self.cancelled:
            yield AudioChunk(rest)

    def cancel(self) -> None:
        """Nothing more is computed. Idempotent."""
        self.cancelled = True
        self._parts.clear()
        if self._stream is not None:
            self._stream.cancel()
        self._changed.set()

    async def aclose(self) -> None:
        """Returns when the engine has let go."""
        self.cancel()
        await self._close_stream()

    async def _next_stream(self) -> bool:
        """Opens the stream of the first part when that has text. False: nothing more comes."""
        while not self.cancelled:
            if self._stream is not None:
                return True  # it has begun
            part = self._parts[0]
            if part.text:
                self._open_stream(part)
                return True
            if self._ended and len(self._parts) == 1:
                return False
            self._changed.clear()
            await self._changed.wait()
        return False

    def _open_stream(self, part: _Part) -> None:
        text = "".join(part.text)
        part.text.clear()
        self._char_base = self._next_char_base
        self._next_char_base += len(text)
        self._base = self._made
        self._stream = self._engine()
        self._push(self._stream, text)
        if part.ended:
            self._stream.end()

    def _push(self, stream: SpeechStream, text: str) -> None:
        try:
            stream.push(text)
        except OverflowError as error:  # far more waits there than is heard
            raise self._too_long() from error

    def _too_long(self) -> TextTooLong:
        most = self._max_chars
        return TextTooLong(
            f"too much text: at most {most} characters, not much faster than they are heard"
        )

    async def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    def _given(self, chunk: AudioChunk) -> AudioChunk | None:
        """A chunk of the current stream as one of the utterance; None: no sample is ready yet."""
        self._made += len(chunk.pcm)
        marks = tuple(self._mark(mark) for mark in chunk.marks)
        if marks:
            self.spoken_chars = marks[-1].char_end
        return self._rate.convert(chunk.pcm, marks)

    def _mark(self, mark: WordMark) -> WordMark:
        return WordMark(
            mark.text,
            mark.char_start + self._char_base,
            mark.char_end + self._char_base,
            self._rate.at(mark.start + self._base),
            self._rate.at(mark.end + self._base),
        )


class _Rate:
    """From 24 kHz to the rate that was asked for, keeping marks before their audio."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._marks: tuple[WordMark, ...] = ()  # for which no sample was ready yet
        self._resampler = (
            None
            if rate_hz == SPEAKER_HZ
            else soxr.ResampleStream(SPEAKER_HZ, rate_hz, 1, dtype="int16")
        )

    def at(self, sample: int) -> int:
        return sample * self.rate_hz // SPEAKER_HZ

    def convert(self, pcm: Pcm, marks: tuple[WordMark, ...]) -> AudioChunk | None:
        if self._resampler is None:
            return AudioChunk(pcm, marks)
        out: Pcm = self._resampler.resample_chunk(pcm)
        self._marks += marks
        if not len(out):
            return None
        ready, self._marks = self._marks, ()
        return AudioChunk(out, ready)

    def finish(self) -> Pcm:
        if self._resampler is None:
            return np.zeros(0, np.int16)
        rest: Pcm = self._resampler.resample_chunk(np.zeros(0, np.int16), last=True)
        return rest
