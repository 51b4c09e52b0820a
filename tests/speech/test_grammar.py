"""Grammars from phrases, spoken numbers, and words that are in no dictionary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pocketsphinx import Decoder

from parley_speech.asr import lexicon, spoken
from parley_speech.asr.grammar import (
    COURTESIES,
    RULES,
    SLOTS,
    GrammarError,
    check_body,
    from_phrases,
    jsgf_source,
)
from parley_speech.types import Grammar


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(lm=None, loglevel="FATAL")


def accepts(decoder: Decoder, grammar: Grammar, text: str) -> bool:
    """As the decoder itself compiles the grammar."""
    decoder.add_jsgf_string("t", jsgf_source(grammar))
    return bool(decoder.get_fsg("t").accept(text))


# --- phrases ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("Check my order!", "check my order"),
        ("I’d like to talk, please.", "i'd like to talk please"),
        ("[can you] check it", "check it"),
        ("[can you] check it", "can you check it"),
        ("(hello | hi there) you", "hi there you"),
        ("platform 9", "platform nine"),
        ("room 12 please", "room twelve please"),
        ("order {digits}", "order one two three four five"),
        ("order {digits}", "order double seven oh"),
        ("{digits} is my number", "one two is my number"),
        ("i want {number} of them", "i want twelve thousand three hundred and forty five of them"),
        ("i want {number} of them", "i want a hundred of them"),
        ("order {digits:5}", "order one two oh four five"),
        ("order {digits:2-3} please", "order one two please"),
        ("order {digits:2-3} please", "order one two three please"),
        ("{yesno}", "yes please"),
        ("{yesno}", "no thank you"),
    ],
)
def test_a_phrase_is_accepted(decoder: Decoder, phrase: str, said: str):
    assert accepts(decoder, from_phrases("g", [phrase]), said)


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("check my order", "check my"),
        ("[can you] check it", "can check it"),
        ("order {digits}", "order"),
        ("order {digits}", "order twelve"),
        ("i want {number}", "i want two two"),
        ("{yes}", "no"),
        ("order {digits:5}", "order one two three four"),
        ("order {digits:5}", "order one two three four five six"),
        ("order {digits:2-3}", "order one"),
    ],
)
def test_what_is_not_the_phrase_is_not_accepted(decoder: Decoder, phrase: str, said: str):
    assert not accepts(decoder, from_phrases("g", [phrase]), said)


def test_phrases_that_end_in_the_same_slot_share_it(decoder: Decoder):
    grammar = from_phrases("g", ["order {digits}", "number {digits}", "{digits}", "hello"])
    assert grammar.jsgf.count("<digits>") == 1
    assert from_phrases("g", ["a {digits:5}", "b {digits:5}"]).jsgf.count("<digit>") == 5
    for said in ("order one", "number one two", "one", "hello"):
        assert accepts(decoder, grammar, said)
    assert not accepts(decoder, grammar, "hello one")


def test_a_courtesy_may_follow_every_phrase(decoder: Decoder):
    grammar = from_phrases("g", ["my order", "order {digits}"], after=COURTESIES)
    for said in ("my order please", "order one thank you", "my order"):
        assert accepts(decoder, grammar, said)
    assert not accepts(decoder, grammar, "please")


@pytest.mark.parametrize(
    ("phrase", "problem"),
    [
        ("order {colour}", "no slot {colour}; there are digit, digits"),
        ("order {digits", "cannot be spoken"),
        ("order {digits:0}", "0 to 0 digits; expected 1 to 20"),
        ("order {digits:3-2}", "3 to 2 digits"),
        ("order {digits:many}", "no slot {digits:many}"),
        ("(a | b", r"a closing '\)' is missing"),
        ("a ] b", "closes nothing"),
        ("a | | b", "expected words before"),
        ("a |", "expected words after"),
        ("[] a", "expected words before"),
        ("?!", "has no words"),
        ("50% off", "cannot be spoken; write it as words"),
        ("naïve", "cannot be spoken"),
    ],
)
def test_a_phrase_that_cannot_be_read_says_why(phrase: str, problem: str):
    with pytest.raises(GrammarError, match=problem):
        from_phrases("g", [phrase])


def test_no_phrases_are_an_error():
    with pytest.raises(GrammarError, match="'g' has no phrases"):
        from_phrases("g", [])


# --- rule bodies ------------------------------------------------------------------------------


def test_only_rules_that_are_needed_are_written_out():
    source = jsgf_source(Grammar("g", "hello | <digits>"))
    assert "<digits> =" in source and "<digit> =" in source
    assert "<number>" not in source and "<yes>" not in source


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "not empty"),
        ("hello; public <x> = bye", "without ';'"),
        ("<colour>", "refers to <colour>; known rules are digit"),
        ("(hello", "'g'.*missing"),
    ],
)
def test_a_bad_rule_body_names_grammar_and_reason(body: str, problem: str):
    with pytest.raises(GrammarError, match=problem):
        check_body(Grammar("g", body))


def test_weights_and_loops_are_part_of_a_body(decoder: Decoder):
    grammar = Grammar("g", "/0.9/ hello | /0.1/ (bye)+")
    assert accepts(decoder, grammar, "bye bye bye")


@pytest.mark.parametrize("slot", SLOTS)
def test_the_dictionary_has_every_word_of_every_slot(decoder: Decoder, slot: str):
    words = list(lexicon.words_of(jsgf_source(from_phrases("g", [f"{{{slot}}}"]))))
    assert words
    assert [word for word in words if decoder.lookup_word(word) is None] == []


def test_words_of_a_source_are_words_only():
    source = jsgf_source(Grammar("g", "[can you] check <digit> | /0.5/ (it's)+"))
    words = set(lexicon.words_of(source))
    assert {"can", "you", "check", "it's", "zero", "oh", "nine"} == words - {
        "one", "two", "three", "four", "five", "six", "seven", "eight",
    }  # fmt: skip


# --- spoken numbers ---------------------------------------------------------------------------


@given(st.integers(0, spoken.LARGEST))
def test_a_number_survives_being_spoken(value: int):
    assert spoken.number_of(spoken.number_words(value)) == value


@given(st.integers(0, spoken.LARGEST))
def test_the_number_rule_is_what_number_words_says(value: int):
    words = spoken.number_words(value).split()
    assert set(words) <= set(lexicon.words_of(f"<n> = {' | '.join(RULES.values())};"))


@given(st.text("0123456789", min_size=1, max_size=12))
def test_digits_survive_being_spoken(digits: str):
    assert spoken.digits_of(" ".join(spoken.UNITS[int(d)] for d in digits)) == digits


@pytest.mark.parametrize("value", [-1, spoken.LARGEST + 1])
def test_numbers_out_of_range_are_refused(value: int):
    with pytest.raises(ValueError, match=r"outside 0\.\.999999"):
        spoken.number_words(value)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("order number one two three four five", "12345"),
        ("it's double two oh, please", "220"),
        ("triple nine", "999"),
        ("number 12345", "12345"),
        ("one two and then three", "12"),
        ("hello", None),
        ("", None),
        ("double", None),
    ],
)
def test_digits_in_a_sentence(text: str, digits: str | None):
    assert spoken.digits_of(text) == digits


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("twelve thousand three hundred and forty five", 12345),
        ("twelve thousand three hundred forty-five please", 12345),
        ("i want a hundred", 100),
        ("a thousand and one nights", 1001),
        ("one two three", 123),
        ("zero", 0),
        ("42 of them", 42),
        ("and", None),
        ("none", None),
    ],
)
def test_a_number_in_a_sentence(text: str, value: int | None):
    assert spoken.number_of(text) == value


@pytest.mark.parametrize("text", spoken.YES)
def test_every_yes_means_yes(text: str):
    assert spoken.yes_no(text) is True


@pytest.mark.parametrize("text", spoken.NO)
def test_every_no_means_no(text: str):
    assert spoken.yes_no(text) is False


@pytest.mark.parametrize("text", ["", "maybe", "yes no", "order status"])
def test_neither_or_both_is_neither(text: str):
    assert spoken.yes_no(text) is None


# --- unknown words ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("qzv", "K Y UW Z IY V IY"),  # no vowel: spelled
        ("tote-bag", "T OW T B AE G"),  # two words in one
        ("floopy", "F L UW P IY"),  # by the table
        ("zottle", "Z AA T AH L"),
        ("quish", "K W IH SH"),
    ],
)
def test_a_guess_at_an_unknown_word(decoder: Decoder, word: str, phones: str):
    guess = lexicon.guess(word, decoder.lookup_word)
    assert lexicon.check_phones(word, guess) == guess
    assert guess == phones


@pytest.mark.parametrize(
    ("word", "last"), [("parrots's", "IH Z"), ("books's", "S"), ("shops's", "S"), ("dogs's", "Z")]
)
def test_an_ending_agrees_with_the_sound_before_it(word: str, last: str):
    known = {"parrots": "B AH S", "books": "B UH K", "shops": "SH AA P", "dogs": "D AO G"}
    assert lexicon.guess(word, known.get).endswith(f" {last}")


@given(st.text("abcdefghijklmnopqrstuvwxyz'-", min_size=1, max_size=15))
def test_every_word_with_letters_can_be_said(word: str):
    if not word.strip("'-"):
        with pytest.raises(ValueError, match="no letters"):
            lexicon.guess(word, lambda _: None)
        return
    guess = lexicon.guess(word, lambda _: None)
    assert lexicon.check_phones(word, guess) == guess


@pytest.mark.parametrize("phones", ["", "P AA QQ", "p aa"])
def test_wrong_phones_are_refused_with_the_right_ones(phones: str):
    with pytest.raises(ValueError, match="expected some of AA AE"):
        lexicon.check_phones("parley", phones)
