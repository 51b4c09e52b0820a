"""The Moonshine model for tests: loaded once, spoken to without a process; skipped where it is not
installed."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from parley_speech.asr.grammar import jsgf_source
from parley_speech.asr.heard import Heard
from parley_speech.asr.moonshine.recognizer import HELP, find_model
from parley_speech.asr.moonshine.stream import MoonshineModels, MoonshineStream, models
from parley_speech.types import MIC_FRAME, Grammar, Pcm

FOLDER = find_model()
needs_moonshine = pytest.mark.skipif(FOLDER is None, reason=HELP)


@functools.cache
def moonshine() -> MoonshineModels:
    assert FOLDER is not None, "mark the test with needs_moonshine"
    return models({"folder": FOLDER, "threads": 1})


def source(grammar: Grammar | None) -> str:
    return jsgf_source(grammar) if grammar is not None else ""


def words_of(text: str) -> str:
    """Without what a text decoder is free to choose: capitals and punctuation."""
    kept = "".join(c if c.isalnum() or c in "' " else " " for c in text.lower())
    return " ".join(kept.split())


class Listener:
    """One stream, driven as the child drives it."""

    def __init__(self, grammar: Grammar | None = None) -> None:
        self.grammar = grammar
        self.stream: MoonshineStream = moonshine().decoder()
        self._number = 0

    def begin(self) -> None:
        self.stream.begin(self._number, source(self.grammar))
        self._number += 1

    def push(self, pcm: Pcm, frames: int = 1) -> list[Heard]:
        """Piece by piece, decoded as it comes. Gives the partials."""
        found: list[Heard] = []
        for piece in pieces(pcm, frames * MIC_FRAME):
            self.stream.push(piece)
            found += self.work()
        return found

    def work(self) -> list[Heard]:
        """All that there is to do."""
        found: list[Heard] = []
        while self.stream.busy:
            found += self.stream.step()
        return found

    def end(self) -> Heard:
        self.stream.end()
        *_, final = self.work()
        assert final.final
        return final

    def hear(self, pcm: Pcm) -> Heard:
        """A whole utterance that was there at once."""
        self.begin()
        self.stream.push(pcm.astype("<i2").tobytes())
        return self.end()


def pieces(pcm: Pcm, samples: int) -> Iterator[bytes]:
    for at in range(0, len(pcm), samples):
        yield pcm[at : at + samples].astype("<i2").tobytes()
