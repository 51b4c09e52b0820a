"""An answer from its bytes alone."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.fake_openai import call_delta, delta
from parley.minds.base import MindError, MindEvent, MindLimits, TextDelta, ToolCall
from parley.minds.vllm_answer import Answer, BrokenAnswer

LIMITS = MindLimits(max_chars=200)
END: dict[str, object] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
COUNTS: dict[str, object] = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


def stream(*chunks: object) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)


def fed(*pieces: bytes, may_call: bool = True) -> tuple[Answer, list[MindEvent]]:
    answer = Answer(LIMITS, goes_on=False, may_call=may_call)
    for piece in pieces:
        answer.feed(piece)
    return answer, list(answer.events)


WHOLE = (
    stream(
        delta(content="Um 9 Uhr öff"),
        delta(content="nen wir.\n"),
        call_delta(0, id="a", name="find", arguments='{"n": 1}'),
        END,
        COUNTS,
    )
    + b"data: [DONE]\n\n"
)
EVENTS = [TextDelta("Um 9 Uhr öff"), TextDelta("nen wir."), ToolCall("a", "find", '{"n": 1}')]


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_an_answer_is_the_same_however_its_bytes_are_cut(places: list[int]):
    cuts = [0, *sorted(places), len(WHOLE)]
    pieces = [WHOLE[a:b] for a, b in pairwise(cuts) if a < b]
    answer, events = fed(*pieces)
    text = "".join(e.text for e in events if isinstance(e, TextDelta))
    assert text == "Um 9 Uhr öffnen wir.\n"
    assert [e for e in events if isinstance(e, ToolCall)] == [EVENTS[2]]
    assert answer.complete and not answer.cut
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)


def test_what_was_good_before_a_fault_can_be_given():
    answer = Answer(LIMITS, goes_on=False, may_call=False)
    with pytest.raises(BrokenAnswer):
        answer.feed(stream(delta(content="Good morning.")) + b"data: {no json\n\n")
    assert list(answer.events) == [TextDelta("Good morning.")]
    assert not answer.complete


def test_a_stream_that_ends_before_its_answer_is_broken():
    answer, events = fed(stream(delta(content="Good")))
    assert events == [TextDelta("Good")]
    with pytest.raises(BrokenAnswer, match="ended before"):
        answer.feed(b"")


def test_what_comes_behind_a_complete_answer_cannot_break_it():
    answer, events = fed(stream(delta(content="Yes."), END), b"data: {no json\n\n", b"")
    assert answer.complete and events == [TextDelta("Yes.")]


def test_an_answer_without_a_word_is_a_fault():
    answer = Answer(LIMITS, goes_on=False, may_call=False)
    with pytest.raises(MindError, match="nothing but thoughts"):
        answer.feed(stream(delta(reasoning_content="hm"), END))
    assert answer.complete and answer.reasoned


def test_an_answer_that_is_too_long_is_cut():
    answer, events = fed(stream(delta(content=" ".join(map(str, range(100))))))
    assert answer.cut and answer.complete
    assert sum(len(e.text) for e in events if isinstance(e, TextDelta)) <= LIMITS.max_chars
