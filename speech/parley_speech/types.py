"""The contracts between speech engines and whoever uses them.

Two clocks only: the microphone side runs at 16 kHz, the loudspeaker side at 24 kHz, both mono
16-bit, both cut into 20 ms frames. An engine with another native rate converts inside itself.
Stream time (``*_ms``) counts from the first frame an engine was given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.int16]
"""Mono PCM, shape (samples,)."""

FRAME_MS = 20
MIC_HZ = 16_000
SPEAKER_HZ = 24_000
MIC_FRAME = MIC_HZ * FRAME_MS // 1000  # 320 samples
SPEAKER_FRAME = SPEAKER_HZ * FRAME_MS // 1000  # 480 samples


class EngineUnavailable(RuntimeError):
    """An engine cannot run here; the message says what is missing and how to get it."""


# --- voice activity -------------------------------------------------------------------------


@runtime_checkable
class Vad(Protocol):
    """Voice activity of one call. Holds per-call state; not shared between calls."""

    def push(self, frame: Pcm) -> float:
        """Takes one 20 ms microphone frame (320,), gives P(a voice sounds) at its end, 0..1."""
        ...

    def reset(self) -> None: ...


# --- recognition ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start_ms: int
    end_ms: int
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What the recogniser believes was said in one utterance, so far (partial) or at its end."""

    text: str
    utterance: int
    """Counts the utterances of a stream as they begin, from 0; a final one closes its number."""
    final: bool
    words: tuple[Word, ...] = ()
    confidence: float = 1.0
    """0..1; below 0.5 a grammar's match should not be trusted."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What may be said now, as a JSGF rule body, plus a name for logs and caches."""

    name: str
    jsgf: str


class RecognizerStream(Protocol):
    """One call's recognition. ``push`` and ``poll`` never block."""

    def begin_utterance(self) -> None:
        """A voice was noticed: recognise from a little before this frame on (a pre-roll is kept).
        Outside an utterance, frames cost nothing but their place in the pre-roll."""
        ...

    def push(self, frame: Pcm) -> None:
        """One 20 ms microphone frame (320,)."""
        ...

    def end_utterance(self) -> None:
        """The speaker paused: the final hypothesis of this utterance will follow."""
        ...

    def set_grammar(self, grammar: Grammar | None) -> None:
        """From the next utterance on, recognise this grammar (None: open English)."""
        ...

    def poll(self) -> list[Hypothesis]:
        """Everything new since the last poll, oldest first."""
        ...

    async def aclose(self) -> None: ...


class Recognizer(Protocol):
    async def start(self) -> None:
        """Load models; may take a second. ``stream`` before ``start`` is an error."""
        ...

    def stream(self) -> RecognizerStream: ...

    async def aclose(self) -> None: ...


# --- synthesis ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WordMark:
    """Ties one word of the text pushed into a stream to the samples that sound it.

    ``char_start:char_end`` slices the concatenation of everything pushed; the slice holds the
    word and the punctuation written on to it, so that the slices, joined with the white space
    between them, give the text back. ``start:end`` are sample positions at 24 kHz counted from
    the first sample of the stream.
    """

    text: str
    char_start: int
    char_end: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class AudioChunk:
    pcm: Pcm
    """24 kHz mono, any length above zero."""
    marks: tuple[WordMark, ...] = ()
    """Words that begin in this chunk or before it and were not given yet; a word is always
    given before or together with the chunk that holds its last sample."""


class SpeechStream(Protocol):
    """One utterance: text deltas in, audio out."""

    def push(self, text: str) -> None:
        """A text delta, any length, words may be split between deltas."""
        ...

    def end(self) -> None:
        """No more text; the iterator ends after the last sample."""
        ...

    def __aiter__(self) -> AsyncIterator[AudioChunk]: ...

    def cancel(self) -> None:
        """Stop now (within 5 ms nothing more is computed or given). Idempotent."""
        ...

    async def aclose(self) -> None: ...


class Synthesizer(Protocol):
    async def start(self) -> None: ...

    def stream(self) -> SpeechStream: ...

    async def aclose(self) -> None: ...


# --- echo and overlap -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cleaned:
    """One microphone frame after echo cancellation."""

    pcm: Pcm
    echo: float
    """0..1: how much of what was in the microphone is explained by our own loudspeaker."""


class OverlapKind(Enum):
    """What the user's sound over the agent's voice is."""

    NOISE = "noise"  # cough, bark, horn, ring, music: no words for us
    ECHO = "echo"  # the agent's own voice
    BACKCHANNEL = "backchannel"  # "mhm", "yes": listening on
    INTERRUPTION = "interruption"  # wants the floor


@dataclass(frozen=True, slots=True)
class OverlapEvidence:
    """What is known about the user's sound since it began over the agent's voice."""

    since_onset_ms: int
    """Time since the first frame of this sound."""
    voiced_ms: int
    """How much of it was voice."""
    silence_ms: int
    """Time since its last voiced frame; 0 while it goes on."""
    p_interruption: float
    """0..1, sound and words together."""
    p_noise: float = 0.0
    text: str = ""
    words: tuple[str, ...] = field(default=())
