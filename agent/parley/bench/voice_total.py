"""What decoding 20 s of speech costs, against the original's schedule on the same networks.

    python -m parley.bench.voice_total [--left 4] [--pieces FILE] [--at-most 2]

The original decodes the whole prefix again for every chunk; its chunks grow from 25 to 100 tokens.
Hop by hop, right after one another in one thread, so that a machine whose speed drifts touches all
alike:
- ``recomputed``: the original's hop, the whole prefix and its cross-fading vocoder;
- ``cached``: the same tokens in one step of our decoder, at the age that the call has then;
- ``chunkwise``: the same in steps of 25 tokens, as a server goes that has no tokens ahead.
Random weights of CosyVoice 2's size: what a layer costs does not hang on what its weights are.
Times are CPU time of the thread. ``--pieces`` keeps every hop as soon as it is measured, and a run
that finds hops of the same code and settings there goes on behind them. Prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parley.bench.voice_decoder import (
    CHUNK_TOKENS,
    Progress,
    aged,
    chunk_ms,
    quiet,
    random_decoder,
    random_tokens,
    random_voice,
)
from parley_speech.token_voice import TokenPrompt

if TYPE_CHECKING:
    from parley_speech.codec.cosyvoice2.decoder import CosyVoice2Decoder
    from parley_speech.codec.cosyvoice2.reference import Hop

SPEECH_S = 20
SAVING_GOAL = 4.0


@dataclass(frozen=True, slots=True)
class HopCost:
    """One hop of the original's schedule."""

    first: int
    """Tokens that came out before."""
    given: int
    """Tokens that the original decodes, the look-ahead included and the reference's not."""
    chunks: int
    """Of 25 tokens, new ones."""
    recomputed_ms: float
    cached_ms: float
    chunkwise_ms: float


@dataclass(frozen=True, slots=True)
class Settings:
    """What pieces of one measurement must have in common."""

    speech_s: int
    left_chunks: int
    """-1: all of the past is visible."""
    threads: int
    torch: str
    code: str
    """A digest of the decoder's modules and of this one."""


@dataclass(frozen=True, slots=True)
class TotalCost:
    settings: Settings
    hops: tuple[HopCost, ...]
    complete: bool

    @property
    def recomputed_ms(self) -> float:
        return sum(hop.recomputed_ms for hop in self.hops)

    @property
    def saving(self) -> float:
        """At the original's own hops."""
        return self.recomputed_ms / sum(hop.cached_ms for hop in self.hops)

    @property
    def chunkwise_saving(self) -> float:
        """One chunk after the other."""
        return self.recomputed_ms / sum(hop.chunkwise_ms for hop in self.hops)

    @property
    def reached(self) -> bool:
        return self.complete and self.saving >= SAVING_GOAL

    def told(self) -> dict[str, Any]:
        found = asdict(self)
        names = ("recomputed_ms", "saving", "chunkwise_saving", "reached")
        return {**found, **{name: getattr(self, name) for name in names}}


