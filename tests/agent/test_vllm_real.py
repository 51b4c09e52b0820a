"""The vllm mind against a real vLLM server on the CPU, with a tiny model trained for it."""

from __future__ import annotations

import asyncio
import statistics
import time

import httpx
import pytest

from parley.minds.base import (
    Cause,
    Context,
    MindError,
    MindEvent,
    MindLimits,
    Said,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from parley.minds.vllm import VllmMind, VllmOptions
from parley_speech.types import EngineUnavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENT = MindLimits(first_s=60, stall_s=60)  # machines that run tests are busy
STORY = Context(Cause.USER, (Said("user", "Tell me a long story."),))
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ORDER = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
TOOLS = (
    ToolSpec("get_weather", "The weather in a city.", CITY),
    ToolSpec("order_status", "Where an order is.", ORDER),
)


async def started(url: str, **options) -> VllmMind:
    # The tiny model knows no conventions, only its dialogues.
    defaults = {"temperature": 0.0, "convention": "", "limits": PATIENT, "connect_s": 60.0}
    mind = VllmMind(VllmOptions(base_url=url, **{**defaults, **options}))
    await mind.start()
    return mind


async def all_of(mind: VllmMind, context: Context) -> list[MindEvent]:
    return [event async for event in mind.session().reply(context)]


def words(events: list[MindEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def running(url: str, client: httpx.AsyncClient) -> float:
    """Requests that the server works on, by its own count."""
    metrics = (await client.get(f"{url.removesuffix('/v1')}/metrics")).text
    lines = [line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running")]
    return float(lines[0].split()[-1])


async def test_answers_in_many_deltas(vllm_url: str):
    mind = await started(vllm_url)
    greeting = await all_of(mind, Context(Cause.USER, (Said("user", "Hello"),)))
    story = await all_of(mind, STORY)
    await mind.aclose()
    assert words(greeting) == "Hello! How can I help you today?"
    assert words(story).startswith("Once upon a time")
    assert len(story) > 10


async def test_text_arrives_while_the_model_still_writes(vllm_url: str):
    mind = await started(vllm_url, temperature=1.0, max_tokens=900, extra_body={"ignore_eos": True})
    async with httpx.AsyncClient() as client:
        reply = mind.session().reply(STORY)
        events = aiter(reply)
        await anext(events)
        assert await running(vllm_url, client) >= 1
        await reply.aclose()
    await mind.aclose()


async def test_tool_call_and_answer_from_its_result(vllm_url: str):
    mind = await started(vllm_url)
    asked = (Said("user", "What is the weather in Rome?"),)
    calls = await all_of(mind, Context(Cause.USER, asked, tools=TOOLS))
    assert [type(event) for event in calls] == [ToolCall]
    call = calls[0]
    assert isinstance(call, ToolCall)
    assert (call.name, call.arguments) == ("get_weather", '{"city": "Rome"}')
    items = (*asked, call, ToolResult(call.id, call.name, "sunny in Rome"))
    answer = await all_of(mind, Context(Cause.TOOL, items, tools=TOOLS))
    await mind.aclose()
    assert words(answer) == "It is sunny in Rome."


async def test_cancelling_frees_the_server(vllm_url: str, record_property):
    """Ten times: cut in the fourth delta of a reply that would run for 900 tokens."""
    mind = await started(vllm_url, temperature=1.0, max_tokens=900, extra_body={"ignore_eos": True})
    took_ms: list[float] = []
    async with httpx.AsyncClient() as client:
        for _ in range(10):
            reply = mind.session().reply(STORY)
            events = aiter(reply)
            for _ in range(4):
                await anext(events)
            assert await running(vllm_url, client) == 1
            began = time.perf_counter()
            reply.cancel()
            async with asyncio.timeout(60):
                while await running(vllm_url, client):
                    pass
            took_ms.append((time.perf_counter() - began) * 1000)
            await reply.aclose()
    await mind.aclose()
    record_property("abort_ms_p50", statistics.median(took_ms))
    print(
        f"abort: p50 {statistics.median(took_ms):.1f} ms, max {max(took_ms):.1f} ms (scrape incl.)"
    )


async def test_many_speculations_thrown_away_leave_nothing(vllm_url: str):
    mind = await started(vllm_url, temperature=1.0, max_tokens=900, extra_body={"ignore_eos": True})
    async with httpx.AsyncClient() as client:
        for count in range(30):
            reply = mind.session().reply(STORY)
            task = asyncio.create_task(_first(reply))
            await asyncio.sleep(0.003 * (count % 10))  # cut at many stages of the request
            reply.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await reply.aclose()
        async with asyncio.timeout(60):
            while await running(vllm_url, client):
                pass
    await mind.aclose()


async def test_a_conversation_longer_than_the_model_is_answered_without_its_oldest_turns(
    vllm_url: str,
):
    mind = await started(vllm_url)
    long = tuple(Said("user" if n % 2 else "agent", "word " * 40) for n in range(60))
    answer = await all_of(mind, Context(Cause.USER, (*long, Said("user", "Hello"))))
    await mind.aclose()
    assert words(answer)


async def test_a_turn_longer_than_the_model_is_refused_with_advice(vllm_url: str):
    mind = await started(vllm_url)
    with pytest.raises(MindError, match="max-model-len"):
        await all_of(mind, Context(Cause.USER, (Said("user", "word " * 3000),)))
    await mind.aclose()


async def test_an_unknown_model_is_refused_at_start(vllm_url: str):
    with pytest.raises(EngineUnavailable, match="tiny"):
        await started(vllm_url, model="large")


async def _first(reply) -> MindEvent | None:
    async for event in reply:
        return event
    return None
