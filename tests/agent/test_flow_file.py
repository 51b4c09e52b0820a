"""Flow files with mistakes: each is named with its line and what to do."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.minds import flow_script
from parley.minds.flow import FlowMind
from parley.minds.flow_errors import SHOWN, FlowError

GOOD = """\
flow: shop
start: hello
slots:
  order: {type: digits, length: 5}
data:
  orders:
    "00123": {status: lost}
no_input: {times: 1, say: Hello, then: bye}
no_match: {times: 1, say: Sorry, then: bye}
nodes:
  hello:
    say: Hi.
    expect:
      - phrases: order {order}
        go: order
      - phrases: bye
        go: bye
  order:
    branch:
      - when: {slot: order, in: orders}
        go: found
      - go: hello
  found:
    say: "{order:digits} is {orders[order].status}."
    go: hello
  bye:
    say: Bye.
    hang_up: true
"""


def problems(text: str) -> list[str]:
    with pytest.raises(FlowError) as caught:
        flow_script.parse(textwrap.dedent(text), "shop.yaml")
    return str(caught.value).splitlines()


def changed(*pairs: tuple[str, str]) -> str:
    text = GOOD
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_the_good_one_is_good():
    script = flow_script.parse(GOOD)
    assert script.flow.data["orders"] == {"00123": {"status": "lost"}}  # not the octal number 83


@pytest.mark.parametrize(
    ("old", "new", "line", "parts"),
    [
        ("        go: order\n", "        go: ordr\n", 15, ["'ordr'", "did you mean 'order'?"]),
        ("start: hello", "start: helo", 2, ["start", "did you mean 'hello'?"]),
        ("    say: Hi.", "    sya: Hi.", 12, ["nodes.hello.sya", "did you mean 'say'?"]),
        ("flow: shop\n", "flow: shop\nfoo: 1\n", 2, ["foo", "unknown key", "anywhere"]),
        ("phrases: bye", "phrase: bye", 16, ["nodes.hello.expect[1]", "'phrases' is missing"]),
        ("order {order}", "order {odrer}", 14, ["{odrer}", "did you mean 'order'?"]),
        ("order {order}", "order {order", 14, ["single brace"]),
        ("order {order}", "um please", 14, ["no words"]),
        ("        go: order\n", "", 14, ["nothing follows", "'go', 'say' or 'repeat'"]),
        ("    hang_up: true\n", "", 26, ["nodes.bye", "exactly one of", "found none"]),
        ("    hang_up: true", "    hang_up: true\n    go: hello", 26, ["found go and hang_up"]),
        ("times: 1, say: Hello", "times: many, say: Hello", 8, ["no_input.times", "'many'"]),
        ("times: 1, say: Hello", "times: 99, say: Hello", 8, ["no_input.times", "'99'"]),
        ("{times: 1, say: Sorry,", "{times: 1,", 9, ["asks again without words"]),
        ("no_match: {times: 1, say: Sorry, then: bye}\n", "", 10, ["add 'no_match'"]),
        ("in: orders", "in: order", 20, ["unknown table", "did you mean 'orders'?"]),
        ("slot: order, in", "slot: other, in", 20, ["no phrase sets the slot 'other'"]),
        ("{slot: order, in: orders}", "{slot: order}", 20, ["nothing to test"]),
        ("{slot: order, in: orders}", "{in: orders}", 20, ["either 'slot' or 'visits'"]),
        ("      - go: hello\n", "", 18, ["last branch needs no 'when'"]),
        ("{order:digits} is", "{order:loud} is", 24, ["{order:loud}", "expected {slot}"]),
        ("{order:digits} is", "{oder} is", 24, ["no phrase sets the slot 'oder'"]),
        ("[order].status", "[order].carrier", 7, ["expected a field 'carrier'", "nodes.found.say"]),
        ("[order].status", "[order]", 7, ["a text without fields"]),
        ("{orders[order].status}", "{order[order]}", 24, ["unknown table", "'orders'"]),
        ("length: 5", "length: 50", 4, ["slots.order.length", "'50'"]),
        ("length: 5", "min_length: 5, max_length: 3", 4, ["min_length 5 is above max_length 3"]),
        ("type: digits, length: 5", "type: choice", 4, ["'values'"]),
        ("type: digits, length: 5", "type: number, length: 5", 4, ["a length belongs to"]),
        ("type: digits", "type: words", 4, ["slots.order.type", "'words'"]),
        ("  order: {type", "  digits: {type", 4, ["built-in slot"]),
        ("    say: Bye.", "    say: ' '", 27, ["nodes.bye.say", "an empty text"]),
        ("    say: Bye.", "    say: []", 27, ["nodes.bye.say"]),
        ("flow: shop", "flow: my shop", 1, ["flow", "pattern"]),
        ("  bye:\n", "  bye:\n    say: Hey.\n", 28, ["written twice; first in line 27"]),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, line: int, parts: list[str]):
    found = problems(changed((old, new)))
    assert found[0].startswith(f"shop.yaml:{line}: "), found
    for part in parts:
        assert part in "\n".join(found)


def test_a_node_that_nobody_reaches():
    text = changed(("  bye:\n", "  lost: {say: Oh., hang_up: true}\n  bye:\n"))
    assert problems(text) == ["shop.yaml:26: nodes.lost: no way leads to this node from the start"]


def test_a_ring_that_never_listens():
    text = changed(("    go: hello\n  bye", "    go: order\n  bye"))
    assert "goes round without ever listening: order -> found -> order" in problems(text)[0]


def test_words_that_cannot_be_filled_on_every_way():
    text = changed(("phrases: bye", "phrases: find"), ("        go: bye", "        go: order"))
    script = flow_script.parse(text)  # the branch on the table guards it
    assert script.flow.start == "hello"
    unguarded = changed(("phrases: bye", "phrases: find"), ("        go: bye", "        go: found"))
    found = problems(unguarded)
    assert found[0].startswith("shop.yaml:24: nodes.found.say[0]: a caller can come here")
    assert "without having told 'order'" in found[0]


def test_a_lookup_that_can_miss():
    text = changed(
        ("        go: order\n", "        go: found\n"),
        ("phrases: bye", "phrases: find"),
        ("        go: bye", "        go: bye"),
    )
    text = text.replace(
        "  order:\n    branch:\n      - when: {slot: order, in: orders}\n"
        "        go: found\n      - go: hello\n",
        "",
    )
    assert "a 'order' that is not in 'orders'" in problems(text)[0]


def test_a_new_value_may_not_be_in_the_table_any_more():
    text = changed(
        ("    go: hello\n  bye", "    go: more\n  bye"),
        (
            "  bye:\n",
            "  more:\n    say: Well?\n    expect:\n"
            "      - {phrases: 'order {order}', say: 'That is {orders[order].status}.'}\n"
            "  bye:\n",
        ),
    )
    assert "that is not in 'orders'" in problems(text)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "shop.yaml: the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("just words", "shop.yaml:1: the file holds a single value"),
        ("- a\n- b", "holds a list"),
        ("flow: x", "'start' is missing"),
        ("flow: [x", "shop.yaml:1: not valid YAML"),
        ("flow: x\n\tnodes: y", "shop.yaml:2: not valid YAML"),
        ("flow: x\nstart: 'open", "not valid YAML"),
        ("flow: x\n---\nflow: y", "not valid YAML"),
        ("flow: &a x\nstart: *a", "shop.yaml:2: alias *a"),
        ("? [a]\n: b", "expected a plain word as key"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper"),
        ("a: " + "[" * 3000, "shop.yaml"),
        ("flow: \x00", "not valid YAML"),
        ("x: " + "y" * 1_000_001, "larger than"),
        ("flow: x\nstart: a\nnodes: {}", "nodes"),
        ("flow: x\nstart: a\nnodes: [a]", "shop.yaml:3: nodes"),
        ("flow: x\nstart: a\nnodes: {a: }", "nodes.a"),
    ],
)
def test_a_broken_file(text: str, message: str):
    assert message in "\n".join(problems(text))


def test_many_problems_are_listed_in_order_and_then_counted():
    nodes = "\n".join(f"  n{i}: {{go: gone}}" for i in range(SHOWN + 3))
    found = problems(f"flow: x\nstart: n0\nnodes:\n{nodes}")
    assert len(found) == SHOWN + 1
    assert [line.split(":")[1] for line in found[:3]] == ["4", "5", "6"]
    assert found[-1] == "shop.yaml: and 3 more"


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(FlowError, match="cannot be read"):
        FlowMind(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"flow: caf\xe9")
    with pytest.raises(FlowError, match=r"cannot be read.*UTF-8"):
        FlowMind(tmp_path / "latin.yaml")
    with pytest.raises(ValueError, match=r"no flow 'frontdesk'.*did you mean 'front_desk'"):
        FlowMind("frontdesk")


def test_a_file_of_ones_own(tmp_path: Path):
    path = tmp_path / "shop.yaml"
    path.write_text(GOOD)
    assert FlowMind(str(path)).script.flow.flow == "shop"
    path.write_text(changed(("start: hello", "start: x")))
    with pytest.raises(FlowError, match=r"shop\.yaml:2: start"):
        FlowMind(path)


def test_the_shipped_flow_is_good():
    script = flow_script.shipped("front_desk")
    assert set(script.flow.data["orders"]) >= {"12345"}


@settings(max_examples=60)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 12), st.text(max_size=3))
def test_any_damage_is_refused_or_harmless(start: int, length: int, new: str):
    try:
        flow_script.parse(GOOD[:start] + new + GOOD[start + length :], "shop.yaml")
    except FlowError as error:
        assert str(error).startswith("shop.yaml")


KEYS = ["flow", "start", "slots", "data", "anywhere", "no_input", "no_match", "nodes", "say"]
KEYS += ["expect", "phrases", "go", "branch", "when", "hello", "bye", "type", "values", "times"]
KEYS += ["then", "hang_up", "repeat", "order"]

_plain = st.recursive(
    st.text(max_size=6) | st.sampled_from(["hello", "bye", "{order}", "true", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=100)
@given(_plain)
def test_any_structure_is_refused_or_runs(plain: object):
    try:
        flow_script.parse(yaml.safe_dump(plain), "any.yaml")
    except FlowError as error:
        assert error.problems
