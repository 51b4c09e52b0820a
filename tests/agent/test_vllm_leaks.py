"""Template tokens, roles, thoughts and tool calls in a model's text, cut in every way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.minds.vllm_leaks import Block, LeakFilter


def through(pieces: list[str]) -> tuple[str, LeakFilter]:
    leaks = LeakFilter()
    text = "".join(leaks.take(piece) for piece in pieces) + leaks.rest()
    return text, leaks


CASES = [
    ("Good morning.", "Good morning."),
    ("Hello<|im_end|>", "Hello"),
    ("Hello<|im_end|>\n<|im_start|>user\nAnd you?", "Hello"),
    ("<|im_start|>assistant\nHello", "Hello"),
    ("<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>", "Hello"),
    ("<start_of_turn>model\nHello<end_of_turn>", "Hello"),
    ("assistant\nHello", "Hello"),
    ("Assistant: Hello", "Hello"),
    ("Hello</s>[INST] and then", "Hello"),
    ("Hello [/INST]", "Hello "),
    ("Hello<\uff5cend\u2581of\u2581sentence\uff5c>", "Hello"),
    ("Hello.\nUser: What is the time?\nAssistant: Five.", "Hello."),
    ("Hello.\n### Human: hi", "Hello."),
    ("User: What is the time?", ""),
    ("<think>They want a greeting.</think>\n\nHello", "Hello"),
    ("<think>\nfirst\n</think><think>second</think>Hello", "Hello"),
    ("They want a greeting.</think>Hello", "They want a greeting.Hello"),
    ("<think>never closed", ""),
    ('One moment.<tool_call>{"name": "find"}</tool_call>', "One moment."),
]
SPEECH = [
    "A table for two: that is 3 < 4 guests.",
    "Assistant managers, model trains and users: all welcome.",
    "We have\nusual and unusual dishes",
    "Your assistant: me. [laughs] <3",
    "The system is\nuser friendly",
    "a", "As", "model", "\n", "<", "no | bars |> here",
]  # fmt: skip


@pytest.mark.parametrize(("text", "speech"), CASES)
def test_what_is_no_speech_is_left_out_however_it_is_cut(text: str, speech: str) -> None:
    assert through([text])[0] == speech
    assert through(list(text))[0] == speech
    for at in range(len(text)):
        assert through([text[:at], text[at:]])[0] == speech, at


@pytest.mark.parametrize("text", SPEECH)
def test_speech_passes_however_it_is_cut(text: str) -> None:
    whole = text.lstrip()  # as every answer
    assert through([text])[0] == whole
    assert through(list(text))[0] == whole


@given(st.text(alphabet="abus er:\n.,!?0123456789'", max_size=80), st.data())
def test_cuts_change_nothing(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert through(pieces)[0] == through([text])[0]


@given(st.text(alphabet=st.characters(blacklist_characters="<[\n:"), max_size=200))
def test_text_without_marks_is_untouched(text: str) -> None:
    assert through(list(text))[0] == text.lstrip()


def test_words_are_not_held_back() -> None:
    leaks = LeakFilter()
    given_at_once = [leaks.take(token) for token in ("Your", " order", " has", " shipped", ".")]
    assert given_at_once == ["Your", " order", " has", " shipped", "."]


def test_what_follows_the_end_is_nothing() -> None:
    leaks = LeakFilter()
    assert leaks.take("Yes.<|im_end|>") == "Yes."
    assert leaks.ended
    assert leaks.take("\nUser: more") == "" and leaks.rest() == ""


def test_blocks_are_kept_apart() -> None:
    leaks = through(["<think>why</think>So.<tool_", 'call>{"name": "x"}</tool_call>'])[1]
    assert leaks.blocks == [Block("think", "why"), Block("tool_call", '{"name": "x"}')]


def test_a_continued_answer_has_no_header() -> None:
    leaks = LeakFilter(goes_on=True)
    assert leaks.take(" model of") + leaks.rest() == " model of"


def test_an_endless_block_is_bounded() -> None:
    leaks = LeakFilter()
    leaks.take("<think>")
    for _ in range(100):
        leaks.take("hmm " * 200)
    assert len(leaks.blocks) >= 1
