"""Many calls at once on a GPU: first chunks, gaps and throughput of the codec-token voice.

    python -m parley.bench.voice_load [--device cuda] [--calls 1,4,16,64]

Both models have the published size and random weights, which cost what real ones do: the decoder
in bfloat16, the token LM on vLLM where that is installed (else tokens come at once, and the report
says so). Calls begin together and listen in real time, a listener's buffer running dry is an
underrun; then as many calls speak without listeners, for the throughput. Without a GPU nothing is
measured, and that is what the report says. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parley.bench.voice_decoder import random_voice
from parley.bench.voice_random import RandomLm, RandomVllmLm
from parley_speech.server.playout import Playout
from parley_speech.types import SPEAKER_HZ, Synthesizer

if TYPE_CHECKING:
    from parley_speech.tts.token_tts import TokenSynthesizer

CALLS = (1, 4, 16, 64)
FIRST_CHUNK_GOALS_MS = {1: 60.0, 4: 80.0, 16: 150.0, 64: 400.0}
NO_UNDERRUN_UPTO = 32
TEXT = "Your order was shipped on Thursday, and it will arrive tomorrow in the afternoon."
AHEAD_MS = 2000
"""A listener takes no more than this in advance."""


@dataclass(frozen=True, slots=True)
class Listened:
    """One call, as its listener had it."""

    first_ms: float
    samples: int
    underruns: int


@dataclass(frozen=True, slots=True)
class Level:
    """So many calls at once."""

    calls: int
    first_chunk_p50_ms: float
    first_chunk_max_ms: float
    underruns: int
    """Of all calls together."""
    speech_s: float
    real_time_factor: float
    """Seconds of computing for a second of speech, all calls together, nobody listening."""

    @property
    def reached(self) -> bool:
        """The goals that are set for this number of calls; true where none is."""
        goal = FIRST_CHUNK_GOALS_MS.get(self.calls)
        gapless = self.underruns == 0 or self.calls > NO_UNDERRUN_UPTO
        return gapless and (goal is None or self.first_chunk_p50_ms <= goal)

    @classmethod
    def of(cls, calls: Sequence[Listened], spoken_s: float, took_s: float) -> Level:
        firsts = sorted(call.first_ms for call in calls)
        middle = firsts[(len(firsts) - 1) // 2]
        return cls(
            len(calls),
            round(middle, 1),
            round(firsts[-1], 1),
            sum(call.underruns for call in calls),
            round(sum(call.samples for call in calls) / SPEAKER_HZ, 1),
            round(took_s / spoken_s, 4) if spoken_s else float("inf"),
        )


async def listen(voice: Synthesizer, text: str = TEXT) -> Listened:
    """Speaks a text to a listener who plays it in real time from the first chunk on."""
    stream = voice.stream()
    playout = Playout(SPEAKER_HZ, ahead_ms=AHEAD_MS, clocked=True)
    began, first = time.monotonic(), -1.0
    stream.push(text)
    stream.end()
    try:
        async for chunk in stream:
            now = time.monotonic()
            first = (now - began) * 1000 if first < 0 else first
            playout.sent(len(chunk.pcm), now)
            if wait_s := playout.wait_s(now):
                await asyncio.sleep(wait_s)  # the pace of a listener
                playout.held(time.monotonic())
    finally:
        await stream.aclose()
    return Listened(first, playout.sent_samples, playout.underruns)


async def rush(voice: Synthesizer, text: str = TEXT) -> int:
    """Samples of a text that is taken as fast as it is made."""
    stream = voice.stream()
    stream.push(text)
    stream.end()
    try:
        return sum([len(chunk.pcm) async for chunk in stream])
    finally:
        await stream.aclose()


async def level(voice: Synthesizer, calls: int) -> Level:
    heard = await asyncio.gather(*(listen(voice) for _ in range(calls)))
    began = time.monotonic()
    samples = await asyncio.gather(*(rush(voice) for _ in range(calls)))
    return Level.of(heard, sum(samples) / SPEAKER_HZ, time.monotonic() - began)


async def measure(voice: Synthesizer, calls: Sequence[int]) -> list[dict[str, Any]]:
    found = []
    for count in calls:
        print(f"{count} calls", file=sys.stderr, flush=True)
        await asyncio.gather(*(rush(voice) for _ in range(count)))  # what is done once is done
        there = await level(voice, count)
        found.append({**asdict(there), "reached": there.reached})
    return found


# --- the voice ------------------------------------------------------------------------------------


@asynccontextmanager
async def random_synthesizer(device: str, slots: int) -> AsyncIterator[TokenSynthesizer]:
    """The voice at full size, with random weights."""
    import torch

    from parley_speech.codec.cosyvoice2.decoder import CosyVoice2Decoder
    from parley_speech.codec.cosyvoice2.weights import random_full_size
    from parley_speech.tts.cosyvoice2_settings import SERVED_LEFT_CHUNKS
    from parley_speech.tts.token_tts import TokenSynthesizer

    flow, hift = random_full_size()
    decoder = CosyVoice2Decoder(
        flow.to(device=device, dtype=torch.bfloat16),
        hift.to(device),
        left_chunks=SERVED_LEFT_CHUNKS,
    )
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        on_vllm = importlib.util.find_spec("vllm") is not None
        lm = RandomVllmLm(Path(folder), slots) if on_vllm else RandomLm()
        voice = TokenSynthesizer(lm, decoder, random_voice(), close_anywhere=True)
        try:
            await voice.start()
            yield voice
        finally:
            await voice.aclose()


async def report(device: str, calls: Sequence[int]) -> dict[str, Any]:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        said = "no GPU was here: first chunks, underruns and throughput are not measured"
        return {"device": None, "note": said}
    async with random_synthesizer(device, max(calls)) as voice:
        return {
            "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
            "lm": type(voice.lm).__name__,
            "levels": await measure(voice, calls),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="parley.bench.voice_load")
    parser.add_argument("--device", default="cuda", help="of the models, as torch names it")
    parser.add_argument("--calls", default=",".join(map(str, CALLS)), help="separated by commas")
    options = parser.parse_args()
    calls = [int(count) for count in options.calls.split(",")]
    print(json.dumps(asyncio.run(report(options.device, calls)), indent=1))


if __name__ == "__main__":
    main()
