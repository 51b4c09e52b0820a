"""What a token LM costs and what is left of a cancelled utterance; on any vLLM, CPU or GPU.

    python -m parley.bench.voice_lm CHECKPOINT [--slots N] [--cancelled N] [--calls 1,4,8]

CHECKPOINT is a folder with ``llm.pt`` and ``CosyVoice-BlankEN/``. Times come from this process:
they hold the way through vLLM's queues, not the engine's work alone. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from parley_speech.lm.cosyvoice2 import CosyVoice2Lm, SpeechOptions
from parley_speech.lm.stream import PlannedStream
from parley_speech.lm.vllm_engine import VllmTokenLm
from parley_speech.lm.vllm_start import EngineStats, VllmOptions

TEXT = tuple(range(7, 107))
"""A text of a hundred ids; any will do."""
FREE_S = 20.0
"""How long the engine may take to say that everything is free."""


@dataclass(frozen=True)
class CancelFigures:
    """How long a cancelled utterance lived on."""

    rounds: int
    p50_ms: float
    p95_ms: float
    max_ms: float
    steps_after: int
    """The most steps that the engine ran between a cancel and everything being free."""


@dataclass(frozen=True)
class LeftFigures:
    """What a number of cancelled utterances left behind."""

    cancelled: int
    slots_running: int
    engine_running: int
    kv_used: float
    rss_mib: tuple[float, ...]
    """Before, and after each quarter."""
    seconds: float


@dataclass(frozen=True)
class PaceFigures:
    calls: int
    first_token_p50_ms: float
    first_token_max_ms: float
    tokens_per_s: float
    """Of all calls together."""


def utterance(lm: CosyVoice2Lm, text: Sequence[int], seed: int) -> PlannedStream:
    stream = lm.utterance_of_ids((), (), seed=seed)
    stream.push_ids(text)
    return stream


def idle(stats: EngineStats) -> bool:
    return stats.running == 0 and stats.waiting == 0 and stats.kv_used == 0.0


async def cancel_latency(lm: VllmTokenLm, rounds: int = 50) -> CancelFigures:
    """From ``cancel()`` to the engine saying that slot and KV are free; one call at a time.

    Half of the utterances are cut while they speak, half while they wait for text.
    """
    assert lm.engine is not None
    stats, took, steps = lm.engine.stats, [], []
    for n in range(rounds):
        waiting = n % 2 == 1
        stream = utterance(lm, TEXT[:5] if waiting else TEXT, seed=n)
        tokens = aiter(stream)
        await anext(tokens)
        if waiting:
            await asyncio.wait_for(stats.until(lambda s: s.running == 0 and s.waiting > 0), FREE_S)
        before, began = stats.steps, time.perf_counter()
        stream.cancel()
        await asyncio.wait_for(stats.until(idle), FREE_S)
        took.append((time.perf_counter() - began) * 1000)
        steps.append(stats.steps - before)
        await stream.aclose()
    ordered = sorted(took)
    return CancelFigures(
        rounds,
        round(statistics.median(took), 2),
        round(ordered[int(0.95 * (rounds - 1))], 2),
        round(ordered[-1], 2),
        max(steps),
    )


async def cancelled_leave_nothing(lm: VllmTokenLm, count: int = 1000) -> LeftFigures:
    """Cuts utterances at many stages, several at once, and looks at what stays."""
    assert lm.engine is not None
    stats, at_once = lm.engine.stats, lm.load.slots
    # Pools reach their size, and each page of the KV cache, taken in turn, is touched once.
    await _cancel_some(lm, count, at_once)
    sizes, began = [rss_mib()], time.perf_counter()
    for _ in range(4):
        await _cancel_some(lm, count // 4, at_once)
        sizes.append(rss_mib())
    await asyncio.wait_for(stats.until(idle), FREE_S)
    return LeftFigures(
        cancelled=count // 4 * 4,
        slots_running=lm.load.running,
        engine_running=stats.running + stats.waiting,
        kv_used=stats.kv_used,
        rss_mib=tuple(sizes),
        seconds=round(time.perf_counter() - began, 1),
    )


async def _cancel_some(lm: VllmTokenLm, count: int, at_once: int) -> None:
    places = asyncio.Semaphore(at_once)

    async def one(n: int) -> None:
        async with places:
            stream = utterance(lm, TEXT[: 1 + n % len(TEXT)], seed=n)
            if n % 3:
                stream.end()
            heard = 0
            if n % 10 and n % len(TEXT) >= 5:  # some are cut before they say anything
                async for tokens in stream:
                    heard += len(tokens)
                    if heard >= n % 17:
                        break
            stream.cancel()
            await stream.aclose()

    await asyncio.gather(*(one(n) for n in range(count)))


async def pace(lm: VllmTokenLm, calls: int, text: Sequence[int] = TEXT[:40]) -> PaceFigures:
    """Utterances side by side, each with all of its text at once."""

    async def one(seed: int) -> tuple[float, int]:
        began, first, count = time.perf_counter(), 0.0, 0
        stream = utterance(lm, text, seed)
        stream.end()
        async for tokens in stream:
            first = first or (time.perf_counter() - began) * 1000
            count += len(tokens)
        await stream.aclose()
        return first, count

    began = time.perf_counter()
    results = await asyncio.gather(*(one(seed) for seed in range(calls)))
    seconds = time.perf_counter() - began
    firsts = [first for first, _ in results]
    return PaceFigures(
        calls,
        round(statistics.median(firsts), 2),
        round(max(firsts), 2),
        round(sum(count for _, count in results) / seconds, 1),
    )


def rss_mib() -> float:
    """Of this process and its children: vLLM's engine core is one of them."""
    here = psutil.Process()
    everyone = [here, *here.children(recursive=True)]
    total: int = sum(process.memory_info().rss for process in everyone)
    return round(total / (1 << 20), 1)


async def measure(
    checkpoint: Path, slots: int, cancelled: int, calls: Sequence[int], cache: Path | None = None
) -> dict[str, object]:
    lm = VllmTokenLm(checkpoint, VllmOptions(slots=slots), SpeechOptions(), cache=cache)
    began = time.perf_counter()
    await lm.start()
    started_s = round(time.perf_counter() - began, 1)
    try:
        await pace(lm, slots)  # warm
        return {
            "start_s": started_s,
            "pace": [asdict(await pace(lm, count)) for count in calls],
            "cancel": asdict(await cancel_latency(lm)),
            "left": asdict(await cancelled_leave_nothing(lm, cancelled)),
        }
    finally:
        await lm.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description="Figures of the token LM on vLLM.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--cancelled", type=int, default=1000)
    parser.add_argument("--calls", default="1,4,8", help="calls at once, several separated by ,")
    parser.add_argument("--cache", type=Path, default=None, help="where the conversion is kept")
    given = parser.parse_args()
    calls = [int(count) for count in given.calls.split(",")]
    figures = measure(given.checkpoint, given.slots, given.cancelled, calls, given.cache)
    print(json.dumps(asyncio.run(figures), indent=1))


if __name__ == "__main__":
    main()