class Pieces:
    """The hops that were measured so far, in a file or only in memory."""

    def __init__(self, path: Path | None, settings: Settings) -> None:
        self.path, self.settings = path, settings
        self.hops: list[HopCost] = []
        if path is not None and path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["settings"] == asdict(settings):  # else it is of other code: begin anew
                self.hops = [HopCost(**hop) for hop in kept["hops"]]

    def add(self, hop: HopCost) -> None:
        self.hops.append(hop)
        if self.path is not None:
            kept = {"settings": asdict(self.settings), "hops": [asdict(h) for h in self.hops]}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def total_cost(
    decoder: CosyVoice2Decoder,
    voice: TokenPrompt,
    pieces: Pieces,
    *,
    at_most: int | None = None,
    progress: Progress = quiet,
) -> TotalCost:
    """Measures the hops that ``pieces`` lacks, ``at_most`` so many of them."""
    from parley_speech.codec.cosyvoice2.reference import schedule

    tokens = pieces.settings.speech_s * CHUNK_TOKENS
    hops = schedule(decoder.flow.config, len(voice.tokens), tokens)
    todo = hops[len(pieces.hops) :][:at_most]
    if todo:
        decoder.prepare(voice)
    recompute_ms = _recomputing(decoder, voice, tokens)
    for hop in todo:
        number = len(pieces.hops)
        progress(f"hop {number + 1} of {len(hops)}: {hop.given} tokens recomputed")
        until = tokens if number + 1 == len(hops) else hops[number + 1].first
        chunks = -(-(until - hop.first) // CHUNK_TOKENS)
        recomputed = recompute_ms(hop)
        progress(f"hop {number + 1} of {len(hops)}: {chunks} chunks cached")
        cached, chunkwise = _cached_ms(decoder, voice, hop.first // CHUNK_TOKENS, chunks)
        pieces.add(HopCost(hop.first, hop.given, chunks, recomputed, cached, chunkwise))
    return TotalCost(pieces.settings, tuple(pieces.hops), len(pieces.hops) == len(hops))


def _recomputing(
    decoder: CosyVoice2Decoder, voice: TokenPrompt, count: int
) -> Callable[[Hop], float]:
    """The original's hop on the decoder's own networks, in milliseconds."""
    import torch

    from parley_speech.codec.cosyvoice2.flow import Reference
    from parley_speech.codec.cosyvoice2.reference import CrossFaded, recompute

    flow, hift = decoder.flow, decoder.hift
    tokens = random_tokens(count // CHUNK_TOKENS, flow.config.vocabulary)
    with torch.inference_mode():
        speaker = flow.speaker(torch.from_numpy(voice.embedding))
    reference = Reference(voice.tokens, torch.from_numpy(voice.mel.T.copy()), speaker)

    def spent_ms(hop: Hop) -> float:
        vocoder = CrossFaded(hift)
        started = time.process_time()
        with torch.inference_mode():
            mel = recompute(flow, reference, tokens, hop)
            size = mel.shape[1] * hift.config.samples_per_frame
            vocoder.push(mel, torch.randn(size, hift.config.harmonics + 1), last=hop.last)
        return (time.process_time() - started) * 1000

    return spent_ms


def _cached_ms(
    decoder: CosyVoice2Decoder, voice: TokenPrompt, age_s: int, chunks: int
) -> tuple[float, float]:
    """``chunks`` of a call of this age, in one step and in as many."""
    call = aged(decoder, voice, max(1, age_s))
    together = chunk_ms(decoder, call, chunks)
    decoder.close(call)
    call = aged(decoder, voice, max(1, age_s))
    apart = sum(chunk_ms(decoder, call) for _ in range(chunks))
    decoder.close(call)
    return together, apart


def code_digest() -> str:
    """Of everything that a figure here depends on."""
    from parley.bench import voice_decoder
    from parley_speech.codec import cosyvoice2

    digest = hashlib.sha256()
    for path in _sources(Path(cosyvoice2.__file__).parent, Path(voice_decoder.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources(folder: Path, *more: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*.py"))
    yield from (*more, Path(__file__))


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, prog="parley.bench.voice_total")
    parser.add_argument("--left", type=int, default=4, help="visible chunks; -1: all")
    parser.add_argument("--speech", type=int, default=SPEECH_S, help="seconds of speech")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pieces", type=Path, help="keeps hops; a later run goes on from there")
    parser.add_argument("--at-most", type=int, help="hops of this run")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = Settings(
        options.speech, options.left, options.threads, torch.__version__, code_digest()
    )

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = total_cost(
        random_decoder(left_chunks=options.left),
        random_voice(),
        Pieces(options.pieces, settings),
        at_most=options.at_most,
        progress=progress,
    )
    print(json.dumps(found.told(), indent=1))


if __name__ == "__main__":
    main()
