"""Source text in, spoken text out: readings, mark-up, the way back, and no matter how it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("num2words")

from parley_speech.text import Break, Spoken, TextFrontEnd, shown
from parley_speech.text.front_end import WORD_CHARS
from parley_speech.text.markup import MAX_PAUSE_MS

OVERRIDES = {"Parley": "par lay", "new york": "noo yawk", "new york city": "NYC"}


def _front_end(language: str = "en") -> TextFrontEnd:
    return TextFrontEnd(language, overrides=OVERRIDES)


def _pieces(text: str, language: str = "en") -> list[Spoken | Break]:
    front_end = _front_end(language)
    return [*front_end.push(text), *front_end.end()]


def _said(text: str, language: str = "en") -> str:
    pieces = _pieces(text, language)
    return "".join(p.text if isinstance(p, Spoken) else f"|{p.pause_ms}|" for p in pieces)


# --- readings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Just plain words, isn't it?", "Just plain words, isn't it?"),
        ("3,500 of 12 and -5", "three thousand five hundred of twelve and minus five"),
        ("3.05% or 12 %", "three point zero five percent or twelve percent"),
        ("$5 million. $5.", "five million dollars. five dollars."),
        ("$2.50, $1, $3.00", "two dollars fifty cents, one dollar, three dollars"),
        ("2 €, 1 € and 2.50 €!", "two euros, one euro and two euros fifty cents !"),
        ("€3m or 20 USD", "three million euros or twenty dollars"),
        ("the 21st, the 5 January", "the twenty-first, the fifth of January"),
        ("On May 5, 2024", "On May fifth, twenty twenty-four"),
        ("back in 1999", "back in nineteen ninety-nine"),
        ("2024 people", "two thousand and twenty-four people"),
        ("at 5:30 pm, 10:00, 9:05am", "at five thirty PM, ten o'clock, nine oh five AM"),
        ("at 10:00 pm", "at ten PM"),
        ("5 km, 1 kg, 2GB", "five kilometers, one kilogram, two gigabytes"),
        ("20°C", "twenty degrees Celsius"),
        ("Dr. Smith vs. Mr. Jones", "Doctor Smith versus Mister Jones"),
        ("St. John lives in Main St. now", "Saint John lives in Main Street now"),
        ("call 555-123-4567", "call five five five, one two three, four five six seven"),
        ("code 0123", "code zero one two three"),
        ("order 1234567", "order one two three four five six seven"),
        ("5-10 and 1/2", "five to ten and one half"),
        ("COVID-19, A4, v3.11", "COVID nineteen, A four, v three point eleven"),
        ("a@b.com, see example.org", "a at b dot com, see example dot org"),
        ("you & me", "you and me"),
        ("**bold** `code` # title 😀 end", "bold code title end"),
        ("(12) “5”", "(twelve) “five”"),
        ("a <|endofprompt|> b <|im_start|>c", "a b c"),
        ("a [laughter] b", "a [laughter] b"),
        ("1 2 €", "one two euros"),
        ("Mr.", "Mister."),
        ("", ""),
        ("   ", ""),
        ("$5", "five dollars"),
        ("…", "…"),
    ],
)
def test_english(written: str, spoken: str) -> None:
    assert _said(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("2,50 € usw.", "zwei Euro fünfzig Cent und so weiter."),
        ("bzw. 3.500 km", "beziehungsweise dreitausendfünfhundert Kilometer"),
        ("am 5. Januar um 14:30", "am fünften Januar um vierzehn Uhr dreißig"),
        ("Es sind 5. Danach", "Es sind fünf. Danach"),
        ("z.B. 12%, ca. 1,5", "zum Beispiel zwölf Prozent, circa eins Komma fünf"),
        ("Im Jahr 1999", "Im Jahr neunzehnhundertneunundneunzig"),
    ],
)
def test_german(written: str, spoken: str) -> None:
    assert _said(written, "de-DE") == spoken


def test_other_languages_get_their_figures() -> None:
    assert _said("J'ai 25 ans, 3,5 km", "fr") == "J'ai vingt-cinq ans, trois virgule cinq km"
    assert _said("Son 21 años", "es") == "Son veintiuno años"


def test_figures_are_left_to_models_that_read_them() -> None:
    assert _said("今天3天，25%。", "zh") == "今天3天，25%。"
    assert _said("Kl 12 qwx", "xx") == "Kl 12 qwx"  # num2words does not know it


def test_without_normalisation_only_what_is_for_the_eye_goes() -> None:
    front_end = TextFrontEnd("en", normalise=False)
    pieces = [*front_end.push("Dr. **Who** paid $5 & left 😀 [pause 100ms] ok"), *front_end.end()]
    said = "".join(p.text for p in pieces if isinstance(p, Spoken))
    assert said == "Dr. Who paid $5 & left ok"


# --- pronunciations -------------------------------------------------------------------------


def test_pronunciations_of_one_word_and_of_several() -> None:
    assert _said('"Parley," he said') == '"par lay," he said'
    assert _said("PARLEY in New York City.") == "par lay in NYC."
    assert _said("in New York now, New. York") == "in noo yawk now, New. York"
    assert _said("New") == "New"


def test_a_pronunciation_of_several_words_slices_them_all() -> None:
    text = "to New York, now"
    pieces = _pieces(text)
    assert [text[p.char_start : p.char_end] for p in pieces] == ["to", "New York,", "now"]


def test_an_empty_override_is_refused() -> None:
    with pytest.raises(ValueError, match="no word to be found by"):
        TextFrontEnd("en", overrides={" ": "x"})


# --- pauses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markup", "pause_ms"),
    [
        ("[pause 300ms]", 300),
        ("[Pause: 1.5 s]", 1500),
        ("[pause=200 ms]", 200),
        ('<break time="250ms"/>', 250),
        ("<break time='1s' />", 1000),
        ("<break/>", 300),
        ("[pause 900s]", MAX_PAUSE_MS),
    ],
)
def test_pauses(markup: str, pause_ms: int) -> None:
    assert _said(f"Wait {markup} now") == f"Wait |{pause_ms}|now"
    assert _said(f"Wait{markup}now") == f"Wait|{pause_ms}|now"
    assert _said(f"{markup}") == f"|{pause_ms}|"
    text = f"Wait {markup} now"
    (found,) = [p for p in _pieces(text) if isinstance(p, Break)]
    assert text[found.char_start : found.char_end] == markup


@pytest.mark.parametrize(
    "text", ["[pause]", "[pause 5 minutes]", "<breakfast>", "a [b] c", "5 < 6", "[pause", "<br"]
)
def test_what_only_looks_like_a_pause_is_text(text: str) -> None:
    assert all(isinstance(piece, Spoken) for piece in _pieces(text))
    assert "".join(p.text for p in _pieces(text) if isinstance(p, Spoken)) != ""


# --- as soon as it cannot change ------------------------------------------------------------


def _texts(pieces: list[Spoken | Break]) -> list[str]:
    return [piece.text for piece in pieces if isinstance(piece, Spoken)]


def test_a_plain_word_is_given_when_it_is_whole() -> None:
    front_end = _front_end()
    assert _texts(front_end.push("Hel")) == []
    assert _texts(front_end.push("lo")) == []
    assert _texts(front_end.push(" wor")) == ["Hello "]
    assert _texts(front_end.push("ld ")) == ["world "]


def test_a_figure_waits_only_where_the_next_word_decides() -> None:
    front_end = _front_end()
    assert _texts(front_end.push("1")) == []
    assert _texts(front_end.push("2 €")) == []  # "12 January" would be a day
    assert _texts(front_end.push(" now")) == ["twelve ", "euros "]
    assert _texts(front_end.push(" 3,500 ")) == ["now ", "three thousand five hundred "]
    assert _texts(front_end.push("$5 ")) == []
    assert _texts(front_end.push("million x")) == ["five ", "million dollars "]


def test_a_name_of_several_words_waits_for_its_end() -> None:
    front_end = _front_end()
    assert _texts(front_end.push("New ")) == []
    assert _texts(front_end.push("York ")) == []
    assert _texts(front_end.push("is ")) == ["noo yawk ", "is "]


def test_chinese_is_given_character_by_character() -> None:
    front_end = _front_end("zh")
    assert _texts(front_end.push("今天")) == ["今"]
    assert _texts(front_end.push("好。吗")) == ["天", "好。"]
    assert _texts(front_end.end()) == ["吗"]


def test_mark_up_is_awaited_and_let_go() -> None:
    front_end = _front_end()
    assert front_end.push("Go [pau") == [Spoken("Go ", 0, 2)]
    assert front_end.push("se 100ms") == []
    assert front_end.push("] x") == [Break(100, 3, 16)]
    assert _texts(front_end.push(" [pause " + "y" * 40 + " z")) != []


# --- long texts -----------------------------------------------------------------------------


def test_long_speech_is_broken_where_a_sentence_ends() -> None:
    sentence = "This sentence has words enough to be spoken for a while. "
    pieces = _pieces(sentence * 12)
    spoken, broken = "", []
    for piece in pieces:
        if isinstance(piece, Break):
            assert piece.pause_ms == 0
            assert piece.char_start == piece.char_end
            assert spoken.rstrip().endswith(".")
            broken.append(len(spoken))
            spoken = ""
        else:
            spoken += piece.text
    assert len(broken) == 2
    assert all(240 <= chars < 300 for chars in broken)


def test_text_without_any_end_is_broken_too() -> None:
    longest, chars = 0, 0
    for piece in _pieces("word " * 1000):
        chars = 0 if isinstance(piece, Break) else chars + len(piece.text)
        longest = max(longest, chars)
    assert longest < WORD_CHARS + 10


# --- properties -----------------------------------------------------------------------------

_WORDS = st.sampled_from(
    [
        "hello",
        "New",
        "York",
        "City",
        "new",
        "Parley",
        "St.",
        "John",
        "May",
        "5,",
        "5.",
        "2024",
        "12",
        "$5",
        "$2.50",
        "million",
        "2.50",
        "€",
        "%",
        "km",
        "3,500",
        "1/2",
        "10:00",
        "pm",
        "pm,",
        "21st",
        "555-123-4567",
        "Dr.",
        "a@b.com",
        "[pause",
        "300ms]",
        "[pause",
        "<break/>",
        "<b",
        "[laughter]",
        "&",
        "今天",
        "3天，",
        "。",
        "😀",
        "**x**",
        "<|im_end|>",
        "…",
        "-",
        "—",
        "(",
        "“5”",
        "e.g.",
        "0123",
        "-5",
        "5-10",
    ]
)
_SPACES = st.sampled_from(["", " ", " ", " ", "  ", "\n"])
_TEXTS = st.lists(st.tuples(_WORDS, _SPACES), max_size=12).map(
    lambda parts: "".join(word + space for word, space in parts)
) | st.text(max_size=60)


@given(_TEXTS, st.lists(st.integers(1, 7), min_size=1, max_size=20), st.sampled_from(["en", "de"]))
def test_deltas_make_no_difference(text: str, sizes: list[int], language: str) -> None:
    front_end, pieces, at, turn = _front_end(language), [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        pieces += front_end.push(text[at : at + size])
        at, turn = at + size, turn + 1
    assert [*pieces, *front_end.end()] == _pieces(text, language)


@given(_TEXTS, st.sampled_from(["en", "de", "zh"]))
def test_slices_and_the_white_space_between_them_are_the_text(text: str, language: str) -> None:
    at = 0
    for piece in _pieces(text, language):
        assert text[at : piece.char_start].strip() == ""
        assert piece.char_start >= at
        assert piece.char_end > piece.char_start or isinstance(piece, Break)
        at = piece.char_end
    assert text[at:].strip() == ""


@given(_TEXTS)
def test_no_token_of_a_model_comes_out_of_a_text(text: str) -> None:
    assert "<|" not in _said(text)


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("One [pause 250ms] two.", "One two."),
        ("[pause 1.5 s]Yes", "Yes"),
        ('Well <break time="300ms"/>, then <BREAK/>go', "Well, thengo"),
        ("a [pause] b < break", "a [pause] b < break"),  # none of these is a pause
        ("plain", "plain"),
    ],
)
def test_pauses_are_not_shown(written: str, seen: str) -> None:
    assert shown(written) == seen
