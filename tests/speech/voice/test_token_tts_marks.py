"""When a word of a codec-token voice sounds: estimates that settle and keep the contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parley_speech.tts.token_marks import WordClock, samples_per_letter, spoken_letters
from parley_speech.types import SPEAKER_HZ, WordMark
from speech.voice.token_fakes import PROMPT

PACE = 1000.0  # samples per letter


def _clock(*words: str, received: float = 0.0) -> WordClock:
    clock, at = WordClock(PACE), 0
    for word in words:
        clock.add(word, at, word, received)
        at += len(word) + 1
    return clock


def _spans(marks: tuple[WordMark, ...]) -> list[tuple[str, int, int]]:
    return [(mark.text, mark.start, mark.end) for mark in marks]


def test_words_take_time_by_their_letters() -> None:
    marks = _clock("abc", "a", "abcdef").marks(
        5000, received=50_000, total=50_000, base=7, closing=False
    )
    assert _spans(marks) == [("abc", 7, 15_007)]
    clock = _clock("abc", "a", "abcdef")
    marks = clock.marks(50_000, received=50_000, total=50_000, base=0)
    assert _spans(marks) == [("abc", 0, 15_000), ("a", 15_000, 20_000), ("abcdef", 20_000, 50_000)]
    assert clock.waiting == 0


def test_before_the_model_ends_words_go_at_the_voice_s_pace() -> None:
    clock = _clock("abc", "abcdef")
    assert _spans(clock.marks(1, received=3000, total=None, base=0)) == [("abc", 0, 3000)]
    assert clock.marks(3000, received=3000, total=None, base=0) == ()  # the next is not sure yet
    assert _spans(clock.marks(3001, received=9000, total=None, base=0)) == [("abcdef", 3000, 9000)]


def test_more_speech_than_was_thought_stretches_the_words_to_come() -> None:
    clock = _clock("abc", "abcdef")
    assert _spans(clock.marks(1, received=18_000, total=None, base=0)) == [("abc", 0, 6000)]


def test_less_speech_than_was_thought_squeezes_them() -> None:
    clock = _clock("abc", "abcdef", "abc")
    assert _spans(clock.marks(1, received=3000, total=None, base=0)) == [("abc", 0, 3000)]
    marks = clock.marks(6000, received=6000, total=6000, base=0)
    assert _spans(marks) == [("abcdef", 3000, 5000), ("abc", 5000, 6000)]


def test_a_word_does_not_sound_before_it_was_given_to_the_model() -> None:
    clock = _clock("abc")
    clock.add("abc", 4, "abc", 10_000)
    marks = clock.marks(12_000, received=13_000, total=None, base=0)
    assert _spans(marks) == [("abc", 0, 10_000), ("abc", 10_000, 13_000)]


def test_written_words_that_sound_as_one_share_its_time() -> None:
    clock = WordClock(PACE)
    clock.add("New York,", 0, "noo yawk,", 0)
    marks = clock.marks(18_000, received=18_000, total=18_000, base=0)
    assert _spans(marks) == [("New", 0, 7714), ("York,", 7714, 18_000)]


def test_at_the_end_every_word_is_given() -> None:
    clock = _clock("abc", "…", "abc")
    marks = clock.marks(500, received=500, total=500, base=0, closing=True)
    assert [mark.text for mark in marks] == ["abc", "…", "abc"]
    assert marks[-1].end == 500


def test_letters_of_a_text() -> None:
    assert spoken_letters("abc") == 3
    assert spoken_letters("abc,") == 5
    assert spoken_letters("abc.") == 8
    assert spoken_letters("12.5") == 3
    assert spoken_letters("今天") == 6
    assert spoken_letters("…") == 0
    assert spoken_letters(" ") == 0


def test_the_pace_is_the_reference_s_own_where_it_can_be() -> None:
    usual = samples_per_letter(PROMPT, 960)
    assert usual == pytest.approx(SPEAKER_HZ / 14.5)
    text = "x" * 100
    slow = replace(PROMPT, text=text, tokens=(1,) * 250)
    assert samples_per_letter(slow, 960) == pytest.approx(2400)
    absurd = replace(PROMPT, text=text, tokens=(1,) * 5)
    assert samples_per_letter(absurd, 960) == pytest.approx(usual * 0.6)
    assert samples_per_letter(replace(PROMPT, text="Hi.", tokens=(1,) * 250), 960) == usual


@example(["a", "a"], [(1, 1)], 1)
@example(["…", "a"], [(0, 0), (5, 5)], 1)
@given(
    st.lists(st.sampled_from(["a", "word", "extraordinary", "…", "so,", "end."]), max_size=12),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 6000)), max_size=30),
    st.integers(0, 20_000),
)
def test_whatever_happens_the_contract_holds(
    words: list[str], steps: list[tuple[int, int]], tail: int
) -> None:
    """Words trickle in while tokens arrive and sound is taken; then the model ends."""
    clock, received, heard, char = WordClock(PACE), 0, 0, 0
    marks: list[tuple[int, WordMark]] = []

    def take(samples: int, total: int | None, closing: bool = False) -> None:
        nonlocal heard
        before, heard = heard, heard + samples
        given = clock.marks(heard, received=received, total=total, base=0, closing=closing)
        marks.extend((before, mark) for mark in given)

    waiting = list(words)
    for more, wanted in steps:
        if waiting:
            word = waiting.pop(0)
            clock.add(word, char, word, received)
            char += len(word) + 1
        received += more
        if samples := min(wanted, received - heard):
            take(samples, None)
    for word in waiting:
        clock.add(word, char, word, received)
        char += len(word) + 1
    received += tail
    left = received - heard
    if left > 1:
        take(left // 2, received)
    take(received - heard, received, closing=True)

    assert [mark.text for _, mark in marks] == words
    end = 0
    for given_before, mark in marks:
        assert end <= mark.start <= mark.end <= max(received, 0)
        assert mark.end > given_before or mark.start == mark.end or left == 0
        end = mark.end
