"""The mind's guesses, prompts and judgements on a real vLLM with the tiny chat model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from parley.bench.mind_prefix import INSTRUCTIONS, TOOLS, hits
from parley.bench.mind_server import Metrics
from parley.minds.base import Cause, Context, MindLimits, Said, TextDelta
from parley.minds.judgement_vllm import end_question
from parley.minds.speculation import Ask, SpeculativeReply
from parley.minds.vllm import VllmMind, VllmOptions
from parley.minds.vllm_request import Priority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENT = MindLimits(first_s=60, stall_s=60)
QUESTION = Context(Cause.USER, (Said("user", "what are your opening hours"),), speculative=True)
STORY = Context(Cause.USER, (Said("user", "Tell me a long story."),), speculative=True)
ENDLESS = {"ignore_eos": True}
WORDY: dict[str, Any] = {
    "temperature": 1.0,  # at 0 it goes round in circles, which the mind ends
    "max_tokens": 900,
    "speculative_tokens": 900,
    "speculative_turn_tokens": 9000,
    "extra_body": ENDLESS,
}
"""Replies that last for seconds."""
SLOTS = 16
"""Requests that ``vllm_cpu.py`` lets run at one time."""


async def started(url: str, **options: Any) -> VllmMind:
    defaults = {"temperature": 0.0, "convention": "", "limits": PATIENT, "connect_s": 60.0}
    mind = VllmMind(VllmOptions(base_url=url, **{**defaults, **options}))
    await mind.start()
    return mind


@pytest.fixture
async def metrics(vllm_url: str) -> AsyncIterator[Metrics]:
    async with aiohttp.ClientSession() as client:
        yield Metrics(client, vllm_url)


def speculative(reply: object) -> SpeculativeReply:
    assert isinstance(reply, SpeculativeReply)
    return reply


async def text_of(reply: SpeculativeReply) -> str:
    return "".join([e.text async for e in reply if isinstance(e, TextDelta)])


async def until(metrics: Metrics, **counts: float) -> dict[str, float]:
    """Waits until vLLM counts so many requests."""
    async with asyncio.timeout(60):
        while True:
            found = await metrics.read()
            if all(found[f"vllm:num_requests_{name}"] == n for name, n in counts.items()):
                return found


async def test_a_guess_at_its_bound_is_continued_to_the_words_of_a_whole_reply(
    vllm_url: str, metrics: Metrics
):
    whole = await started(vllm_url)
    plain = speculative(whole.session().reply(STORY))
    plain.wanted()
    expected = await text_of(plain)
    mind = await started(vllm_url, speculative_tokens=10)
    guess = speculative(mind.session().reply(STORY))
    begun, texts = asyncio.Event(), []

    async def collect() -> None:
        async for event in guess:
            assert isinstance(event, TextDelta)
            texts.append(event.text)
            begun.set()

    task = asyncio.create_task(collect())
    await asyncio.wait_for(begun.wait(), 60)
    await until(metrics, running=0)
    assert not task.done() and "".join(texts) != expected
    guess.wanted()
    await task
    assert "".join(texts) == expected
    await guess.aclose()
    assert mind.speculation.continued == 1
    await mind.aclose()
    await whole.aclose()


async def test_tokens_of_a_discarded_guess_are_known_and_the_server_is_free(
    vllm_url: str, metrics: Metrics
):
    mind = await started(vllm_url, **WORDY)
    before = (await metrics.read())["vllm:generation_tokens_total"]
    guess = speculative(mind.session().reply(STORY))
    events = aiter(guess)
    for _ in range(20):
        await anext(events)
    guess.cancel()
    await guess.aclose()
    found = await until(metrics, running=0, waiting=0)
    made = found["vllm:generation_tokens_total"] - before
    assert 20 <= mind.speculation.tokens_discarded <= made < 900
    await mind.aclose()


async def occupy(url: str, client: httpx.AsyncClient) -> None:
    """A place at the server, or one in its queue, asked for again and again."""
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Tell me a long story."}],
        "max_tokens": 900,
        "stream": True,
        "priority": int(Priority.GUESS),
        **ENDLESS,
    }
    while True:
        async with client.stream("POST", f"{url}/chat/completions", json=body) as answer:
            async for _ in answer.aiter_raw():
                pass


async def test_a_waiting_guess_that_is_wanted_overtakes_other_guesses(
    vllm_url: str, metrics: Metrics
):
    """All places are taken and more guesses wait; the wanted one comes before those."""
    mind = await started(vllm_url)
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=64)) as client:
        tasks = [asyncio.create_task(occupy(vllm_url, client)) for _ in range(SLOTS + 4)]
        await until(metrics, running=SLOTS, waiting=4)
        last = speculative(mind.session().reply(QUESTION))
        first = asyncio.ensure_future(anext(aiter(last)))
        await until(metrics, running=SLOTS, waiting=5)
        last.wanted()
        await until(metrics, running=SLOTS, waiting=6)  # it was sent once more
        assert mind.speculation.resent == 1
        tasks[0].cancel()  # one place at the most, for which six wait
        assert isinstance(await asyncio.wait_for(first, 60), TextDelta)
        waiting = await metrics.read()
        assert waiting["vllm:num_requests_waiting"] >= 1, "those before it in the queue still wait"
        await last.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await until(metrics, running=0, waiting=0)
    await mind.aclose()


async def test_nine_tenths_of_a_calls_prompts_are_in_the_prefix_cache(
    vllm_url: str, tmp_path: Path
):
    path = identity(tmp_path)
    figure = await hits(vllm_url, 1, path, lambda _: None)
    missed = figure.value("mean")
    assert missed is not None and missed < 0.2, "0.06 when nothing else is asked of the server"


async def test_a_salt_keeps_calls_apart(vllm_url: str, metrics: Metrics):
    items = (Said("user", "word " * 100),)

    async def cached(mind: VllmMind) -> float:
        before = (await metrics.read())["vllm:prefix_cache_hits_total"]
        reply = speculative(mind.session().reply(Context(Cause.USER, items, speculative=True)))
        reply.wanted()
        await text_of(reply)
        return (await metrics.read())["vllm:prefix_cache_hits_total"] - before

    apart = await started(vllm_url, max_tokens=4, extra_body=ENDLESS)
    assert await cached(apart) == await cached(apart) == 0
    shared = await started(vllm_url, max_tokens=4, isolate_cache=False, extra_body=ENDLESS)
    await cached(shared)
    assert await cached(shared) >= 64
    await apart.aclose()
    await shared.aclose()


async def test_judgements_follow_what_the_model_was_taught(vllm_url: str, tmp_path: Path):
    mind = await started(vllm_url, calibration=identity(tmp_path))
    assert mind.served.end_token == "<|im_end|>"
    session = mind.session()
    judge = session.judge
    assert judge is not None
    judge._budget_s = 60  # machines that run tests are busy
    ends = {
        text: await judge.end(Context(Cause.USER, (Said("user", text),)))
        for text in ("what are your", "thank you", "Tell me a long story.")
    }
    open_, either, done = ends.values()
    assert open_ is not None and either is not None and done is not None
    assert open_ < 0.1 < either < 0.9 < done
    items = (Said("user", "hello"), Said("agent", "Hello! How"), Said("user", "stop please"))
    opinion = await judge.overlap(Context(Cause.USER, items))
    assert opinion is not None
    total = opinion.p_floor + opinion.p_backchannel + opinion.p_aside
    assert total == pytest.approx(1) and opinion.weight == 0.5
    session.attend(Context(Cause.USER, (Said("user", "thank you"),)), over_agent=False)
    await judge.ends.answered()
    assert session.completeness("thank you") == pytest.approx(either, abs=0.05)
    await session.aclose()
    await mind.aclose()


async def test_a_judgement_shares_the_replys_cached_prompt(vllm_url: str, metrics: Metrics):
    """The tools are in both prompts, though a judgement may call none."""
    mind = await started(vllm_url, max_tokens=4)
    session = mind.session()
    said = Context(Cause.USER, (Said("user", "hello"),), INSTRUCTIONS, tools=TOOLS)
    await text_of(session.reply(said))  # type: ignore[arg-type]
    before = (await metrics.read())["vllm:prefix_cache_hits_total"]
    body = session._compose.judgement(said)
    assert mind.client is not None
    status, content = await mind.client.post("chat/completions", end_question(body))
    assert status == 200
    prompt = json.loads(content)["usage"]["prompt_tokens"]
    hit = (await metrics.read())["vllm:prefix_cache_hits_total"] - before
    assert prompt - hit < 64, "all but its last block or two"
    reply = session._compose.reply(said, Ask(urgent=True))
    assert reply["cache_salt"] == body["cache_salt"]
    await session.aclose()
    await mind.aclose()


def identity(folder: Path) -> Path:
    path = folder / "calibration.json"
    overlap = {"slope": 1, "offsets": [0, 0, 0], "weight": 0.5}
    entry = {"end": {"slope": 1, "offset": 0}, "overlap": overlap}
    path.write_text(json.dumps({"models": {"tiny": entry}}))
    return path
