"""What the mind on vLLM asks of a server: which fields, for whom, and what not to others."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent.fake_openai import Exchange, FakeOpenAI, delta, fake_openai
from parley.minds.base import Cause, Context, MindError, Said, TextDelta, ToolSpec
from parley.minds.speculation import Ask, SpeculativeReply
from parley.minds.vllm import VllmMind, VllmOptions
from parley.minds.vllm_reply import VllmReply
from parley.minds.vllm_request import Composer, Priority, Served
from parley_speech.types import EngineUnavailable

VLLM = {"data": [{"id": "tiny", "owned_by": "vllm", "max_model_len": 4096}]}
HELLO = Context(Cause.USER, (Said("user", "hello"),), instructions="Be brief.")
TOOL = ToolSpec("find", "Finds.", {"type": "object"})


def guess(context: Context = HELLO) -> Context:
    return Context(context.cause, context.items, instructions="Be brief.", speculative=True)


def body(ask: Ask, served: Served | None = None, **options: Any) -> dict[str, Any]:
    return Composer(VllmOptions(**options), served or Served("m", vllm=True)).reply(HELLO, ask)


def test_a_guess_goes_behind_a_reply_and_ends_early():
    wanted, guessed = body(Ask(urgent=True)), body(Ask(urgent=False, max_tokens=40))
    assert wanted["priority"] < guessed["priority"]
    assert (wanted["max_tokens"], guessed["max_tokens"]) == (400, 40)
    assert body(Ask(urgent=False, max_tokens=40), max_tokens=9)["max_tokens"] == 9
    assert json.loads(json.dumps(wanted))["priority"] == 0, "a plain number on the wire"


def test_tokens_are_counted_all_along_only_where_the_answer_may_be_thrown_away():
    """Counts in every chunk make the server slower."""
    wanted, guessed = body(Ask(urgent=True)), body(Ask(urgent=False))
    assert wanted["stream_options"] == {"include_usage": True}
    assert guessed["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


def test_priorities_are_in_the_order_of_who_waits():
    order = [Priority.JUDGEMENT, Priority.REPLY, Priority.GUESS, Priority.BACKGROUND]
    assert order == sorted(order)
    compose = Composer(VllmOptions(), Served("m", vllm=True))
    assert compose.judgement(HELLO)["priority"] == Priority.JUDGEMENT
    assert compose.background([], HELLO, 5)["priority"] == Priority.BACKGROUND


def test_a_continued_reply_ends_in_what_was_said():
    asked = body(Ask(urgent=True, said="We are open"))
    assert asked["messages"][-1] == {"role": "assistant", "content": "We are open"}
    assert asked["continue_final_message"] and not asked["add_generation_prompt"]


def test_each_call_has_a_salt_of_its_own_and_keeps_it():
    served, options = Served("m", vllm=True), VllmOptions()
    one, other = Composer(options, served), Composer(options, served)
    salts = [c.reply(HELLO, Ask(urgent=True))["cache_salt"] for c in (one, one, other)]
    assert salts[0] == salts[1] != salts[2]
    assert one.judgement(HELLO)["cache_salt"] == salts[0]
    assert "cache_salt" not in body(Ask(urgent=True), isolate_cache=False)


def test_nothing_of_vllms_own_goes_to_another_server():
    asked = body(Ask(urgent=True), Served("m"))
    assert set(asked) == {"model", "messages", "max_tokens", "stream"}


def test_a_summary_keeps_the_tools_in_its_prompt_but_calls_none():
    compose = Composer(VllmOptions(), Served("m", vllm=True))
    with_tools = Context(Cause.USER, HELLO.items, tools=(TOOL,), tool_choice="required")
    asked = compose.background([], with_tools, 7)
    reply = compose.reply(with_tools, Ask(urgent=True))
    assert asked["tools"] == reply["tools"] and asked["tool_choice"] == "none"
    assert asked["max_tokens"] == 7


def test_the_applications_own_fields_come_last():
    assert body(Ask(urgent=True), extra_body={"priority": 3, "seed": 1})["priority"] == 3


# --- the session --------------------------------------------------------------------------------


async def started(fake: FakeOpenAI, **options: Any) -> VllmMind:
    mind = VllmMind(VllmOptions(base_url=fake.url, **options))
    await mind.start()
    return mind


async def text_of(reply: VllmReply | SpeculativeReply) -> str:
    return "".join([e.text async for e in reply if isinstance(e, TextDelta)])


async def test_vllm_is_known_by_its_list_of_models():
    async with fake_openai(models=VLLM) as fake:
        mind = await started(fake)
        assert mind.served == Served("tiny", True, 4096)
        assert isinstance(mind.session().reply(guess()), SpeculativeReply)
        assert isinstance(mind.session().reply(HELLO), VllmReply)
        await mind.aclose()
    async with fake_openai() as fake:
        mind = await started(fake)
        assert isinstance(mind.session().reply(guess()), VllmReply)
        await mind.aclose()
        mind = await started(fake, vllm=True)
        assert mind.served.vllm
        await mind.aclose()


async def test_a_guess_is_counted_and_its_connection_closed():
    async def endless(exchange: Exchange) -> None:
        await exchange.head()
        try:
            for n in range(10_000):
                usage = {"prompt_tokens": 9, "completion_tokens": n + 1}
                await exchange.event({**delta(content=f"word{n} "), "usage": usage})
                await asyncio.sleep(0)
        except ConnectionError:
            gone.set()

    gone = asyncio.Event()
    async with fake_openai(endless, models=VLLM) as fake:
        mind = await started(fake)
        session = mind.session()
        reply = session.reply(guess())
        events = aiter(reply)
        await anext(events)
        reply.cancel()
        await reply.aclose()
        async with asyncio.timeout(30):
            await gone.wait()
        assert mind.speculation.discarded == 1 and mind.speculation.tokens_discarded >= 1
        assert fake.completions[0].body["priority"] == Priority.GUESS
        await session.aclose()
        await mind.aclose()


async def test_a_direction_of_a_heard_reply_stays_in_the_next_prompt():
    async with fake_openai(models=VLLM) as fake:
        mind = await started(fake, convention="")
        session = mind.session()
        opening = session.reply(Context(Cause.OPENING))
        await text_of(opening)
        opening.commit()
        unheard = session.reply(Context(Cause.NO_INPUT, (Said("agent", "Good morning."),)))
        await text_of(unheard)
        await text_of(
            session.reply(Context(Cause.USER, (Said("agent", "Good morning."), Said("user", "hi"))))
        )
        first, _, last = (e.body["messages"] for e in fake.completions)
        assert last[:1] == first and [m["content"] for m in last[1:]] == ["Good morning.", "hi"]
        await session.aclose()
        await mind.aclose()


async def test_a_prompt_is_written_down_once_and_sent_as_it_was_measured():
    async with fake_openai(models=VLLM) as fake:
        mind = await started(fake)
        session = mind.session()
        written = session.folding.fit(HELLO)
        asked = session.folding.asked(written)
        assert session.folding.asked(written) is asked
        other = session.folding.fit(guess(Context(Cause.USER, (Said("user", "good bye"),))))
        assert session.folding.asked(other) != asked == session.folding.asked(written)
        for context in (HELLO, guess()):
            await text_of(session.reply(context))
            assert fake.completions[-1].body["messages"] == asked
        await session.aclose()
        await mind.aclose()


async def test_a_long_call_is_summed_up_at_the_lowest_priority():
    async with fake_openai(models=VLLM) as fake:
        mind = await started(fake, convention="", context_tokens=2500)
        session = mind.session()
        items = [Said("agent" if n % 2 else "user", f"{n} {'word ' * 12}") for n in range(61)]
        await text_of(session.reply(Context(Cause.USER, tuple(items))))
        await session.folding.settled()
        asked = [e.body for e in fake.completions]
        background = [b for b in asked if b["priority"] == Priority.BACKGROUND]
        assert len(background) == 2
        assert background[1]["max_tokens"] == 1, "the new beginning is put into the cache"
        await text_of(session.reply(Context(Cause.USER, tuple(items))))
        latest = fake.completions[-1].body["messages"]
        assert "Good morning." in latest[0]["content"] and len(latest) < 30
        await session.aclose()
        await mind.aclose()


async def test_a_server_that_cannot_continue_says_so():
    async with fake_openai() as fake:
        mind = await started(fake)
        with pytest.raises(MindError, match="cannot continue"):
            mind.session().reply(Context(Cause.USER, HELLO.items, said="We are"))
        await mind.aclose()


async def test_a_broken_calibration_stops_the_start(tmp_path: Path):
    path = tmp_path / "c.json"
    path.write_text("{}")
    async with fake_openai(models=VLLM) as fake:
        with pytest.raises(EngineUnavailable, match="calibrate_judgements"):
            await started(fake, calibration=path)
        path.write_text('{"models": {"other": {}}}')
        mind = await started(fake, calibration=path)
        session = mind.session()
        session.attend(HELLO, over_agent=False)
        assert session.completeness("hello") is None and session.overlap("hello") is None
        await mind.aclose()


@pytest.mark.parametrize(
    "wrong", [{"speculative_tokens": -1}, {"speculative_turn_tokens": -1}, {"context_tokens": 0}]
)
def test_options_that_cannot_work(wrong: dict[str, Any]):
    with pytest.raises(ValueError):
        VllmOptions(**wrong)
