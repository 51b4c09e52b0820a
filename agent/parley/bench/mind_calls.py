"""First texts of calls that have a process each, as LiveKit's workers run them.

Every process holds the mind of one call and the same library's bare client, and waits to be told
when to ask for what: all ask at the same instant of the clock they share.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

from parley.bench import mind_latency
from parley.bench.figures import Figure
from parley.bench.stolen import Stolen
from parley_speech import heap, loops

CALLS = 8
AHEAD_S = 0.02
"""From the word to the instant, in which every process has to be ready."""
START_S = 120.0
ROUND_S = 60.0


def added(url: str, rounds: int, tell: mind_latency.Tell) -> list[Figure]:
    """As ``mind_latency.added``. Blocks. Raises OSError when a process is lost."""
    took: dict[str, list[float]] = {arm: [] for arm in mind_latency.ARMS}
    warm_up = mind_latency.WARM_UP
    with ExitStack() as stack:
        calls = [stack.enter_context(_call(url)) for _ in range(CALLS)]
        for call in calls:
            _answer(call, START_S)
        stolen = Stolen()
        for number, arm in mind_latency.turns(rounds):
            each = _all_at_once(calls, arm)
            if number >= warm_up:
                took[arm].append(statistics.median(each))
            tell(f"first text, {CALLS} processes: {number + 1} of {rounds + warm_up}")
        return mind_latency.less_bare(
            f"added_{CALLS}_processes", f"{CALLS} calls with a process each", took, stolen
        )


def _all_at_once(calls: list[Connection], arm: str) -> list[float]:
    at_s = time.monotonic() + AHEAD_S
    for call in calls:
        call.send((arm, at_s))
    return [_answer(call, ROUND_S) for call in calls]


def _answer(call: Connection, within_s: float) -> float:
    if not call.poll(within_s):
        raise OSError(f"a call of the bench did not answer within {within_s:g} s")
    try:
        answer = call.recv()
    except EOFError as error:
        raise OSError("a call of the bench has died") from error
    if not isinstance(answer, float):
        raise OSError(f"a call of the bench failed: {answer}")
    return answer


@contextmanager
def _call(url: str) -> Iterator[Connection]:
    """A process; it ends with its connection."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(url, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(url: str, asked: Connection) -> None:
    with asyncio.Runner(loop_factory=loops.factory()) as runner:
        try:
            runner.run(_serve_rounds(url, asked))
        except Exception as error:
            asked.send(f"{type(error).__name__}: {error}")


async def _serve_rounds(url: str, asked: Connection) -> None:
    mind, model = mind_latency.calls_mind(url)
    await mind.start()
    body, session = mind_latency.bare_body(model), mind.session()
    heap.settle()
    try:
        async with mind_latency.bare_client() as client:
            asked.send(0.0)
            while (order := await asyncio.to_thread(_next, asked)) is not None:
                arm, at_s = order
                await asyncio.sleep(at_s - time.monotonic())
                if arm == "ours":
                    asked.send(await mind_latency.first_text_ms(session))
                else:
                    asked.send(await mind_latency.bare_first_ms(client, url, body))
    finally:
        await session.aclose()
        await mind.aclose()


def _next(asked: Connection) -> tuple[str, float] | None:
    try:
        arm, at_s = asked.recv()
    except EOFError:
        return None
    return arm, at_s
