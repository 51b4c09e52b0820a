"""When a reply to a guess is kept: the rule of ``parley.minds.agreement``, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.minds.agreement import FILLERS, agrees, content


@pytest.mark.parametrize(
    ("guess", "final"),
    [
        ("what are your opening hours", "What are your opening hours?"),
        ("what are your opening hours", "Um, what are your, uh, opening hours, please"),
        ("what's the weather", "What is the weather?"),
        ("i can't find it", "I cannot find it."),
        ("the order", "the the order"),
        ("i want to go", "I want, I want to go"),
        ("my number is one two three", "My number is 1 2 3."),
        ("ok thanks", "okay, thanks"),
        ("it’s broken", "it's broken"),
        ("ﬁne", "fine"),
        ("um", "um"),
    ],
)
def test_the_same_question(guess: str, final: str):
    assert agrees(guess, final)
    assert agrees(final, guess)


@pytest.mark.parametrize(
    ("guess", "final"),
    [
        ("my order is 12345", "my order is 12346"),
        ("one one two", "one two"),
        ("twenty twenty", "twenty"),
        ("it is 1.5", "it is 15"),
        ("i want it", "i do not want it"),
        ("i can", "i can't"),
        ("yes", "no"),
        ("what are your opening", "what are your opening hours"),
        ("paris to rome", "rome to paris"),
        ("um", "uh"),
        ("", "um"),
        ("hello", ""),
        ("that that is it not", "that is it"),
    ],
)
def test_another_question(guess: str, final: str):
    assert not agrees(guess, final)
    assert not agrees(final, guess)


SOME = "order my is not yes no 12 one hours paris what's um please the"
WORDS = st.lists(st.sampled_from(SOME.split()), max_size=8)


@given(WORDS)
def test_writing_and_fillers_never_matter(words: list[str]):
    said = " ".join(words)
    written = ", um ".join(word.capitalize() for word in words) + "!"
    assert content(said) == content(written)
    assert not content(said) or agrees(said, written)


@given(WORDS, WORDS)
def test_agreement_is_symmetric_and_means_equal_content(a: list[str], b: list[str]):
    one, other = " ".join(a), " ".join(b)
    assert agrees(one, other) == agrees(other, one)
    if agrees(one, other):
        assert content(one) == content(other)


@given(WORDS, st.sampled_from(["not", "no", "yes", "seven", "8", "london"]))
def test_a_word_of_content_at_the_end_is_never_ignored(words: list[str], more: str):
    said = " ".join(words)
    if content(said)[-1:] == (more,):  # once more, be it behind an "um": the caller repeats it
        return
    assert not agrees(said, f"{said} {more}")


def test_content_is_stable_under_itself():
    text = "Um, I I'd like — please — order No. 12, 13!"
    assert content(" ".join(content(text))) == content(text)


def test_no_filler_carries_an_answer():
    assert not FILLERS & {"no", "not", "yes", "yeah", "okay", "stop", "never"}
