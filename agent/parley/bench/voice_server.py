"""What a speech server costs over the same voice in this process.

    python -m parley.bench.voice_server [--voice espeak] [--calls 8] [--rounds 30]

Starts a server process on loopback, and measures rounds in pairs: so many calls at once in this
process, then the same through the server. The difference, call by call in the order in which they
were served, is what the server adds. Then: how long after a cancel nothing is computed any more,
and what a thousand cancelled utterances leave in the server's memory. Prints JSON. Times are only
worth something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass

import psutil

from parley_speech import registry
from parley_speech.remote.synthesizer import RemoteSynthesizer
from parley_speech.types import SpeechStream, Synthesizer

TEXT = "Your order was shipped on Thursday, and it will arrive tomorrow."
LONG = TEXT + " Somebody has to be at home, because the parcel needs a signature." * 20
GOAL_FIRST_CHUNK_MS, GOAL_CANCEL_MS = 5.0, 20.0


@dataclass(frozen=True)
class Spread:
    """Of milliseconds."""

    n: int
    median: float
    p95: float
    max: float

    @classmethod
    def of(cls, values_s: Sequence[float]) -> Spread:
        ms = sorted(1000 * value for value in values_s)
        p95 = ms[min(len(ms) - 1, round(0.95 * (len(ms) - 1)))]
        return cls(len(ms), *(round(v, 2) for v in (statistics.median(ms), p95, ms[-1])))


@dataclass(frozen=True)
class Figures:
    voice: str
    calls: int
    in_process_ms: Spread
    """To the first chunk, from the first text, of calls that begin together."""
    server_ms: Spread
    added_ms: Spread
    """Server minus in-process, by round and by order of service."""
    added_by_rank_ms: tuple[float, ...]
    """The medians, from the call that is served first to the last."""
    alone_added_ms: Spread
    """The same with one call."""
    cancel_ms: Spread
    """From the cancel to the server's word that the engine has let go; network included."""
    cancelled: int
    rss_before_mb: float
    rss_after_mb: float

    @property
    def reached(self) -> bool:
        return (
            self.added_ms.median <= GOAL_FIRST_CHUNK_MS
            and self.cancel_ms.p95 <= GOAL_CANCEL_MS
            and self.rss_after_mb <= self.rss_before_mb + 8
        )


# --- first chunks ---------------------------------------------------------------------------------


async def first_chunks(voice: Synthesizer, calls: int) -> list[float]:
    """Seconds from text to first chunk of calls that begin at once, in the order of service. All
    go on listening, as calls do, until each has had its first chunk."""
    waiting = set(range(calls))
    all_began = asyncio.Event()

    async def call(number: int) -> float:
        stream = voice.stream()
        began = time.perf_counter()
        stream.push(TEXT)
        stream.end()
        took = -1.0
        try:
            async for _ in stream:
                if took < 0:
                    took = time.perf_counter() - began
                    waiting.discard(number)
                    if not waiting:
                        all_began.set()
                if all_began.is_set():
                    break
            await all_began.wait()
        finally:
            await _close(stream)
        return took

    return sorted(await asyncio.gather(*(call(number) for number in range(calls))))


async def _close(stream: SpeechStream) -> None:
    stream.cancel()
    await stream.aclose()


async def paired(
    here: Synthesizer, there: Synthesizer, calls: int, rounds: int
) -> tuple[list[list[float]], list[list[float]]]:
    """Rounds of both, each pair right after one another, the order changing from pair to pair."""
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    for number in range(rounds):
        for remote in (False, True) if number % 2 else (True, False):
            times = await first_chunks(there if remote else here, calls)
            (theirs if remote else ours).append(times)
    return ours, theirs


# --- cancels --------------------------------------------------------------------------------------


async def cancels(voice: Synthesizer, rounds: int) -> list[float]:
    """Seconds from a cancel in the middle of a long text until the engine has let go."""
    return [await _cancelled(voice, listen=True) for _ in range(rounds)]


async def _cancelled(voice: Synthesizer, *, listen: bool) -> float:
    stream = voice.stream()
    stream.push(LONG)
    if listen:
        chunks = aiter(stream)
        for _ in range(3):
            await anext(chunks)
    else:
        await asyncio.sleep(0)
    began = time.perf_counter()
    stream.cancel()
    await stream.aclose()
    return time.perf_counter() - began


async def memory_after(voice: Synthesizer, pid: int, utterances: int) -> tuple[float, float]:
    """The process's MB before and after so many cancelled utterances, every other one unheard."""
    process = psutil.Process(pid)
    for _ in range(100):  # what is allocated once is there
        await _cancelled(voice, listen=True)
    before = process.memory_info().rss
    for number in range(utterances):
        await _cancelled(voice, listen=bool(number % 2))
    return before / 2**20, process.memory_info().rss / 2**20


# --- the run --------------------------------------------------------------------------------------


async def measure(voice: str, *, calls: int, rounds: int, cancelled: int) -> Figures:
    here: Synthesizer = registry.load("tts", voice)()
    await here.start()
    try:
        async with _remote(voice) as (there, pid):
            await paired(here, there, calls, 3)
            ours, theirs = await paired(here, there, calls, rounds)
            alone_ours, alone_theirs = await paired(here, there, 1, rounds)
            stopped = await cancels(there, rounds)
            before_mb, after_mb = await memory_after(there, pid, cancelled)
    finally:
        await here.aclose()
    added = [_minus(b, a) for a, b in zip(ours, theirs, strict=True)]
    alone = [_minus(b, a) for a, b in zip(alone_ours, alone_theirs, strict=True)]
    return Figures(
        voice,
        calls,
        Spread.of([t for times in ours for t in times]),
        Spread.of([t for times in theirs for t in times]),
        Spread.of([t for times in added for t in times]),
        tuple(round(1000 * statistics.median(rank), 2) for rank in zip(*added, strict=True)),
        Spread.of([t for times in alone for t in times]),
        Spread.of(stopped),
        cancelled,
        round(before_mb, 1),
        round(after_mb, 1),
    )


def _minus(these: Sequence[float], those: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(these, those, strict=True)]


@asynccontextmanager
async def _remote(voice: str) -> AsyncIterator[tuple[Synthesizer, int]]:
    """A server process with this voice, and a client of it."""
    token = secrets.token_hex(16)
    with _server(voice, token) as (url, pid):
        remote = RemoteSynthesizer(url, token=token, fallback=None)
        await remote.start()
        try:
            yield remote, pid
        finally:
            await remote.aclose()


@contextmanager
def _server(voice: str, token: str) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "parley_speech.server.main", "serve"]
    with subprocess.Popen(
        [*command, "--voice", voice, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PARLEY_SPEECH_TOKENS": token},
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.strip():
                raise RuntimeError("the speech server did not start; it said why above")
            yield line.split()[-1], process.pid
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--voice", default="espeak")
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--cancelled", type=int, default=1000)
    asked = parser.parse_args()
    figures = asyncio.run(
        measure(asked.voice, calls=asked.calls, rounds=asked.rounds, cancelled=asked.cancelled)
    )
    print(json.dumps({**asdict(figures), "reached": figures.reached}, indent=1))


if __name__ == "__main__":
    main()
