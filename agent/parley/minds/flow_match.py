"""Finds what a caller meant: the expected phrase that explains most of what was heard.

A phrase is aligned with the tokens heard, in order, by dynamic programming. Words around it are
free ("hi there, I'd like to ..."), words inside it cost a little, a word of it may be missing or
misrecognised as long as three quarters of its weight are there; slots must be filled. Of all
phrases that fit, the one with the most weight wins, the earlier one when two have the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from parley.minds import flow_text
from parley.minds.flow_slots import Heard, SlotSpec

ENOUGH = 0.75
"""Part of a phrase's weight that must be heard. 0.75 lets one of four content words go missing."""
EXTRA_WORD = 0.1
"""What a foreign word inside a phrase costs."""
NEGATION_REACH = 3
"""Words before a phrase among which a "not" turns it into its opposite."""

ANSWERS = ("yesno", "yes", "no")
"""Kinds of slots whose words answer a question and say nothing by themselves."""
ROUNDING = 1e-9
MAX_ELEMENTS = 30
_BRACES = re.compile(r"\{([^{}]*)\}")

Element = str | SlotSpec


@dataclass(frozen=True)
class Pattern:
    """One expected phrase."""

    source: str
    elements: tuple[Element, ...]

    @cached_property
    def weighed(self) -> tuple[tuple[Element, float], ...]:
        """Its elements with what each counts, the heaviest first."""
        weighed = [
            (e, flow_text.weight(e) if isinstance(e, str) else e.weight) for e in self.elements
        ]
        return tuple(sorted(weighed, key=lambda each: -each[1]))

    @cached_property
    def weight(self) -> float:
        return sum(weight for _, weight in self.weighed)

    @cached_property
    def content(self) -> tuple[str, ...]:
        """Words of which at least one must be heard."""
        return tuple(e for e in self.elements if isinstance(e, str) and flow_text.weight(e) == 1)

    @cached_property
    def slots(self) -> tuple[SlotSpec, ...]:
        return tuple(e for e in self.elements if not isinstance(e, str))

    @cached_property
    def is_bare_answer(self) -> bool:
        """Nothing but a yes or a no: it means what the question makes of it."""
        return not self.content and bool(self.slots) and all(s.kind in ANSWERS for s in self.slots)

    @cached_property
    def opening(self) -> tuple[str, ...]:
        """Its words before the first slot."""
        words: list[str] = []
        for element in self.elements:
            if not isinstance(element, str):
                break
            words.append(element)
        return tuple(words)


@dataclass(frozen=True, slots=True)
class Match:
    gain: float
    """Weight explained; comparable between phrases."""
    part: float
    """Of the phrase's own weight, 0..1."""
    start: int
    end: int
    """``tokens[start:end]`` were explained."""
    slots: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Path:
    gain: float = 0.0
    start: int = -1
    last: int = -1
    """End of the last token used."""
    content: bool = False
    slots: tuple[tuple[str, str], ...] = ()


def best(patterns: Sequence[Pattern], heard: Heard) -> tuple[int, Match] | None:
    """The index of the pattern that explains most of what was heard, and how."""
    winner: tuple[int, Match] | None = None
    for index, pattern in enumerate(patterns):
        to_beat = winner[1].gain + ROUNDING if winner is not None else 0.0
        found = match(pattern, heard, to_beat)
        if found is not None and found.gain > to_beat:
            winner = index, found
    return winner


def match(pattern: Pattern, heard: Heard, to_beat: float = 0.0) -> Match | None:
    """How ``pattern`` explains what was heard; None when it does not, or with no more gain than
    ``to_beat``."""
    if not heard.tokens or not _may_gain(pattern, heard, max(to_beat, ENOUGH * pattern.weight)):
        return None
    path = _align(pattern, heard)
    if path is None or path.start < 0 or (pattern.content and not path.content):
        return None
    part = path.gain / pattern.weight
    if part < ENOUGH or _negated(pattern, heard, path):
        return None
    return Match(path.gain, part, path.start, path.last, path.slots)


