from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_speech.tts.words import (
    MAX_CHARS,
    MAX_WORDS,
    PARAGRAPH_MS,
    STOP_MS,
    Aligner,
    Clause,
    ClauseCutter,
    Span,
    tokens,
)

TEXTS = st.text(
    st.one_of(
        st.sampled_from(" \n.,!?;:…—\"')(-'$%&<>[]{}/\\0123456789"),
        st.sampled_from("abcdefgh ABC and the "),
        st.characters(),
    ),
    max_size=400,
)


def cut(*deltas: str, end: bool = True) -> list[Clause]:
    cutter = ClauseCutter()
    clauses = [clause for delta in deltas for clause in cutter.push(delta)]
    return clauses + (cutter.end() if end else [])


def texts(*deltas: str, end: bool = True) -> list[str]:
    return [clause.text.strip() for clause in cut(*deltas, end=end) if clause.text.strip()]


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("Hello, how are you? Fine.", ["Hello,", "how are you?", "Fine."]),
        ("It costs 3.50, or 12,345 in all.", ["It costs 3.50,", "or 12,345 in all."]),
        ("At 10:30 Dr. J. Smith rings.", ["At 10:30 Dr. J. Smith rings."]),
        ("So do I. Then we, e.g. you, go.", ["So do I.", "Then we,", "e.g. you,", "go."]),
        ('He said "no." (Really!) Well', ['He said "no."', "(Really!)", "Well"]),
        ("one — two… three", ["one —", "two…", "three"]),
        ("- one\n- two\n\nthree", ["- one", "- two", "three"]),
        ("你好，世界。再见", ["你好，", "世界。", "再见"]),
    ],
)
def test_clauses_end_at_punctuation_that_white_space_follows(text: str, clauses: list[str]) -> None:
    assert texts(text) == clauses


def test_a_clause_waits_for_what_follows_its_full_stop() -> None:
    assert texts("It costs 3.", end=False) == []
    assert texts("It costs 3.", "50 today. ", end=False) == ["It costs 3.50 today."]


def test_a_clause_is_given_with_the_delta_that_closes_it() -> None:
    cutter = ClauseCutter()

    assert [cutter.push(delta) for delta in ("Hel", "lo", ",")] == [[], [], []]
    assert [clause.text for clause in cutter.push(" how")] == ["Hello,"]


def test_the_first_words_do_not_wait_for_punctuation() -> None:
    words = ["I", "think", "that", "the", "order", "you", "placed", "on", "Tuesday"]
    cutter = ClauseCutter()
    given_after = next(count for count, word in enumerate(words, 1) if cutter.push(word + " "))

    assert given_after <= 7


def test_an_eager_cut_goes_before_a_joining_word_and_never_after_an_article() -> None:
    (first,) = cut("We can send the parcel to your ", end=False)
    (other,) = cut("You will find them all in the box near ", end=False)

    assert (first.text, first.goes_on) == ("We can send the parcel ", True)
    assert other.text.split()[-1] not in {"the", "in"}


def test_later_pieces_are_longer() -> None:
    cutter = ClauseCutter()
    text = "word " * 200

    sizes = [len(c.text.split()) for i in range(200) for c in cutter.push(text[5 * i : 5 * i + 5])]

    assert sizes[0] < sizes[1] < sizes[2] <= MAX_WORDS


def test_a_text_known_whole_is_not_cut_early() -> None:
    sentence = "I think that the order you placed last Tuesday will arrive tomorrow."
    assert texts(sentence) == [sentence]


def test_pauses_follow_the_punctuation() -> None:
    pauses = [clause.pause_ms for clause in cut("Well, yes. No\n\nand so on ")]
    assert pauses[0] < pauses[1] == STOP_MS < pauses[2] == PARAGRAPH_MS
    assert pauses[3] == 0


def test_mark_up_for_a_pause_is_a_clause_of_its_own() -> None:
    clauses = cut("I think [pause 300ms] it is. <break/> Yes[pause 2 s]")
    assert [(c.text.strip(), c.silence_ms) for c in clauses if c.text.strip()] == [
        ("I think", None),
        ("[pause 300ms]", 300),
        ("it is.", None),
        ("<break/>", 300),
        ("Yes", None),
        ("[pause 2 s]", 2000),
    ]
    assert clauses[0].goes_on  # the sentence does
    assert clauses[2].pause_ms == STOP_MS


