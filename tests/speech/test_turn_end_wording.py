"""How finished open English words are: what is noted of a phrase, and the judgement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_speech.turn_end import wording
from parley_speech.turn_end.wording import LISTS, NAMES, describe, p_finished

WORDS = sorted(frozenset().union(*LISTS.values()))


def judged(text: str) -> float:
    p = p_finished(text)
    assert p is not None, text
    return p


@pytest.mark.parametrize(
    ("asks_for_more", "whole"),
    [
        ("could you", "could you help me tomorrow"),
        ("i would like to", "i would like to leave today"),
        ("the keys are on the", "the keys are on the table"),
        ("send it to him and", "send it to him please"),
        ("is there a train to the", "is there a train to the harbour tonight"),
        ("um", "yes"),
        ("i need it before", "i need it before friday"),
        ("it was my", "it was my sister"),
        ("i'm", "i'm ready now"),
    ],
)
def test_a_phrase_that_asks_for_more_is_less_finished_than_a_whole_one(
    asks_for_more: str, whole: str
) -> None:
    assert judged(asks_for_more) < 0.4
    assert judged(asks_for_more) < judged(whole) - 0.2


@pytest.mark.parametrize("text", ["yes", "no thank you", "hello", "that's right", "Thank you!"])
def test_a_short_answer_is_whole(text: str) -> None:
    assert judged(text) > 0.5


@pytest.mark.parametrize(
    "text",
    ["", "   ", "...", "ich möchte bitte zahlen", "quiero reservar mesas mañana",
     "je voudrais commander trois billets", "12345"],
)  # fmt: skip
def test_of_other_languages_and_of_nothing_it_has_no_opinion(text: str) -> None:
    assert p_finished(text) is None


def test_a_story_goes_on_however_whole_its_clauses_are() -> None:
    clause = "i called them today"
    story = " and ".join([clause] * 5)
    assert len(story.split()) > wording.STORY
    assert judged(clause) > 0.5 > judged(story)
    assert judged(f"{story} because the") < judged(story), "what asks for more still does"


def test_a_word_of_two_lists_counts_in_the_first() -> None:
    notes = describe("where is that")
    assert "conjunction" in notes or "determiner" in notes or "object" in notes
    assert sum(name in notes for name in LISTS) == 1


def test_letters_and_marks_do_not_matter() -> None:
    assert judged("Could you TELL me the?") == judged("could you tell me the")


def test_a_repeated_word_is_a_repair_but_a_repeated_digit_is_not() -> None:
    assert "repeats" in describe("i want the the")
    assert "repeats" not in describe("my number is four four")


def test_the_weights_are_those_of_the_features() -> None:
    assert set(wording.load()) == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=15))
def test_any_english_words_have_a_probability_strictly_within_0_and_1(words: list[str]) -> None:
    assert 0.0 < judged(" ".join(words)) < 1.0


@given(st.text())
def test_any_text_is_judged_or_not_at_all(text: str) -> None:
    p = p_finished(text)
    assert p is None or 0.0 < p < 1.0
    assert set(describe(text)) <= set(NAMES)
