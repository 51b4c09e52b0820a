"""What a caller can tell us inside a phrase: digits, a number, yes or no, a choice, anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from parley.minds import flow_numbers, flow_text
from parley.minds.flow_schema import Slot

Kind = Literal["digits", "number", "yesno", "yes", "no", "any", "choice"]
BUILT_IN: tuple[Kind, ...] = ("digits", "number", "yesno", "yes", "no", "any")

YES = (
    "yes", "yeah", "yep", "yup", "yes i do", "sure", "correct", "right", "that is right",
    "that is correct", "of course", "okay", "absolutely", "definitely", "exactly", "go ahead",
)  # fmt: skip
NO = (
    "no", "nope", "nah", "no thanks", "no thank you", "not really", "that is all",
    "that is it", "that will be all", "nothing", "nothing else", "not at the moment", "not today",
)  # fmt: skip
# "no idea" and "no problem" are not a no, "right now" is not a yes.
_NOT_AN_ANSWER = frozenset({"idea", "problem", "worries", "clue", "matter", "one", "now", "away"})
_LEAD_IN = frozenset({"oh", "and", "but"})

WEIGHTS: Mapping[Kind, float] = {
    "digits": 2.0, "number": 2.0, "choice": 1.5, "yesno": 1.0, "yes": 1.0, "no": 1.0, "any": 0.2,
}  # fmt: skip
"""What a filled slot counts beside a content word's 1."""


@dataclass(frozen=True)
class Heard:
    """One user turn, ready for matching."""

    tokens: tuple[str, ...]
    _likest: dict[str, float] = field(default_factory=dict, compare=False, repr=False)

    def likest(self, word: str) -> float:
        """How much the token that is most like ``word`` is like it."""
        found = self._likest.get(word)
        if found is None:
            found = 1.0 if word in self.all else max(self._near(word), default=0.0)
            self._likest[word] = found
        return found

    def _near(self, word: str) -> Iterator[float]:
        return (flow_text.likeness(word, token) for token in self.all)

    @cached_property
    def runs(self) -> dict[int, flow_numbers.Run]:
        """Start -> run of digits."""
        return {run.start: run for run in flow_numbers.runs(self.tokens)}

    @cached_property
    def weight(self) -> float:
        return sum(map(flow_text.weight, self.tokens))

    @cached_property
    def all(self) -> frozenset[str]:
        return frozenset(self.tokens)


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """A slot as a phrase uses it."""

    name: str
    kind: Kind
    min_digits: int = 1
    max_digits: int = 20
    ways: tuple[tuple[tuple[str, ...], str], ...] = field(default=())
    """For a choice: tokens of a way to say it -> what is stored."""

    @property
    def weight(self) -> float:
        return WEIGHTS[self.kind]

    def spans(self, heard: Heard, start: int) -> Iterator[tuple[int, str]]:
        """Every reading of this slot from ``start``: (end, value)."""
        match self.kind:
            case "digits" | "number":
                yield from self._digits(heard, start)
            case "yesno" | "yes" | "no":
                yield from self._answer(heard, start)
            case "any":
                for end in range(len(heard.tokens), start, -1):
                    yield end, " ".join(heard.tokens[start:end])
            case "choice":
                for way, value in self.ways:
                    if _says(heard.tokens, start, way):
                        yield start + len(way), value

    def _digits(self, heard: Heard, start: int) -> Iterator[tuple[int, str]]:
        # Whole runs only: the first five digits of seven are not the order number.
        run = heard.runs.get(start)
        if run is None or not run.digits:
            return
        if self.kind == "number":
            yield run.end, str(int(run.digits))
        elif self.min_digits <= len(run.digits) <= self.max_digits:
            yield run.end, run.digits

    def _answer(self, heard: Heard, start: int) -> Iterator[tuple[int, str]]:
        for value, ways in (("yes", _YES_WAYS), ("no", _NO_WAYS)):
            if self.kind not in ("yesno", value):
                continue
            for way in ways:
                end = start + len(way)
                if heard.tokens[start:end] == way and _is_answer(heard, start, end):
                    yield end, value


def built_in(kind: Kind, name: str = "") -> SlotSpec:
    return SlotSpec(name or kind, kind)


def declared(name: str, slot: Slot) -> SlotSpec:
    """Raises ValueError when a way to say a choice has no words left after normalisation."""
    low, high = slot.digits
    ways: list[tuple[tuple[str, ...], str]] = []
    for value, texts in (slot.values or {}).items():
        for text in texts:
            tokens = flow_text.tokens(text)
            if not tokens:
                raise ValueError(f"{text!r} has no words that could be recognised")
            ways.append((tokens, value))
    ways.sort(key=lambda way: -len(way[0]))
    return SlotSpec(name, slot.type, low, high, tuple(ways))


def _says(tokens: tuple[str, ...], start: int, way: tuple[str, ...]) -> bool:
    there = tokens[start : start + len(way)]
    return len(there) == len(way) and all(map(flow_text.likeness, there, way))


def _is_answer(heard: Heard, start: int, end: int) -> bool:
    """A yes or no opens the turn or is most of it: "I have no idea" is neither."""
    after = heard.tokens[end] if end < len(heard.tokens) else ""
    if after in _NOT_AN_ANSWER:
        return False
    if all(token in _LEAD_IN for token in heard.tokens[:start]):
        return True
    said = sum(map(flow_text.weight, heard.tokens[start:end]))
    return said >= heard.weight / 2


def _ways(phrases: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(sorted((flow_text.tokens(phrase) for phrase in phrases), key=len, reverse=True))


_YES_WAYS, _NO_WAYS = _ways(YES), _ways(NO)
