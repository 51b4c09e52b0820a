"""What goes over the wire: messages out; events, deltas and runaway text in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.fake_openai import call_delta, delta
from parley.minds.base import (
    Cause,
    Context,
    Said,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from parley.minds.vllm_deltas import MAX_ARGUMENT_CHARS, DeltaError, DeltaReader
from parley.minds.vllm_guard import Repetition, TextGuard, repeats
from parley.minds.vllm_messages import CUT, messages, tools
from parley.minds.vllm_options import CONVENTION
from parley.minds.vllm_sse import MAX_EVENT_CHARS, SseError, SseParser


def user(text: str, cut: bool = False) -> Said:
    return Said("user", text, cut)


def agent(text: str, cut: bool = False) -> Said:
    return Said("agent", text, cut)


# --- messages ---


def test_a_cut_turn_ends_in_a_dash_that_the_convention_explains():
    items = (user("hi"), agent("Your order was ship,", cut=True), user("wait"))
    written = messages(Context(Cause.USER, items, instructions="Be brief."), CONVENTION)
    assert written[0] == {"role": "system", "content": f"{CONVENTION}\n\nBe brief."}
    assert written[1:] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": f"Your order was ship{CUT}"},
        {"role": "user", "content": "wait"},
    ]
    assert CUT in CONVENTION and "interrupted" in CONVENTION


def test_a_turn_of_which_nothing_was_heard_is_not_written():
    written = messages(Context(Cause.USER, (user("a"), agent("", cut=True), user("b"))))
    assert written == [{"role": "user", "content": "a b"}]


def test_turns_of_one_side_are_joined():
    items = (agent("Hello."), agent("Who is there?"), user("me"), user("again"))
    assert messages(Context(Cause.USER, items)) == [
        {"role": "assistant", "content": "Hello. Who is there?"},
        {"role": "user", "content": "me again"},
    ]


@pytest.mark.parametrize(
    ("context", "last"),
    [
        (Context(Cause.OPENING), "(The call begins. Greet the caller.)"),
        (Context(Cause.NO_INPUT, (agent("Yes?"),)), "(The caller has been silent for a while.)"),
        (Context(Cause.INSTRUCTED, (agent("Yes?"),), request="Say bye"), "(Say bye)"),
        (Context(Cause.INSTRUCTED, (user("ok"),), request="Say bye"), "ok (Say bye)"),
    ],
)
def test_what_nobody_said_stands_in_parentheses(context: Context, last: str):
    assert messages(context)[-1] == {"role": "user", "content": last}


def test_results_follow_their_calls_whatever_was_said_between():
    items = (
        user("orders"),
        ToolCall("1", "find", '{"a": 1}'),
        ToolCall("2", "find", "broken"),
        agent("One moment."),
        user("hurry"),
        ToolResult("2", "find", "no such order", error=True),
        ToolResult("1", "find", "shipped"),
    )
    written = messages(Context(Cause.TOOL, items))
    roles = [m["role"] for m in written]
    assert roles == ["user", "assistant", "user", "assistant", "tool", "tool"]
    assert written[1]["content"] == "One moment."
    calls = written[3]["tool_calls"]
    assert [c["function"]["arguments"] for c in calls] == ['{"a": 1}', "{}"]
    assert [m["tool_call_id"] for m in written[4:]] == ["1", "2"]
    assert written[5]["content"] == "error: no such order"


def test_words_said_while_a_tool_ran_come_before_its_result():
    items = (user("order 5"), ToolCall("1", "find", "{}"), agent("One moment."))
    written = messages(Context(Cause.TOOL, (*items, ToolResult("1", "find", "shipped"))))
    assert [m["role"] for m in written] == ["user", "assistant", "tool"]
    assert written[1]["content"] == "One moment." and len(written[1]["tool_calls"]) == 1


def test_two_exchanges_after_each_other_are_two_messages():
    call, result = ToolCall("1", "find", "{}"), ToolResult("1", "find", "a")
    again, more = ToolCall("2", "find", "{}"), ToolResult("2", "find", "b")
    written = messages(Context(Cause.TOOL, (user("x"), call, result, again, more)))
    assert [m["role"] for m in written] == ["user", "assistant", "tool", "assistant", "tool"]


def test_a_tool_that_still_runs_is_told_and_the_prompt_only_grows():
    begun = (user("order 5"), ToolCall("1", "find", "{}"), user("hello"))
    running = messages(Context(Cause.USER, begun))
    note = "(find is still running; its result will come. Do not call it again.)"
    assert running == [{"role": "user", "content": f"order 5 hello {note}"}]
    over = (*begun, agent("Yes?"), ToolResult("1", "find", "shipped"))
    assert messages(Context(Cause.TOOL, over))[0] == {"role": "user", "content": "order 5 hello"}


def test_a_result_that_comes_after_its_call_was_given_up_is_told_and_the_prompt_only_grows():
    call = ToolCall("1", "find", "{}")
    given_up = ToolResult("1", "find", "no result within 30 seconds", error=True)
    before = (user("order 5"), call, given_up, agent("That takes too long."))
    late = ToolResult("1", "find", "shipped")
    written = messages(Context(Cause.TOOL, (*before, late)))
    assert written[:-1] == messages(Context(Cause.TOOL, before))
    assert written[2]["content"] == "error: no result within 30 seconds"
    assert written[-1] == {"role": "user", "content": "(find has answered after all: shipped)"}
    nobody_spoke = messages(Context(Cause.TOOL, (user("order 5"), call, given_up, late)))
    assert [m["role"] for m in nobody_spoke] == ["user", "assistant", "tool", "user"]
    assert nobody_spoke[:3] == written[:3] and nobody_spoke[-1] == written[-1]
    twice = messages(Context(Cause.TOOL, (user("order 5"), call, late, late)))
    assert [m["role"] for m in twice] == ["user", "assistant", "tool"], "the same one, told again"


def test_results_without_calls_are_left_out():
    items = (user("x"), user("y"), ToolResult("9", "find", "z"))
    assert messages(Context(Cause.TOOL, items)) == [{"role": "user", "content": "x y"}]


@pytest.mark.parametrize("before", [(), (user("hi"), agent("Hello.")), (agent("Hello."),)])
def test_a_turn_that_nobody_understood_asks_for_it_again(before: tuple[Said, ...]):
    written = messages(Context(Cause.USER, before, instructions="Sprich Deutsch."))
    assert written[0] == {"role": "system", "content": "Sprich Deutsch."}
    assert written[1:-1] == messages(Context(Cause.TOOL, before))
    asked = written[-1]
    assert asked["role"] == "user" and str(asked["content"]).startswith("(The caller said some")
    assert "to say it again" in str(asked["content"])
    assert "language of this conversation" in str(asked["content"])


def test_words_that_were_not_answered_yet_are_not_asked_for_again():
    items = (agent("Hello."), user("where is my order"))
    assert messages(Context(Cause.USER, items))[-1]["content"] == "where is my order"


def test_tools_as_functions():
    spec = ToolSpec("find", "Finds.", {"type": "object", "properties": {}})
    assert tools([spec]) == [
        {
            "type": "function",
            "function": {
                "name": "find",
                "description": "Finds.",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ]


_items = st.one_of(
    st.builds(Said, st.sampled_from(["user", "agent"]), st.text(max_size=8), st.booleans()),
    st.builds(ToolCall, st.sampled_from("123"), st.just("f"), st.sampled_from(["{}", "", "[1]"])),
    st.builds(ToolResult, st.sampled_from("123"), st.just("f"), st.text(max_size=4)),
)


@given(st.lists(_items, max_size=12), st.sampled_from(Cause))
def test_any_history_is_written_as_servers_want_it(items, cause: Cause):
    written = messages(Context(cause, tuple(items), request="r"), "c")
    json.dumps(written)
    open_calls: list[str] = []
    before = ""
    for message in written[1:]:
        if message["role"] == "tool":
            assert message["tool_call_id"] == open_calls.pop(0)
        else:
            assert not open_calls
            assert message["content"] or message.get("tool_calls")
            assert message["role"] != before or message.get("tool_calls") or before == "assistant"
            open_calls = [call["id"] for call in message.get("tool_calls", [])]
            before = str(message["role"])
    assert not open_calls


# --- server-sent events ---


def parsed(*chunks: bytes) -> list[str]:
    parser = SseParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.finish()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data:a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b": ping\n\nevent: x\nid: 3\nretry: 5\ndata: a\n\n", ["a"]),
        (b"\xef\xbb\xbfdata: \xc3\xa4\n\n", ["ä"]),
        (b"data: no blank line", ["no blank line"]),
        (b"data:  two spaces\n\n", [" two spaces"]),
        (b"data: caf\xff\n\n", ["caf�"]),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_events_however_they_are_cut(stream: bytes, events: list[str]):
    assert parsed(stream) == events
    assert parsed(*(stream[i : i + 1] for i in range(len(stream)))) == events
    for size in (2, 3, 7):
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert parsed(*pieces) == events


@given(st.lists(st.text(alphabet="abä€😀 :", min_size=1), max_size=5), st.data())
def test_events_survive_any_cut(texts: list[str], data: st.DataObject):
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    stream = "".join(f"data: {text}{end}{end}" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parsed(*pieces) == texts


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_nothing(stream: bytes):
    assert parsed(stream) == parsed(*(bytes([byte]) for byte in stream))


@pytest.mark.parametrize("chunk", [b"z" * 1000, b"data: " + b"z" * 1000 + b"\n"])
def test_an_event_without_end_is_refused(chunk: bytes):
    parser = SseParser()
    with pytest.raises(SseError):
        for _ in range(MAX_EVENT_CHARS // 1000 + 2):
            parser.feed(chunk)


# --- deltas ---


def read(*chunks: object) -> list[object]:
    reader = DeltaReader()
    return [event for chunk in chunks for event in reader.feed(json.dumps(chunk))]


def finish(reason: str = "stop") -> dict[str, object]:
    return {"choices": [{"delta": {}, "finish_reason": reason}]}


def test_calls_without_index_begin_with_an_id():
    events = read(
        call_delta(None, id="a", name="f", arguments='{"x"'),
        call_delta(None, arguments=": 1}"),
        call_delta(None, id="b", name="g", arguments="{}"),
        finish("tool_calls"),
    )
    assert events == [ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}")]


def test_calls_without_id_get_one_each():
    events = read(call_delta(0, name="f"), call_delta(1, name="f"), finish())
    more = read(call_delta(0, name="f"), finish())  # of a later answer: its result is another one
    ids = [event.id for event in (*events, *more) if isinstance(event, ToolCall)]
    assert len(set(ids)) == 3 and all(ids)


def test_calls_are_given_once_though_done_follows():
    reader = DeltaReader()
    feed = [json.dumps(call_delta(0, id="a", name="f")), json.dumps(finish()), "[DONE]"]
    assert [e for data in feed for e in reader.feed(data)] == [ToolCall("a", "f", "{}")]
    assert reader.finished


def test_a_call_is_given_when_the_next_one_begins():
    reader = DeltaReader()

    def feed(chunk: object) -> list[object]:
        return list(reader.feed(json.dumps(chunk)))

    assert feed(call_delta(0, id="a", name="f", arguments='{"x": 1')) == []
    assert feed(call_delta(0, arguments="}")) == [], "more might come"
    assert feed(call_delta(1, id="b", name="g")) == [ToolCall("a", "f", '{"x": 1}')]
    assert feed(call_delta(2, id="c", name="h")) == [], "the second has no arguments yet"
    assert feed(call_delta(1, arguments='{"y": 2}')) == [ToolCall("b", "g", '{"y": 2}')]
    assert feed(finish("tool_calls")) == [ToolCall("c", "h", "{}")]


def test_a_call_that_was_given_does_not_change_any_more():
    first = call_delta(0, id="a", name="f", arguments="{}")
    second = call_delta(1, id="b", name="g", arguments="{}")
    with pytest.raises(DeltaError, match="complete"):
        read(first, second, call_delta(0, arguments="more"))


def test_calls_are_bounded_though_they_are_given():
    with pytest.raises(DeltaError, match="more than 16"):
        read(*(call_delta(n, id=str(n), name="f", arguments="{}") for n in range(17)))


def test_done_alone_finishes():
    reader = DeltaReader()
    assert list(reader.feed(" [DONE]")) == []
    assert reader.finished


@pytest.mark.parametrize(
    "chunk",
    [
        "nonsense",
        [],
        3,
        {"choices": "x"},
        {"choices": [1]},
        delta(content=[1]),
        delta(tool_calls={"a": 1}),
        delta(tool_calls=["x"]),
        delta(tool_calls=[{"index": 0, "function": "f"}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": {"a": 1}}}]),
        {"choices": [{"delta": "x"}]},
        {"error": {"message": "secret words", "type": "Bad"}},
        {"error": "secret words"},
        delta(tool_calls=[{"index": i, "function": {"name": "f"}} for i in range(17)]),
        call_delta(0, name="f", arguments="x" * (MAX_ARGUMENT_CHARS + 1)),
    ],
)
def test_malformed_chunks_are_named_without_their_words(chunk: object):
    with pytest.raises(DeltaError) as caught:
        list(DeltaReader().feed(json.dumps(chunk)))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", "null", "text"])
def test_arguments_that_are_no_object(arguments: str):
    with pytest.raises(DeltaError, match="not a JSON object"):
        read(call_delta(0, id="a", name="f", arguments=arguments), finish())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "delta", "content", "tool_calls", "function", "index", "id"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused(chunk: object):
    try:
        events = list(DeltaReader().feed(json.dumps(chunk)))
    except DeltaError:
        return
    assert all(isinstance(event, TextDelta | ToolCall) for event in events)


# --- runaway text ---

PROSE = (
    "It is travelling with North Star Parcel, and it left their sorting centre early this morning. "
    "You can expect it this Thursday, between nine in the morning and one in the afternoon. If you "
    "are not at home, the driver will leave it with a neighbour or at the nearest pick-up point."
)


@pytest.mark.parametrize("unit", ["x", "ha ", "I am here. ", "What can I do for you today? "])
def test_a_loop_is_seen_also_behind_prose(unit: str):
    assert repeats((unit * 200)[:640])
    assert repeats((PROSE + unit * 200)[:640])


def test_speech_is_no_loop():
    assert not repeats(PROSE)
    assert not repeats("no, no, no, no! " + PROSE)
    assert not repeats("ha " * 40)  # 120 characters of laughter
    assert not repeats(" ".join(f"number {n}," for n in range(60)))


@given(st.text(alphabet="ab ", min_size=160, max_size=400))
def test_repeats_agrees_with_a_plain_search(tail: str):
    plain = any(
        tail[-size:-period] == tail[-size + period :]
        for size in range(160, len(tail) + 1)
        for period in range(1, size // 4 + 1)
    )
    assert repeats(tail) == plain


def test_guard_ends_at_a_whole_word():
    guard = TextGuard(12)
    assert guard.take("one two ") == "one two "
    assert not guard.full
    assert guard.take("three four") == ""
    assert guard.full


def test_guard_cuts_a_text_without_spaces():
    assert TextGuard(4).take("字" * 9) == "字" * 4


def test_guard_drops_leading_white_space_but_sees_a_flood_of_it():
    guard = TextGuard(4000)
    assert guard.take("\n\n  ") == ""
    assert guard.take(" Hello") == "Hello"
    assert guard.take(" you") == " you"
    with pytest.raises(Repetition):
        for _ in range(700):
            guard.take("\n")
