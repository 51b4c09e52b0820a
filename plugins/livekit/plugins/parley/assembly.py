"""Puts a call's engine together from parts named in the settings.

What is heavy is loaded once a process and shared by its calls: the recogniser's child process,
the mind's connections, the voice. What is a call's own is made for each: VAD state, canceller,
overlap classifier, floor, ledger.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parley.dialogue import events as ev
from parley.dialogue.ears import Canceller, Ears, OverlapSense, TurnEndSense
from parley.dialogue.engine import Engine
from parley.dialogue.policy import FloorPolicy
from parley.minds.base import Mind
from parley_speech.asr.choice import AUTO, resolved
from parley_speech.registry import load
from parley_speech.remote import voice_of
from parley_speech.turn_end.wording import p_finished
from parley_speech.types import Recognizer, Synthesizer, Vad

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a call is made of, by name or as objects of your own."""

    mind: str | Mind = "flow"
    voice: str | Synthesizer = "espeak"
    asr: str | Recognizer = AUTO
    vad: str | Callable[[], Vad] = "fusion"
    canceller: Callable[[], Canceller] | None = None
    """Makes a call's echo canceller; None: ours."""
    overlap: Callable[[], OverlapSense] | None = None
    """Makes a call's overlap classifier; None: ours."""
    turn_end: str | Callable[[], TurnEndSense] = "prosody"
    """Judges how finished a call's voice sounds."""
    flow: str | None = None
    """For the flow mind: a file, or the name of a shipped flow."""
    base_url: str | None = None
    """For the vLLM mind; None: PARLEY_LLM_URL, else the local default."""
    model: str | None = None

    @property
    def mind_name(self) -> str:
        return self.mind if isinstance(self.mind, str) else type(self.mind).__name__

    def engines(self) -> Engines:
        return Engines(self)


class Engines:
    """The shared parts of one process. ``start`` loads them; the first call does it otherwise."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._starting: asyncio.Task[None] | None = None
        self._mind: Mind = parts.mind if not isinstance(parts.mind, str) else _mind(parts)
        self._voice: Synthesizer
        self._voice = voice_of(parts.voice) if isinstance(parts.voice, str) else parts.voice
        asr = parts.asr
        self._asr: Recognizer = load("asr", resolved(asr))() if isinstance(asr, str) else asr
        self._vad: Callable[[], Vad]
        self._vad = load("vad", parts.vad) if isinstance(parts.vad, str) else parts.vad
        self._turn_end: Callable[[], TurnEndSense]
        judge = parts.turn_end
        self._turn_end = load("turn_end", judge) if isinstance(judge, str) else judge

    async def start(self) -> None:
        """Idempotent; calls that begin together wait for the same loading."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="parley-load")
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        await asyncio.gather(self._mind.start(), self._voice.start(), self._asr.start())
        parts = (self._mind, self._voice, self._asr)
        logger.info("loaded: %s", ", ".join(type(part).__name__ for part in parts))

    def preload(self) -> None:
        """Read what is slow to read, in a process that has no event loop yet."""
        self._vad()
        (self.parts.canceller or _canceller)()
        (self.parts.overlap or _overlap)()
        self._turn_end()

    async def engine(
        self, on_event: Callable[[ev.EngineEvent], None], *, policy: FloorPolicy | None = None
    ) -> Engine:
        """An engine for one call, not yet running."""
        await self.start()
        canceller = (self.parts.canceller or _canceller)()
        overlap, turn_end = (self.parts.overlap or _overlap)(), self._turn_end()
        ears = Ears(
            self._vad(),
            self._asr.stream(),
            canceller,
            overlap,
            turn_end=turn_end,
            wording=p_finished,
        )
        return Engine(ears, self._mind.session(), self._voice, on_event, policy=policy)

    async def aclose(self) -> None:
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        await asyncio.gather(
            self._mind.aclose(), self._voice.aclose(), self._asr.aclose(), return_exceptions=True
        )


def _canceller() -> Canceller:
    from parley_speech.echo import EchoCanceller

    return EchoCanceller()


def _overlap() -> OverlapSense:
    from parley_speech.overlap import OverlapClassifier

    return OverlapClassifier()


def _mind(parts: Parts) -> Mind:
    """The two minds that come with Parley take settings; a third party's is made as it is."""
    name = parts.mind_name
    kind: Any = load("mind", name)
    if name == "flow":
        mind: Mind = kind(parts.flow or "front_desk")
    elif name == "vllm":
        from parley.minds.endpoints import Endpoints, vllm_options

        options = vllm_options(parts.base_url, parts.model)
        mind = Endpoints({o.base_url: kind(o) for o in options})
    else:
        mind = kind()
    return mind
