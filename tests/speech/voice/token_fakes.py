"""A token LM and a token decoder small enough to know by heart.

The LM speaks two tokens for each character that is not white space, its code point modulo 1000;
the decoder makes 960 samples of that token's own level, three tokens late, five tokens a step.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from parley_speech.lm.errors import UtteranceTooLong
from parley_speech.token_voice import (
    DecoderCall,
    DecoderWork,
    Floats,
    TokenPrompt,
)

PER_CHAR = 2
PER_TOKEN = 960
LOOK_AHEAD, HOP = 3, 5
PROMPT = TokenPrompt("fake", "", (), np.zeros((0, 80), np.float32), np.zeros(192, np.float32))


def tokens_of(text: str) -> list[int]:
    return [ord(c) % 1000 for c in text if not c.isspace() for _ in range(PER_CHAR)]


def sound_of(text: str) -> Floats:
    """What the decoder makes of what the LM says for a text, in one go."""
    return np.repeat(_level(tokens_of(text)), PER_TOKEN)


def _level(tokens: Sequence[int]) -> Floats:
    level: Floats = (np.asarray(tokens, np.float32) - np.float32(500)) / np.float32(2000)
    return level


class FakeStream:
    def __init__(self, lm: FakeLm, prompt: TokenPrompt) -> None:
        self.lm, self.prompt = lm, prompt
        self.texts: list[str] = []
        self.ended = self.cancelled = self.closed = False
        self._changed = asyncio.Event()
        self._next = 0

    def push(self, text: str) -> None:
        assert text, "an empty text was pushed"
        assert not self.ended, "text was pushed after its end"
        self.texts.append(text)
        self._changed.set()

    def end(self) -> None:
        self.ended = True
        self._changed.set()

    def cancel(self) -> None:
        self.cancelled = True
        self._changed.set()

    async def aclose(self) -> None:
        self.closed = True

    async def __aiter__(self) -> AsyncIterator[Sequence[int]]:
        while not self.cancelled:
            await self.lm.go.wait()
            if self.lm.error is not None:
                raise self.lm.error
            tokens = tokens_of("".join(self.texts))
            if self._next >= self.lm.context:
                raise UtteranceTooLong("the context is full before the speech has ended")
            if self._next < len(tokens):
                most = min(self.lm.piece, self.lm.context - self._next)
                piece = tokens[self._next : self._next + most]
                self._next += len(piece)
                self.lm.given += len(piece)
                yield piece
                await asyncio.sleep(0)
            elif self.ended:
                return
            else:
                self._changed.clear()
                await self._changed.wait()


class FakeLm:
    """``context``: tokens that one of its streams can say."""

    def __init__(self, piece: int = 4, context: int = 10**9) -> None:
        self.piece, self.context = piece, context
        self.streams: list[FakeStream] = []
        self.given = 0
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None
        self.started = self.stopped = False

    def room(self, prompt: TokenPrompt) -> int:
        return self.context

    async def start(self) -> None:
        self.started = True

    def utterance(self, prompt: TokenPrompt, *, seed: int | None = None) -> FakeStream:
        self.streams.append(FakeStream(self, prompt))
        return self.streams[-1]

    async def aclose(self) -> None:
        self.stopped = True


@dataclass
class FakeCall:
    prompt: TokenPrompt
    tokens: list[int] = field(default_factory=list)
    sounded: int = 0
    closed: bool = False

    @property
    def needed(self) -> int:
        return self.sounded + HOP + LOOK_AHEAD - len(self.tokens)


class GuiltyError(RuntimeError):
    def __init__(self, call: DecoderCall) -> None:
        super().__init__("this call is at fault")
        self.call = call


class FakeDecoder:
    """``gate`` is waited for in each step; ``entered`` counts steps that were begun."""

    sample_rate_hz = 24_000

    def __init__(self) -> None:
        self.calls: list[FakeCall] = []
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.prepared: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.bad_token: int | None = None
        self.error: Exception | None = None

    def prepare(self, prompt: TokenPrompt) -> None:
        self.prepared.append(prompt.name)

    def open(self, prompt: TokenPrompt) -> FakeCall:
        self.calls.append(FakeCall(prompt))
        return self.calls[-1]

    def step(self, work: Sequence[DecoderWork]) -> list[Floats]:
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.gate.wait(30)
        self.batches.append(len(work))
        if self.error is not None:
            raise self.error
        for part in work:
            if self.bad_token is not None and self.bad_token in part.tokens:
                raise GuiltyError(part.call)
        return [self._one(part) for part in work]

    def _one(self, part: DecoderWork) -> Floats:
        call = part.call
        assert isinstance(call, FakeCall)
        assert not call.closed, "a closed call was stepped"
        call.tokens.extend(part.tokens)
        end = len(call.tokens)
        if not part.last:
            end = call.sounded + max(0, end - LOOK_AHEAD - call.sounded) // HOP * HOP
        sound = np.repeat(_level(call.tokens[call.sounded : end]), PER_TOKEN)
        call.sounded = end
        return sound.astype(np.float32)

    def close(self, call: DecoderCall) -> None:
        assert isinstance(call, FakeCall)
        call.closed = True

    @property
    def open_calls(self) -> int:
        return sum(not call.closed for call in self.calls)
