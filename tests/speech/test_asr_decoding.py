"""Decoding anew, and following the channel: which costs the caller time, and which does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from parley_speech.asr.decoding import (
    BLOCK_MS,
    BYTES_PER_MS,
    OPEN,
    STEER_MS,
    Models,
    StreamDecoder,
)

GRAMMAR = "#JSGF V1.0; grammar g; public <g> = yes;"
MS = 3000


@dataclass
class FakeDecoder:
    """Hears nothing, and notes what it is told."""

    config: dict[str, Any] = field(default_factory=lambda: {"lw": 6.5, "wip": 1, "bestpath": True})
    starts: int = 0
    blocks: int = 0
    means: list[tuple[int, str]] = field(default_factory=list)
    """(blocks before it in this pass, the mean)."""

    def start_utt(self) -> None:
        self.starts += 1

    def process_raw(self, block: bytes, no_search: bool, full: bool) -> None:
        self.blocks += 1

    def set_cmn(self, mean: str) -> None:
        self.means.append((self.blocks, mean))

    def hyp(self) -> None:
        return None

    def lookup_word(self, word: str) -> str:
        return "Y EH S"

    def end_utt(self) -> None:
        self.blocks = 0

    def activate_search(self, name: str) -> None: ...
    def remove_search(self, name: str) -> None: ...
    def add_jsgf_string(self, name: str, source: str) -> None: ...

    def get_fsg(self, name: str) -> FakeDecoder:
        return self

    def accept(self, text: str) -> bool:
        return False


class FakeModels:
    def __init__(self) -> None:
        self.decoder = FakeDecoder()

    def borrow(self) -> FakeDecoder:
        return self.decoder

    def give_back(self, decoder: FakeDecoder) -> None: ...


def dull_voice(ms: int) -> bytes:
    """Noise without its upper half: far from the mean a call begins with."""
    rng = np.random.default_rng(1)
    white = rng.normal(0, 4000, ms * 16)
    dull = np.convolve(white, np.ones(12) / 12, "same")
    return dull.astype("<i2").tobytes()


def decoded(source: str, ms: int = MS) -> FakeDecoder:
    models = FakeModels()
    decoder = StreamDecoder(cast(Models, models))
    decoder.begin(0, source)
    raw = dull_voice(ms)
    for begin in range(0, len(raw), BLOCK_MS * BYTES_PER_MS):
        decoder.push(raw[begin : begin + BLOCK_MS * BYTES_PER_MS])
        while decoder.busy:
            decoder.step()
    decoder.end()
    while decoder.busy:
        decoder.step()
    assert not decoder.problems
    return models.decoder


@pytest.mark.parametrize("ms", [700, 1600, 2400, MS])
def test_open_english_is_decoded_anew_once_at_most(ms: int) -> None:
    assert decoded(OPEN, ms).starts == 2


def test_a_grammar_which_costs_little_may_be_decoded_anew_at_its_end() -> None:
    heard = decoded(GRAMMAR, 550)  # before the first time at which it may be within it
    assert heard.starts == 2


def test_open_english_follows_the_mean_block_by_block() -> None:
    means = decoded(OPEN).means
    steered = [(block, mean) for block, mean in means if block]
    assert [block * BLOCK_MS for block, _ in steered] == list(range(STEER_MS, MS + 1, BLOCK_MS))
    assert len({mean for _, mean in steered}) > 1


def test_a_grammar_keeps_the_mean_of_its_pass() -> None:
    assert all(block == 0 for block, _ in decoded(GRAMMAR).means)


def test_silence_tells_nothing_about_the_channel() -> None:
    models = FakeModels()
    decoder = StreamDecoder(cast(Models, models))
    decoder.begin(0, OPEN)
    decoder.push(bytes(200 * BYTES_PER_MS))
    decoder.end()
    while decoder.busy:
        decoder.step()
    assert models.decoder.starts == 1
