"""The vllm mind against a server with every fault that a model server has shown or could show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest

from agent.fake_openai import (
    Behaviour,
    Exchange,
    FakeOpenAI,
    answer,
    call_delta,
    delta,
    fake_openai,
)
from parley.minds import vllm_http, vllm_refusal, vllm_reply
from parley.minds.base import (
    Cause,
    Context,
    MindError,
    MindEvent,
    MindLimits,
    Said,
    TextDelta,
    ToolCall,
    ToolSpec,
)
from parley.minds.vllm import VllmMind, VllmOptions, VllmSession

QUICK = MindLimits(max_chars=200, first_s=0.6, stall_s=0.25)
SECRET = "my card number is four one one one"
ASKED = Context(Cause.USER, (Said("user", SECRET),))


@asynccontextmanager
async def minded(
    *behaviours: Behaviour, limits: MindLimits = QUICK, api_key: str = ""
) -> AsyncIterator[tuple[VllmSession, FakeOpenAI]]:
    async with fake_openai(*behaviours) as fake:
        mind = VllmMind(VllmOptions(base_url=fake.url, limits=limits, api_key=api_key))
        await mind.start()
        try:
            yield mind.session(), fake
        finally:
            await mind.aclose()


async def heard(session: VllmSession, context: Context = ASKED) -> list[MindEvent]:
    return [event async for event in session.reply(context)]


def words(events: list[MindEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def failure(session: VllmSession, given: list[MindEvent] | None = None) -> MindError:
    """The MindError with which a reply ends; what came before it goes into ``given``."""
    events = given if given is not None else []
    with pytest.raises(MindError) as caught:
        async for event in session.reply(ASKED):
            events.append(event)
    assert caught.value.spoken.endswith((".", "?"))
    assert SECRET not in str(caught.value)
    return caught.value


# --- what works ---


async def test_streams_the_text_as_it_comes():
    between = asyncio.Event()

    async def in_two_parts(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say("First.")
        await between.wait()
        await exchange.say(" Second.")
        await exchange.end()

    async with minded(in_two_parts) as (session, _):
        events = aiter(session.reply(ASKED))
        assert await anext(events) == TextDelta("First.")
        between.set()
        assert [event async for event in events] == [TextDelta(" Second.")]


async def test_request_holds_model_messages_and_key():
    async with minded(api_key="k-123") as (session, fake):
        assert words(await heard(session)) == "Good morning."
    exchange = fake.completions[0]
    assert exchange.path == "/v1/chat/completions"
    assert exchange.headers["authorization"] == "bearer k-123"
    assert exchange.body["model"] == "tiny"
    assert exchange.body["stream"] is True
    assert exchange.body["messages"][-1] == {"role": "user", "content": SECRET}
    assert "tools" not in exchange.body


async def test_text_then_tool_calls_with_arguments_in_fragments():
    async def calls(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say("One moment.")
        await exchange.event(call_delta(0, id="a", name="find", arguments=""))
        for piece in ('{"or', 'der": ', '"12345"}'):
            await exchange.event(call_delta(0, arguments=piece))
        await exchange.event(call_delta(1, id="b", name="hours"))
        await exchange.end("tool_calls")

    spec = ToolSpec("find", "Finds an order.", {"type": "object"})
    async with minded(calls) as (session, fake):
        asked = Context(Cause.USER, ASKED.items, tools=(spec,), tool_choice="required")
        events = await heard(session, asked)
    assert events == [
        TextDelta("One moment."),
        ToolCall("a", "find", '{"order": "12345"}'),
        ToolCall("b", "hours", "{}"),
    ]
    assert fake.completions[0].body["tool_choice"] == "required"
    assert fake.completions[0].body["tools"][0]["function"]["name"] == "find"


async def test_the_first_of_two_calls_is_given_while_the_second_is_being_written():
    first_given = asyncio.Event()

    async def calls(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(call_delta(0, id="a", name="find", arguments='{"order": "1"}'))
        await exchange.event(call_delta(1, id="b", name="find", arguments='{"order": '))
        await first_given.wait()  # the model takes its time
        await exchange.event(call_delta(1, arguments='"2"}'))
        await exchange.end("tool_calls")

    given: list[MindEvent] = []
    async with minded(calls) as (session, _), asyncio.timeout(30):
        async for event in session.reply(ASKED):
            given.append(event)
            first_given.set()
    assert [e.id for e in given if isinstance(e, ToolCall)] == ["a", "b"]


async def test_finish_reason_without_done_is_an_answer():
    async def no_done(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say("Yes.")
        await exchange.event(
            {"choices": [{"index": 0, "delta": {"content": " Sure."}, "finish_reason": "length"}]}
        )

    async with minded(no_done) as (session, _):
        assert words(await heard(session)) == "Yes. Sure."


CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


@asynccontextmanager
async def kept_alive(end: bytes | None) -> AsyncIterator[tuple[str, list[int]]]:
    """A server whose connections serve one request after another; ``end`` follows an answer that
    is complete; None: the connection is closed there. Its address, and how many requests each
    connection has served."""
    served: list[int] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        served.append(0)
        place = len(served) - 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                if "/models" in head:
                    models = b'{"data": [{"id": "tiny"}]}'
                    length = f"HTTP/1.1 200 OK\r\ncontent-length: {len(models)}\r\n"
                    writer.write(
                        f"{length}content-type: application/json\r\n\r\n".encode() + models
                    )
                    continue
                await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
                served[place] += 1
                said = json.dumps(delta(content="Good morning."))
                whole = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]})
                text = f"data: {said}\n\ndata: {whole}\n\n".encode()
                writer.write(CHUNKED + f"{len(text):x}\r\n".encode() + text + b"\r\n")
                if end is None:
                    break
                writer.write(end)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", served
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        (b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", True),
        (b"", False),  # it never says that this was all
        (None, False),
    ],
)
async def test_a_connection_serves_again_when_its_answer_was_read_to_the_end(
    end: bytes | None, kept: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vllm_http, "KEEPALIVE_S", 600.0)
    monkeypatch.setattr(vllm_reply, "REST_S", 60.0 if kept else 0.1)
    patient = MindLimits(first_s=600, stall_s=600)
    async with kept_alive(end) as (url, served), asyncio.timeout(60):
        mind = VllmMind(VllmOptions(base_url=url, limits=patient))
        await mind.start()
        for _ in range(3):
            assert await heard(mind.session()) == [TextDelta("Good morning.")]
        await mind.aclose()
    assert sum(served) == 3, "each was asked once"
    assert (max(served) == 3) == kept


async def test_usage_chunks_comments_and_roles_are_no_text():
    async def chatty(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.raw(b": keep-alive\n\nevent: x\nid: 7\n\n")
        await exchange.event(delta(role="assistant", content=""))
        await exchange.event(delta(content=None, reasoning_content="they want a yes"))
        await exchange.event(delta(content="\n\nYes."))
        await exchange.event({"choices": [], "usage": {"total_tokens": 3}})
        await exchange.end()

    async with minded(chatty) as (session, _):
        assert await heard(session) == [TextDelta("Yes.")]


# --- cancelling ---


async def endless(exchange: Exchange) -> None:
    await exchange.head()
    for number in range(10_000):
        await exchange.say(f"{number} is a number, ")
        await asyncio.sleep(0.005)


async def test_cancel_closes_the_connection_and_ends_the_iterator():
    async with minded(endless, limits=MindLimits()) as (session, fake):
        reply = session.reply(ASKED)
        events = aiter(reply)
        await anext(events)
        began = time.perf_counter()
        reply.cancel()
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        ended = time.perf_counter()
        await asyncio.wait_for(fake.completions[0].gone.wait(), 1)
        reply.cancel()
        await reply.aclose()
    assert ended - began < 0.1


async def test_cancel_from_another_task_wakes_who_waits():
    async def silent(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.gone.wait()

    async with minded(silent, limits=MindLimits(first_s=30)) as (session, fake):
        reply = session.reply(ASKED)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_all(reply))
            await fake.asked.wait()
            reply.cancel()
            assert await asyncio.wait_for(listening, 1) == []
        await asyncio.wait_for(fake.completions[0].gone.wait(), 1)


@pytest.mark.parametrize("closing", [False, True])
async def test_cancel_wakes_who_waits_for_a_server_that_does_not_even_begin(closing: bool):
    async def mute(exchange: Exchange) -> None:
        await exchange.gone.wait()

    async with minded(mute, limits=MindLimits(first_s=600)) as (session, fake):
        reply = session.reply(ASKED)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            listening = group.create_task(_all(reply))
            await fake.asked.wait()
            if closing:
                await reply.aclose()
            else:
                reply.cancel()
                reply.cancel()
            assert await listening == []
            await fake.completions[0].gone.wait()


async def test_cancel_wakes_who_waits_for_the_second_attempt():
    async def busy(exchange: Exchange) -> None:
        await exchange.json(429, {}, retry_after="500", content_length="2")
        await exchange.gone.wait()

    async with minded(busy, limits=MindLimits(first_s=600)) as (session, fake):
        reply = session.reply(ASKED)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            listening = group.create_task(_all(reply))
            await fake.asked.wait()
            await fake.completions[0].gone.wait()  # it has read that, and waits now
            reply.cancel()
            assert await listening == []
    assert len(fake.completions) == 1


async def test_who_stops_iterating_stops_the_server():
    async with minded(endless, limits=MindLimits()) as (session, fake):
        async with asyncio.timeout(2):
            task = asyncio.create_task(_all(session.reply(ASKED)))
            await fake.asked.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await fake.completions[0].gone.wait()


async def test_slow_listener_holds_the_server_back_and_is_no_stall():
    async def floods(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say(*(f"{n} " for n in range(300)))
        await exchange.end()

    limits = MindLimits(max_chars=4000, first_s=1, stall_s=0.1)
    async with minded(floods, limits=limits) as (session, _):
        events = aiter(session.reply(ASKED))
        first = await anext(events)
        await asyncio.sleep(0.3)  # longer than a stall may last
        rest = [event async for event in events]
    assert words([first, *rest]) == "".join(f"{n} " for n in range(300))


async def test_cancelled_before_it_began_asks_nothing():
    async with minded() as (session, fake):
        reply = session.reply(ASKED)
        reply.cancel()
        assert await _all(reply) == []
        await reply.aclose()
        assert fake.completions == []


async def test_no_task_and_no_connection_is_left():
    async with minded(endless, limits=MindLimits()) as (session, _):
        before = len(asyncio.all_tasks())
        for _ in range(5):
            reply = session.reply(ASKED)
            await anext(aiter(reply))
            await reply.aclose()
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert "vllm reply" not in names
        assert len(asyncio.all_tasks()) <= before + 10  # the fake's own, while they see the end


async def test_iterating_twice_is_an_error():
    async with minded() as (session, _):
        reply = session.reply(ASKED)
        await _all(reply)
        with pytest.raises(RuntimeError, match="once"):
            await _all(reply)


# --- faults before anything was given: one more attempt ---


async def refuses(exchange: Exchange) -> None:
    await exchange.json(503, {"error": {"type": "overloaded", "message": SECRET}})


async def dies_at_once(exchange: Exchange) -> None:
    exchange.reset()


async def dies_after_head(exchange: Exchange) -> None:
    await exchange.head()
    exchange.reset()


async def ends_after_head(exchange: Exchange) -> None:
    await exchange.head()


async def says_nothing(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.say("  ", "\n")
    await exchange.end()


async def sends_garbage(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event("{not json")


async def sends_wrong_types(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event({"choices": [{"delta": {"content": 42}}]})


async def sends_a_list(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event([1, 2])


async def sends_an_error(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event({"error": {"type": "InternalServerError", "message": SECRET}})


async def calls_with_broken_arguments(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event(call_delta(0, id="a", name="find", arguments='{"order": '))
    await exchange.end("tool_calls")


async def calls_without_name(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event(call_delta(0, id="a", arguments="{}"))
    await exchange.end("tool_calls")


async def is_busy(exchange: Exchange) -> None:
    await exchange.json(429, {"error": {"type": "rate_limit"}}, retry_after="0.05")


PASSING = [
    refuses,
    dies_at_once,
    dies_after_head,
    ends_after_head,
    says_nothing,
    sends_garbage,
    sends_wrong_types,
    sends_a_list,
    sends_an_error,
    calls_with_broken_arguments,
    calls_without_name,
    is_busy,
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.__name__)
async def test_a_passing_fault_is_not_heard(fault: Behaviour):
    async with minded(fault, answer) as (session, fake):
        assert words(await heard(session)) == "Good morning."
        assert len(fake.completions) == 2


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.__name__)
async def test_a_lasting_fault_is_an_error_after_two_attempts(fault: Behaviour):
    async with minded(fault) as (session, fake):
        given: list[MindEvent] = []
        await failure(session, given)
        assert given == []
        assert len(fake.completions) == 2


async def test_busy_for_longer_than_there_is_time():
    async def busy(exchange: Exchange) -> None:
        await exchange.json(429, {}, retry_after="60")

    async with minded(busy) as (session, fake):
        error = await failure(session)
        assert error.spoken == vllm_refusal.BUSY
        assert len(fake.completions) == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [(400, "max-model-len"), (401, "PARLEY_LLM_API_KEY"), (404, "base_url"), (418, "base_url")],
)
async def test_a_refused_request_is_not_repeated(status: int, advice: str):
    async def refuse(exchange: Exchange) -> None:
        error = {"message": f"bad: {SECRET}", "type": "BadRequestError", "code": status}
        await exchange.json(status, {"error": error})

    async with minded(refuse) as (session, fake):
        error = await failure(session)
        assert str(status) in str(error)
        assert "BadRequestError" in str(error)
        assert advice in str(error)
        assert len(fake.completions) == 1


async def test_no_stream_but_a_page():
    async def page(exchange: Exchange) -> None:
        await exchange.head(200, "text/html")
        await exchange.raw(b"<html>")

    async with minded(page) as (session, _):
        assert "text/event-stream" in str(await failure(session))


async def test_server_gone_after_start():
    async with fake_openai() as fake:
        mind = VllmMind(VllmOptions(base_url=fake.url, limits=QUICK))
        await mind.start()
    error = await failure(mind.session())
    await mind.aclose()
    assert "vllm serve" in str(error)
    assert error.spoken == vllm_reply.UNREACHABLE


# --- deadlines ---


@pytest.mark.parametrize("with_head", [True, False])
async def test_no_first_event_in_time(with_head: bool):
    async def mute(exchange: Exchange) -> None:
        if with_head:
            await exchange.head()
        await exchange.gone.wait()

    async with minded(mute) as (session, fake):
        began = time.perf_counter()
        error = await failure(session)
        took = time.perf_counter() - began
        await asyncio.wait_for(fake.completions[0].gone.wait(), 1)
    assert error.spoken == vllm_reply.SLOW
    assert QUICK.first_s <= took < QUICK.first_s + 0.4
    assert len(fake.completions) == 1


async def test_keepalives_do_not_buy_time():
    async def drips(exchange: Exchange) -> None:
        await exchange.head()
        while not exchange.gone.is_set():
            await exchange.raw(b": ping\n\n")
            await asyncio.sleep(0.02)

    async with minded(drips) as (session, _):
        assert (await failure(session)).spoken == vllm_reply.SLOW


async def test_thinking_for_too_long_tells_how_to_turn_it_off():
    async def thinks(exchange: Exchange) -> None:
        await exchange.head()
        while not exchange.gone.is_set():
            await exchange.event(delta(reasoning_content="hmm "))
            await asyncio.sleep(0.02)

    async with minded(thinks) as (session, _):
        assert "enable_thinking" in str(await failure(session))


async def test_half_open_stream_is_a_stall():
    async def stalls(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say("Well, ")
        await exchange.gone.wait()

    async with minded(stalls) as (session, fake):
        given: list[MindEvent] = []
        began = time.perf_counter()
        error = await failure(session, given)
        took = time.perf_counter() - began
    assert words(given) == "Well, "
    assert error.spoken == vllm_reply.CUT_OFF
    assert QUICK.stall_s <= took < QUICK.stall_s + 0.4
    assert len(fake.completions) == 1


# --- faults in mid-sentence: no second attempt, nothing said twice ---


@pytest.mark.parametrize(
    "fault",
    [
        lambda exchange: exchange.reset(),
        lambda exchange: None,  # a plain end, without finish_reason
        lambda exchange: exchange.event("{oops"),
        lambda exchange: exchange.event({"error": {"type": "EngineDeadError"}}),
        lambda exchange: exchange.raw(b'data: {"choices": [{"delta": {"content": "ha'),
        lambda exchange: exchange.raw(b"data: " + b"x" * 1_200_000),
    ],
    ids=["reset", "end", "garbage", "error", "half an event", "endless event"],
)
async def test_death_in_mid_sentence(fault):
    async def dies(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say("Your order ", "was ")
        await asyncio.sleep(0.05)  # else a reset discards what was not read yet
        done = fault(exchange)
        if done is not None:
            await done

    async with minded(dies, answer) as (session, fake):
        given: list[MindEvent] = []
        error = await failure(session, given)
    assert words(given) == "Your order was "
    assert error.spoken == vllm_reply.CUT_OFF
    assert len(fake.completions) == 1


# --- runaway models ---


async def test_too_long_a_reply_ends_with_a_whole_word_and_is_aborted():
    async with minded(endless) as (session, fake):
        text = words(await heard(session))
        await asyncio.wait_for(fake.completions[0].gone.wait(), 1)
    assert 150 < len(text) <= QUICK.max_chars
    assert text.endswith(" ")


@pytest.mark.parametrize("piece", ["I am here to help you. ", "ha ", "\n"])
async def test_endless_repetition(piece: str):
    async def repeats(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say("So. ")
        while not exchange.gone.is_set():
            await exchange.say(piece)

    limits = MindLimits(max_chars=4000, first_s=2, stall_s=2)
    async with minded(repeats, limits=limits) as (session, fake):
        given: list[MindEvent] = []
        error = await failure(session, given)
        await asyncio.wait_for(fake.completions[0].gone.wait(), 1)
    assert "repeats" in str(error)
    assert len(words(given)) < 700


# --- what may be written down ---


async def test_no_speech_and_no_key_in_logs(caplog: pytest.LogCaptureFixture):
    key = "sk-very-secret"
    with caplog.at_level(logging.DEBUG):
        async with minded(refuses, answer, api_key=key) as (session, _):
            await heard(session)
        async with minded(sends_garbage, api_key=key) as (session, _):
            await failure(session)
    logged = "\n".join(
        record.getMessage() + str(record.exc_text or "")
        for record in caplog.records
        if not record.name.startswith("asyncio")
    )
    assert "no answer from the language model" in logged
    assert SECRET not in logged and "Good" not in logged and key not in logged
    assert key not in repr(VllmOptions(api_key=key))


async def _all(reply) -> list[MindEvent]:
    return [event async for event in reply]


# --- a model that ignores its template ---


def wrote(*texts: str) -> Behaviour:
    async def writes(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say(*texts)
        await exchange.end()

    return writes


async def test_what_follows_the_end_of_the_turn_is_not_said_and_not_waited_for():
    async def goes_on(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.say("At ", "nine.", "<|im", "_end|>", "\n<|im_start|>user\n")
        while not exchange.gone.is_set():
            await exchange.say("and then? ")
            await asyncio.sleep(0.01)

    async with minded(goes_on) as (session, fake):
        assert words(await heard(session)) == "At nine."
        await asyncio.wait_for(fake.completions[0].gone.wait(), 1)


async def test_a_played_dialogue_ends_with_the_agents_turn():
    async with minded(wrote("Assistant:", " At nine.\n", "User", ": And on Sunday?")) as (s, _):
        assert words(await heard(s)) == "At nine."


async def test_only_a_template_is_an_empty_answer():
    async with minded(wrote("<|im_end|>"), answer) as (session, fake):
        assert words(await heard(session)) == "Good morning."
        assert len(fake.completions) == 2


async def test_thoughts_are_not_said(caplog: pytest.LogCaptureFixture):
    async with minded(wrote("<think>", "they want hours", "</think>\n\n", "At nine.")) as (s, _):
        assert words(await heard(s)) == "At nine."
    assert "--reasoning-parser" in caplog.text and "they want" not in caplog.text


CALLED = '<tool_call>\n{"name": "find", "arguments": {"order": "7"}}\n</tool_call>'
FIND = ToolSpec("find", "Finds an order.", {"type": "object"})


async def test_a_call_that_the_servers_parser_missed_is_made():
    async with minded(wrote("One moment. ", CALLED[:20], CALLED[20:])) as (session, _):
        events = await heard(session, Context(Cause.USER, ASKED.items, tools=(FIND,)))
    assert words(events) == "One moment. "
    call = events[-1]
    assert isinstance(call, ToolCall)
    assert (call.name, call.arguments) == ("find", '{"order": "7"}')


@pytest.mark.parametrize("tools", [(), (FIND,)])
async def test_a_written_call_where_none_may_be_is_neither_made_nor_said(tools):
    async with minded(wrote("Yes. ", CALLED)) as (session, _):
        asked = Context(Cause.USER, ASKED.items, tools=tools, tool_choice="none")
        assert await heard(session, asked) == [TextDelta("Yes. ")]


# --- what an error tells whoever may ask elsewhere ---


@pytest.mark.parametrize("status", [429, 503])
async def test_the_servers_wish_to_be_left_alone_is_passed_on(status: int):
    async def busy(exchange: Exchange) -> None:
        await exchange.json(status, {}, retry_after="60")

    async with minded(busy) as (session, fake):
        error = await failure(session)
        assert (error.passing, error.retry_after_s, error.spoken) == (True, 60, vllm_refusal.BUSY)
        assert len(fake.completions) == 1


async def test_a_refused_request_is_no_passing_fault():
    async def refuse(exchange: Exchange) -> None:
        await exchange.json(400, {})

    async with minded(refuse) as (session, _):
        assert not (await failure(session)).passing


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.__name__)
async def test_a_lasting_fault_is_passing_elsewhere(fault: Behaviour):
    async with minded(fault) as (session, _):
        assert (await failure(session)).passing


def test_retry_after_is_seconds_or_a_date():
    assert vllm_refusal.retry_after_s("2.5") == 2.5
    assert vllm_refusal.retry_after_s("-1") == 0
    in_a_minute = formatdate(time.time() + 60, usegmt=True)
    assert 55 < (vllm_refusal.retry_after_s(in_a_minute) or 0) <= 60
    assert vllm_refusal.retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for unreadable in (None, "", "soon", "Wed, 99 Foo 2015"):
        assert vllm_refusal.retry_after_s(unreadable) is None
