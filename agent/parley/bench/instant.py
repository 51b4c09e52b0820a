"""A mind and a voice of zero latency: whatever is left of a latency belongs to the rest.

The mind gives its whole text at once. The voice gives speech that was rendered before, once: it
is also the reference that recordings are compared with, so the agent and whoever measures it must
use one and the same rendering (espeak-ng sounds a little different each time).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from parley.minds.base import Context, MindEvent, MindSession, TextDelta
from parley_speech.types import AudioChunk, Grammar, Pcm, Synthesizer, WordMark

# --- the mind -------------------------------------------------------------------------------


class InstantReply:
    """One text, at once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._stopped = False

    async def __aiter__(self) -> AsyncIterator[MindEvent]:
        if not self._stopped:
            yield TextDelta(self._text)

    def commit(self) -> None:
        """Nothing follows from it."""

    def cancel(self) -> None:
        self._stopped = True

    async def aclose(self) -> None:
        self.cancel()


class InstantMind:
    """Meets `parley.minds.base.Mind` and, as it remembers nothing, `MindSession` too.

    ``text`` may be set until the first reply is asked for. ``hearing`` says what the recogniser is
    to expect and when words are complete; without one it is open English.
    """

    def __init__(self, text: str = "", hearing: MindSession | None = None) -> None:
        self.text = text
        self._hearing = hearing

    async def start(self) -> None:
        """There is nothing to load."""

    def session(self) -> InstantMind:
        return self

    def reply(self, context: Context) -> InstantReply:
        return InstantReply(self.text)

    def grammar(self) -> Grammar | None:
        return None if self._hearing is None else self._hearing.grammar()

    def completeness(self, text: str) -> float | None:
        return None if self._hearing is None else self._hearing.completeness(text)

    async def aclose(self) -> None:
        """There is nothing to let go of."""


# --- the voice ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rendering:
    """A text as it sounds."""

    text: str
    chunks: tuple[AudioChunk, ...]

    @property
    def pcm(self) -> Pcm:
        """(samples,) at 24 kHz."""
        return np.concatenate([chunk.pcm for chunk in self.chunks])

    @property
    def marks(self) -> tuple[WordMark, ...]:
        return tuple(mark for chunk in self.chunks for mark in chunk.marks)


Renderings = Mapping[str, Rendering]
"""By text."""


async def render(texts: Iterable[str], voice: Synthesizer) -> dict[str, Rendering]:
    """Each text once, by a voice that is started."""
    rendered: dict[str, Rendering] = {}
    for text in texts:
        stream = voice.stream()
        try:
            stream.push(text)
            stream.end()
            rendered[text] = Rendering(text, tuple([chunk async for chunk in stream]))
        finally:
            await stream.aclose()
    return rendered


def save(path: Path, renderings: Renderings) -> Path:
    """Writes an npz file: for each text its samples, and its chunks' lengths and marks as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"pcm_{i}": r.pcm for i, r in enumerate(renderings.values())}
    about = [
        {
            "text": r.text,
            "chunks": [[len(c.pcm), [asdict(mark) for mark in c.marks]] for c in r.chunks],
        }
        for r in renderings.values()
    ]
    np.savez_compressed(path, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    return path


def load(path: Path) -> dict[str, Rendering]:
    """Reads what ``save`` has written."""
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
        pcms = [file[f"pcm_{i}"] for i in range(len(about))]
    return {
        entry["text"]: Rendering(entry["text"], _chunks(pcm, entry["chunks"]))
        for entry, pcm in zip(about, pcms, strict=True)
    }


def _chunks(
    pcm: Pcm, lengths_and_marks: list[tuple[int, list[dict[str, object]]]]
) -> tuple[AudioChunk, ...]:
    ends = list(accumulate(length for length, _ in lengths_and_marks))
    parts = np.split(pcm, ends[:-1])
    return tuple(
        AudioChunk(part, tuple(WordMark(**mark) for mark in marks))  # type: ignore[arg-type]
        for part, (_, marks) in zip(parts, lengths_and_marks, strict=True)
    )


class InstantVoice:
    """Meets `parley_speech.types.Synthesizer`; knows some texts and no others."""

    def __init__(self, renderings: Renderings) -> None:
        self._renderings = renderings

    async def start(self) -> None:
        """Everything is rendered."""

    def stream(self) -> InstantSpeech:
        return InstantSpeech(self._renderings)

    async def aclose(self) -> None:
        """There is nothing to let go of."""


class InstantSpeech:
    """Meets `SpeechStream`: all audio as soon as the text is complete."""

    def __init__(self, renderings: Renderings) -> None:
        self._renderings = renderings
        self._text = ""
        self._changed = asyncio.Event()
        self._ended = False
        self._cancelled = False

    def push(self, text: str) -> None:
        self._text += text
        if self._text in self._renderings:
            self._changed.set()

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[AudioChunk]:
        await self._changed.wait()
        rendering = self._renderings.get(self._text.strip())
        if rendering is None and self._text.strip() and not self._cancelled:
            raise ValueError(
                f"this voice was not given {self._text!r}; it knows {len(self._renderings)} texts"
            )
        for chunk in rendering.chunks if rendering is not None else ():
            if self._cancelled:
                return
            yield chunk

    def cancel(self) -> None:
        self._cancelled = True
        self._changed.set()

    async def aclose(self) -> None:
        self.cancel()
