"""A grammar over what the decoder would write: scripts first, then recorded speech."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_speech.asr import spoken
from parley_speech.asr.grammar import from_phrases, jsgf_source
from parley_speech.asr.heard import Heard
from parley_speech.asr.moonshine import constrained, tempo
from parley_speech.asr.moonshine.constrained import Constraint, Sentence
from parley_speech.asr.moonshine.word_graph import WordGraph
from parley_speech.types import MIC_HZ, Grammar
from speech.asr_speaker import FRONT_DESK, clip, in_a_room
from speech.moonshine_ears import Listener, needs_moonshine
from speech.moonshine_script import Script, small_spelling

SPELLING = small_spelling()
YES_NO = Grammar("answer", "yes | no")
ORDER = from_phrases("order", ["my order number is {digits:3}", "thank you [very much]"])
TICKETS = from_phrases("tickets", ["i want {number} tickets", "{number}"])


def constraint(grammar: Grammar) -> Constraint:
    return Constraint(WordGraph(jsgf_source(grammar)), SPELLING)


def likeliest(
    grammar: Grammar,
    texts: str | dict[str, float],
    begun: Sequence[Sequence[str]] = (),
    sounding_ms: float = 1000.0,
) -> Sentence | None:
    """If the decoder would write these."""
    script = Script(SPELLING, {texts: 1.0} if isinstance(texts, str) else texts)
    return constraint(grammar).likeliest(script.speech(120), sounding_ms, begun)


def words(sentence: Sentence | None) -> str:
    return " ".join(sentence.words) if sentence is not None else ""


# --- ways to write ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("my order number is one two three", "my order number is one two three"),
        ("My order number is 1 2 3.", "my order number is one two three"),
        ("My order number is 123.", "my order number is one two three"),
        ("My order number is: 1-2-3!", "my order number is one two three"),
        ("My order, number is One, two, three?", "my order number is one two three"),
        ("My order number is 1 oh 3", "my order number is one oh three"),
        ("Thank you, very much!", "thank you very much"),
        ("Thank you", "thank you"),
    ],
)
def test_a_sentence_is_found_however_it_is_written(text: str, said: str) -> None:
    found = likeliest(ORDER, text)
    assert found is not None and found.whole
    assert words(found) == said
    assert found.log_p > -1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I want 2 tickets", "i want two tickets"),
        ("I want 9 tickets", "i want nine tickets"),
        ("I want 22 tickets.", "i want twenty two tickets"),
        ("I want 20 tickets", "i want twenty tickets"),
        ("I want twenty-two tickets", "i want twenty two tickets"),
        ("I want 13 tickets", "i want thirteen tickets"),
        ("2", "two"),
        ("48", "forty eight"),
    ],
)
def test_a_figure_is_the_number_that_it_stands_for(text: str, said: str) -> None:
    """A "2" begins "22", and is no "twenty"."""
    assert words(likeliest(TICKETS, text)) == said


GRAPH = WordGraph(jsgf_source(FRONT_DESK))
FIGURES = {word: str(value) for value, word in enumerate(spoken.UNITS[:10])}


@st.composite
def front_desk_sentences(draw: st.DrawFn) -> tuple[tuple[str, ...], str]:
    """A sentence of the grammar, and one of the ways in which a decoder would write it. A figure 0
    is an "oh" as well as a "zero"."""
    said: list[str] = []
    node = GRAPH.start
    while not GRAPH.whole(node) or (GRAPH.after(node) and draw(st.booleans())):
        word, node = draw(st.sampled_from(GRAPH.after(node)))
        said.append(word)
    text = ""
    for i, word in enumerate(said):
        written = FIGURES.get(word, word) if draw(st.booleans()) else word
        capital = i == 0 and draw(st.booleans())
        glued = written.isdigit() and text[-1:].isdigit() and draw(st.booleans())
        text += ("" if glued or not text else " ") + (written.capitalize() if capital else written)
        text += draw(st.sampled_from(["", "", "", ",", ".", "?", "!"]))
    return tuple(said), text


def no_oh(words: tuple[str, ...]) -> list[str]:
    return ["zero" if word == "oh" else word for word in words]


@settings(deadline=None, max_examples=40)
@given(front_desk_sentences())
def test_any_sentence_of_a_front_desk_comes_out_as_it_went_in(
    sentence: tuple[tuple[str, ...], str],
) -> None:
    said, text = sentence
    found = likeliest(FRONT_DESK, text, sounding_ms=60 * len(text))
    assert found is not None and found.whole, text
    assert no_oh(found.words) == no_oh(said), text


@settings(deadline=None, max_examples=40)
@given(st.text("abcdehilmnorstuwy ,.", min_size=1, max_size=30))
def test_whatever_is_written_only_the_grammar_comes_out(text: str) -> None:
    found = likeliest(FRONT_DESK, text)
    if found is not None:
        nodes = GRAPH.along(found.words)
        assert nodes
        assert found.whole == any(GRAPH.whole(node) for node in nodes)
        assert found.log_p < 0


# --- which sentence ---------------------------------------------------------------------------


def test_the_likeliest_that_is_allowed_wins() -> None:
    quick_ms = 400
    found = likeliest(YES_NO, {"Nose": 0.5, "Yes": 0.2, "No": 0.3}, sounding_ms=quick_ms)
    assert words(found) == "no"
    found = likeliest(YES_NO, {"Nose": 0.5, "Yes": 0.3, "No": 0.2}, sounding_ms=quick_ms)
    assert words(found) == "yes"


def test_the_probability_is_the_decoder_s_own() -> None:
    """Not made greater by leaving out what the grammar does not allow."""
    sure, unsure = likeliest(YES_NO, {"Yes": 1.0}), likeliest(YES_NO, {"Yes": 0.2, "Tom": 0.8})
    assert sure is not None and unsure is not None
    assert sure.words == unsure.words == ("yes",)
    assert unsure.log_p - sure.log_p == pytest.approx(-1.61, abs=0.1)


def test_a_better_ending_is_waited_for() -> None:
    """The short sentence is whole before the long one, which is likelier."""
    found = likeliest(ORDER, {"thank you very much": 0.7, "thank you": 0.3})
    assert words(found) == "thank you very much"
    assert words(likeliest(ORDER, {"thank you very much": 0.3, "thank you": 0.7})) == "thank you"


def test_a_search_ends_with_the_sentence() -> None:
    """Though there was room for many more tokens."""
    script = Script(SPELLING, {"Thank you": 1.0})
    assert words(constraint(ORDER).likeliest(script.speech(500), 1000)) == "thank you"
    assert script.work.steps <= len(" thank you") + 3


@pytest.mark.parametrize("text", ["Elephants walk to Rome", "....", "", "Zzzzzzzzzzz"])
def test_what_is_not_in_the_grammar_is_none_or_far_from_likely(text: str) -> None:
    found = likeliest(ORDER, text)
    assert found is None or found.log_p / (len(found.words) + 1) < -3


def test_a_sentence_that_would_take_another_time_loses_nats() -> None:
    quick, slow = (likeliest(YES_NO, "yes", sounding_ms=ms) for ms in (400, 5000))
    assert quick is not None and slow is not None
    assert slow.log_p - quick.log_p == pytest.approx(tempo.log_fit(3, 5000))


def test_what_is_kept_of_a_grammar_is_bounded_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constrained, "MOST_STATES", 2)
    assert words(likeliest(ORDER, "My order number is 123.")) == "my order number is one two three"


# --- sentences in two halves ------------------------------------------------------------------


def test_a_sentence_that_may_go_on_is_less_than_a_whole_one() -> None:
    begun = likeliest(ORDER, "my order number is 1")
    whole = likeliest(ORDER, "my order number is 123")
    assert begun is not None and whole is not None
    assert words(begun) == "my order number is one" and not begun.whole
    assert begun.log_p < whole.log_p - 1


@pytest.mark.parametrize(
    ("begun", "text"),
    [
        ("my order number is", "1 2 3"),
        ("my order number is one", "two three."),
        ("my", "order number is 123"),
    ],
)
def test_a_sentence_goes_on(begun: str, text: str) -> None:
    """Only the words that follow are found: the others are said already."""
    assert likeliest(ORDER, text) is None or not words(likeliest(ORDER, text)).endswith("three")
    found = likeliest(ORDER, text, begun=[begun.split()])
    assert found is not None and found.whole
    assert f"{begun} {words(found)}" == "my order number is one two three"


def test_a_new_sentence_may_come_instead() -> None:
    found = likeliest(ORDER, "Thank you", begun=[["my", "order", "number", "is"]])
    assert found is not None and found.whole and words(found) == "thank you"


def test_of_several_beginnings_the_one_that_fits() -> None:
    begun = [["my", "order", "number", "is", "one"], ["my", "order"], ["no", "such", "words"]]
    assert words(likeliest(ORDER, "2 3", begun)) == "two three"
    assert words(likeliest(ORDER, "number is 1 2 3", begun)) == "number is one two three"


# --- recorded speech --------------------------------------------------------------------------

CALLER = {
    "caller_hello": "hello",
    "caller_yes": "yes",
    "caller_no": "no",
    "caller_thank_you": "thank you very much",
    "caller_order_status": "i'd like to check my order status please",
    "caller_help_me": "can you help me with something",
    "caller_check_order_12345": (
        "can you check the status of my order number one two three four five"
    ),
    "human_goodbye": "goodbye",
    "human_hours": "hours",
    "human_privacy_thankyou": "thank you",
}
DIGITS = dict(enumerate(spoken.UNITS[:10]))
OTHERS = [
    "caller_hi_how_are_you",
    "caller_weather_question",
    "human_transfer",
    "human_followme_sorry",
    "human_time",
    "read_lj001_0002",
    "read_lj001_0008",
]
NOISES = [f"noise_{of}" for of in ("car_horn", "engine_idling", "siren", "people_talking")]


def hear(name: str, grammar: Grammar = FRONT_DESK) -> Heard:
    return Listener(grammar).hear(in_a_room(clip(name)[: 4 * MIC_HZ]))


@needs_moonshine
@pytest.mark.parametrize("name", list(CALLER))
def test_what_a_caller_says_at_the_front_desk(name: str) -> None:
    heard = hear(name)
    assert heard.text == CALLER[name]
    assert heard.confidence >= 0.5


@needs_moonshine
@pytest.mark.parametrize("name", ["caller_yes", "caller_no"])
def test_yes_and_no(name: str) -> None:
    heard = hear(name, YES_NO)
    assert heard.text == CALLER[name] and heard.confidence >= 0.5


@needs_moonshine
@pytest.mark.parametrize("digit", list(DIGITS))
def test_a_digit(digit: int) -> None:
    heard = hear(f"human_digits_{digit}", from_phrases("digit", ["{digit}", "goodbye", "{yesno}"]))
    assert heard.text == DIGITS[digit] and heard.confidence >= 0.5


@needs_moonshine
@pytest.mark.parametrize("name", OTHERS)
def test_other_speech_is_no_sentence_of_the_grammar(name: str) -> None:
    """What is heard is open English, with its own confidence; the grammar's would be low."""
    heard = hear(name)
    assert heard.confidence < 0.5 or not GRAPH.along(heard.text.split()), heard
    assert not any(GRAPH.whole(node) for node in GRAPH.along(heard.text.split())), heard


@needs_moonshine
@pytest.mark.parametrize("name", NOISES)
def test_noise_is_no_sentence_that_one_should_trust(name: str) -> None:
    assert hear(name).confidence < 0.5
