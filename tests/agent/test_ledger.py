"""The ledger: exactly the heard words, whatever the order of saying, playing and cutting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.dialogue.ledger import AgentTurn, Ledger, middle
from parley.minds.base import Said, ToolCall, ToolResult
from parley_speech.types import WordMark


def marks_of(text: str, lengths: list[int]) -> list[WordMark]:
    """One mark a word, ``lengths[i]`` samples long, without gaps."""
    out, char, sample = [], 0, 0
    for word, n in zip(text.split(), lengths, strict=True):
        at = text.index(word, char)
        out.append(WordMark(word, at, at + len(word), sample, sample + n))
        char, sample = at + len(word), sample + n
    return out


def playing(text: str, lengths: list[int]) -> Ledger:
    ledger = Ledger()
    ledger.begin(0)
    ledger.said(0, text)
    ledger.marked(0, marks_of(text, lengths))
    return ledger


def test_a_whole_reply_is_heard_as_it_was_said() -> None:
    ledger = playing("Your order has shipped.", [100] * 4)
    ledger.played(0, 400)
    ledger.end(0, "Your order has shipped.")
    assert ledger.items() == (Said("agent", "Your order has shipped."),)


@pytest.mark.parametrize(
    ("samples", "heard"),
    [(0, ""), (49, ""), (50, "Your"), (149, "Your"), (150, "Your order"), (400, "Your order has,")],
)
def test_a_word_is_heard_from_its_middle_on(samples: int, heard: str) -> None:
    ledger = playing("Your order has, shipped.", [100, 100, 100, 1000])
    ledger.played(0, samples)
    assert ledger.cut(0) == heard
    assert ledger.items() == ((Said("agent", heard, cut=True),) if heard else ())


def test_a_reply_that_never_sounded_leaves_nothing() -> None:
    ledger = Ledger()
    assert ledger.cut(7) == ""
    ledger.end(7, "unheard")
    assert ledger.items() == ()


def test_a_cut_is_final() -> None:
    ledger = playing("one two three", [100] * 3)
    ledger.played(0, 160)
    assert ledger.cut(0) == "one two"
    ledger.played(0, 1000)
    ledger.end(0, "one two three")
    assert ledger.cut(0) == "one two"


def test_what_the_far_end_dropped_was_not_heard() -> None:
    ledger = playing("one two three", [100] * 3)
    ledger.played(0, 300)
    ledger.correct(0, 110)
    assert ledger.items() == (Said("agent", "one", cut=True),)
    ledger.correct(0, 290)
    assert ledger.items() == (Said("agent", "one", cut=True),), "a correction never adds"


def test_order_is_kept_and_asides_stay_out() -> None:
    ledger = playing("Hello.", [100])
    ledger.user_said("  where is my order ")
    ledger.aside("mhm")
    call, result = ToolCall("1", "find", "{}"), ToolResult("1", "find", "here")
    for item in (call, result, result):
        ledger.tool(item)
    assert ledger.items() == (Said("user", "where is my order"), call, result)
    ledger.played(0, 100)
    assert ledger.items()[0] == Said("agent", "Hello.")
    assert ledger.asides == ["mhm"]


def test_text_may_grow_but_not_change() -> None:
    ledger = playing("one", [10])
    ledger.said(0, "one two")
    with pytest.raises(ValueError, match="may grow"):
        ledger.said(0, "three")


def test_marks_must_run_forwards() -> None:
    ledger = playing("one", [10])
    with pytest.raises(ValueError, match="backwards"):
        ledger.marked(0, [WordMark("zero", 0, 4, -5, 0)])


words = st.lists(st.text("abc,.'-", min_size=1, max_size=8), min_size=1, max_size=12)


@given(words, st.data())
def test_the_context_is_what_was_played(ws: list[str], data: st.DataObject) -> None:
    """Random words, random portions, a cut anywhere: the context holds the words whose middle was
    passed, and the deltas announced on the way are the same words in the same order."""
    text = " ".join(ws)
    lengths = data.draw(st.lists(st.integers(1, 500), min_size=len(ws), max_size=len(ws)))
    marks = marks_of(text, lengths)
    ledger = Ledger()
    ledger.begin(0)
    ledger.said(0, text)
    announced: list[WordMark] = []
    given_marks = 0
    position = 0
    for n in data.draw(st.lists(st.integers(0, 700), max_size=12)):
        target = position + n
        while given_marks < len(marks) and marks[given_marks].start <= target:
            ledger.marked(0, [marks[given_marks]])
            given_marks += 1
        n = min(n, sum(lengths) - position)
        announced += ledger.played(0, n)
        position += n
    expected = [m for m in marks if position >= middle(m)]
    heard = ledger.cut(0)
    assert announced == expected
    assert heard.split() == [m.text for m in expected]
    assert text.startswith(heard)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 900)), max_size=30), st.integers(0, 9999)
)
def test_words_that_overlap_are_counted_one_by_one(
    steps: list[tuple[int, int]], played: int
) -> None:
    turn, start, marks = AgentTurn(0), 0, []
    for step, length in steps:
        start += step
        marks.append(WordMark("word", 0, 4, start, start + length))
    turn.mark(marks)
    turn.played = played
    assert turn.heard_words() == sum(played >= middle(mark) for mark in marks)
