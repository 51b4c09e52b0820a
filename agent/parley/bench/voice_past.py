"""What the token decoder's past costs and does: memory while a call grows old, and how far a
bounded past takes the mel from that of the whole past.

    python -m parley.bench.voice_past memory --left 4 --speech 30
    python -m parley.bench.voice_past difference --left 4 [--checkpoint FOLDER]

``difference`` is a property of the weights: with random ones it says that the bound does something,
not whether anybody hears it. ``--checkpoint`` measures real ones. Both print JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from parley.bench.voice_decoder import (
    CHUNK_TOKENS,
    LOOKAHEAD_TOKENS,
    Progress,
    quiet,
    random_decoder,
    random_tokens,
    random_voice,
)
from parley_speech.token_voice import DecoderWork

if TYPE_CHECKING:
    from parley_speech.codec.cosyvoice2.flow import Flow

MB = 1e6


@dataclass(frozen=True, slots=True)
class Memory:
    """What a call holds after each second of its speech, and the whole process with it."""

    left_chunks: int
    call_mb: tuple[float, ...]
    process_mb: tuple[float, ...]

    @property
    def full_at_s(self) -> int:
        """When a bounded past is full; 0 without a bound."""
        return self.left_chunks + 1 if self.left_chunks >= 0 else 0

    @property
    def call_mb_per_s(self) -> float:
        return _slope(self.call_mb[self.full_at_s :])

    @property
    def process_mb_per_s(self) -> float:
        return _slope(self.process_mb[self.full_at_s :])


def _slope(values: tuple[float, ...]) -> float:
    """The mean step from one value to the next; 0 for fewer than two."""
    steps = [b - a for a, b in pairwise(values)]
    return sum(steps) / len(steps) if steps else 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the mel with a bounded past from that with the whole one, where the bound has begun to
    tell: RMS and largest value, both as a share of the mel's own."""

    left_chunks: int
    speech_s: int
    rms: float
    largest: float
    before_the_bound: float
    """The largest up to there: 0 but for rounding."""


def memory(*, left_chunks: int, speech_s: int, progress: Progress = quiet) -> Memory:
    """One call of ``speech_s`` at full size, a second at a time."""
    decoder, process = random_decoder(left_chunks=left_chunks), psutil.Process()
    voice, tokens = random_voice(), random_tokens(speech_s + 1)
    decoder.prepare(voice)
    call = decoder.open(voice)
    calls_mb, processes_mb, at = [], [], 0
    for second in range(speech_s):
        upto = (second + 1) * CHUNK_TOKENS + LOOKAHEAD_TOKENS
        decoder.step([DecoderWork(call, tokens[at:upto])])
        at = upto
        calls_mb.append(round(call.nbytes / MB, 1))
        processes_mb.append(round(process.memory_info().rss / MB, 1))
        progress(f"{second + 1} s: call {calls_mb[-1]:.0f} MB, process {processes_mb[-1]:.0f} MB")
    decoder.close(call)
    return Memory(left_chunks, tuple(calls_mb), tuple(processes_mb))


def difference(
    flow: Flow | None = None, *, left_chunks: int, speech_s: int, progress: Progress = quiet
) -> Difference:
    """Two passes over the same tokens, by the streaming mask with and without the bound."""
    import torch

    from parley_speech.codec.cosyvoice2.flow import Reference
    from parley_speech.codec.cosyvoice2.weights import random_full_size

    flow = flow or random_full_size()[0]
    voice, draw = random_voice(), np.random.default_rng(1)
    size = flow.config.vocabulary
    tokens = draw.integers(0, size, CHUNK_TOKENS * speech_s).tolist()
    prompt = tuple(token % size for token in voice.tokens)
    with torch.inference_mode():
        speaker = flow.speaker(torch.from_numpy(voice.embedding))
        reference = Reference(prompt, torch.from_numpy(voice.mel.T.copy()), speaker)
        progress("the whole past")
        wanted = flow.whole(reference, tokens, streaming=True)
        progress(f"{left_chunks} s of it")
        pinned = len(prompt) // CHUNK_TOKENS
        got = flow.whole(reference, tokens, streaming=True, left=left_chunks, pinned=pinned)
    edge = (left_chunks + 1) * flow.config.chunk_frames
    before, after = (got - wanted)[:, :edge], (got - wanted)[:, edge:]
    later = wanted[:, edge:]
    return Difference(
        left_chunks,
        speech_s,
        rms=float(after.square().mean().sqrt() / later.square().mean().sqrt()),
        largest=float(after.abs().max() / later.abs().max()),
        before_the_bound=float(before.abs().max() / wanted.abs().max()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="parley.bench.voice_past")
    parser.add_argument("what", choices=("memory", "difference"))
    parser.add_argument("--left", type=int, default=4, help="visible seconds; -1: all")
    parser.add_argument("--speech", type=int, default=20, help="seconds of speech")
    parser.add_argument("--checkpoint", type=Path, help="difference: of these weights")
    options = parser.parse_args()

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    import torch

    torch.set_num_threads(1)
    if options.what == "memory":
        found = memory(left_chunks=options.left, speech_s=options.speech, progress=progress)
        more = {"call_mb_per_s": found.call_mb_per_s, "process_mb_per_s": found.process_mb_per_s}
        print(json.dumps({**asdict(found), **more}, indent=1))
        return
    from parley_speech.codec.cosyvoice2.weights import load_flow

    flow = load_flow(options.checkpoint) if options.checkpoint else None
    told = difference(flow, left_chunks=options.left, speech_s=options.speech, progress=progress)
    print(json.dumps(asdict(told), indent=1))


if __name__ == "__main__":
    main()
