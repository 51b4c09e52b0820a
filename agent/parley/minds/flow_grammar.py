"""What may be said in a node of a flow, as a JSGF rule body for the recogniser.

A grammar is narrower than the matcher: exactly the phrases, with a hesitation before and a
courtesy behind them, or one of the words that are said over an agent's voice. In a node that
expects {any} there is none, since anything may come.
"""

from __future__ import annotations

from collections.abc import Iterable

from parley.minds import flow_numbers, flow_slots, flow_text
from parley.minds.flow_script import Script
from parley.minds.flow_slots import SlotSpec
from parley_speech.types import Grammar

LEAD_INS = ("um", "uh")
COURTESIES = ("please", "thanks", "thank you")
ASIDES = (
    "yes", "yeah", "yep", "okay", "right", "all right", "sure", "i see", "uh-huh", "mhm", "hmm",
    "no", "nope", "stop", "wait", "hold on", "hang on", "excuse me", "sorry", "what", "never mind",
)  # fmt: skip
"""May be said anywhere, over the agent above all: what a nod and what a wish for the floor is made
of. Without them the front desk's first grammar hears "no" as "uh hello" and "okay" as "what can i
say"; with them 11 of 12 "no", "stop", "wait" of four espeak voices end with a confidence of 0.7 or
more, and 6 of 8 "okay" and "right". A recorded "no" stays below it."""
MOST_COPIES = 3
"""Optional digits written out one by one; beyond that it is a loop of any length."""


def grammar(script: Script, node: str) -> Grammar | None:
    """None where anything may be said."""
    phrases = [phrase for option in script.options(node) for phrase in option.phrases]
    slots = [slot for phrase in phrases for slot in script.patterns[phrase].slots]
    if not phrases or any(slot.kind == "any" for slot in slots):
        return None
    heads: dict[str, dict[str, None]] = {}
    for phrase in phrases:
        head, tail = _phrase(script, phrase)
        heads.setdefault(tail, {})[head] = None
    bodies = [_joined(list(texts), tail) for tail, texts in heads.items()]
    lead_in, courtesy = (f"[{_either(words)}]" for words in (LEAD_INS, COURTESIES))
    body = f"{lead_in} {_either(bodies)} {courtesy}"
    return Grammar(f"{script.flow.flow}.{node}", f"({body} | {' | '.join(ASIDES)})")


def _joined(heads: list[str], tail: str) -> str:
    """Phrases that end in the same slot share it: a decoder searches five digits once instead of
    once a phrase, which is most of its work on short words."""
    if not tail:
        return _either(heads)
    worded = [head for head in heads if head]
    if not worded:
        return tail
    return f"[{_either(worded)}] {tail}" if "" in heads else f"{_either(worded)} {tail}"


def _phrase(script: Script, phrase: str) -> tuple[str, str]:
    """The phrase as written, contractions and all (a recogniser's dictionary has "i'd"), and
    apart from it the slot that ends it."""
    slots = iter(script.patterns[phrase].slots)
    parts: list[str] = []
    for index, piece in enumerate(_split(phrase)):
        parts.append(_slot(next(slots)) if index % 2 else _words(piece))
    ends_in_slot = len(parts) > 1 and not parts[-1]
    tail = parts[-2] if ends_in_slot else ""
    return " ".join(part for part in (parts[:-2] if ends_in_slot else parts) if part), tail


def _split(phrase: str) -> list[str]:
    """Text and insides of braces, in turns."""
    return phrase.replace("}", "{").split("{")


def _words(text: str) -> str:
    spelled: list[str] = []
    for word in flow_text.words(text):
        spelled += _spell(word) if word.isascii() and word.isdigit() else [word]
    return " ".join(spelled)


def _spell(digits: str) -> list[str]:
    names = list(flow_numbers.ONES)
    return [names[int(digit)] for digit in digits]


def _slot(slot: SlotSpec) -> str:
    match slot.kind:
        case "digits":
            return _digits(slot.min_digits, slot.max_digits)
        case "number":
            return (
                f"{_either([*sorted(flow_numbers.NUMBER_WORDS - {*flow_numbers.TIMES}), 'and'])}+"
            )
        case "choice":
            return _either(dict.fromkeys(" ".join(way) for way, _ in slot.ways))
        case "yes":
            return _either(flow_slots.YES)
        case "no":
            return _either(flow_slots.NO)
        case "yesno":
            return _either((*flow_slots.YES, *flow_slots.NO))
        case "any":
            raise AssertionError("a node that expects anything has no grammar")


def _digits(fewest: int, most: int) -> str:
    digit = _either((*flow_numbers.ONES, "oh"))
    if most - fewest > MOST_COPIES:
        return " ".join([*[digit] * (fewest - 1), f"{digit}+"])
    return " ".join([digit] * fewest + [f"[{digit}]"] * (most - fewest))


def _either(bodies: Iterable[str]) -> str:
    return f"({' | '.join(bodies)})"
