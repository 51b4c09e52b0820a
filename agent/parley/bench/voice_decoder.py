"""What the token decoder costs on this machine, with random weights of CosyVoice 2's size.

Two questions, each measured by itself:
- `chunk_cost`: a chunk (1 s of speech) of a call that is 30 s old against one that is 3 s old;
- `batch_cost`: how much of a second call's chunk comes for free beside a first one.
What a whole utterance costs is in `voice_total`.
Costs of a transformer do not depend on what the weights are, so random ones tell the truth. They
are CPU time of one thread, which is what the work costs even where other work holds the machine.

    python -m parley.bench.voice_decoder chunk --left 3

prints a result as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from parley_speech.token_voice import DecoderWork, TokenPrompt

if TYPE_CHECKING:
    from parley_speech.codec.cosyvoice2.decoder import Call, CosyVoice2Decoder

Progress = Callable[[str], None]

CHUNK_TOKENS = 25
LOOKAHEAD_TOKENS = 3
SPEAKER_DIM, MEL_BINS, CODEBOOK = 192, 80, 6561
REFERENCE_S = 3
GROWTH_GOAL = 1.1


def quiet(_: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class ChunkCost:
    """One chunk at two ages, and what a call holds then."""

    left_chunks: int
    """-1: all of the past is visible."""
    young_s: int
    old_s: int
    young_ms: tuple[float, ...]
    old_ms: tuple[float, ...]
    flow_young_ms: float
    """Of one young chunk, the flow's part; the rest is the vocoder's."""
    young_bytes: int
    old_bytes: int
    threads: int

    @property
    def growth(self) -> float:
        """Of the least disturbed turns: other work on the machine can only add time."""
        return min(self.old_ms) / min(self.young_ms)

    @property
    def reached(self) -> bool:
        return self.growth <= GROWTH_GOAL


@dataclass(frozen=True, slots=True)
class BatchCost:
    """One step of one call, and of several calls of different ages at once."""

    calls: int
    alone_ms: float
    together_ms: float
    threads: int

    @property
    def per_call(self) -> float:
        """A call's cost in the batch, as a share of its cost alone."""
        return self.together_ms / self.calls / self.alone_ms


def random_decoder(*, left_chunks: int = -1, reserve_s: int = 0) -> CosyVoice2Decoder:
    """A decoder of the published size with random weights."""
    from parley_speech.codec.cosyvoice2.decoder import CosyVoice2Decoder
    from parley_speech.codec.cosyvoice2.weights import random_full_size

    flow, hift = random_full_size()
    return CosyVoice2Decoder(flow, hift, left_chunks=left_chunks, reserve_s=reserve_s)


def random_voice(seconds: int = REFERENCE_S) -> TokenPrompt:
    draw = np.random.default_rng(0)
    return TokenPrompt(
        name="random",
        text="",
        tokens=tuple(draw.integers(0, CODEBOOK, CHUNK_TOKENS * seconds).tolist()),
        mel=draw.normal(-4, 1.5, (2 * CHUNK_TOKENS * seconds, MEL_BINS)).astype(np.float32),
        embedding=draw.normal(0, 1, SPEAKER_DIM).astype(np.float32),
    )


def random_tokens(seconds: int, codebook: int = CODEBOOK) -> list[int]:
    draw = np.random.default_rng(1)
    return [int(token) for token in draw.integers(0, codebook, CHUNK_TOKENS * seconds)]


def chunk_cost(
    *,
    left_chunks: int = -1,
    young_s: int = 3,
    old_s: int = 30,
    repeats: int = 2,
    progress: Progress = quiet,
) -> ChunkCost:
    """Steps of one chunk each, on calls that are ``young_s`` and ``old_s`` old, in turns."""
    import torch

    decoder = random_decoder(left_chunks=left_chunks)
    voice = random_voice()
    progress(f"reference speech of {REFERENCE_S} s")
    decoder.prepare(voice)
    young, old = aged(decoder, voice, young_s), aged(decoder, voice, old_s)
    times: dict[str, list[float]] = {"young": [], "old": []}
    sizes = young.nbytes, old.nbytes
    for turn in range(repeats + 1):  # the first turn warms up and is not counted
        for name, call, age in (("young", young, young_s), ("old", old, old_s)):
            progress(f"turn {turn} of {repeats}: a chunk at {age} s")
            spent = chunk_ms(decoder, call)
            _rewind(call)
            if turn:
                times[name].append(spent)
    return ChunkCost(
        left_chunks=left_chunks,
        young_s=young_s,
        old_s=old_s,
        young_ms=tuple(times["young"]),
        old_ms=tuple(times["old"]),
        flow_young_ms=_flow_ms(decoder, young),
        young_bytes=sizes[0],
        old_bytes=sizes[1],
        threads=torch.get_num_threads(),
    )


