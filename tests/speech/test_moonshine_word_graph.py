"""A grammar as a graph of words: what it allows, against a regular expression of the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_speech.asr import spoken
from parley_speech.asr.grammar import GrammarError, from_phrases, jsgf_source
from parley_speech.asr.moonshine.word_graph import MOST_NODES, WordGraph
from parley_speech.types import Grammar
from speech.asr_speaker import FRONT_DESK


def graph_of(body: str) -> WordGraph:
    return WordGraph(jsgf_source(Grammar("g", body)))


def allows(graph: WordGraph, words: str) -> bool:
    return any(graph.whole(node) for node in graph.along(words.split()))


def may_begin(graph: WordGraph, words: str) -> bool:
    return bool(graph.along(words.split()))


# --- against regular expressions --------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """The same part of a grammar in three notations."""

    jsgf: str
    whole: str
    """A regular expression of its sentences, a letter for a word."""
    begun: str
    """... of their beginnings."""


WORDS = st.sampled_from("abc").map(lambda w: Reading(w, w, f"{w}?"))


def in_a_row(parts: list[Reading]) -> Reading:
    before = ["".join(p.whole for p in parts[:i]) for i in range(len(parts))]
    begun = [f"{b}{p.begun}" for b, p in zip(before, parts, strict=True)]
    return Reading(
        "(" + " ".join(p.jsgf for p in parts) + ")",
        "".join(p.whole for p in parts),
        f"(?:{'|'.join(begun)})",
    )


def either(parts: list[tuple[Reading, str]]) -> Reading:
    """Each with its weight, which changes nothing."""
    return Reading(
        "(" + " | ".join(f"{weight} {p.jsgf}" for p, weight in parts) + ")",
        f"(?:{'|'.join(p.whole for p, _ in parts)})",
        f"(?:{'|'.join(p.begun for p, _ in parts)})",
    )


def optional(part: Reading) -> Reading:
    return Reading(f"[{part.jsgf}]", f"(?:{part.whole})?", f"(?:{part.begun})?")


def again(part: Reading, sign: str) -> Reading:
    loop = f"(?:{part.whole})"
    return Reading(f"({part.jsgf}){sign}", f"{loop}{sign}", f"{loop}*(?:{part.begun})?")


WEIGHTS = st.sampled_from(["", "/0.5/", "/1e-10/"])
READINGS = st.recursive(
    WORDS,
    lambda parts: st.one_of(
        st.lists(parts, min_size=2, max_size=3).map(in_a_row),
        st.lists(st.tuples(parts, WEIGHTS), min_size=2, max_size=3).map(either),
        parts.map(optional),
        st.builds(again, parts, st.sampled_from("+*")),
    ),
    max_leaves=6,
)
SENTENCES = st.lists(st.text("abc", max_size=5), min_size=8, max_size=8)


@settings(deadline=None)
@given(READINGS, SENTENCES)
def test_it_allows_what_the_regular_expression_matches(
    reading: Reading, sentences: list[str]
) -> None:
    graph = graph_of(reading.jsgf)
    for sentence in sentences:
        words = " ".join(sentence)
        assert allows(graph, words) == bool(re.fullmatch(reading.whole, sentence)), words
        assert may_begin(graph, words) == bool(re.fullmatch(reading.begun, sentence)), words


@settings(deadline=None)
@given(READINGS)
def test_every_way_leads_to_the_end(reading: Reading) -> None:
    """So that whoever follows the graph never gets stuck."""
    graph = graph_of(reading.jsgf)
    seen, todo = {graph.start}, [graph.start]
    before: dict[int, set[int]] = {}
    while todo:
        node = todo.pop()
        for _, to in graph.after(node):
            before.setdefault(to, set()).add(node)
            if to not in seen:
                seen.add(to)
                todo.append(to)
    leads = [node for node in seen if graph.whole(node)]
    reached = set(leads)
    while leads:
        fresh = before.get(leads.pop(), set()) - reached
        reached |= fresh
        leads += fresh
    assert reached == seen


@settings(deadline=None)
@given(READINGS)
def test_a_word_comes_once_for_each_place_that_it_leads_to(reading: Reading) -> None:
    graph = graph_of(reading.jsgf)
    ways = graph.after(graph.start)
    assert len(set(ways)) == len(ways)


# --- the grammars of a flow -------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "can you check the status of my order number one two three four five please",
        "order number is one two oh four five",
        "five four three two one thank you",
        "thank you very much",
        "no it isn't",
        "i'd like to talk to a person",
    ],
)
def test_a_front_desk_allows(words: str) -> None:
    assert allows(WordGraph(jsgf_source(FRONT_DESK)), words)


@pytest.mark.parametrize(
    "words",
    ["order number one two three four", "one two three four five six", "thank", "very much", ""],
)
def test_a_front_desk_does_not_allow(words: str) -> None:
    assert not allows(WordGraph(jsgf_source(FRONT_DESK)), words)


def test_along_tells_who_is_in_the_middle_of_a_sentence() -> None:
    graph = WordGraph(jsgf_source(FRONT_DESK))
    assert may_begin(graph, "my order number is one two")
    assert not may_begin(graph, "my order number two is")
    assert graph.along([]) == {graph.start}


@settings(deadline=None)
@given(st.lists(st.sampled_from([*spoken.UNITS[:10], "oh"]), min_size=1, max_size=9))
def test_digits_of_any_number(digits: list[str]) -> None:
    """A rule that refers to itself at its end is a loop."""
    graph = graph_of("<digits>")
    assert allows(graph, " ".join(digits))
    assert allows(graph, " ".join(["double", *digits]))
    assert not allows(graph, " ".join([*digits, "double"]))
    assert may_begin(graph, " ".join([*digits, "double"]))


def test_digits_may_stand_in_the_middle_and_twice() -> None:
    graph = graph_of("from <digits> to <digits> please")
    assert allows(graph, "from one two to three please")
    assert not allows(graph, "from one two three please")
    assert not may_begin(graph, "from one to two to")


@settings(deadline=None)
@given(st.integers(0, spoken.LARGEST))
def test_every_number_may_be_said(number: int) -> None:
    assert allows(NUMBERS, f"i want {spoken.number_words(number)} of them")


NUMBERS = WordGraph(jsgf_source(from_phrases("numbers", ["i want {number} of them"])))


def test_two_rules_that_refer_to_each_other_at_their_ends_are_a_loop() -> None:
    graph = WordGraph("<a> = x <b>; <b> = y [<a>]; public <u> = <a> end;")
    assert allows(graph, "x y x y end")
    assert not allows(graph, "x y x end")


def test_capitals_do_not_matter_and_null_is_nothing() -> None:
    graph = graph_of("Yes (<NULL> | Please)")
    assert allows(graph, "yes") and allows(graph, "yes please")


def test_void_is_what_nobody_can_say() -> None:
    graph = graph_of("yes | <VOID> no")
    assert allows(graph, "yes")
    assert not may_begin(graph, "no")


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        ("<a> = <a> x | y; public <u> = <a>;", "<a> refers to itself before its end"),
        ("<a> = x <a> y | z; public <u> = <a>;", "<a> refers to itself before its end"),
        ("<a> = <b> x; <b> = <a> | y; public <u> = <a>;", "refers to itself before its end"),
        ("<a> = x <a>+; public <u> = <a>;", "<a> refers to itself before its end"),
        ("public <u> = one <two>;", "no rule <two>"),
        ("public <u> = (one | two;", r"a closing '\)' is missing"),
        ("public <u> = one [two;", r"a closing '\]' is missing"),
        ("public <u> = +;", r"'\+' follows nothing"),
        ("public <u> = one | * two;", r"'\*' follows nothing"),
        ("public <u> = one ++;", r"'\+' follows nothing"),
        ("no grammar at all", "no rule in 'no grammar at all'"),
        ("", "no rule"),
        ("public <u> = " + "word " * MOST_NODES + ";", f"more than {MOST_NODES} places"),
        ("public <u> = " + "(" * 3000 + "a" + ")" * 3000 + ";", "groups within groups"),
    ],
    ids=lambda text: text[:36],
)
def test_what_cannot_be_read_is_refused(rules: str, error: str) -> None:
    with pytest.raises(GrammarError, match=error):
        WordGraph(rules)


def test_what_multiplies_is_refused_as_well() -> None:
    """Each of many numbers of digits has its own end."""
    counted = " | ".join(" ".join(["<number>"] * 4 + [f"w{i}"]) for i in range(100))
    with pytest.raises(GrammarError, match="places"):
        graph_of(counted)
