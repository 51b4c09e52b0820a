"""A voice whose samples say which word they are, and that does only what a test lets it do.

The text is words like ``w17``. Word n sounds for `WORD` samples of the value 100 + n, followed by
`PAUSE` samples of silence, so that any recording can be read back word by word.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import groupby

import numpy as np

from parley_speech.types import AudioChunk, Pcm, WordMark

WORD, PAUSE = 2_400, 480
_WORD = re.compile(r"\S+(?=\s)")


def text_of(*numbers: int) -> str:
    return " ".join(f"w{n}" for n in numbers)


def read(pcm: Pcm) -> list[tuple[int, int]]:
    """[(word, samples)] in the order in which they sound; adjoining parts are one."""
    values = pcm[pcm != 0]
    return [(int(value) - 100, len(list(run))) for value, run in groupby(values.tolist())]


class ToneVoice:
    """Meets `parley_speech.types.Synthesizer`.

    Args:
        chunk: samples of a chunk.
        late: a word's mark comes with its last sample rather than its first.
        fail_after: chunks after which a stream raises.
    """

    def __init__(
        self,
        *,
        chunk: int = 960,
        late: bool = False,
        fail_after: int | None = None,
    ) -> None:
        self.chunk, self.late, self.fail_after = chunk, late, fail_after
        self.gate = asyncio.Event()
        self.gate.set()  # chunks are made only while it is
        self.started = self.closed = False
        self.open = 0
        """Streams that hold something."""
        self.made = 0
        """Chunks of all streams."""
        self.streams: list[ToneStream] = []
        self._hold_at: int | None = None

    def hold_at(self, made: int) -> None:
        """Closes the gate when so many chunks have been made."""
        self._hold_at = made

    def go_on(self) -> None:
        self._hold_at = None
        self.gate.set()

    def has_made(self) -> None:
        self.made += 1
        if self.made == self._hold_at:
            self.gate.clear()

    async def start(self) -> None:
        self.started = True

    def stream(self, *, speed: float = 1.0, instructions: str = "") -> ToneStream:
        stream = ToneStream(self, speed, instructions)
        self.streams.append(stream)
        self.open += 1
        return stream

    async def aclose(self) -> None:
        self.closed = True
        for stream in self.streams:
            await stream.aclose()


class ToneStream:
    def __init__(self, voice: ToneVoice, speed: float, instructions: str) -> None:
        self.speed, self.instructions = speed, instructions
        self.text = ""
        self.ended = self.cancelled = self.closed = False
        self._voice = voice
        self._changed = asyncio.Event()
        self._at = 0  # sample
        self._from = 0  # character
        self._chunks = self._make()

    def push(self, text: str) -> None:
        self.text += text
        self._changed.set()

    def end(self) -> None:
        self.ended = True
        self._changed.set()

    def cancel(self) -> None:
        self.cancelled = True
        self._changed.set()
        self._voice.gate.set()

    async def aclose(self) -> None:
        self.cancel()
        if not self.closed:
            self.closed = True
            self._voice.open -= 1

    def __aiter__(self) -> AsyncIterator[AudioChunk]:
        return self._chunks

    async def _make(self) -> AsyncIterator[AudioChunk]:
        made = 0
        while not self.cancelled:
            found = _WORD.search(self.text + (" " if self.ended else ""), self._from)
            if found is None:
                if self.ended:
                    return
                self._changed.clear()
                await self._changed.wait()
                continue
            for chunk in self._word(found):
                await self._voice.gate.wait()
                await asyncio.sleep(0)
                if self._voice.fail_after is not None and made >= self._voice.fail_after:
                    raise RuntimeError(f"no voice for {self.text}")
                if self.cancelled:
                    return
                made += 1
                self._voice.has_made()
                yield chunk

    def _word(self, found: re.Match[str]) -> list[AudioChunk]:
        number = int(re.sub(r"\D", "", found[0]) or 0)
        pcm = np.concatenate(
            [np.full(WORD, (100 + number) % 32_000, np.int16), np.zeros(PAUSE, np.int16)]
        )
        mark = WordMark(found[0], found.start(), found.end(), self._at, self._at + WORD)
        pieces = [pcm[i : i + self._voice.chunk] for i in range(0, len(pcm), self._voice.chunk)]
        marked = (WORD - 1) // self._voice.chunk if self._voice.late else 0
        self._at += len(pcm)
        self._from = found.end()
        return [AudioChunk(piece, (mark,) if i == marked else ()) for i, piece in enumerate(pieces)]