def parse(source: str, slot: Callable[[str], SlotSpec]) -> Pattern:
    """``"my order is {order}"`` -> Pattern. ``slot`` gives a SlotSpec by what is in the braces, or
    raises ValueError, as this does for a phrase in which no words are left."""
    elements: list[Element] = []
    for index, piece in enumerate(_BRACES.split(source)):
        if index % 2:
            elements.append(slot(piece.strip()))
        elif "{" in piece or "}" in piece:
            raise ValueError(f"a single brace in {source!r}; expected {{slot}}")
        else:
            elements.extend(flow_text.tokens(piece))
    if not elements:
        raise ValueError(f"{source!r} has no words that could be recognised")
    if len(elements) > MAX_ELEMENTS:
        raise ValueError(f"{source!r} is longer than {MAX_ELEMENTS} words")
    names = [e.name for e in elements if not isinstance(e, str)]
    if len(names) != len(set(names)):
        raise ValueError(f"{source!r} has the same slot twice; name them: {{first:digits}}")
    return Pattern(source, tuple(elements))


def _may_gain(pattern: Pattern, heard: Heard, least: float) -> bool:
    """Whether the phrase could gain ``least``, in whatever order its words were said. A cheap
    bound that spares most phrases the alignment, given up at the first word too many that is
    missing: a menu has a hundred phrases, and they are asked between two frames of sound."""
    spare = pattern.weight - least + ROUNDING
    for element, weight in pattern.weighed:
        if isinstance(element, str):
            spare -= weight * (1 - heard.likest(element))
        elif not heard.runs and element.kind in ("digits", "number"):
            spare -= weight
        if spare < 0:
            return False
    return True


def _align(pattern: Pattern, heard: Heard) -> _Path | None:
    """The best path through all elements; row[j]: best path whose next token is j."""
    size = len(heard.tokens)
    row: list[_Path | None] = [_Path()] * (size + 1)
    for element in pattern.elements:
        after: list[_Path | None] = [None] * (size + 1)
        for at, path in enumerate(row):
            if path is not None:
                _take(element, heard, at, path, after)
        row = _with_extra_words(after)
    ends = [path for path in row if path is not None]
    return max(ends, key=lambda path: (path.gain, path.last), default=None)


def _take(element: Element, heard: Heard, at: int, path: _Path, after: list[_Path | None]) -> None:
    start = path.start if path.start >= 0 else at
    if not isinstance(element, str):
        for end, value in element.spans(heard, at):
            slots = (*path.slots, (element.name, value))
            gain = path.gain + element.weight
            _keep(after, end, _Path(gain, start, end, path.content, slots))
        return
    _keep(after, at, path)  # the word is missing
    if at < len(heard.tokens):
        like = flow_text.likeness(element, heard.tokens[at])
        if like:
            weight = flow_text.weight(element)
            content = path.content or weight == 1
            gain = path.gain + like * weight
            _keep(after, at + 1, _Path(gain, start, at + 1, content, path.slots))


def _keep(row: list[_Path | None], at: int, path: _Path) -> None:
    there = row[at]
    if there is None or path.gain > there.gain:
        row[at] = path


def _with_extra_words(row: list[_Path | None]) -> list[_Path | None]:
    """Lets every path step over tokens: for nothing before the phrase began, at a cost inside."""
    for at in range(len(row) - 1):
        path = row[at]
        if path is None:
            continue
        cost = EXTRA_WORD if path.start >= 0 else 0.0
        _keep(row, at + 1, _Path(path.gain - cost, path.start, path.last, path.content, path.slots))
    return row


def _negated(pattern: Pattern, heard: Heard, path: _Path) -> bool:
    """ "I do not want to talk to a person" is not a wish to talk to a person."""
    if "not" in pattern.elements or any(s.kind in ("any", "yesno", "no") for s in pattern.slots):
        return False
    return "not" in heard.tokens[max(0, path.start - NEGATION_REACH) : path.last]
