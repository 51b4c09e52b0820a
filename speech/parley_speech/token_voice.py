"""The contracts between the parts of a codec-token voice.

    text ─ front end ─ token LM (text deltas in, speech tokens out) ─ token decoder ─ PCM

Each part is replaceable: a published model is one LM, one decoder and one `TokenPrompt` per voice.
Speech tokens are plain integers from 0 in the codec's own numbering.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """What a voice is made of: a few seconds of reference speech, computed once and kept."""

    name: str
    text: str
    """What the reference says; empty where the mode uses none (cross-lingual, instruct)."""
    tokens: tuple[int, ...]
    """The reference as speech tokens (25 Hz for CosyVoice 2)."""
    mel: Floats
    """The reference as the decoder's acoustic frames, shape (frames, bins); (0, bins): none."""
    embedding: Floats
    """The speaker, shape (dimensions,)."""
    instruction: str = ""
    """How to speak, in words, for models that take instructions."""


class TokenStream(Protocol):
    """One utterance of a token LM: text deltas in, speech tokens out as they are sampled."""

    def push(self, text: str) -> None:
        """A text delta, any length."""
        ...

    def end(self) -> None:
        """No more text; the iterator ends after the last token."""
        ...

    def __aiter__(self) -> AsyncIterator[Sequence[int]]:
        """Speech tokens in order, in pieces of one or more; no stop or fill token among them."""
        ...

    def cancel(self) -> None:
        """Stop now: nothing more is computed, slot and KV are given back. Idempotent."""
        ...

    async def aclose(self) -> None: ...


class TokenLm(Protocol):
    async def start(self) -> None:
        """Load; may take a minute."""
        ...

    def utterance(self, prompt: TokenPrompt, *, seed: int | None = None) -> TokenStream: ...

    async def aclose(self) -> None: ...


class DecoderCall(Protocol):
    """One utterance's state in a token decoder (caches, ages, tails); opaque to its owner."""

    @property
    def needed(self) -> int:
        """How many more tokens must have been given before the next step yields sound."""
        ...


@dataclass(frozen=True, slots=True)
class DecoderWork:
    """One call's part of a batched step."""

    call: DecoderCall
    tokens: Sequence[int]
    """New tokens since the last step, any number."""
    last: bool = False
    """These are the utterance's last tokens: everything that is left comes out."""


class TokenDecoder(Protocol):
    """Turns tokens into sound, for many calls of different ages at once.

    What comes out, joined, equals decoding the whole utterance in one step, within the tolerance
    that the decoder states; a step costs the same at any age of a call.
    """

    @property
    def sample_rate_hz(self) -> int: ...

    def open(self, prompt: TokenPrompt) -> DecoderCall: ...

    def step(self, work: Sequence[DecoderWork]) -> list[Floats]:
        """One batched step: for each work in order the new samples, shape (n,), −1..1; n may be 0.
        Blocking and heavy: its owner runs it off the event loop."""
        ...

    def close(self, call: DecoderCall) -> None:
        """Forget a call, in the middle or at its end; its memory is free at once. Idempotent."""
        ...
