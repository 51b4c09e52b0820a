"""Endpoints over servers that are slow, full, dead, or die in mid-sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from agent.fake_openai import Behaviour, Exchange, FakeOpenAI, answer, call_delta, fake_openai
from parley.minds.base import (
    Attentive,
    Cause,
    Context,
    MindError,
    MindEvent,
    MindLimits,
    Said,
    TextDelta,
    ToolSpec,
    Urgent,
)
from parley.minds.breaker import BreakerPolicy, Circuit
from parley.minds.endpoints import Endpoints, EndpointsSession, Patience, vllm_options
from parley.minds.vllm import VllmMind, VllmOptions
from parley_speech.types import EngineUnavailable

ASKED = Context(Cause.USER, (Said("user", "Good morning"),))
QUICK = Patience(apology_s=0.15, overtake_s=0.3, first_s=1.5, total_s=3.0, again_s=0.05)
SORRY = "Sorry, this takes a moment. "
VLLM = {"object": "list", "data": [{"id": "tiny", "owned_by": "vllm"}]}


@dataclass
class House:
    mind: Endpoints
    servers: list[FakeOpenAI]

    def session(self) -> EndpointsSession:
        return self.mind.session()


@asynccontextmanager
async def house(
    *servers: list[Behaviour],
    patience: Patience = QUICK,
    breaker: BreakerPolicy | None = None,
    limits: MindLimits | None = None,
) -> AsyncIterator[House]:
    """A server for each list of behaviours."""
    limits = limits or MindLimits(max_chars=400, first_s=5.0, stall_s=0.4)
    async with AsyncExitStack() as stack:
        fakes = [
            await stack.enter_async_context(fake_openai(*behaviours, models=VLLM))
            for behaviours in servers
        ]
        minds = {
            f"server{n}": VllmMind(VllmOptions(base_url=fake.url, limits=limits))
            for n, fake in enumerate(fakes)
        }
        mind = Endpoints(minds, patience=patience, breaker=breaker)
        await mind.start()
        try:
            yield House(mind, fakes)
        finally:
            await mind.aclose()
            left = [t.get_name() for t in asyncio.all_tasks() if "endpoint" in t.get_name()]
            assert not left


async def heard(session: EndpointsSession, context: Context = ASKED) -> str:
    return words([event async for event in session.reply(context)])


def words(events: list[MindEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def until(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen in 10 s")


def after(seconds: float, then: Behaviour = answer) -> Behaviour:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await then(exchange)

    return slow


async def never(exchange: Exchange) -> None:
    await exchange.gone.wait()


async def half_open(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.gone.wait()


async def dies(exchange: Exchange) -> None:
    exchange.reset()


async def full(exchange: Exchange) -> None:
    await exchange.json(503, {"error": {"type": "overloaded"}})


def full_for(seconds: float) -> Behaviour:
    async def busy(exchange: Exchange) -> None:
        await exchange.json(429, {}, retry_after=str(seconds))

    return busy


# --- slow ---


async def test_who_is_quick_says_nothing_about_it():
    async with house([answer]) as h:
        assert await heard(h.session()) == "Good morning."
        assert h.mind.stats.apologies == 0


async def test_a_slow_answer_is_apologised_for_once_and_given():
    async with house([after(0.4)]) as h:
        assert await heard(h.session()) == f"{SORRY}Good morning."
        assert h.mind.stats.apologies == 1 and len(h.servers[0].completions) == 1


async def test_the_apology_can_be_left_out():
    async with house([after(0.3)], patience=replace(QUICK, apology="")) as h:
        assert await heard(h.session()) == "Good morning."


async def test_nobody_is_apologised_to_who_has_said_nothing():
    async with house([after(0.4)]) as h:
        assert await heard(h.session(), Context(Cause.NO_INPUT)) == "Good morning."


async def test_a_guess_is_not_apologised_for_before_it_is_wanted():
    async with house([after(0.5)]) as h:
        reply = h.session().reply(replace(ASKED, speculative=True))
        assert isinstance(reply, Urgent)
        events = aiter(reply)
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.3)
        assert not first.done()
        reply.wanted()
        text = [await first] + [event async for event in events]
        assert words(text) in (f"{SORRY}Good morning.", "Good morning.")


@pytest.mark.parametrize("slow", [never, half_open, after(1.0)])
async def test_a_slow_server_is_overtaken_by_the_next(slow: Behaviour):
    async with house([slow], [answer]) as h:
        assert await heard(h.session()) == f"{SORRY}Good morning."
        stats = h.mind.stats
        assert (stats.overtaken, stats.elsewhere) == (1, 1)
        if slow is not never:  # a server that has not even answered sees the end as well
            await asyncio.wait_for(h.servers[0].completions[0].gone.wait(), 1)


async def test_a_server_that_is_always_overtaken_is_not_asked_for_a_while():
    async with house([never], [answer], breaker=BreakerPolicy(failures=2, open_s=30)) as h:
        session = h.session()
        for _ in range(2):
            assert (await heard(session)).endswith("Good morning.")
        assert h.mind.all[0].breaker.state is Circuit.OPEN
        assert await heard(session) == "Good morning.", "at once, from the other one"
        assert len(h.servers[0].completions) == 2


async def test_nobody_answers_and_the_caller_hears_of_it_in_time():
    async with house([never], patience=replace(QUICK, first_s=0.6)) as h:
        events: list[MindEvent] = []
        with pytest.raises(MindError) as caught:
            async for event in h.session().reply(ASKED):
                events.append(event)
        assert words(events) == SORRY
        assert caught.value.spoken == "That is taking me too long. Could you say it again?"
        assert h.mind.stats.lost == 1


# --- dead, and back ---


@pytest.mark.parametrize("fault", [dies, full], ids=["dies", "full"])
async def test_a_dead_server_is_replaced_at_once(fault: Behaviour):
    async with house([fault], [answer]) as h:
        assert (await heard(h.session())).endswith("Good morning.")
        assert len(h.servers[1].completions) == 1


@pytest.mark.parametrize("fault", [dies, full], ids=["dies", "full"])
async def test_a_server_that_comes_back_in_time_answers_the_turn(fault: Behaviour):
    async with house([fault] * 5 + [answer], patience=replace(QUICK, first_s=5)) as h:
        assert (await heard(h.session())).endswith("Good morning.")
        assert len(h.servers[0].completions) == 6


async def test_the_time_that_a_full_server_names_is_kept():
    async with house([full_for(0.6), answer], limits=MindLimits(first_s=0.2)) as h:
        began = asyncio.get_running_loop().time()
        assert await heard(h.session()) == f"{SORRY}Good morning."
        assert asyncio.get_running_loop().time() - began >= 0.6
        assert len(h.servers[0].completions) == 2


async def test_a_server_that_wants_to_be_left_alone_for_long_is_not_waited_for():
    async with house([full_for(50)]) as h:
        session = h.session()
        for _ in range(2):
            with pytest.raises(MindError) as caught:
                await heard(session)
            assert caught.value.spoken.startswith("Sorry, I ")
        assert len(h.servers[0].completions) == 1, "the second caller does not even ask"


@pytest.mark.parametrize("fault", [dies, never], ids=["dead", "hanging"])
async def test_an_open_circuit_is_tried_by_one_and_closed_by_its_success(fault: Behaviour):
    alive = asyncio.Event()

    async def server(exchange: Exchange) -> None:
        await (answer if alive.is_set() else fault)(exchange)

    impatient = replace(QUICK, first_s=0.3)
    async with house([server], patience=impatient, breaker=BreakerPolicy(1, 0.5)) as h:
        with pytest.raises(MindError):
            await heard(h.session())
        breaker = h.mind.all[0].breaker
        assert breaker.state is Circuit.OPEN
        alive.set()
        await until(lambda: breaker.free_at(time.monotonic()) <= time.monotonic())
        assert (await heard(h.session())).endswith("Good morning.")
        assert breaker.state is Circuit.CLOSED


async def test_a_request_that_is_refused_is_not_repeated_but_asked_elsewhere():
    async def refuse(exchange: Exchange) -> None:
        await exchange.json(404, {"error": {"type": "NotFoundError"}})

    async with house([refuse], [answer]) as h:
        assert await heard(h.session()) == "Good morning."
    async with house([refuse]) as h:
        with pytest.raises(MindError, match="404"):
            await heard(h.session())
        assert len(h.servers[0].completions) == 1
        assert h.mind.all[0].breaker.state is Circuit.CLOSED


async def test_a_server_that_is_down_at_start_is_used_once_it_is_there(monkeypatch):
    from parley.minds import endpoints

    monkeypatch.setattr(endpoints, "START_AGAIN_S", 0.1)
    async with fake_openai(models=VLLM) as first, fake_openai(models=VLLM) as second:
        first.models_status, served = 500, first.models
        first.models = {}
        minds = {
            name: VllmMind(VllmOptions(base_url=server.url))
            for name, server in (("first", first), ("second", second))
        }
        mind = Endpoints(minds, patience=QUICK)
        await mind.start()
        session = mind.session()
        assert await heard(session) == "Good morning."
        assert len(second.completions) == 1
        first.models_status, first.models = 200, served
        await until(lambda: mind.all[0].started)
        assert await heard(session) == "Good morning."
        assert len(first.completions) == 1, "the preferred one, also in a call that goes on"
        await mind.aclose()


async def test_nothing_there_at_start_says_what_to_do():
    nowhere = VllmMind(VllmOptions(base_url="http://127.0.0.1:1/v1"))
    with pytest.raises(EngineUnavailable, match="vllm serve"):
        await Endpoints({"nowhere": nowhere}).start()


# --- death in mid-sentence ---


def breaks_after(*texts: str, how: str = "reset") -> Behaviour:
    async def broken(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say(*texts)
        await asyncio.sleep(0.05)  # else a reset discards what was not read yet
        if how == "reset":
            exchange.reset()
        elif how == "silence":
            await exchange.gone.wait()
        elif how == "garbage":
            await exchange.event("{oops")

    return broken


def goes_on(*texts: str) -> Behaviour:
    async def more(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say(*texts)
        await exchange.end()

    return more


@pytest.mark.parametrize("how", ["reset", "end", "silence", "garbage"])
async def test_what_broke_off_is_continued_elsewhere(how: str):
    broken = breaks_after("Your order ", "was", how=how)
    async with house([broken], [goes_on(" shipped", " today.")]) as h:
        assert await heard(h.session()) == "Your order was shipped today."
        asked = h.servers[0].completions + h.servers[1].completions
        assert [e.body["messages"][-1]["role"] for e in asked].count("assistant") == 1
        assert h.mind.stats.continued == 1 and h.mind.stats.apologies == 0


async def test_it_is_continued_where_it_broke_when_there_is_only_one():
    async with house([breaks_after("Your order was"), goes_on(" shipped.")]) as h:
        assert await heard(h.session()) == "Your order was shipped."
        body = h.servers[0].completions[1].body
        assert body["messages"][-1] == {"role": "assistant", "content": "Your order was"}
        assert body["continue_final_message"] is True and body["add_generation_prompt"] is False


async def test_a_space_is_neither_lost_nor_doubled():
    async with house([breaks_after("Your order "), goes_on(" was shipped.")]) as h:
        assert await heard(h.session()) == "Your order was shipped."


async def test_what_cannot_be_continued_says_that_the_thread_is_lost():
    async def refuse(exchange: Exchange) -> None:
        await exchange.json(400, {"error": {"type": "BadRequestError"}})

    async with house([breaks_after("Your order was"), refuse]) as h:
        events: list[MindEvent] = []
        with pytest.raises(MindError) as caught:
            async for event in h.session().reply(ASKED):
                events.append(event)
        assert words(events) == "Your order was"
        assert caught.value.spoken == "Sorry, I lost my thread there. Could you say that again?"


async def test_what_breaks_again_and_again_ends():
    async with house([breaks_after("And so on"), breaks_after(" and on")]) as h:
        with pytest.raises(MindError):
            await heard(h.session())
        assert len(h.servers[0].completions) == 3


async def test_a_call_that_was_given_is_not_made_twice():
    async def calls_and_dies(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say("One moment.")
        await exchange.event(call_delta(0, id="a", name="find", arguments="{}"))
        choice = {"index": 0, "delta": {}, "finish_reason": None}
        await exchange.event({"choices": [choice]})
        await asyncio.sleep(0.05)
        exchange.reset()

    # The call was not complete, so nobody got it: the answer is continued.
    tools = (ToolSpec("find", "", {"type": "object"}),)
    async with house([calls_and_dies, goes_on(" It is here.")]) as h:
        asked = replace(ASKED, tools=tools)
        assert await heard(h.session(), asked) == "One moment. It is here."


async def test_the_time_for_one_reply_is_bounded():
    async def drips(exchange: Exchange) -> None:
        await exchange.head()
        for n in range(1000):
            await exchange.say(f"{n} ")
            await asyncio.sleep(0.05)

    async with house([drips], patience=replace(QUICK, total_s=0.5)) as h:
        with pytest.raises(MindError, match=r"waited 0\.5 s"):
            await heard(h.session())
        await asyncio.wait_for(h.servers[0].completions[0].gone.wait(), 1)


# --- the contract ---


async def test_cancel_ends_every_request():
    async with house([never], [never]) as h:
        reply = h.session().reply(ASKED)
        task = asyncio.ensure_future(_all(reply))
        await until(lambda: h.servers[1].completions)
        reply.cancel()
        await reply.aclose()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 2)
        for server in h.servers:
            await asyncio.wait_for(server.completions[0].gone.wait(), 1)
        assert h.mind.all[0].breaker.state is Circuit.CLOSED, "nobody is to blame"


async def test_cancel_wakes_who_waits_to_ask_again():
    patient = Patience(apology="", overtake_s=600, first_s=600, again_s=500)
    async with house([dies], patience=patient) as at, asyncio.timeout(60):
        reply = at.session().reply(ASKED)
        listening = asyncio.create_task(_all(reply))
        await until(lambda: at.mind.stats.failures)
        reply.cancel()
        assert await listening == []


async def test_cancelled_before_it_began_asks_nothing():
    async with house([answer]) as h:
        reply = h.session().reply(ASKED)
        reply.cancel()
        assert await _all(reply) == []
        await reply.aclose()
        assert h.servers[0].completions == []


async def test_iterating_twice_is_an_error():
    async with house([answer]) as h:
        reply = h.session().reply(ASKED)
        await _all(reply)
        with pytest.raises(RuntimeError, match="once"):
            await _all(reply)


async def test_opinions_are_the_first_healthy_minds():
    async with house([answer]) as h:
        session = h.session()
        assert isinstance(session, Attentive)
        session.attend(ASKED, over_agent=True)
        assert session.overlap("mhm") is None and session.completeness("mhm") is None
        assert session.grammar() is None
        await session.aclose()


def test_endpoints_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PARLEY_LLM_URL", "http://a/v1")
    monkeypatch.setenv("PARLEY_LLM_MODEL", "big")
    monkeypatch.delenv("PARLEY_LLM_FALLBACK_URL", raising=False)
    assert [o.base_url for o in vllm_options()] == ["http://a/v1"]
    monkeypatch.setenv("PARLEY_LLM_FALLBACK_URL", "http://b/v1 http://a/v1  http://c/v1")
    monkeypatch.setenv("PARLEY_LLM_FALLBACK_MODEL", "small")
    found = [(o.base_url, o.model) for o in vllm_options()]
    assert found == [("http://a/v1", "big"), ("http://b/v1", "small"), ("http://c/v1", "small")]
    assert vllm_options("http://x/v1", "own")[0] == replace(
        vllm_options()[0], base_url="http://x/v1", model="own"
    )


def test_no_minds_are_no_mind():
    with pytest.raises(ValueError, match="at least one"):
        Endpoints({})


async def _all(reply) -> list[MindEvent]:
    return [event async for event in reply]
