"""Words as a text decoder writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_speech.asr import spoken
from parley_speech.asr.moonshine.spelling import (
    BEGIN,
    END,
    PUNCTUATION,
    SPACE,
    Spelling,
    read_pieces,
)
from speech.moonshine_ears import moonshine, needs_moonshine
from speech.moonshine_script import LETTERS, SPECIALS, small_spelling


def small() -> Spelling:
    return small_spelling("th", "he", "the", "er", "ther", f"{SPACE}the", "12")


def spelled(spelling: Spelling, text: str) -> list[str]:
    return [spelling.text([token]) or "_" for token in spelling.tokens(text)]


# --- byte pairs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("hat", ["h", "a", "t"]),
        ("the", ["the"]),
        ("xhe", ["x", "he"]),
        ("there", ["ther", "e"]),
        ("ers", ["er", "s"]),
        ("hers", ["he", "r", "s"]),  # "he" goes first: "er" comes too late
        (" the the", ["the", "the"]),
        (" 312", ["_", "3", "12"]),
        ("", []),
    ],
)
def test_the_pair_with_the_lowest_number_is_merged_first(text: str, pieces: list[str]) -> None:
    assert spelled(small(), text) == pieces


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_text_comes_back_from_a_small_vocabulary(text: str) -> None:
    spelling = small()
    assert spelling.text(spelling.tokens(text)) == text.strip()


@needs_moonshine
@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_text_comes_back_from_the_model_s_own(text: str) -> None:
    spelling = moonshine().model.spelling
    assert spelling.text(spelling.tokens(text)) == text.strip()


@needs_moonshine
def test_the_tokens_are_the_model_s() -> None:
    """A common word behind a space is one token; a sentence begins a word with each."""
    spelling = moonshine().model.spelling
    tokens = spelling.tokens(" Thank you very much")
    assert len(tokens) == 4
    assert all(spelling.begins_word(token) for token in tokens)
    assert not spelling.begins_word(spelling.tokens(",")[0])


def test_specials_are_not_text_and_a_sign_of_no_token_is_unknown() -> None:
    spelling = small()
    assert spelling.text([BEGIN, *spelling.tokens("hat"), END, 0]) == "hat"
    assert spelling.tokens("é") == (0,)


# --- how a word may be written ----------------------------------------------------------------


def written(word: str, *, glued: bool = False) -> dict[str, bool]:
    """Text of each way, and whether another word may follow without a space in one of them."""
    spelling = small()
    ways: dict[str, bool] = {}
    for tokens, joins in spelling.ways(word, glued=glued):
        assert spelling.begins_word(tokens[0]) != glued
        text = spelling.text(tokens)
        ways[text] = ways.get(text, False) or joins
    return ways


def test_a_word_has_a_capital_or_not() -> None:
    assert written("there") == {"there": False, "There": False}
    assert written("ok") == {"ok": False, "Ok": False, "OK": False}
    assert written("i'd") == {"i'd": False, "I'd": False}


def test_digits_may_be_figures_and_figures_stand_side_by_side() -> None:
    assert written("five")["5"] and not written("five")["five"]
    assert written("five", glued=True) == {"five": False, "5": True}
    assert "0" in written("zero") and "0" in written("oh")


def test_tens_are_figures_alone_and_before_a_unit() -> None:
    ways = written("twenty")
    assert not ways["20"], "no figure belongs to what is whole"
    assert ways["2"], "of 22"
    assert written("twelve")["12"]


@pytest.mark.parametrize(
    ("word", "other"), [("okay", "ok"), ("goodbye", "good-bye"), ("someone", "Some one")]
)
def test_other_spellings_of_the_same_sound(word: str, other: str) -> None:
    assert {word, other} <= written(word).keys()


@settings(deadline=None)
@given(st.sampled_from([*spoken.UNITS, *spoken.TENS, *" ".join(spoken.YES + spoken.NO).split()]))
def test_no_way_is_there_twice_and_none_is_empty(word: str) -> None:
    ways = small().ways(word)
    assert len(set(ways)) == len(ways)
    assert all(tokens for tokens, _ in ways)


# --- the tokeniser's file ---------------------------------------------------------------------


def packed(pieces: list[bytes]) -> bytes:
    data = b""
    for piece in pieces:
        count = len(piece)
        data += bytes([count] if count < 128 else [128 + count % 128, count // 128]) + piece
    return data


PIECES = [*SPECIALS, *LETTERS, b"", b"x" * 127, b"y" * 128, b"z" * 300]
PIECES += [f"{SPACE}{n}".encode() for n in range(1000)]


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(packed(PIECES))
    assert read_pieces(path) == PIECES


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"RIFF" + bytes(5000),
        packed(PIECES[:500]),
        packed(PIECES[1:]),
        b'{"model": {"type": "BPE"}}' * 400,
    ],
    ids=["nothing", "half a length", "a sound", "too few", "no specials", "text"],
)
def test_what_is_no_tokeniser_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"tokenizer\.bin is not a tokeniser's file"):
        read_pieces(path)


@needs_moonshine
def test_every_mark_is_a_token_of_the_model() -> None:
    spelling = moonshine().model.spelling
    assert [spelling.text([spelling.punctuation[mark]]) for mark in PUNCTUATION] == [*PUNCTUATION]