def test_mark_up_is_waited_for_and_what_is_none_is_text() -> None:
    assert texts("Well [pau", end=False) == []
    assert texts("Well [pau", "se 1s] yes, ", end=False) == ["Well", "[pause 1s]", "yes,"]
    assert texts("Well [pau", "sing] yes, ", end=False) == ["Well [pausing] yes,"]
    assert texts("a < b, [see there]") == ["a < b,", "[see there]"]
    assert texts("Well [pause 1") == ["Well [pause 1"]


def test_an_ended_cutter_gives_at_least_an_empty_clause() -> None:
    assert cut("") == [Clause("", 0)]


@given(TEXTS, st.lists(st.integers(0, 400)))
def test_clauses_give_the_text_back_however_it_is_split(text: str, at: list[int]) -> None:
    edges = sorted({0, len(text), *(min(i, len(text)) for i in at)})
    clauses = cut(*(text[a:b] for a, b in pairwise(edges)))

    assert "".join(clause.text for clause in clauses) == text
    for clause in clauses:
        assert text[clause.start : clause.start + len(clause.text)] == clause.text
        assert len(clause.text.split()) <= MAX_WORDS
        assert len(clause.text) <= MAX_CHARS + 1 or clause.text[MAX_CHARS:].isspace()


@given(TEXTS)
def test_no_word_is_cut_in_two(text: str) -> None:
    """But for runs of more than 64 characters."""
    words = [c.text[a:b] for c in cut(*text) for a, b in tokens(c.text)]
    assert words == [text[a:b] for a, b in tokens(text)] or max(map(len, text.split())) > 64


def test_a_huge_text_is_cut_in_linear_time() -> None:
    clauses = cut("x" * 50_000 + " " + "y " * 25_000)
    assert sum(len(clause.text) for clause in clauses) == 100_001


# --- words and samples ----------------------------------------------------------------------


def align(text: str, events: list[tuple[int, int]], end: int) -> list[tuple[str, int, int]]:
    aligner = Aligner(text)
    spans = [span for char, sample in events for span in aligner.word(char, sample)]
    return [(text[s.char_start : s.char_end], s.start, s.end) for s in spans + aligner.finish(end)]


def test_each_word_ends_where_the_next_begins() -> None:
    assert align("how are you?", [(0, 0), (4, 100), (8, 250)], 400) == [
        ("how", 0, 100),
        ("are", 100, 250),
        ("you?", 250, 400),
    ]


def test_a_number_said_in_several_words_is_one_mark() -> None:
    events = [(0, 0), (6, 60), (7, 150), (6, 260), (7, 400), (12, 550)]
    assert align("order 12345 is", events, 600) == [
        ("order", 0, 60),
        ("12345", 60, 550),
        ("is", 550, 600),
    ]


def test_words_said_as_one_share_its_time() -> None:
    assert align("out of the box", [(0, 0), (11, 900)], 1000) == [
        ("out", 0, 337),
        ("of", 337, 562),
        ("the", 562, 900),
        ("box", 900, 1000),
    ]


def test_punctuation_that_stands_alone_joins_the_word_before_it() -> None:
    assert align("- well … yes", [(2, 5), (9, 100)], 200) == [
        ("- well …", 5, 100),
        ("yes", 100, 200),
    ]


def test_a_symbol_with_a_sound_of_its_own_is_a_word() -> None:
    assert [w for w, _, _ in align("you & me", [(0, 0), (4, 10), (6, 20)], 30)] == [
        "you",
        "&",
        "me",
    ]


def test_a_clause_without_events_is_shared_out_whole() -> None:
    assert align("ab cd", [], 100) == [("ab", 0, 50), ("cd", 50, 100)]


@given(
    TEXTS, st.lists(st.tuples(st.integers(-5, 500), st.integers(0, 10_000))), st.integers(0, 10_000)
)
def test_marks_cover_the_clause_whatever_the_events_say(
    text: str, events: list[tuple[int, int]], end: int
) -> None:
    aligner = Aligner(text)
    spans: list[Span] = [s for char, sample in events for s in aligner.word(char, sample)]
    spans += aligner.finish(end)

    assert all(a.end == b.start and a.char_end <= b.char_start for a, b in pairwise(spans))
    assert all(span.start <= span.end for span in spans)
    covered = {i for span in spans for i in range(span.char_start, span.char_end)}
    assert all(i in covered for i, char in enumerate(text) if not char.isspace())
