"""One utterance on one replica, as this side sees it: text in, chunks out, `SourceLost` at worst.

It holds what waits in either direction, both bounded: the replica's connection takes the messages
that are due by `outgoing`, and hands in what came by `receive`. No I/O here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from parley_speech.remote.errors import SourceBusy, SourceLost
from parley_speech.remote.resume import Given, whole_words
from parley_speech.server import protocol as wire
from parley_speech.types import SPEAKER_HZ, AudioChunk, WordMark

AHEAD_MS = 2_000
"""Audio that may wait here for the listener."""
EXCESS = (AHEAD_MS + 4_000) * SPEAKER_HZ // 1000
"""Samples that no server of ours would send ahead: whoever does counts wrongly."""
TAKEN_STEP = 200 * SPEAKER_HZ // 1000
"""The server is told each time that the listener has taken so many samples."""
STOP_S = 2.0
"""Longest wait for the server to confirm that it has stopped."""


class RemoteUtterance:
    """Meets `parley_speech.types.SpeechStream`.

    Args:
        number: its id on the connection.
        open_: what opens it.
        stall_s: silence of the server, after the text has ended, that counts as its death.
        wake: tells the connection that `outgoing` has something.
    """

    def __init__(
        self, open_: wire.Open, *, stall_s: float, wake: Callable[[RemoteUtterance], None]
    ) -> None:
        self.id = open_.id
        self.over = False
        """The server has nothing more to do for it."""
        self._open: wire.Open | None = open_
        self._stall_s = stall_s
        self._wake = wake
        self._text = ""  # not sent yet
        self._all_text = ""
        self._ended = False
        self._end_due = False
        self._cancelled = False
        self._cancel_due = False
        self._chunks: deque[AudioChunk] = deque()
        self._marks: tuple[WordMark, ...] = ()  # that came ahead of their audio
        self._received = 0
        self._given = Given()
        self._told = 0  # samples that the server knows to be taken
        self._error: SourceLost | None = None
        self._changed = asyncio.Event()
        wake(self)

    # --- text in ------------------------------------------------------------------------------

    def push(self, text: str) -> None:
        if text and not (self._ended or self._cancelled or self.over):
            self._text += text
            self._all_text += text
            self._wake(self)

    def end(self) -> None:
        if not (self._ended or self._cancelled or self.over):
            self._ended = self._end_due = True
            self._wake(self)
            self._changed.set()

    # --- audio out ----------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[AudioChunk]:
        return self

    async def __anext__(self) -> AudioChunk:
        while not self._chunks:
            if self._cancelled:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            if self.over:
                raise StopAsyncIteration
            await self._more()
        if self._cancelled:
            raise StopAsyncIteration
        chunk = self._chunks.popleft()
        self._given.add(chunk)
        if self._given.samples - self._told >= TAKEN_STEP and not self.over:
            self._wake(self)
        return chunk

    async def _more(self) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(self._stall_s if self._ended else None):
                await self._changed.wait()
        except TimeoutError:
            self._cancel_due = True
            self._wake(self)
            self._fail(SourceLost(f"the speech server gave nothing for {self._stall_s:g} s"))

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._chunks.clear()
            if not self.over:
                self._cancel_due = True
                self._wake(self)
            self._changed.set()

    async def aclose(self) -> None:
        """Cancels, and returns when the server says that nothing is computed any more, when its
        connection is lost, or after `STOP_S`."""
        self.cancel()
        try:
            async with asyncio.timeout(STOP_S):
                while not self.over:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self.over = True

    # --- what the connection does -------------------------------------------------------------

    def outgoing(self) -> list[str]:
        """The messages that are due, in order."""
        if self.over:
            return []
        if self._open is not None and self._cancelled:
            self.finish()  # the server never hears of it
            return []
        messages: list[wire.ClientMessage] = []
        if self._open is not None:
            messages.append(self._opening(self._open))
            self._open = None
        if self._cancel_due:
            self._cancel_due, self._text, self._end_due = False, "", False
            messages.append(wire.Cancel(id=self.id))
        while self._text:
            messages.append(wire.Text(id=self.id, text=self._delta()))
        if self._end_due:
            self._end_due = False
            messages.append(wire.End(id=self.id))
        if self._given.samples - self._told >= TAKEN_STEP and not self._cancelled:
            self._told = self._given.samples
            messages.append(wire.Taken(id=self.id, samples=self._told))
        return [wire.text_of(message) for message in messages]

    def _opening(self, request: wire.Open) -> wire.Open:
        """With the text that there is: most often one message is a whole utterance."""
        text = self._delta()
        end = self._end_due and not self._text
        self._end_due = self._end_due and not end
        return request.model_copy(update={"text": text, "end": end})

    def _delta(self) -> str:
        text, self._text = self._text[: wire.MAX_DELTA_CHARS], self._text[wire.MAX_DELTA_CHARS :]
        return text

    def receive(self, message: wire.ServerMessage) -> None:
        """Raises ProtocolError."""
        match message:
            case wire.Audio():
                self._audio(message)
            case wire.Done() | wire.Cancelled():
                self.finish()
            case wire.Busy(retry_ms=retry_ms, reason=reason):
                self.lose(SourceBusy(f"the speech server is busy ({reason})", retry_ms / 1000))
            case wire.Error(code=code, message=said):
                self.lose(SourceLost(f"the speech server says {code}: {said}"))
            case _:
                pass  # opened

    def _audio(self, audio: wire.Audio) -> None:
        if audio.start != self._received:
            raise wire.ProtocolError(f"audio from sample {audio.start}, expected {self._received}")
        if self._received - self._given.samples > EXCESS:
            raise wire.ProtocolError("far more audio than the listener has room for")
        self._marks += tuple(self._word(mark) for mark in audio.marks)
        self._received += len(audio.pcm)
        if len(audio.pcm) and not self._cancelled and self._error is None:
            self._chunks.append(AudioChunk(audio.pcm, self._marks))
            self._marks = ()
            self._changed.set()

    def _word(self, mark: wire.Mark) -> WordMark:
        if not mark.char_start <= mark.char_end <= len(self._all_text):
            raise wire.ProtocolError("a word that is not in the text")
        text = self._all_text[mark.char_start : mark.char_end]
        return WordMark(text, mark.char_start, mark.char_end, mark.start, mark.end)

    def finish(self) -> None:
        """The server has done with it."""
        self.over = True
        self._changed.set()

    def lose(self, error: SourceLost) -> None:
        """The server gives no more. What came is kept up to its last whole word. Idempotent."""
        if not self.over:
            self._fail(error)
            self.finish()

    def _fail(self, error: SourceLost) -> None:
        if self._error is None:
            self._error = error
            self._chunks = whole_words(self._chunks, self._given)
