"""One reply on its way to sound: the mind's text deltas into the voice, its audio into a buffer.

Making starts at once and runs ahead of playing by at most a few seconds, so that a reply that
is thrown away has cost little. Whatever goes wrong on the way ends in words, never in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Literal

from parley.dialogue.percepts import Sound
from parley.minds.base import HandOver, HangUp, MindError, Reply, TextDelta, ToolCall, Urgent
from parley_speech.types import SPEAKER_HZ, AudioChunk, SpeechStream, Synthesizer

logger = logging.getLogger("parley.dialogue")

AHEAD_S = 8.0
"""Audio made before it is played, at most."""
MAX_CHARS = 4000
"""Text of one reply, at most: an endless mind is ended here."""
NO_ANSWER = "Sorry, I have no answer to that."


class Speaking:
    """The making of one reply. Owned by the engine, which closes it."""

    def __init__(
        self,
        number: int,
        reply: Reply,
        voice: Synthesizer,
        *,
        must_answer: bool,
        may_call: bool = True,
        on_error: Callable[[Literal["mind", "voice"], BaseException], None],
    ) -> None:
        self.number = number
        self.text = ""
        self.calls: deque[ToolCall] = deque()
        self.after: HandOver | HangUp | None = None
        """What happens once the words have been heard."""
        self._reply = reply
        self._voice = voice
        self._must_answer = must_answer
        self._may_call = may_call
        self._on_error = on_error
        self._chunks: deque[AudioChunk] = deque()
        self._held = 0
        self._room = asyncio.Event()
        self._room.set()
        self._stream: SpeechStream | None = None
        self._made = False
        self._given = False
        self.broken = False
        """The voice failed: some of the text has no sound and never will."""
        self.settled = False
        """What it came to was told; set by its owner."""
        self._committed = False
        self._task = asyncio.create_task(self._make(), name=f"parley-reply-{number}")

    # --- what the engine asks ------------------------------------------------------------------

    @property
    def made(self) -> bool:
        """Nothing more will come."""
        return self._made and not self._chunks

    @property
    def finished(self) -> bool:
        """All its audio exists, though some may wait to be taken."""
        return self._made

    @property
    def sound(self) -> Sound:
        """How far it is, as long as the mixer does not have it."""
        if self._chunks:
            return Sound.READY
        return Sound.ENDED if self._made else Sound.MAKING

    def take(self, below_ms: int, waiting_ms: int) -> list[AudioChunk]:
        """Chunks for a mixer that holds ``waiting_ms``, until it holds about ``below_ms``."""
        taken: list[AudioChunk] = []
        while self._chunks and waiting_ms < below_ms:
            chunk = self._chunks.popleft()
            taken.append(chunk)
            waiting_ms += len(chunk.pcm) * 1000 // SPEAKER_HZ
            self._held -= len(chunk.pcm)
        if self._held < AHEAD_S * SPEAKER_HZ:
            self._room.set()
        return taken

    @property
    def held_ms(self) -> int:
        """Audio made and not yet taken."""
        return self._held * 1000 // SPEAKER_HZ

    def wanted(self) -> None:
        """Its turn is over: what was a guess is now waited for. Idempotent."""
        if isinstance(self._reply, Urgent):
            self._reply.wanted()

    def commit(self) -> None:
        """Its first sample is being played: its consequences happen. Idempotent."""
        if not self._committed:
            self._committed = True
            self._reply.commit()

    def cancel(self) -> None:
        """Stop making at once; the engine awaits ``aclose`` later. Idempotent."""
        self._reply.cancel()
        if self._stream is not None:
            self._stream.cancel()
        self._chunks.clear()
        self._held = 0
        self._made = True
        self._task.cancel()

    async def aclose(self) -> None:
        self.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._reply.aclose()

    # --- making --------------------------------------------------------------------------------

    async def _make(self) -> None:
        stream = self._stream = self._voice.stream()
        collector = asyncio.create_task(self._collect(stream), name=f"{self._task_name}-voice")
        try:
            await self._think(stream)
            stream.end()
            await collector
        finally:
            stream.cancel()
            collector.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await collector
            await stream.aclose()
            self._made = True

    @property
    def _task_name(self) -> str:
        return f"parley-reply-{self.number}"

    async def _think(self, stream: SpeechStream) -> None:
        """Mind to voice. An error is spoken, so that the user never meets silence."""
        try:
            async for event in self._reply:
                if isinstance(event, TextDelta):
                    self._say(stream, event.text)
                    if len(self.text) >= MAX_CHARS:
                        self._on_error(
                            "mind", MindError(f"reply longer than {MAX_CHARS} characters")
                        )
                        self._reply.cancel()
                        break
                elif isinstance(event, ToolCall):
                    self._call(event)
                else:
                    self.after = event
        except MindError as e:
            self._on_error("mind", e)
            self._say(stream, _continued(self.text, e.spoken))
        except Exception as e:  # a mind is a plug-in: its defects must not end the call
            logger.exception("the mind failed")
            self._on_error("mind", e)
            self._say(stream, _continued(self.text, MindError("").spoken))
        acted = self._given_calls or self.after is not None
        if self._must_answer and not self.text.strip() and not acted:
            self._on_error("mind", MindError("the mind gave an empty reply"))
            self._say(stream, NO_ANSWER)

    def _call(self, call: ToolCall) -> None:
        """A model may call where it was told not to; nobody would ever give it a result."""
        if self._may_call:
            self.calls.append(call)
        else:
            self._on_error("mind", MindError(f"called {call.name!r} where no tool may be called"))

    @property
    def _given_calls(self) -> bool:
        return self._given or bool(self.calls)

    def take_calls(self) -> list[ToolCall]:
        calls = list(self.calls)
        self.calls.clear()
        self._given = self._given or bool(calls)
        return calls

    def _say(self, stream: SpeechStream, text: str) -> None:
        self.text += text
        stream.push(text)

    async def _collect(self, stream: SpeechStream) -> None:
        """Voice to buffer, at most AHEAD_S ahead."""
        try:
            async for chunk in stream:
                self._chunks.append(chunk)
                self._held += len(chunk.pcm)
                if self._held >= AHEAD_S * SPEAKER_HZ:
                    self._room.clear()
                await self._room.wait()
        except Exception as e:  # a voice is a plug-in too; what was heard stays in the ledger
            logger.exception("the voice failed")
            self.broken = True
            self._reply.cancel()
            self._on_error("voice", e)


def _continued(so_far: str, spoken: str) -> str:
    """An apology after words that broke off."""
    if not so_far.strip():
        return spoken
    joint = " " if so_far.rstrip().endswith((".", "!", "?")) else ". "
    return joint + spoken
