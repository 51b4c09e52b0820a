"""Numbers, words and phrases: what a caller says against what a flow expects."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.minds import flow_match, flow_numbers, flow_slots, flow_text
from parley.minds.flow_match import Pattern
from parley.minds.flow_schema import Slot
from parley.minds.flow_slots import Heard, SlotSpec

SLOTS = {
    "order": flow_slots.declared("order", Slot(type="digits", length=5)),
    "pin": flow_slots.declared("pin", Slot(type="digits", min_length=4, max_length=6)),
    "shop": flow_slots.declared(
        "shop",
        Slot(type="choice", values={"h": ["harbour", "the harbour shop"], "s": ["station"]}),
    ),
}


def slot(inside: str) -> SlotSpec:
    name, _, kind = inside.partition(":")
    for built_in in flow_slots.BUILT_IN:
        if built_in == (kind or name):
            return flow_slots.built_in(built_in, name)
    return SLOTS[name]


def pattern(phrase: str) -> Pattern:
    return flow_match.parse(phrase, slot)


def slots_of(phrase: str, text: str) -> dict[str, str] | None:
    found = flow_match.match(pattern(phrase), Heard(flow_text.tokens(text)))
    return None if found is None else dict(found.slots)


def winner(text: str, *phrases: str) -> str | None:
    found = flow_match.best([pattern(p) for p in phrases], Heard(flow_text.tokens(text)))
    return None if found is None else phrases[found[0]]


# --- words ---


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("I'd like to CHECK, please!", "i would like to check"),
        ("Um, well... what’s my order's status?", "what is my order status"),
        ("12,345 and 1-2-3", "12345 and 1 2 3"),
        ("It's 7,5", "it is 7 5"),
        ("ÜBER café", "über café"),
        ("uh, um, please", ""),
        ("?!…", ""),
        ("", ""),
    ],
)
def test_tokens(text: str, tokens: str):
    assert flow_text.tokens(text) == tuple(tokens.split())


def test_a_long_turn_is_judged_by_its_end():
    tokens = flow_text.tokens("word " * 10_000 + "opening hours")
    assert len(tokens) <= flow_text.MAX_TOKENS
    assert tokens[-2:] == ("opening", "hours")


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ("status", "status", 1.0),
        ("status", "statue", 0.7),
        ("order", "older", 0.7),
        ("connection", "conectoin", 0.0),
        ("connection", "conection", 0.7),
        ("want", "wait", 0.0),
        ("hour", "our", 0.0),
        ("yes", "yet", 0.0),
        ("12345", "12346", 0.0),
        ("", "", 1.0),
    ],
)
def test_likeness(a: str, b: str, alike: float):
    assert flow_text.likeness(a, b) == flow_text.likeness(b, a) == alike


# --- numbers ---


@pytest.mark.parametrize(
    ("said", "digits"),
    [
        ("one two three four five", "12345"),
        ("12345", "12345"),
        ("12 345", "12345"),
        ("twelve three forty five", "12345"),
        ("twelve thousand three hundred and forty five", "12345"),
        ("one hundred", "100"),
        ("two thousand and one", "2001"),
        ("nineteen eighty four", "1984"),
        ("twenty twenty five", "2025"),
        ("double five oh six", "5506"),
        ("triple zero one", "0001"),
        ("oh one", "01"),
        ("zero zero seven", "007"),
        ("three five for too", "3542"),
        ("four 2 two", "422"),
        ("nine hundred ninety nine thousand nine hundred ninety nine", "999999"),
    ],
)
def test_numbers_as_people_say_them(said: str, digits: str):
    [run] = flow_numbers.runs(flow_text.tokens(said))
    assert run.digits == digits
    assert run.end == len(flow_text.tokens(said))


@pytest.mark.parametrize("said", ["for you", "to go", "oh well yes", "", "order", "hundred"])
def test_what_is_no_number(said: str):
    assert flow_numbers.runs(flow_text.tokens(said)) == []


@pytest.mark.parametrize(
    ("said", "can_grow"),
    [
        ("twenty", True),
        ("one two", False),
        ("five hundred", True),
        ("five hundred and", True),
        ("three thousand", True),
        ("one double", True),
        ("twelve", False),
    ],
)
def test_numbers_that_ask_for_more(said: str, can_grow: bool):
    assert flow_numbers.runs(flow_text.tokens(said))[0].can_grow is can_grow


def test_two_runs():
    runs = flow_numbers.runs(flow_text.tokens("four books for order one two"))
    assert [(run.start, run.digits) for run in runs] == [(0, "4"), (4, "12")]


@given(st.integers(1, 999_999))
def test_every_cardinal_comes_back(number: int):
    [run] = flow_numbers.runs(tuple(_cardinal(number).split()))
    assert run.digits == str(number)


@given(st.text(alphabet="0123456789", min_size=1, max_size=12))
def test_every_string_of_digits_comes_back(digits: str):
    names = list(flow_numbers.ONES)
    [run] = flow_numbers.runs(tuple(names[int(digit)] for digit in digits))
    assert run.digits == digits
    assert flow_numbers.say_digits(digits) == " ".join(digits)


def _cardinal(number: int) -> str:
    words = {
        value: word
        for table in (flow_numbers.ONES, flow_numbers.TEENS, flow_numbers.TENS)
        for word, value in table.items()
    }
    if number >= 1000:
        rest = number % 1000
        return f"{_cardinal(number // 1000)} thousand {_cardinal(rest) if rest else ''}".strip()
    if number >= 100:
        rest = number % 100
        return f"{words[number // 100]} hundred {'and ' + _cardinal(rest) if rest else ''}".strip()
    if number in words:
        return words[number]
    return f"{words[number // 10 * 10]} {words[number % 10]}"


# --- slots ---


@pytest.mark.parametrize(
    ("phrase", "text", "slots"),
    [
        ("{order}", "it's one two three four five, thanks", {"order": "12345"}),
        ("{order}", "one two three four", None),
        ("{order}", "one two three four five six", None),
        ("{pin}", "1234", {"pin": "1234"}),
        ("{pin}", "1 2 3 4 5 6", {"pin": "123456"}),
        ("order number {order}", "my older number is 1 2 3 4 5", {"order": "12345"}),
        ("order number {order}", "order number", None),
        ("{number} books", "I want twenty one books", {"number": "21"}),
        ("{count:number}", "007", {"count": "7"}),
        ("{from:digits} to {until:digits}", "from 5 to 7", {"from": "5", "until": "7"}),
        ("{shop}", "the Harbour shop, please", {"shop": "h"}),
        ("{shop}", "statoin", None),
        ("{shop}", "stations", {"shop": "s"}),
        ("{yesno}", "Yes, that would be great", {"yesno": "yes"}),
        ("{yesno}", "no thank you", {"yesno": "no"}),
        ("{yesno}", "oh sure", {"yesno": "yes"}),
        ("{yesno}", "I have no idea", None),
        ("{yesno}", "no idea", None),
        ("{yes}", "no", None),
        ("{no}", "nope", {"no": "no"}),
        ("{no}", "not really", {"no": "no"}),
        ("my name is {any}", "hi, my name is Ada Lovelace", {"any": "ada lovelace"}),
        ("{any}", "whatever", {"any": "whatever"}),
        ("{any}", "um", None),
    ],
)
def test_slots(phrase: str, text: str, slots: dict[str, str] | None):
    assert slots_of(phrase, text) == slots


# --- phrases ---


@pytest.mark.parametrize(
    "text",
    [
        "check my order status",
        "Check my order status!",
        "hi there, I'd like to check my order status please, if you can",
        "check, um, my order status",
        "check my ordar status",
        "check the order status",
        "check my order statue",
    ],
)
def test_a_phrase_is_found_in_what_was_said(text: str):
    assert slots_of("check my order status", text) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "my",
        "check the weather",
        "status order my check",
        "the weather status of my old friend is in order to check out",
        "I do not want to check my order status",
        "shack the older stairs",
    ],
)
def test_a_phrase_is_not_found_in_other_words(text: str):
    assert slots_of("check my order status", text) is None


def test_a_near_miss_alone_is_not_enough():
    assert slots_of("hours", "is that yours") is None
    assert slots_of("opening hours", "opening yours") == {}


def test_the_phrase_that_explains_most_wins():
    phrases = ("{yes}", "order", "my order", "order {order}", "{any}", "opening hours")
    assert winner("yes", *phrases) == "{yes}"
    assert winner("yes, what about my order", *phrases) == "my order"
    assert winner("yes my order 12345", *phrases) == "order {order}"
    assert winner("something else", *phrases) == "{any}"
    assert winner("what are your opening hours", *phrases) == "opening hours"


def test_of_equals_the_first_wins():
    assert winner("help", "help", "help") == "help"
    found = flow_match.best([pattern("help"), pattern("help")], Heard(("help",)))
    assert found is not None and found[0] == 0


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("", "no words"),
        ("um, please", "no words"),
        ("{order", "single brace"),
        ("order}", "single brace"),
        ("{order} {order}", "twice"),
        ("word " * 31, "longer than"),
    ],
)
def test_phrases_that_cannot_be(phrase: str, message: str):
    with pytest.raises(ValueError, match=message):
        pattern(phrase)


@given(st.text(max_size=200), st.sampled_from(["{order}", "{any} x", "check {shop}", "{yesno}"]))
def test_any_text_matches_or_not(text: str, phrase: str):
    heard = Heard(flow_text.tokens(text))
    found = flow_match.match(pattern(phrase), heard)
    if found is not None:
        assert 0 <= found.start < found.end <= len(heard.tokens)
        assert flow_match.ENOUGH <= found.part <= 1 + 1e-9


SAID = ["check", "my", "order", "ordar", "status", "number", "one", "two", "three", "four", "five"]
SAID += ["yes", "harbour", "hours", "not", "to"]


@given(st.lists(st.sampled_from(SAID), max_size=10))
def test_the_cheap_bound_changes_no_verdict(said: list[str]):
    phrases = ["check my order status", "order number {order}", "{yes}", "{shop} hours", "{any}"]
    patterns = [pattern(phrase) for phrase in phrases]
    heard = Heard(flow_text.tokens(" ".join(said)))
    quick = flow_match.best(patterns, heard)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_match, "_may_gain", lambda *_: True)
        assert quick == flow_match.best(patterns, heard)


def test_the_longest_turn_against_many_phrases_is_quick():
    patterns = [
        pattern(f"i would like to talk to the {n} order person {{order}}") for n in range(50)
    ]
    heard = Heard(flow_text.tokens("i would like to order the person two three " * 40))
    began = time.process_time()
    flow_match.best(patterns, heard)
    assert time.process_time() - began < 1.0
