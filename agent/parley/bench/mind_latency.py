"""What the mind adds to a bare request; how soon vLLM is free of a reply that is thrown away."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice, permutations

import aiohttp

from parley.bench.figures import Figure, Goal
from parley.bench.mind_server import Metrics
from parley.bench.stolen import Stolen
from parley.minds.base import Cause, Context, Said, TextDelta
from parley.minds.endpoints import Endpoints, EndpointsSession
from parley.minds.vllm import VllmMind, VllmOptions
from parley.minds.vllm_messages import messages

ADDED_MS = 3.0
ABORT_MS = 50.0
CALLS = (1, 8)
ARMS = ("bare", "again", "ours")
WARM_UP = 3
"""Rounds that fill caches and pools."""
STAGES = (1, 2, 4, 8)
"""Deltas after which a reply is thrown away."""
GIVE_UP_S = 10.0
QUESTION = Context(
    Cause.USER,
    (
        Said("user", "hello"),
        Said("agent", "Hello! How can I help you today?"),
        Said("user", "what are your opening hours"),
    ),
    instructions="You are the voice of a small shop.",
)
STORY = Context(Cause.USER, (Said("user", "Tell me a long story."),))
Tell = Callable[[str], None]


# --- what is added --------------------------------------------------------------------------


async def added(url: str, rounds: int, tell: Tell) -> list[Figure]:
    """Time to the first text, ours less a bare streaming request's: the difference of their medians
    in each round, both sent to the same server in turn, with the same library for HTTP. Beside
    it, the same difference of bare requests to other bare requests of that round: what the
    machine makes of nothing."""
    mind, model = calls_mind(url)
    await mind.start()
    asked = bare_body(model)
    try:
        return [figure for n in CALLS for figure in await _added(mind, url, asked, n, rounds, tell)]
    finally:
        await mind.aclose()


def calls_mind(url: str) -> tuple[Endpoints, VllmMind]:
    """As calls have it, and the one that it asks."""
    model = VllmMind(VllmOptions(base_url=url, temperature=0.0, max_tokens=16))
    return Endpoints({url: model}), model


async def _added(
    mind: Endpoints, url: str, asked: bytes, calls: int, rounds: int, tell: Tell
) -> list[Figure]:
    sessions = [mind.session() for _ in range(calls)]
    took: dict[str, list[float]] = {arm: [] for arm in ARMS}
    stolen = Stolen()
    async with bare_client() as client:

        async def first_ms(arm: str, n: int) -> float:
            if arm != "ours":
                return await bare_first_ms(client, url, asked)
            return await first_text_ms(sessions[n])

        for number, arm in turns(rounds):
            each = await asyncio.gather(*(first_ms(arm, n) for n in range(calls)))
            if number >= WARM_UP:
                took[arm].append(statistics.median(each))
            tell(f"first text, {calls} at a time: {number + 1} of {rounds + WARM_UP}")
    for session in sessions:
        await session.aclose()
    return less_bare(f"added_{calls}", f"{calls} at a time", took, stolen)


def turns(rounds: int) -> Iterator[tuple[int, str]]:
    """(round, arm): every arm once a round, in all orders; the first ``WARM_UP`` do not count."""
    for number, order in enumerate(islice(cycle(permutations(ARMS)), rounds + WARM_UP)):
        for arm in order:
            yield number, arm


def less_bare(
    name: str, how: str, took: Mapping[str, Sequence[float]], stolen: Stolen
) -> list[Figure]:
    """``took``: for each of ``ARMS`` the median of every round."""
    bare, again, ours = (took[arm] for arm in ARMS)
    return [
        Figure(
            name,
            f"first text later than of a bare request, {how}",
            samples=_less(ours, bare),
            goals=(Goal("p50", ADDED_MS, "+3 ms"),),
            notes=(
                f"bare {statistics.median(bare):.1f} ms, ours {statistics.median(ours):.1f} ms "
                f"(medians of {len(bare)} rounds)",
                stolen.note(),
            ),
        ),
        Figure(f"{name}_null", "... and another bare request's", samples=_less(again, bare)),
    ]


def _less(these: Sequence[float], those: Sequence[float]) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(these, those, strict=True))


def _engine_asks(context: Context) -> Context:
    return Context(
        context.cause, context.items, instructions=context.instructions, speculative=True
    )


async def first_text_ms(session: EndpointsSession) -> float:
    """Asked as the engine asks for a reply that is wanted at once."""
    began = time.perf_counter()
    reply = session.reply(_engine_asks(QUESTION))
    reply.wanted()
    took = 0.0
    async for event in reply:
        if isinstance(event, TextDelta) and not took:
            took = (time.perf_counter() - began) * 1000
    await reply.aclose()
    return took


def bare_client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))


def bare_body(mind: VllmMind) -> bytes:
    body = {
        "model": mind.served.model,
        "messages": messages(QUESTION, mind.options.convention),
        "max_tokens": 16,
        "temperature": 0.0,
        "stream": True,
    }
    return json.dumps(body).encode()


async def bare_first_ms(client: aiohttp.ClientSession, url: str, asked: bytes) -> float:
    """As little as a program can do: the piece that holds the first delta with content."""
    where = f"{url}/chat/completions"
    began = time.perf_counter()
    took = 0.0
    headers = {"content-type": "application/json"}
    async with client.post(where, data=asked, headers=headers) as response:
        async for piece in response.content.iter_any():
            if not took and b'"content":"' in piece.replace(b'"content":""', b""):
                took = (time.perf_counter() - began) * 1000
    return took


# --- what is thrown away --------------------------------------------------------------------


async def aborts(url: str, times: int, tell: Tell) -> list[Figure]:
    """From ``cancel`` until vLLM itself counts no running request: its /metrics are asked again and
    again once the connection is closed, and the time that the asking takes is in the figure. What
    it takes when nothing else happens is told beside it."""
    endless = {"ignore_eos": True}
    options = VllmOptions(base_url=url, temperature=1.0, max_tokens=900, extra_body=endless)
    mind = VllmMind(options)
    await mind.start()
    took: list[float | None] = []
    sent: list[float | None] = []
    stolen = Stolen()
    async with aiohttp.ClientSession() as client:
        metrics = Metrics(client, url)
        await _one_abort(mind, metrics, 1)
        before = _held()
        for number in range(times):
            begun, ended = await _one_abort(mind, metrics, STAGES[number % len(STAGES)])
            sent.append(begun)
            took.append(ended)
            if number % 20 == 0:
                tell(f"thrown away: {number} of {times}")
        left = await metrics.read()
        after = _held()
        asking = [await _asking_ms(metrics) for _ in range(50)]
    await mind.aclose()
    leaks = {
        "running in vLLM": left["vllm:num_requests_running"],
        "waiting in vLLM": left["vllm:num_requests_waiting"],
        "share of vLLM's cache in use": round(left.get("vllm:kv_cache_usage_perc", 0.0), 4),
        "open files more": max(0, after[0] - before[0]),
        "tasks more": max(0, after[1] - before[1]),
    }
    return [
        Figure(
            "abort",
            "reply thrown away → vLLM counts none running",
            samples=tuple(took),
            goals=(Goal("p95", ABORT_MS, "50 ms"),),
            notes=(
                f"asking vLLM alone takes {statistics.median(asking):.1f} ms; "
                f"{sum(1 for ms in took if ms is None or ms > ABORT_MS)} of {times} above 50 ms",
                stolen.note(),
            ),
        ),
        Figure(
            "abort_sent",
            "... the question to which vLLM answered so was sent",
            samples=tuple(sent),
        ),
        Figure(
            "abort_leaks",
            f"left behind by {times} of them",
            "things",
            samples=tuple(float(count) for count in leaks.values()),
            goals=(Goal("count", 0, "none"),),
            notes=tuple(f"{what}: {count:g}" for what, count in leaks.items()),
        ),
    ]


async def _one_abort(
    mind: VllmMind, metrics: Metrics, deltas: int
) -> tuple[float | None, float | None]:
    """From ``cancel`` until the question about running requests was sent that got 0 for an answer,
    and until that answer was there: vLLM has counted in between. (None, None): never."""
    session = mind.session()
    reply = session.reply(STORY)
    events = aiter(reply)
    for _ in range(deltas):
        await anext(events)
    began = time.perf_counter()
    reply.cancel()
    try:
        async with asyncio.timeout(GIVE_UP_S):
            await reply.aclose()  # a question asked before would only be in the way
            sent = time.perf_counter()
            while await metrics.running():
                sent = time.perf_counter()
        return (sent - began) * 1000, (time.perf_counter() - began) * 1000
    except TimeoutError:
        return None, None
    finally:
        await reply.aclose()
        await session.aclose()


async def _asking_ms(metrics: Metrics) -> float:
    began = time.perf_counter()
    await metrics.running()
    return (time.perf_counter() - began) * 1000


def _held() -> tuple[int, int]:
    """(open files, tasks) of this process."""
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())  # noqa: PTH208
