"""The voices that a server offers, by name.

Any `Synthesizer` is a voice. An engine's ``stream`` may take keyword arguments beyond the
contract, and says so by its signature: ``speed`` (a factor), ``instructions`` (how to speak, in
words) and ``voice``, when one loaded model has several (``engine.voices()`` then lists them, and
each becomes a name here).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parley_speech import registry
from parley_speech.types import SpeechStream, Synthesizer

MAX_NAME_CHARS = 128


class UnknownVoice(LookupError):
    """No voice of that name; the message lists those there are."""


class NotTaken(ValueError):
    """The voice does not take this value."""


@dataclass(frozen=True, slots=True)
class VoiceSpec:
    """``name=engine`` or ``name=engine:voice`` or just ``engine``, as the settings write it."""

    name: str
    engine: str
    voice: str = ""
    """What the engine's class is given as ``voice``; empty: its own default."""

    @classmethod
    def parse(cls, text: str) -> VoiceSpec:
        """Raises ValueError."""
        name, equals, rest = text.strip().partition("=")
        engine, _, voice = (rest if equals else name).strip().partition(":")
        name = name.strip() if equals else engine
        if not name or not engine or len(name) > MAX_NAME_CHARS:
            raise ValueError(f"voice {text!r}: expected NAME=ENGINE, NAME=ENGINE:VOICE or ENGINE")
        return cls(name, engine, voice)


@dataclass(frozen=True, slots=True)
class _Voice:
    engine: Synthesizer
    takes: frozenset[str]
    """Keyword arguments of the engine's ``stream``."""
    voice: str | None = None


class Catalogue:
    """Engines by the name of their voice; the first is the default."""

    def __init__(self, engines: Mapping[str, Synthesizer]) -> None:
        if not engines:
            raise ValueError("a speech server needs at least one voice")
        self._engines = dict(engines)
        self._voices = {name: _Voice(e, _takes(e)) for name, e in engines.items()}

    @classmethod
    def load(cls, specs: Sequence[VoiceSpec]) -> Catalogue:
        """Finds the engines by name; they load when `start` is called.

        Raises EngineUnavailable for an engine that is not installed, ValueError for a name given
        twice or a value that an engine refuses."""
        engines: dict[str, Synthesizer] = {}
        for spec in specs:
            if spec.name in engines:
                raise ValueError(f"two voices are called {spec.name!r}")
            kind = registry.load("tts", spec.engine)
            engines[spec.name] = kind(voice=spec.voice) if spec.voice else kind()
        return cls(engines)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._voices)

    def takes(self, name: str) -> frozenset[str]:
        """What can be set for a voice: of "speed", "instructions"."""
        return self._find(name).takes & {"speed", "instructions"}

    async def start(self) -> None:
        """Loads all; raises what the first that fails raises."""
        loading = [
            asyncio.create_task(engine.start(), name=f"load-{name}")
            for name, engine in self._engines.items()
        ]
        try:
            await asyncio.gather(*loading)
        finally:
            for task in loading:
                task.cancel()
        for name, engine in self._engines.items():
            self._add_voices_of(name, engine)

    def stream(self, name: str, *, speed: float = 1.0, instructions: str = "") -> SpeechStream:
        """A new utterance. Raises UnknownVoice and NotTaken; a voice that takes no instructions
        speaks without them, as OpenAI's first models do."""
        voice = self._find(name)
        options: dict[str, Any] = {}
        if voice.voice is not None:
            options["voice"] = voice.voice
        if instructions and "instructions" in voice.takes:
            options["instructions"] = instructions
        if speed != 1.0:
            if "speed" not in voice.takes:
                raise NotTaken(f"speed is {speed}, but the voice {name!r} has only its own, 1.0")
            options["speed"] = speed
        try:
            return voice.engine.stream(**options)
        except ValueError as error:
            raise NotTaken(str(error)) from error

    async def aclose(self) -> None:
        await asyncio.gather(*(e.aclose() for e in self._engines.values()), return_exceptions=True)

    def _find(self, name: str) -> _Voice:
        name = name or next(iter(self._voices))
        if name not in self._voices:
            raise UnknownVoice(f"no voice {name!r}; there are: {', '.join(self._voices)}")
        return self._voices[name]

    def _add_voices_of(self, name: str, engine: Synthesizer) -> None:
        """The voices of an engine that has several on one model."""
        takes = self._voices[name].takes
        listed = getattr(engine, "voices", None)
        if "voice" in takes and callable(listed):
            for voice in listed():
                self._voices.setdefault(str(voice), _Voice(engine, takes, str(voice)))


def _takes(engine: Synthesizer) -> frozenset[str]:
    return frozenset(inspect.signature(engine.stream).parameters)
