"""One utterance of a codec-token voice: its speaking task, and its sound on the way out.

A stream is a row of pieces (`token_pieces`). The LM speaks one piece at a time, while the sound of
the one before is decoded and heard; pauses between pieces are exact silence.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import numpy as np

from parley_speech.lm.errors import UtteranceTooLong
from parley_speech.text import Break, Spoken, TextFrontEnd
from parley_speech.token_voice import Floats, TokenDecoder, TokenLm, TokenPrompt
from parley_speech.tts.token_decoding import Decoding, DecodingThread, Playout
from parley_speech.tts.token_marks import samples_per_letter
from parley_speech.tts.token_pieces import Piece, Pieces, letters_that_fit
from parley_speech.tts.token_sound import Sound
from parley_speech.types import SPEAKER_FRAME, SPEAKER_HZ, AudioChunk, Pcm, WordMark

CHUNK = 120 * SPEAKER_HZ // 1000  # samples: the longest chunk
LM_AHEAD = 20 * SPEAKER_HZ  # samples not heard yet before the LM begins another piece
MAX_WAITING_CHARS = 100_000  # about two hours of speech: whoever pushes more has lost control


class Models(Protocol):
    """What the streams of a voice share."""

    lm: TokenLm
    decoder: TokenDecoder
    decoding: DecodingThread
    samples_per_token: float


class TokenSpeechStream:
    """Meets `parley_speech.types.SpeechStream`. One listener, on one event loop."""

    def __init__(self, engine: Models, prompt: TokenPrompt, front_end: TextFrontEnd) -> None:
        self._engine, self._prompt, self._front_end = engine, prompt, front_end
        self._per_token = engine.samples_per_token
        pace = samples_per_letter(prompt, engine.samples_per_token)
        self._pieces = Pieces(
            samples_per_letter=pace,
            samples_per_token=engine.samples_per_token,
            most_letters=letters_that_fit(engine.lm, prompt, pace / engine.samples_per_token),
        )
        self._playout = Playout(SPEAKER_HZ)
        self._last_decoding: Decoding | None = None
        self._pushed_chars = 0
        self._marked_chars = 0  # up to the end of the last word that was given
        self._ended = False
        self._cancelled = False
        self._error: BaseException | None = None
        self._at = 0  # samples given
        self._silence = 0  # samples owed
        self._lock = threading.Lock()  # guards the sounds of pieces; held for microseconds
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()  # for the listener
        self._go_on = asyncio.Event()  # for the speaking task
        self._task: asyncio.Task[None] | None = None

    # --- text in ---

    def push(self, text: str) -> None:
        """Raises RuntimeError after ``end`` and OverflowError when far more waits than is heard."""
        if self._cancelled:
            return
        if self._ended:
            raise RuntimeError("push() after end(): open a new stream for a new utterance")
        waiting = self._pushed_chars - self._marked_chars
        if waiting + len(text) > MAX_WAITING_CHARS:
            raise OverflowError(
                f"{waiting} characters wait to be spoken and {len(text)} more came; "
                f"at most {MAX_WAITING_CHARS} may wait: cancel the stream, or push more slowly"
            )
        self._pieces.push(text)
        self._pushed_chars += len(text)
        self._add(self._front_end.push(text))

    def end(self) -> None:
        """Idempotent."""
        if self._ended or self._cancelled:
            return
        self._ended = True
        self._add(self._front_end.end())
        self._pieces.end()
        self._go_on.set()
        self._changed.set()

    def _add(self, items: Sequence[Spoken | Break]) -> None:
        self._pieces.add(items)
        if self._task is None:
            self._task = self._loop.create_task(self._run())
        self._go_on.set()

    # --- tokens, on a task of its own ---

    async def _run(self) -> None:
        """Speaks the pieces one after the other."""
        try:
            while self._pieces.unspoken:
                piece = self._pieces.unspoken[0]
                await self._until(piece.is_decided)
                if piece.can_be_spoken():
                    await self._until(self._is_wanted)
                    await self._say(piece)
                    if piece.cut is not None:
                        return  # its listener is told once he has heard what was said
                else:
                    piece.complete = piece.decoded = True
                self._pieces.unspoken.popleft()
                self._changed.set()
        except Exception as error:  # raised again where the listener waits
            self._fail(error)

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._go_on.clear()
            await self._go_on.wait()

    def _is_wanted(self) -> bool:
        """Whether the listener has heard enough of what was made for another piece to be made."""
        return self._pieces.unheard_samples() < LM_AHEAD

    async def _say(self, piece: Piece) -> None:
        sound = Sound(self._engine.decoder.sample_rate_hz)

        def emit(samples: Floats, last: bool) -> None:
            self._sounded(piece, sound.pcm(samples, last=last), last)

        piece.decoding = self._engine.decoding.open(self._prompt, self._playout, emit)
        piece.decoding.error = self._fail_from_thread
        piece.decoding.after, self._last_decoding = self._last_decoding, piece.decoding
        piece.tokens = self._engine.lm.utterance(self._prompt)
        try:
            for text in piece.texts:
                if text:
                    piece.tokens.push(text)
            piece.texts.clear()
            if piece.closed:
                piece.tokens.end()
            async for tokens in piece.tokens:
                piece.received += len(tokens)
                piece.decoding.feed(tokens)
            piece.complete = True
            piece.decoding.finish()
        except UtteranceTooLong as error:
            piece.cut = error
            piece.decoding.finish()
        except BaseException:
            piece.decoding.cancel()
            raise
        finally:
            await piece.tokens.aclose()

    def _sounded(self, piece: Piece, pcm: Pcm, last: bool) -> None:
        """Takes sound from the decoding thread."""
        with self._lock:
            if self._cancelled:
                return
            for at in range(0, len(pcm), CHUNK):
                piece.sounds.append(pcm[at : at + CHUNK])
            piece.decoded = last
        self._wake()

    def _fail_from_thread(self, error: BaseException) -> None:
        try:
            self._loop.call_soon_threadsafe(self._fail, error)
        except RuntimeError:  # its event loop is closed: nobody listens any more
            self._cancelled = True

    def _fail(self, error: BaseException) -> None:
        if self._error is None and not self._cancelled:
            self._error = error
            self._stop()
        self._changed.set()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:  # its event loop is closed: nobody listens any more
            self._cancelled = True

    # --- audio out ---

    def __aiter__(self) -> AsyncIterator[AudioChunk]:
        return self

    async def __anext__(self) -> AudioChunk:
        while True:
            if self._error is not None:
                raise self._error
            if self._cancelled:
                raise StopAsyncIteration
            self._changed.clear()
            if (chunk := self._next_chunk()) is not None:
                self._go_on.set()
                return chunk
            if not self._pieces.heard_on:
                raise StopAsyncIteration
            await self._changed.wait()

    def _next_chunk(self) -> AudioChunk | None:
        while self._pieces.heard_on:
            if self._silence:
                return self._silent(min(self._silence, CHUNK))
            piece = self._pieces.heard_on[0]
            with self._lock:
                pcm = piece.sounds.popleft() if piece.sounds else None
                closing = piece.decoded and not piece.sounds
            if pcm is not None:
                return self._heard(piece, pcm, closing and piece.cut is None)
            if closing and piece.cut is not None:
                self._error = piece.cut
                self._stop()
                raise piece.cut
            if not (closing and piece.closed):
                return None
            if piece.words.waiting:  # words without any sound get a moment of silence
                return self._heard(piece, np.zeros(SPEAKER_FRAME, np.int16), True)
            self._pieces.heard_on.popleft()
            if piece.after is not None and piece.after.pause_ms:
                return self._paused(piece.after, piece.markup)
        return None

    def _heard(self, piece: Piece, pcm: Pcm, closing: bool) -> AudioChunk:
        if piece.base is None:
            piece.base = self._at
        piece.heard += len(pcm)
        self._at += len(pcm)
        if piece.decoding is not None:
            piece.decoding.taken(len(pcm))
        received = max(piece.heard, round(piece.received * self._per_token))
        total = piece.heard if closing else received if piece.complete else None
        marks = piece.words.marks(
            piece.heard, received=received, total=total, base=piece.base, closing=closing
        )
        self._count(marks)
        return AudioChunk(pcm, marks)

    def _paused(self, pause: Break, markup: str) -> AudioChunk:
        """The mark-up is a word that sounds as silence."""
        samples = pause.pause_ms * SPEAKER_HZ // 1000
        self._silence = samples
        mark = WordMark(markup, pause.char_start, pause.char_end, self._at, self._at + samples)
        self._count((mark,))
        return self._silent(min(samples, CHUNK), (mark,))

    def _silent(self, samples: int, marks: tuple[WordMark, ...] = ()) -> AudioChunk:
        self._silence -= samples
        self._at += samples
        return AudioChunk(np.zeros(samples, np.int16), marks)

    def _count(self, marks: Sequence[WordMark]) -> None:
        self._marked_chars = max((mark.char_end for mark in marks), default=self._marked_chars)

    # --- the end ---

    def cancel(self) -> None:
        """On the event loop. Nothing more is computed but the decoder's step that runs just now."""
        self._cancelled = True
        self._stop()
        self._changed.set()

    def _stop(self) -> None:
        for piece in self._pieces.heard_on:
            if piece.tokens is not None and not piece.complete:
                piece.tokens.cancel()
            if piece.decoding is not None:
                piece.decoding.cancel()
        with self._lock:
            self._pieces.clear()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def aclose(self) -> None:
        """Cancels, and returns when the speaking task has let go of the model."""
        self.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task = None
