"""The voice ``espeak``: espeak-ng in this process, text deltas in, PCM and word marks out.

A formant synthesiser: plainly a machine, but it speaks within milliseconds, on any processor, in a
hundred languages. espeak-ng is GPL-3.0-or-later, so it is a separable extra of Parley and must be
asked for (``pip install parley[espeak]``).

Each stream is rendered clause by clause on the one thread that the library allows; streams take
turns between clauses. A stream that is `AHEAD` samples in front of its listener, or that is
cancelled, is not rendered on.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cache

import numpy as np

from parley_speech.tts.clause_audio import SILENCE, ClauseAudio
from parley_speech.tts.espeak_ng import (
    ESPEAK_HZ,
    ESPEAK_THREAD,
    PITCH,
    RATE_WPM,
    Settings,
    find_voice,
    library,
)
from parley_speech.tts.words import Clause, ClauseCutter
from parley_speech.types import SPEAKER_FRAME, SPEAKER_HZ, AudioChunk, Pcm, WordMark

AHEAD = 2 * SPEAKER_HZ
"""Samples that wait for the listener before rendering pauses (at the end of a clause)."""
JOINED = 240 * SPEAKER_HZ // 1000
"""Samples of the longest chunk that is given."""
MAX_WAITING_CHARS = 100_000  # about two hours of speech: whoever pushes more has lost control
LEVEL_DBFS = -20.0  # RMS while it speaks
_CALIBRATION = "The quick brown fox jumps over the lazy dog. 1 2 3 4 5."
_PAUSE_RATES = (80, 130, 175, 250, 350, 450)
_PAUSE_FACTORS = (2.85, 1.58, 1.0, 0.48, 0.13, 0.13)  # measured: pauses shrink faster than words


class EspeakSynthesizer:
    """Meets `parley_speech.types.Synthesizer`.

    Args:
        voice: a language ("en-us", "en-gb", "de") with an optional variant ("en-us+f3").
        rate_wpm: words per minute, 80..450.
        pitch: 0..99.
        level_dbfs: RMS of the speech, relative to full scale.

    Raises ValueError for a rate, pitch or level out of range; an unknown voice shows in ``start``.
    """

    def __init__(
        self,
        voice: str = "en-us",
        *,
        rate_wpm: int = 175,
        pitch: int = 50,
        level_dbfs: float = LEVEL_DBFS,
    ) -> None:
        if rate_wpm not in RATE_WPM:
            raise ValueError(f"rate_wpm is {rate_wpm}, expected 80 to 450 words per minute")
        if pitch not in PITCH:
            raise ValueError(f"pitch is {pitch}, expected 0 to 99")
        if not -50 <= level_dbfs <= -12:
            raise ValueError(f"level_dbfs is {level_dbfs}, expected -50 to -12")
        self.voice, self.rate_wpm, self.pitch, self.level_dbfs = voice, rate_wpm, pitch, level_dbfs
        self._rendering: _Rendering | None = None
        self._streams: weakref.WeakSet[EspeakStream] = weakref.WeakSet()

    @staticmethod
    def voices() -> list[str]:
        """Names that ``voice`` may have. Loads the library; may raise EngineUnavailable."""
        return sorted(ESPEAK_THREAD.submit(lambda: library().voices()).result())

    @staticmethod
    def variants() -> list[str]:
        """Names that may follow a voice's name and a plus sign."""
        return ESPEAK_THREAD.submit(lambda: library().variants()).result()

    async def start(self) -> None:
        """Loads the library and sets the voice's level (tens of ms). Idempotent.

        Raises EngineUnavailable where espeak-ng is missing and ValueError for an unknown voice.
        """
        if self._rendering is None:
            prepared = ESPEAK_THREAD.submit(self._prepare)
            self._rendering = await asyncio.wrap_future(prepared)

    def stream(self, *, speed: float = 1.0) -> EspeakStream:
        """``speed`` is a factor on the rate. Raises ValueError where that leaves 80..450."""
        if self._rendering is None:
            raise RuntimeError("the synthesizer is not started: await start() before stream()")
        stream = EspeakStream(self._rendering.at_speed(speed))
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        """Cancels what still speaks. The engine may be started again."""
        self._rendering = None
        for stream in list(self._streams):
            await stream.aclose()

    def _prepare(self) -> _Rendering:
        settings = Settings(find_voice(library(), self.voice), self.rate_wpm, self.pitch)
        gain = 10 ** ((self.level_dbfs - _natural_level_dbfs(settings)) / 20)
        return _Rendering(settings, gain)


