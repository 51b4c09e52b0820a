"""What a flow tells the ears: the grammar of what may be said, and how much of it was said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pocketsphinx import Decoder

from parley.minds import flow_grammar, flow_script
from parley.minds.base import Cause, Context, Said
from parley.minds.flow import FlowMind, FlowSession
from parley_speech.types import Grammar


def at(node: str) -> FlowSession:
    session = FlowMind().session()
    session.reply(Context(Cause.INSTRUCTED, request=node)).commit()
    return session


# --- completeness ---


@pytest.mark.parametrize(
    ("text", "likely"),
    [
        ("", None),
        ("um", None),
        ("I'd like to check", 0.2),
        ("I'd like to check my", 0.2),
        ("I'd like to check my order status", 1.0),
        ("I'd like to check my order status please", 1.0),
        ("can you", 0.2),
        ("can you check the status of my order", 0.5),
        ("can you check the status of my order number", 0.2),
        ("can you check the status of my order number one two three", 0.2),
        ("can you check the status of my order number 12345", 1.0),
        ("my order number is", 0.2),
        ("opening hours", 1.0),
        ("what are your", 0.2),
        ("the weather is nice", None),
        ("I want to", 0.2),
        ("Thank you very much", 1.0),
        ("Can you help me with something?", 1.0),
    ],
)
def test_completeness_at_the_welcome(text: str, likely: float | None):
    assert at("welcome").completeness(text) == likely


TWO_NUMBERS = """
flow: desk
start: ask
slots:
  order: {type: digits, length: 5}
nodes:
  ask:
    say: How can I help?
    no_input: {say: "Hello?", then: done}
    no_match: {say: "Pardon?", then: done}
    expect:
      - phrases: ["my order number is {order}", "{order}"]
        go: done
      - phrases: ["a table for {number}"]
        go: done
  done: {say: Goodbye., hang_up: true}
"""


@pytest.mark.parametrize(
    ("text", "likely"),
    [
        ("my order number is one two three", 0.2),
        ("my order number one two three", 0.2),
        ("my order number is one two three four five", 1.0),
        ("a table for four", 1.0),
        ("a table for", 0.2),
    ],
)
def test_digits_are_judged_by_the_phrase_they_stand_in(
    tmp_path: Path, text: str, likely: float
) -> None:
    flow = tmp_path / "desk.yaml"
    flow.write_text(TWO_NUMBERS)
    assert FlowMind(flow).session().completeness(text) == likely


@pytest.mark.parametrize(
    ("text", "likely"),
    [
        ("one", 0.2),
        ("one two three four", 0.2),
        ("one two three forty", 0.2),
        ("one two three four five", 1.0),
        ("it is 12345", 1.0),
        ("twelve three forty five", 1.0),
        ("twelve thousand three hundred and", 0.2),
        ("never mind", 1.0),
    ],
)
def test_completeness_of_a_number(text: str, likely: float):
    assert at("ask_order").completeness(text) == likely


@pytest.mark.parametrize(
    ("slot", "said", "likely"),
    [
        ("{type: digits, min_length: 3, max_length: 5}", "one two", 0.2),
        ("{type: digits, min_length: 3, max_length: 5}", "one two three", 0.5),
        ("{type: digits, min_length: 3, max_length: 5}", "one two three four five", 1.0),
        ("{type: number}", "twenty", 0.2),
        ("{type: number}", "twenty one", 1.0),
        ("{type: yesno}", "one two", None),
    ],
)
def test_completeness_of_slots(slot: str, said: str, likely: float | None):
    assert small(f"slots: {{x: {slot}}}", "{x}").completeness(said) == likely


BOOKING = """
flow: desk
start: ask
slots:
  people: {type: choice, values: {"2": [two], "4": [four]}}
  street: {type: choice, values: {garden: [garden street], mill: [mill lane]}}
nodes:
  ask:
    say: How can I help?
    no_input: {say: "Hello?", then: done}
    no_match: {say: "Pardon?", then: done}
    expect:
      - phrases: ["a table for {people} people on friday", "i live in {street} near the river"]
        go: done
      - phrases: ["what is the status of my parcel", "my parcel number is {digits}"]
        go: done
      - phrases: ["{any} is my name"]
        go: done
  done: {say: Goodbye., hang_up: true}
