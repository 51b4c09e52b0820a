"""Grammars for the recogniser, made from phrases that are expected.

A phrase is text with slots and alternatives::

    "[can you] check order number {digits}"
    "(i'd like to | i want to) talk to a person"

``[x]`` may be left out, ``(a | b)`` is either, a slot is one of ``SLOTS``. Capitals and
punctuation do not matter; a number written in digits stands for its words.

Say how many digits there are wherever it is known, ``{digits:5}`` or ``{digits:4-6}``: a loop of
any length gains digits in noise and explains almost any other sentence by some digits.

A ``Grammar`` holds a rule body, which may refer to the rules of ``RULES`` (``<digits>``, ...);
``jsgf_source`` makes a whole JSGF text of it (JSpeech Grammar Format, W3C note of 5 June 2000).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from parley_speech.asr import spoken
from parley_speech.types import Grammar

FURTHER_DIGIT = "1e-10"
"""Weight of another digit against the end of the number: keeps noise from adding digits. Of 16
numbers of 5 to 7 digits all are right with it, 14 with 1e-8 and 11 with 1e-12, which drops digits;
say how many there are (``{digits:5}``) where it is known."""

_UNITS = " | ".join(spoken.UNITS[1:10])
_TEENS = " | ".join(spoken.UNITS[10:])
_TENS = " | ".join(spoken.TENS)

RULES: dict[str, str] = {
    "digit": f"zero | oh | {_UNITS}",
    "digit_group": "<digit> | (double | triple) <digit>",
    "digits": f"/1.0/ <digit_group> | /{FURTHER_DIGIT}/ <digit_group> <digits>",
    "below_hundred": f"{_UNITS} | {_TEENS} | ({_TENS}) [{_UNITS}]",
    "below_thousand": f"<below_hundred> | (a | {_UNITS}) hundred [[and] <below_hundred>]",
    "number": "zero | <below_thousand> | (a | <below_thousand>) thousand [[and] <below_thousand>]",
    "yes": " | ".join(spoken.YES),
    "no": " | ".join(spoken.NO),
    "yesno": "<yes> | <no>",
}
MOST_DIGITS = 20
SLOTS = ("digit", "digits", "number", "yes", "no", "yesno")
COURTESIES = ("please", "thanks", "thank you")

_TOKEN = re.compile(r"\{[^{}]*\}|<[^<>]*>|[()\[\]|]|[^\s()\[\]|{}<>]+|[{}<>]")
_REFERENCE = re.compile(r"<([^<>]*)>")
_WORD = re.compile(r"[a-z]+(?:['’.-][a-z]+)*[.']?")
_COUNTED = re.compile(r"digits:(\d+)(?:-(\d+))?")
_PUNCTUATION = ' \t\n.,;:!?"“”„…–—'
_PAIRS = {"(": ")", "[": "]"}


class GrammarError(ValueError):
    """A phrase or a rule body that no grammar can be made of."""


def from_phrases(name: str, phrases: Iterable[str], *, after: Sequence[str] = ()) -> Grammar:
    """A grammar of these phrases, each optionally followed by one of ``after``.

    Phrases that end in the same slot share it, so that a number is compiled once and not per
    phrase. Raises GrammarError for a phrase that cannot be read.
    """
    heads: dict[str, list[str]] = {}
    for phrase in phrases:
        tokens = _phrase_tokens(phrase)
        slot = tokens.pop() if "<" in tokens[-1] else ""
        heads.setdefault(slot, []).append(" ".join(tokens))
    if not heads:
        raise GrammarError(f"the grammar {name!r} has no phrases; expected at least one")
    body = " | ".join(_with_slot(slot, dict.fromkeys(texts)) for slot, texts in heads.items())
    tail = f" [{' | '.join(after)}]" if after else ""
    return Grammar(name, f"({body}){tail}")


def _with_slot(slot: str, heads: Iterable[str]) -> str:
    filled = " | ".join(head for head in heads if head)
    if not slot:
        return filled
    if not filled:
        return slot
    return f"[{filled}] {slot}" if "" in heads else f"({filled}) {slot}"


def jsgf_source(grammar: Grammar) -> str:
    """The JSGF text, with the rules of ``RULES`` that the body needs.

    Raises GrammarError for a body with unbalanced brackets or unknown rules.
    """
    check_body(grammar)
    needed = dict.fromkeys(_closure(grammar.jsgf))
    rules = "".join(f"<{name}> = {RULES[name]};\n" for name in needed)
    return f"#JSGF V1.0;\ngrammar g;\n{rules}public <utterance> = {grammar.jsgf};\n"


def check_body(grammar: Grammar) -> None:
    """Raises GrammarError that says what is wrong with a rule body."""
    if ";" in grammar.jsgf or not grammar.jsgf.strip():
        raise GrammarError(
            f"the grammar {grammar.name!r} must be one rule body, without ';' and not empty; "
            f"got {grammar.jsgf[:80]!r}"
        )
    try:
        _check_brackets(_TOKEN.findall(re.sub(r"/[^/]*/", " ", grammar.jsgf)))
    except GrammarError as error:
        raise GrammarError(f"the grammar {grammar.name!r}: {error}") from None
    unknown = [name for name in _REFERENCE.findall(grammar.jsgf) if name not in _BUILT_IN]
    if unknown:
        raise GrammarError(
            f"the grammar {grammar.name!r} refers to <{unknown[0]}>; known rules are "
            f"{', '.join(RULES)}"
        )


_BUILT_IN = {*RULES, "NULL", "VOID"}


def _closure(body: str) -> Iterator[str]:
    """Names of the rules that a body needs, those needed by others first."""
    seen: set[str] = set()

    def visit(text: str) -> Iterator[str]:
        for name in _REFERENCE.findall(text):
            if name in RULES and name not in seen:
                seen.add(name)
                yield from visit(RULES[name])
                yield name

    return visit(body)


def _check_brackets(tokens: Sequence[str]) -> None:
    expected: list[str] = []
    before = "("
    for token in tokens:
        if token in _PAIRS:
            expected.append(_PAIRS[token])
        elif token in (")", "]", "|"):
            if before in ("(", "[", "|"):
                raise GrammarError(f"expected words before {token!r}")
            if token != "|" and (not expected or expected.pop() != token):
                raise GrammarError(f"{token!r} closes nothing that is open")
        before = token
    if expected:
        raise GrammarError(f"a closing {expected[-1]!r} is missing")
    if before == "|":
        raise GrammarError("expected words after '|'")


def _phrase_tokens(phrase: str) -> list[str]:
    """A phrase as JSGF tokens. Never empty."""
    tokens: list[str] = []
    for token in _TOKEN.findall(phrase.lower().replace("’", "'")):
        if token.startswith("{") and token.endswith("}"):
            tokens.append(_slot(token, phrase))
        elif token in "()[]|":
            tokens.append(token)
        else:
            tokens += _words(token, phrase)
    try:
        _check_brackets(tokens)
    except GrammarError as error:
        raise GrammarError(f"{phrase!r}: {error}") from None
    if not tokens:
        raise GrammarError(f"{phrase!r} has no words")
    return tokens


def _slot(token: str, phrase: str) -> str:
    name = token.strip("{} ")
    counted = _COUNTED.fullmatch(name)
    if counted:
        return _counted_digits(int(counted[1]), int(counted[2] or counted[1]), phrase)
    if name not in SLOTS:
        raise GrammarError(f"{phrase!r}: no slot {{{name}}}; there are {', '.join(SLOTS)}")
    return f"<{name}>"


def _counted_digits(fewest: int, most: int, phrase: str) -> str:
    if not 1 <= fewest <= most <= MOST_DIGITS:
        raise GrammarError(
            f"{phrase!r}: {fewest} to {most} digits; expected 1 to {MOST_DIGITS}, fewest first"
        )
    return " ".join(["<digit>"] * fewest + ["[<digit>]"] * (most - fewest))


def _words(token: str, phrase: str) -> list[str]:
    token = token.strip(_PUNCTUATION)
    if not token:
        return []
    if token.isascii() and token.isdigit():
        return spoken.number_words(int(token)).split()
    if not _WORD.fullmatch(token):
        raise GrammarError(f"{phrase!r}: {token!r} cannot be spoken; write it as words")
    return [token]
