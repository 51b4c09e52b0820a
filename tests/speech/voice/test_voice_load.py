"""The bench of many calls: its arithmetic, its listeners, and what it says without a GPU."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from parley.bench import voice_load, voice_past
from parley.bench.voice_load import Level, Listened
from parley.bench.voice_past import Memory
from parley.bench.voice_random import TOKENS_PER_CHAR, RandomLm, RandomText
from parley_speech.types import SPEAKER_HZ, AudioChunk
from speech.voice.token_fakes import PROMPT


def test_a_level_sums_its_calls() -> None:
    calls = [Listened(ms, SPEAKER_HZ * 2, gaps) for ms, gaps in ((30, 0), (50, 2), (40, 0))]
    there = Level.of(calls, spoken_s=6.0, took_s=1.5)
    assert (there.calls, there.first_chunk_p50_ms, there.first_chunk_max_ms) == (3, 40, 50)
    assert (there.underruns, there.speech_s, there.real_time_factor) == (2, 6.0, 0.25)


@pytest.mark.parametrize(
    ("calls", "first_ms", "underruns", "reached"),
    [
        (1, 60.0, 0, True),
        (1, 61.0, 0, False),
        (4, 80.0, 1, False),
        (64, 399.0, 3, True),  # no goal for underruns beyond 32 calls
        (64, 401.0, 0, False),
        (3, 9999.0, 0, True),  # no goal is set
    ],
)
def test_goals(calls: int, first_ms: float, underruns: int, reached: bool) -> None:
    heard = [Listened(first_ms, 1, 0)] * (calls - 1) + [Listened(first_ms, 1, underruns)]
    assert Level.of(heard, 1.0, 1.0).reached is reached


def test_nothing_spoken_is_no_throughput() -> None:
    assert Level.of([Listened(1.0, 0, 0)], 0.0, 1.0).real_time_factor == float("inf")


class Stream:
    """Gives chunks of 100 ms; before ``slow_at`` it waits until it is told to go on."""

    def __init__(self, voice: Voice) -> None:
        self.voice, self.text, self.ended, self.closed = voice, "", False, False

    def push(self, text: str) -> None:
        self.text += text

    def end(self) -> None:
        self.ended = True

    async def __aiter__(self) -> AsyncIterator[AudioChunk]:
        assert self.ended and self.text
        for number in range(self.voice.chunks):
            if number == self.voice.slow_at:
                await asyncio.sleep(0.3)  # longer than what is in hand
            yield AudioChunk(np.zeros(SPEAKER_HZ // 10, np.int16))

    def cancel(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Voice:
    def __init__(self, chunks: int, slow_at: int = -1) -> None:
        self.chunks, self.slow_at = chunks, slow_at
        self.streams: list[Stream] = []

    async def start(self) -> None: ...

    def stream(self) -> Stream:
        self.streams.append(Stream(self))
        return self.streams[-1]

    async def aclose(self) -> None: ...


async def test_a_buffer_that_runs_dry_is_an_underrun() -> None:
    slow = Voice(3, slow_at=1)
    heard = await voice_load.listen(slow)
    assert heard.underruns >= 1 and heard.samples == 3 * SPEAKER_HZ // 10
    assert heard.first_ms >= 0 and slow.streams[0].closed


async def test_levels_hold_every_call_and_close_it() -> None:
    voice = Voice(2)
    found = await voice_load.measure(voice, [1, 3])
    assert [level["calls"] for level in found] == [1, 3]
    assert [level["speech_s"] for level in found] == [0.2, 0.6]
    assert len(voice.streams) == 3 * (1 + 3) and all(s.closed for s in voice.streams)


async def test_without_a_gpu_it_says_so() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    told = await voice_load.report("cuda", [1])
    assert told["device"] is None and "no GPU was here" in told["note"]


async def test_the_random_lm_speaks_by_the_length_of_the_text() -> None:
    stream = RandomLm().utterance(PROMPT)
    stream.push("hello ")
    stream.push("you")
    stream.end()
    pieces = [tokens async for tokens in stream]
    assert sum(map(len, pieces)) == TOKENS_PER_CHAR * 9
    stream.cancel()
    assert [tokens async for tokens in stream] == []
    assert len(RandomText().push("ten words make thirteen ids of text, more or less")) == 13


async def test_the_random_model_is_of_the_published_size(tmp_path: Path) -> None:
    from parley.bench.voice_random import RandomVllmLm

    RandomVllmLm(tmp_path, slots=4)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vocab_size"] % 128 == 0 and config["vocab_size"] > 151_936 + 6561
    assert (config["num_hidden_layers"], config["hidden_size"]) == (24, 896)


# --- the past -------------------------------------------------------------------------------------


def test_memory_is_judged_once_a_bounded_past_is_full() -> None:
    bounded = Memory(1, (10.0, 20.0, 20.5, 21.0), (100.0, 150.0, 151.0, 153.0))
    assert bounded.full_at_s == 2
    assert bounded.call_mb_per_s == pytest.approx(0.5)
    assert bounded.process_mb_per_s == pytest.approx(2.0)
    assert Memory(-1, (10.0, 20.0, 30.0), (1.0, 2.0, 3.0)).call_mb_per_s == pytest.approx(10.0)
    assert Memory(4, (1.0,), (1.0,)).call_mb_per_s == 0.0


def test_a_bound_changes_nothing_before_it_is_reached() -> None:
    pytest.importorskip("torch")
    from parley_speech.codec.cosyvoice2.weights import load_flow
    from speech.voice.golden_files import GOLDEN

    flow = load_flow(GOLDEN / "cosyvoice2-flow")
    told = voice_past.difference(flow, left_chunks=0, speech_s=2)
    assert told.before_the_bound < 1e-5 and told.rms > 1e-3
    assert voice_past.difference(flow, left_chunks=5, speech_s=7).before_the_bound < 1e-5