"""


@pytest.mark.parametrize(
    ("text", "likely"),
    [
        ("a table for four people", 0.2),
        ("a table for four people on", 0.2),
        ("a table for four people on friday", 1.0),
        ("a table for nobody at all", None),
        ("i live in garden", 0.2),
        ("i live in garden street near", 0.2),
        ("i live in garden street near the river", 1.0),
        ("what is the status of my parcel", 1.0),
        ("my parcel", 0.2),
        ("the weather here", None),
    ],
)
def test_a_phrase_is_unfinished_behind_its_slots_as_well(
    tmp_path: Path, text: str, likely: float | None
) -> None:
    flow = tmp_path / "desk.yaml"
    flow.write_text(BOOKING)
    assert FlowMind(flow).session().completeness(text) == likely


def small(top: str, *phrases: str) -> FlowSession:
    quoted = ", ".join(f"'{phrase}'" for phrase in phrases)
    script = flow_script.parse(
        f"flow: small\nstart: a\n{top}\nno_input: {{times: 0, then: a}}\n"
        "no_match: {times: 0, then: a}\nnodes:\n"
        f"  a: {{say: Yes, expect: [{{phrases: [{quoted}], say: Good}}]}}\n"
    )
    return FlowMind(script).session()


# --- grammar ---


def compile_grammar(decoder: Decoder, grammar: Grammar) -> None:
    """Raises when the recogniser cannot read it."""
    rule = f"#JSGF V1.0;\ngrammar g;\npublic <g> = {grammar.jsgf};\n"
    decoder.add_jsgf_string(grammar.name, rule)


def vocabulary(grammar: Grammar) -> set[str]:
    return set(re.findall(r"[^\s()\[\]|+*]+", grammar.jsgf))


LISTENING = [
    name
    for name, node in flow_script.shipped("front_desk").flow.nodes.items()
    if node.expect or node.ends
]


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(loglevel="FATAL")


def test_the_recogniser_refuses_what_is_no_grammar(decoder: Decoder):
    with pytest.raises(Exception):  # noqa: B017 (pocketsphinx raises what it likes)
        compile_grammar(decoder, Grammar("broken", "(one | two"))


@pytest.mark.parametrize("node", LISTENING)
def test_the_recogniser_takes_every_grammar_of_the_front_desk(node: str, decoder: Decoder):
    grammar = flow_grammar.grammar(flow_script.shipped("front_desk"), node)
    assert grammar is not None
    assert grammar.name == f"front_desk.{node}"
    unknown = {word for word in vocabulary(grammar) if decoder.lookup_word(word) is None}
    assert unknown == set()
    compile_grammar(decoder, grammar)


def accepts(grammar: Grammar, text: str) -> bool:
    """JSGF of groups, options and alternatives is a regular expression with spaces."""
    body = re.sub(r"[^\s()\[\]|+*]+", lambda word: f"(?:{re.escape(word.group())}_)", grammar.jsgf)
    body = body.replace(" ", "").replace("[", "(?:").replace("]", ")?")
    return re.fullmatch(body, "".join(f"{word}_" for word in text.split())) is not None


@pytest.mark.parametrize(
    "text",
    [
        "i'd like to check my order status please",
        "can you check the status of my order number one two three four five",
        "um can you help me with something",
        "thank you very much",
        "hello",
        "goodbye",
    ],
)
def test_the_grammar_has_the_demo_dialogue(text: str):
    assert accepts(at("welcome").grammar(), text)


def test_the_grammar_follows_the_node():
    session = FlowMind().session()
    assert not accepts(session.grammar(), "one two three four five")
    reply = session.reply(Context(Cause.USER, (Said("user", "my order"),)))
    assert session.grammar().name == "front_desk.welcome"
    reply.commit()
    grammar = session.grammar()
    assert grammar.name == "front_desk.ask_order"
    assert accepts(grammar, "it is one two three oh five")
    assert not accepts(grammar, "one two three four")
    assert accepts(grammar, "opening hours")


@pytest.mark.parametrize(
    ("slot", "good", "bad"),
    [
        ("{type: digits, min_length: 2, max_length: 3}", ["one two", "one two oh"], ["one"]),
        ("{type: digits, min_length: 2}", ["one two", "one " * 9], ["one"]),
        ("{type: number}", ["twenty one", "three hundred and five"], ["yes"]),
        ("{type: yesno}", ["yes", "no", "not really"], ["one"]),
        ("{type: choice, values: {a: [red, dark red], b: [blue]}}", ["dark red", "blue"], ["dark"]),
    ],
)
def test_the_grammar_of_slots(slot: str, good: list[str], bad: list[str], decoder: Decoder):
    grammar = small(f"slots: {{x: {slot}}}", "it is {x}").grammar()
    assert grammar is not None
    assert all(accepts(grammar, f"it is {text}") for text in good)
    assert not any(accepts(grammar, f"it is {text}") for text in bad)
    compile_grammar(decoder, grammar)


def test_digits_in_phrases_are_spelled():
    assert accepts(small("", "room 24").grammar(), "room two four")


def test_where_anything_may_be_said_there_is_no_grammar():
    assert small("", "my name is {any}").grammar() is None
