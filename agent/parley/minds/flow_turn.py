"""How likely a caller has finished, judged by the words so far and what the flow waits for.

Somebody who has said three of five digits, or "I'd like to check my", is not done however long the
pause; somebody who has answered the question is done at once. In between the words say nothing, and
the sound of the voice decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from parley.minds import flow_match, flow_text
from parley.minds.flow_grammar import ASIDES
from parley.minds.flow_match import Match, Pattern
from parley.minds.flow_slots import Heard, SlotSpec

OPEN = 0.2
"""More must come: an open slot, the beginning of a phrase, a dangling word."""
EITHER = 0.5
"""A whole phrase that is also the beginning of another one."""
DONE = 1.0
LEAD = 3
"""Words before a slot of which one with a meaning tells which slot it is."""


def completeness(patterns: Sequence[Pattern], text: str) -> float | None:
    """P(the turn is finished); None: the words do not tell."""
    heard = Heard(flow_text.tokens(text))
    if not heard.tokens:
        return None
    found = flow_match.best(patterns, heard)
    whole = found is not None and _explains_the_end(found[1], heard)
    spelled_out = found is not None and _ends_in_words(patterns[found[0]], found[1], heard)
    digits = None if spelled_out else _digits(patterns, heard)
    if digits is not None:
        return digits
    said_last = flow_text.words(text)[-1]
    if said_last in flow_text.DANGLING and not whole:
        return OPEN
    opened = _opened(patterns, heard, found[1] if found is not None and whole else None)
    if whole and found is not None and patterns[found[0]] in opened:
        whole = False  # it fits already, but more of it is to come
    if opened and not whole and " ".join(flow_text.words(text)) in ASIDES:
        return EITHER  # a "no" may be all of it, though a phrase begins with it
    if opened:
        asks_for_slot = any(pattern.slots for pattern in opened)
        same = found is not None and all(p.slots == patterns[found[0]].slots for p in opened)
        if whole:
            return EITHER if asks_for_slot or not same else DONE
        return OPEN
    return DONE if whole else None


def _ends_in_words(pattern: Pattern, match: Match, heard: Heard) -> bool:
    """The last word heard is the phrase's own: "the wrong one" ends in no digit of a number."""
    return match.end == len(heard.tokens) and isinstance(pattern.elements[-1], str)


def _digits(patterns: Sequence[Pattern], heard: Heard) -> float | None:
    """The verdict of a run of digits at the end, where digits are expected."""
    end = len(heard.tokens)
    if heard.tokens[-1] == "and":  # "three hundred and"
        end -= 1
    last = next((run for run in heard.runs.values() if run.end == end), None)
    slots = _slots_after(patterns, heard.tokens[: last.start]) if last is not None else set()
    if last is None or not slots or (end < len(heard.tokens) and not last.can_grow):
        return None
    if last.can_grow:
        return OPEN
    said = len(last.digits)
    verdicts: list[float] = []
    for slot in slots:
        if slot.kind == "number" or said == slot.max_digits:
            verdicts.append(DONE)
        elif said < slot.min_digits:
            verdicts.append(OPEN)
        elif said < slot.max_digits:
            verdicts.append(EITHER)
    return max(verdicts, default=None)


def _slots_after(patterns: Sequence[Pattern], before: tuple[str, ...]) -> set[SlotSpec]:
    """Which slots digits after these words may fill: of the phrases that lead to them by the same,
    or of all, where none does. "My order number is" waits for five digits, though "a table for"
    would be content with one."""
    led_to: set[SlotSpec] = set()
    anywhere: set[SlotSpec] = set()
    for pattern in patterns:
        for at, slot in enumerate(pattern.elements):
            if isinstance(slot, str) or slot.kind not in ("digits", "number"):
                continue
            anywhere.add(slot)
            lead = [e for e in pattern.elements[max(0, at - LEAD) : at] if isinstance(e, str)]
            telling = [word for word in lead if flow_text.weight(word) == 1]
            if any(flow_text.likeness(a, b) for a in telling for b in before[-LEAD:]):
                led_to.add(slot)
    return led_to or anywhere


def _explains_the_end(match: Match, heard: Heard) -> bool:
    """Nothing of weight was said after the phrase."""
    return all(flow_text.weight(token) < 1 for token in heard.tokens[match.end :])


def _opened(patterns: Sequence[Pattern], heard: Heard, whole: Match | None) -> list[Pattern]:
    """Phrases of which the last words heard are the beginning, but not all. Words inside a whole
    phrase open no other one: "where is my order" is not the beginning of "my order number is"."""
    everywhere = range(len(heard.tokens))
    begins = [at for at in everywhere if whole is None or not whole.start < at < whole.end]
    return [pattern for pattern in patterns if any(_begins(pattern, heard, at) for at in begins)]


def _begins(pattern: Pattern, heard: Heard, start: int) -> bool:
    """The tokens from ``start`` to the end are the beginning of this phrase, slots and all."""
    tokens = heard.tokens[start:]
    telling = len(tokens) >= 2 or flow_text.weight(tokens[0]) == 1
    return telling and isinstance(pattern.elements[0], str) and _goes_on(pattern, 0, heard, start)


def _goes_on(pattern: Pattern, index: int, heard: Heard, at: int) -> bool:
    """The tokens from ``at`` on are elements from ``index`` on, and more that matters follows."""
    if at == len(heard.tokens):
        rest = pattern.elements[index:]
        return any(not isinstance(e, str) or flow_text.weight(e) == 1 for e in rest)
    if index == len(pattern.elements):
        return False
    element = pattern.elements[index]
    if isinstance(element, str):
        like = flow_text.likeness(element, heard.tokens[at])
        return bool(like) and _goes_on(pattern, index + 1, heard, at + 1)
    if element.kind == "any":
        return False  # whatever was said may be all of it
    ends = {end for end, _ in element.spans(heard, at)}
    return any(_goes_on(pattern, index + 1, heard, end) for end in ends) or (
        element.kind == "choice" and _half_said(element, heard.tokens[at:])
    )


def _half_said(slot: SlotSpec, tokens: tuple[str, ...]) -> bool:
    """These are the first words of a way to say a choice, but not all."""
    return any(
        len(way) > len(tokens) and all(map(flow_text.likeness, way, tokens)) for way, _ in slot.ways
    )