class _Rendering:
    """How clauses sound: settings of the library, gain, length of pauses."""

    def __init__(self, settings: Settings, gain: float) -> None:
        self.settings = settings
        self.gain = gain
        self._pauses = float(np.interp(settings.rate_wpm, _PAUSE_RATES, _PAUSE_FACTORS))

    def at_speed(self, speed: float) -> _Rendering:
        if speed == 1.0:
            return self
        rate_wpm = round(self.settings.rate_wpm * speed)
        if rate_wpm not in RATE_WPM:
            least, most = (r / self.settings.rate_wpm for r in (RATE_WPM[0], RATE_WPM[-1]))
            raise ValueError(f"speed is {speed}, expected {least:.2f} to {most:.2f} for this voice")
        return _Rendering(replace(self.settings, rate_wpm=rate_wpm), self.gain)

    def pause_samples(self, pause_ms: int) -> int:
        return round(pause_ms * self._pauses) * SPEAKER_HZ // 1000


class EspeakStream:
    """Meets `parley_speech.types.SpeechStream`. One listener, on one event loop."""

    def __init__(self, rendering: _Rendering) -> None:
        self._rendering = rendering
        self._cutter = ClauseCutter()
        self._lock = threading.Lock()  # guards everything below; held for microseconds
        self._clauses: deque[Clause] = deque()
        self._waiting_chars = 0
        self._chunks: deque[AudioChunk] = deque()
        self._waiting_samples = 0
        self._listening = False  # somebody waits for a change
        self._waking = False
        self._ended = False
        self._cancelled = False
        self._scheduled = False  # a rendering is in the thread's queue or running
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()  # set on the event loop only
        # Only the rendering thread uses these:
        self._at = 0  # stream sample of the next clause
        self._pause = 0  # samples owed before it
        self._unspoken = ""  # text since the last mark that could not be spoken by itself

    # --- text in ---

    def push(self, text: str) -> None:
        """Raises RuntimeError after ``end`` and OverflowError when far more waits than is heard."""
        if self._cancelled:
            return
        if self._ended:
            raise RuntimeError("push() after end(): open a new stream for a new utterance")
        if self._waiting_chars + len(text) > MAX_WAITING_CHARS:
            raise OverflowError(
                f"{self._waiting_chars} characters wait to be spoken and {len(text)} more came; "
                f"at most {MAX_WAITING_CHARS} may wait: cancel the stream, or push more slowly"
            )
        self._add(self._cutter.push(text))

    def end(self) -> None:
        """Idempotent."""
        if self._ended or self._cancelled:
            return
        self._add(self._cutter.end(), ended=True)

    def _add(self, clauses: list[Clause], *, ended: bool = False) -> None:
        with self._lock:
            self._ended = ended
            self._clauses.extend(clauses)
            self._waiting_chars += sum(len(clause.text) for clause in clauses)
        self._schedule()

    # --- audio out ---

    def __aiter__(self) -> AsyncIterator[AudioChunk]:
        return self

    async def __anext__(self) -> AudioChunk:
        self._loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if self._error is not None:
                    raise self._error
                if self._chunks:
                    chunk = self._taken()
                    break
                if self._cancelled or self._finished():
                    raise StopAsyncIteration
                self._listening = True
                self._changed.clear()
            await self._changed.wait()
        self._schedule()
        return chunk

    def _taken(self) -> AudioChunk:
        """What waits, up to `JOINED`, as each chunk costs whoever hands it on (a message on a
        network, say). Called with the lock."""
        taken = [self._chunks.popleft()]
        samples = len(taken[0].pcm)
        while self._chunks and samples + len(self._chunks[0].pcm) <= JOINED:
            taken.append(self._chunks.popleft())
            samples += len(taken[-1].pcm)
        self._waiting_samples -= samples
        if len(taken) == 1:
            return taken[0]
        marks = tuple(mark for chunk in taken for mark in chunk.marks)
        return AudioChunk(np.concatenate([chunk.pcm for chunk in taken]), marks)

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            self._clauses.clear()
            self._chunks.clear()
        self._wake()

    async def aclose(self) -> None:
        """Cancels, and returns when the rendering thread has let go of this stream."""
        self.cancel()
        self._loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if not self._scheduled:
                    return
                self._listening = True
                self._changed.clear()
            await self._changed.wait()

    def _finished(self) -> bool:
        return self._ended and not self._clauses and not self._scheduled

    def _wake(self) -> None:
        """Wakes the listener if he waits; from any thread. One call of its event loop is under way
        at most: a clause gives dozens of chunks in a row, and each call costs more than a chunk
        does."""
        if self._loop is None or self._waking or not self._listening:
            return
        self._waking = True
        try:
            self._loop.call_soon_threadsafe(self._woken)
        except RuntimeError:  # its event loop is closed: nobody listens any more
            self._cancelled = True

    def _woken(self) -> None:
        self._waking = self._listening = False  # before the event: who waits again says so again
        self._changed.set()

    # --- rendering, on the library's thread ---

    def _schedule(self) -> None:
        with self._lock:
            due = not self._scheduled and not self._cancelled and self._error is None
            if due and self._clauses and self._waiting_samples < AHEAD:
                self._scheduled = True
                ESPEAK_THREAD.submit(self._render)

    def _render(self) -> None:
        """Renders the next clause, then goes to the end of the queue."""
        try:
            with self._lock:
                clause = self._clauses.popleft() if self._clauses else None
            if clause is not None:
                self._render_clause(clause)
        except BaseException as error:  # raised again where the listener waits
            self._error = error
        finally:
            with self._lock:
                self._scheduled = False
            self._schedule()
            self._wake()

    def _render_clause(self, clause: Clause) -> None:
        audio = ClauseAudio(
            clause,
            unspoken=self._unspoken,
            at=self._at,
            pause=self._pause,
            gain=self._rendering.gain,
            source_hz=ESPEAK_HZ,
            emit=self._emit,
        )

        def sink(pcm: Pcm, words: list[tuple[int, int]]) -> bool:
            audio.push(pcm, words)
            return self._cancelled

        if clause.text.strip() and clause.silence_ms is None:
            # A comma keeps the voice up where the sentence goes on without one.
            text = clause.text.rstrip() + "," if clause.goes_on else clause.text
            library().synthesize(text, self._rendering.settings, sink)
        after = self._at if self._cancelled else audio.finish()
        self._settle(clause, after)

    def _settle(self, clause: Clause, after: int) -> None:
        """Books what the clause gave: audio and a pause, or text that could not be spoken."""
        if after > self._at:
            self._at, self._unspoken = after, ""
            self._pause = self._rendering.pause_samples(clause.pause_ms)
        else:
            self._unspoken += clause.text
            self._pause += (clause.silence_ms or 0) * SPEAKER_HZ // 1000
        with self._lock:
            self._waiting_chars -= len(clause.text)
            last = self._ended and not self._clauses
        if last and self._at > 0 and self._unspoken.strip():
            self._give_unspoken(clause.start + len(clause.text))

    def _give_unspoken(self, char_end: int) -> None:
        """Text at the very end that has no sound ("…") gets a mark on one silent frame."""
        left = self._unspoken.lstrip()
        text = left.rstrip()
        start = char_end - len(left)
        mark = WordMark(text, start, start + len(text), self._at, self._at + SPEAKER_FRAME)
        self._emit(AudioChunk(np.zeros(SPEAKER_FRAME, np.int16), (mark,)))

    def _emit(self, chunk: AudioChunk) -> None:
        with self._lock:
            if self._cancelled:
                return
            self._chunks.append(chunk)
            self._waiting_samples += len(chunk.pcm)
        self._wake()


@cache
def _natural_level_dbfs(settings: Settings) -> float:
    """RMS of a voice while it speaks, at the library's own level; on its thread only."""
    pieces: list[Pcm] = []

    def sink(pcm: Pcm, words: list[tuple[int, int]]) -> bool:
        pieces.append(pcm)
        return False

    library().synthesize(_CALIBRATION, settings, sink)
    return speech_level_dbfs(np.concatenate(pieces), ESPEAK_HZ)


def speech_level_dbfs(pcm: Pcm, sample_rate_hz: int) -> float:
    """RMS in dB of full scale over the 20 ms frames that lie within 30 dB of the loudest.

    Silence gives -50, so that a gain computed from it stays finite.
    """
    frame = sample_rate_hz // 50
    frames = pcm[: len(pcm) // frame * frame].reshape(-1, frame).astype(np.float64) / 32768
    power = (frames**2).mean(axis=1) if len(frames) else np.zeros(1)
    if power.max() < (SILENCE / 32768) ** 2:
        return -50.0
    return float(10 * np.log10(power[power > power.max() / 1000].mean()))
