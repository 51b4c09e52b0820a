"""``parley bench mind``: the figures of the mind on a real vLLM.

Parts: ``latency`` (what is added to a bare request), ``aborts``, ``prefix`` (the prefix cache),
``judgements`` (calibration and speed), ``guessing`` (against a model of exactly 200 ms).
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from parley.bench import (
    mind_calls,
    mind_examples,
    mind_judgements,
    mind_latency,
    mind_prefix,
    mind_speculation,
)
from parley.bench.figures import Figure
from parley.bench.mind_calibration import Curve
from parley.bench.mind_report import MindRun
from parley.bench.mind_server import vllm
from parley.bench.report import machine
from parley.minds.base import MindError
from parley.minds.vllm_options import VllmOptions
from parley_speech import heap, loops
from parley_speech.types import EngineUnavailable

PARTS = ("judgements", "latency", "aborts", "prefix", "guessing")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int
    aborts: int
    calls: int
    examples: int
    """Of each kind, for the calibration."""
    timed: int
    repeats: int


FULL = Sizes(rounds=240, aborts=1000, calls=5, examples=600, timed=300, repeats=2)
QUICK = Sizes(rounds=10, aborts=40, calls=2, examples=100, timed=40, repeats=1)


@dataclass
class _Found:
    figures: list[Figure] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """Who is told: what is being done now, and what is done."""

    now: Tell = lambda _: None
    done: Tell = print


FAILURES = (aiohttp.ClientError, OSError, MindError, EngineUnavailable, ValueError)
"""Of one part, after which the others are still worth measuring."""


def run(
    out: Path,
    *,
    url: str | None = None,
    only: str | None = None,
    quick: bool = False,
    seed: int = 1,
    clips: Path = Path("tests/data/audio"),
    progress: Progress | None = None,
) -> MindRun:
    """Measures. Without ``url`` a server is started. A part that fails is told of in the result,
    and the others go on.

    Raises ServerUnavailable, ValueError (an unknown part)."""
    if only is not None and only not in PARTS:
        raise ValueError(f"there is no part {only!r}; there are {', '.join(PARTS)}")
    parts = PARTS if only is None else (only,)
    progress = progress or Progress()
    began = time.monotonic()
    sizes = QUICK if quick else FULL
    found, failed = _Found(), {}
    about = machine()
    with ExitStack() as stack:
        server = ""
        if set(parts) - {"guessing"}:
            progress.now("starting vLLM" if url is None else f"asking {url}")
            server = stack.enter_context(vllm(url, out / "vllm.log", progress.now))
            if url is None:
                progress.done(f"vLLM is there after {time.monotonic() - began:.0f} s")
        stack.enter_context(_settled_heap())
        for part in parts:
            begun = time.monotonic()
            measuring = _part(part, server, out, sizes, seed, clips, found, progress.now)
            try:
                with asyncio.Runner(loop_factory=loops.factory()) as runner:  # as calls have it
                    runner.run(measuring)
            except FAILURES as error:
                failed[part] = f"{type(error).__name__}: {error}"
                progress.done(f"{part} failed: {failed[part]}")
            else:
                progress.done(f"{part} took {time.monotonic() - begun:.0f} s")
    where = url or "vLLM on this CPU with the tiny chat model"
    seconds = time.monotonic() - began
    return MindRun(found.figures, found.curves, where, seconds, quick, about, failed)


@contextmanager
def _settled_heap() -> Iterator[None]:
    """What was there before is looked through by no garbage collection of this process, as in
    vLLM's and in LiveKit's: with all that a command has loaded, one stops it for 45 to 75 ms, and
    whatever was being timed lasts longer by that."""
    heap.settle()
    try:
        yield
    finally:
        gc.unfreeze()


async def _part(
    part: str,
    url: str,
    out: Path,
    sizes: Sizes,
    seed: int,
    clips: Path,
    found: _Found,
    tell: Tell,
) -> None:
    match part:
        case "latency":
            found.figures += await mind_latency.added(url, sizes.rounds, tell)
            found.figures += await asyncio.to_thread(mind_calls.added, url, sizes.rounds, tell)
        case "aborts":
            found.figures += await mind_latency.aborts(url, sizes.aborts, tell)
        case "prefix":
            known = out / "calibration.json"
            calibration = known if known.is_file() else None
            found.figures.append(await mind_prefix.hits(url, sizes.calls, calibration, tell))
        case "judgements":
            await _judgements(url, out, sizes, seed, found, tell)
        case "guessing":
            figures, _ = await mind_speculation.figures(clips, sizes.repeats, tell)
            found.figures += figures


async def _judgements(
    url: str, out: Path, sizes: Sizes, seed: int, found: _Found, tell: Tell
) -> None:
    options = VllmOptions(base_url=url, convention="", max_tokens=64)
    fitted = await mind_judgements.calibrate(
        options, mind_examples.tiny(seed, sizes.examples), tell
    )
    mind_judgements.write(out / "calibration.json", fitted)
    found.curves |= {
        "end of turn, raw": fitted.end_raw,
        "end of turn, calibrated": fitted.end_curve,
        "wants the floor, raw": fitted.overlap_raw,
        "wants the floor, calibrated": fitted.overlap_curve,
    }
    found.figures += await mind_judgements.timed(
        options, mind_examples.tiny(seed + 1, sizes.timed // 2), tell
    )