def batch_cost(*, calls: int = 4, progress: Progress = quiet) -> BatchCost:
    """``calls`` calls that are 1, 2, 3 … s old, in one step and alone (the first of them)."""
    import torch

    decoder, voice = random_decoder(), random_voice()
    decoder.prepare(voice)
    members = [aged(decoder, voice, age + 1) for age in range(calls)]
    tokens = random_tokens(1)
    spent = []
    for group in ([members[0]], members, [members[0]], members):
        progress(f"a step of {len(group)}")
        started = time.process_time()
        decoder.step([DecoderWork(call, tokens) for call in group])
        spent.append((time.process_time() - started) * 1000)
        for call in group:
            _rewind(call)
    return BatchCost(calls, min(spent[0::2]), min(spent[1::2]), torch.get_num_threads())


# --- calls of a given age -------------------------------------------------------------------


def aged(decoder: CosyVoice2Decoder, voice: TokenPrompt, seconds: int) -> Call:
    """A call that has spoken for ``seconds``: decoded truly for one chunk, then its caches are
    filled up with zeros, because what they hold changes nothing about their cost."""
    import torch

    call = decoder.open(voice)
    tokens = random_tokens(2, decoder.flow.config.vocabulary)
    decoder.step([DecoderWork(call, tokens[: CHUNK_TOKENS + LOOKAHEAD_TOKENS])])
    assert call.state is not None
    flow = call.state.flow
    with torch.inference_mode():
        for memory in (flow.tokens, flow.frames, flow.velocity):
            memory.kv.age(seconds - 1)
    flow.position += (seconds - 1) * CHUNK_TOKENS
    return call


def chunk_ms(decoder: CosyVoice2Decoder, call: Call, chunks: int = 1) -> float:
    """One step of so many chunks."""
    tokens = random_tokens(chunks, decoder.flow.config.vocabulary)
    started = time.process_time()
    samples = decoder.step([DecoderWork(call, tokens)])[0]
    spent = (time.process_time() - started) * 1000
    assert len(samples) == chunks * decoder.sample_rate_hz, "one chunk is one second of sound"
    return spent


def _rewind(call: Call) -> None:
    """Takes the last chunk back, so that the next one is measured at the same age."""
    assert call.state is not None
    flow = call.state.flow
    for memory in (flow.tokens, flow.frames, flow.velocity):
        memory.kv.seen -= memory.kv.chunk
    flow.position -= CHUNK_TOKENS


def _flow_ms(decoder: CosyVoice2Decoder, call: Call) -> float:
    """The flow's part of a chunk."""
    import torch

    from parley_speech.codec.cosyvoice2.flow_stream import advance

    assert call.state is not None
    flow = call.state.flow
    with torch.inference_mode():
        flow.pending += random_tokens(1)
        started = time.process_time()
        advance(decoder.flow, [flow])
    spent = (time.process_time() - started) * 1000
    _rewind(call)
    return spent


# --- by hand ----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="parley.bench.voice_decoder")
    parser.add_argument("what", choices=("chunk", "batch"))
    parser.add_argument("--left", type=int, default=-1, help="visible chunks; -1: all")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    _use_threads(options.threads)

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    print(json.dumps(_measure(options, progress), indent=1))


def _use_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _measure(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    if options.what == "chunk":
        chunk = chunk_cost(left_chunks=options.left, progress=progress)
        return {**asdict(chunk), "growth": chunk.growth, "reached": chunk.reached}
    batch = batch_cost(progress=progress)
    return {**asdict(batch), "per_call": batch.per_call}


if __name__ == "__main__":
    main()
