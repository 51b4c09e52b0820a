"""A codec-token voice: text deltas in, PCM and word marks out, many calls on one model.

    text ─ front end ─ pieces ─┬─ token LM ─ decoding thread ─ PCM ─┬─ chunks with marks
                               └────────── words of a piece ────────┘

A stream is a row of pieces. A piece is what the LM speaks in one go: text up to a pause that was
asked for, or up to the end of a sentence where much was said, and never more than fits into the
LM's context. The LM speaks one piece at a time, while the sound of the one before is decoded and
heard; pauses between pieces are exact silence.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np

from parley_speech.lm.errors import UtteranceTooLong
from parley_speech.text import Break, Spoken, TextFrontEnd
from parley_speech.token_voice import Floats, TokenDecoder, TokenLm, TokenPrompt, TokenStream
from parley_speech.tts.token_decoding import MAX_BATCH, Decoding, DecodingThread, Playout
from parley_speech.tts.token_marks import WordClock, samples_per_letter, spoken_letters
from parley_speech.tts.token_sound import Sound
from parley_speech.types import SPEAKER_FRAME, SPEAKER_HZ, AudioChunk, Pcm, WordMark

TOKEN_RATE_HZ = 25.0  # of CosyVoice 2
CHUNK = 120 * SPEAKER_HZ // 1000  # samples: the longest chunk
LM_AHEAD = 20 * SPEAKER_HZ  # samples not heard yet before the LM begins another piece
MAX_WAITING_CHARS = 100_000  # about two hours of speech: whoever pushes more has lost control
SLOWER = 1.5  # than its usual pace a voice may speak, and a piece still fits into the context
TEXT_TOKENS = 0.5  # per letter; most texts need half of that
EARLY = 0.6  # of what fits: from there on a piece ends with a clause
_ENDS = (*".!?,;:…。！？，；：、",)


class TokenSynthesizer:
    """Meets `parley_speech.types.Synthesizer`.

    Args:
        lm, decoder: the two models; the decoder is used on a thread of its own, and by nobody else.
        prompt: the voice.
        front_end: makes one stream's text front end.
        token_rate_hz: speech tokens per second of sound.
        max_batch: calls in one step of the decoder.
        close_anywhere: the decoder's ``close`` may interrupt a step (see `DecodingThread`).
    """

    def __init__(
        self,
        lm: TokenLm,
        decoder: TokenDecoder,
        prompt: TokenPrompt,
        *,
        front_end: Callable[[], TextFrontEnd] = TextFrontEnd,
        token_rate_hz: float = TOKEN_RATE_HZ,
        max_batch: int = MAX_BATCH,
        close_anywhere: bool = False,
    ) -> None:
        self.lm, self.decoder, self.prompt = lm, decoder, prompt
        self.decoding = DecodingThread(decoder, max_batch=max_batch, close_anywhere=close_anywhere)
        self.samples_per_token = SPEAKER_HZ / token_rate_hz
        self._front_end = front_end
        self._started = False
        self._streams: weakref.WeakSet[TokenSpeechStream] = weakref.WeakSet()

    async def start(self) -> None:
        """Loads the LM and readies the decoder for the voice. Idempotent."""
        if self._started:
            return
        await self.lm.start()
        self.decoding.start()
        await self.prepare(self.prompt)
        self._started = True

    async def prepare(self, prompt: TokenPrompt) -> None:
        """Does now what the decoder does once per voice, if it can be asked to."""
        ready: Callable[[TokenPrompt], object] | None = getattr(self.decoder, "prepare", None)
        if ready is not None:
            await asyncio.wrap_future(self.decoding.do(lambda: ready(prompt)))

    def stream(
        self, *, prompt: TokenPrompt | None = None, front_end: TextFrontEnd | None = None
    ) -> TokenSpeechStream:
        """One utterance, on the running event loop; in another voice if a prompt is given."""
        if not self._started:
            raise RuntimeError("the synthesizer is not started: await start() before stream()")
        stream = TokenSpeechStream(self, prompt or self.prompt, front_end or self._front_end())
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        """Cancels what still speaks. The engine may be started again."""
        self._started = False
        for stream in list(self._streams):
            await stream.aclose()
        await asyncio.to_thread(self.decoding.stop)
        await self.lm.aclose()


class _Piece:
    """One utterance of the LM, and its sound as far as it is not heard."""

    def __init__(self, pace: float) -> None:
        self.words = WordClock(pace)
        self.texts: list[str] = []  # that the LM was not given
        self.letters = 0.0
        self.closed = False  # no more text
        self.after: Break | None = None
        self.markup = ""  # of the pause after it
        self.tokens: TokenStream | None = None
        self.decoding: Decoding | None = None
        self.received = 0  # tokens
        self.complete = False  # all tokens are here
        self.sounds: deque[Pcm] = deque()
        self.decoded = False  # all sounds are here
        self.base: int | None = None  # stream sample of its first one
        self.heard = 0  # samples given to the listener
        self.cut: UtteranceTooLong | None = None  # the LM's context was full before its end

    def can_be_spoken(self) -> bool:
        return self.letters > 0

    def is_decided(self) -> bool:
        return self.closed or self.can_be_spoken()


def letters_that_fit(lm: TokenLm, prompt: TokenPrompt, tokens_per_letter: float) -> float:
    """How many letters of text the LM can speak in one go; it may say how many tokens it has
    ``room(prompt)`` for, text and speech together."""
    room: Callable[[TokenPrompt], int] | None = getattr(lm, "room", None)
    if room is None:
        return float("inf")
    return max(1.0, room(prompt) / (tokens_per_letter * SLOWER + TEXT_TOKENS))


class TokenSpeechStream:
    """Meets `parley_speech.types.SpeechStream`. One listener, on one event loop."""

    def __init__(
        self, engine: TokenSynthesizer, prompt: TokenPrompt, front_end: TextFrontEnd
    ) -> None:
        self._engine, self._prompt, self._front_end = engine, prompt, front_end
        self._per_token = engine.samples_per_token
        self._pace = samples_per_letter(prompt, engine.samples_per_token)
        self._most = letters_that_fit(engine.lm, prompt, self._pace / self._per_token)
        self._playout = Playout(SPEAKER_HZ)
        self._last_decoding: Decoding | None = None
        self._source = ""  # pushed and not cut into pieces yet
        self._source_at = 0
        self._pieces: deque[_Piece] = deque([_Piece(self._pace)])  # from the one that is heard on
        self._unspoken: deque[_Piece] = deque(self._pieces)  # from the one that the LM speaks on
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
        self._source += text
        self._pushed_chars += len(text)
        self._add(self._front_end.push(text))

    def end(self) -> None:
        """Idempotent."""
        if self._ended or self._cancelled:
            return
        self._ended = True
        self._add(self._front_end.end())
        self._close_piece(None)
        self._changed.set()

    def _add(self, items: Sequence[Spoken | Break]) -> None:
        for item in items:
            if isinstance(item, Break):
                self._close_piece(item)
                self._open_piece()
            else:
                self._speak(item)
        if self._task is None:
            self._task = self._loop.create_task(self._run())
        self._go_on.set()

    def _speak(self, item: Spoken) -> None:
        letters = spoken_letters(item.text)
        if self._pieces[-1].letters and self._pieces[-1].letters + letters > self._most:
            self._close_piece(None)
            self._open_piece()
        piece = self._pieces[-1]
        source = self._taken_source(item.char_start, item.char_end)
        piece.words.add(source, item.char_start, item.text, piece.received * self._per_token)
        piece.letters += letters
        if piece.tokens is None:
            piece.texts.append(item.text)
        elif item.text:
            piece.tokens.push(item.text)
        if piece.letters > EARLY * self._most and item.text.rstrip().endswith(_ENDS):
            self._close_piece(None)
            self._open_piece()
        self._go_on.set()

    def _close_piece(self, after: Break | None) -> None:
        piece = self._pieces[-1]
        piece.closed, piece.after = True, after
        if after is not None:
            piece.markup = self._taken_source(after.char_start, after.char_end)
        if piece.tokens is not None:
            piece.tokens.end()
        self._go_on.set()

    def _open_piece(self) -> None:
        piece = _Piece(self._pace)
        self._pieces.append(piece)
        self._unspoken.append(piece)

    def _taken_source(self, start: int, end: int) -> str:
        """A slice of what was pushed; what stands before its end is kept no longer."""
        text = self._source[start - self._source_at : end - self._source_at]
        self._source = self._source[end - self._source_at :]
        self._source_at = end
        return text

    # --- tokens, on a task of its own ---

    async def _run(self) -> None:
        """Speaks the pieces one after the other."""
        try:
            while self._unspoken:
                piece = self._unspoken[0]
                await self._until(piece.is_decided)
                if piece.can_be_spoken():
                    await self._until(self._is_wanted)
                    await self._say(piece)
                    if piece.cut is not None:
                        return  # its listener is told once he has heard what was said
                else:
                    piece.complete = piece.decoded = True
                self._unspoken.popleft()
                self._changed.set()
        except Exception as error:  # raised again where the listener waits
            self._fail(error)

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._go_on.clear()
            await self._go_on.wait()

    def _is_wanted(self) -> bool:
        """Whether the listener has heard enough of what was made for another piece to be made."""
        unheard = sum(p.received * self._per_token - p.heard for p in self._pieces)
        return unheard < LM_AHEAD

    async def _say(self, piece: _Piece) -> None:
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

    def _sounded(self, piece: _Piece, pcm: Pcm, last: bool) -> None:
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
            if not self._pieces:
                raise StopAsyncIteration
            await self._changed.wait()

    def _next_chunk(self) -> AudioChunk | None:
        while self._pieces:
            if self._silence:
                return self._silent(min(self._silence, CHUNK))
            piece = self._pieces[0]
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
            self._pieces.popleft()
            if piece.after is not None and piece.after.pause_ms:
                return self._paused(piece.after, piece.markup)
        return None

    def _heard(self, piece: _Piece, pcm: Pcm, closing: bool) -> AudioChunk:
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
        for piece in self._pieces:
            if piece.tokens is not None and not piece.complete:
                piece.tokens.cancel()
            if piece.decoding is not None:
                piece.decoding.cancel()
        with self._lock:
            self._pieces.clear()
        self._unspoken.clear()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def aclose(self) -> None:
        """Cancels, and returns when the speaking task has let go of the model."""
        self.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task = None
