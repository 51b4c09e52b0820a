"""What may stand in a flow file. Pure shape; what refers to what is checked in ``flow_check``.

    flow: front_desk                 name, for logs and grammars
    start: welcome                   the node a call begins in
    slots:                           what callers tell us, for use in phrases as {order}
      order: {type: digits, length: 5}
      branch: {type: choice, values: {harbour: [harbour, the harbour shop], station: [station]}}
    data:                            tables to look things up in
      orders: {"12345": {status: was shipped on Tuesday}}
    anywhere:                        understood in every node
      - {phrases: [goodbye, bye], go: goodbye}
    no_input: {times: 1, say: "Are you still there?", then: goodbye}
    no_match: {times: 2, say: "Sorry?", then: person}
    nodes:
      welcome:
        say: How can I help you?     text, or a list of variants: visit 1 hears the first, ...
        expect:                      a question: wait for one of these
          - {phrases: ["my order is {order}"], go: order}
      order:
        branch:                      or: go on at once, by conditions
          - {when: {slot: order, in: orders}, go: found}
          - {go: not_found}
      found: {say: "It {orders[order].status}.", go: more}       or: say and go on
      person: {say: One moment., hand_over: reception}           or: hand the call over
      goodbye: {say: Goodbye., hang_up: true}                    or: end it

Built-in slots need no declaration: {number}, {digits}, {yesno}, {yes}, {no}, {any}. ``{id:number}``
stores a built-in under another name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _not_blank(texts: list[str]) -> list[str]:
    if any(not text.strip() for text in texts):
        raise ValueError("an empty text; expected words")
    return [" ".join(text.split()) for text in texts]


Texts = Annotated[
    list[Text],
    BeforeValidator(_as_list),
    AfterValidator(_not_blank),
    Field(min_length=1, max_length=200),
]
"""One text or a list of them."""


Repeat = Literal["answer", "question"]
"""Said again, after ``say`` if there is one: all that was said on the way to this node, or only the
node's own words."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class Slot(_Part):
    """Something a caller tells us."""

    type: Literal["digits", "number", "yesno", "any", "choice"]
    length: int | None = Field(None, ge=1, le=20)
    min_length: int | None = Field(None, ge=1, le=20)
    max_length: int | None = Field(None, ge=1, le=20)
    values: dict[str, Texts] | None = None
    """For a choice: what is stored -> the ways to say it."""

    @model_validator(mode="after")
    def _consistent(self) -> Slot:
        if (self.type == "choice") != bool(self.values):
            raise ValueError("'values' (what is stored: ways to say it) belongs to type: choice")
        bounds = (self.length, self.min_length, self.max_length)
        if self.type != "digits" and any(bound is not None for bound in bounds):
            raise ValueError("a length belongs to type: digits")
        if self.length is not None and bounds[1:] != (None, None):
            raise ValueError("give either 'length' or 'min_length' and 'max_length'")
        low, high = self.digits
        if low > high:
            raise ValueError(f"min_length {low} is above max_length {high}")
        return self

    @property
    def digits(self) -> tuple[int, int]:
        """Fewest and most digits of a digits slot."""
        if self.length is not None:
            return self.length, self.length
        return self.min_length or 1, self.max_length or max(20, self.min_length or 1)


class Option(_Part):
    """What a caller may say, and what follows: move on, say something and stay, or ask again."""

    phrases: Texts
    say: Texts | None = None
    go: Name | None = None
    repeat: Repeat | None = None

    @model_validator(mode="after")
    def _has_consequence(self) -> Option:
        if self.go is None and self.say is None and not self.repeat:
            raise ValueError("nothing follows these phrases; expected 'go', 'say' or 'repeat'")
        if self.go is not None and self.repeat:
            raise ValueError("'go' and 'repeat' exclude each other: it moves on or it stays")
        return self


class Retry(_Part):
    """What to do when nothing was said, or nothing that was expected."""

    times: int = Field(2, ge=0, le=10)
    """How often to ask again before giving up."""
    say: Texts | None = None
    """The first time the first text, and so on; the last one serves for the rest."""
    repeat: Repeat | None = None
    then: Name
    """Where to go after that."""

    @model_validator(mode="after")
    def _says_something(self) -> Retry:
        if self.times and self.say is None and not self.repeat:
            raise ValueError("asks again without words; expected 'say', 'repeat' or 'times: 0'")
        return self


class Condition(_Part):
    """Holds when everything written in it holds."""

    slot: Name | None = None
    visits: Name | None = None
    """How often a node was entered so far, for at_least and at_most."""
    in_: Name | None = Field(None, alias="in")
    """The slot's value is a key of this table."""
    is_: Texts | None = Field(None, alias="is")
    """The slot's value is one of these."""
    known: bool | None = None
    at_least: int | None = None
    at_most: int | None = None

    @model_validator(mode="after")
    def _complete(self) -> Condition:
        if (self.slot is None) == (self.visits is None):
            raise ValueError("expected either 'slot' or 'visits'")
        tests = (self.in_, self.is_, self.known, self.at_least, self.at_most)
        if all(test is None for test in tests):
            raise ValueError("nothing to test; expected in, is, known, at_least or at_most")
        if self.visits is not None and tests[:3] != (None, None, None):
            raise ValueError("'visits' is compared with 'at_least' and 'at_most' only")
        if self.known is False and tests[:2] + tests[3:] != (None, None, None, None):
            raise ValueError("a slot that is not known has no value to compare")
        return self


class Branch(_Part):
    when: Condition | None = None
    """None: otherwise; the last branch, and only that."""
    go: Name


class Node(_Part):
    say: Texts | None = None
    expect: list[Option] | None = Field(None, min_length=1, max_length=100)
    no_input: Retry | None = None
    no_match: Retry | None = None
    branch: list[Branch] | None = Field(None, min_length=1, max_length=50)
    go: Name | None = None
    hand_over: Text | None = None
    hang_up: bool = False

    @model_validator(mode="after")
    def _one_way_on(self) -> Node:
        ways = {
            "expect": self.expect is not None,
            "branch": self.branch is not None,
            "go": self.go is not None,
            "hand_over": self.hand_over is not None,
            "hang_up": self.hang_up,
        }
        given = [name for name, there in ways.items() if there]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"expected exactly one of {', '.join(ways)}; found {found}")
        if self.expect is None and (self.no_input or self.no_match):
            raise ValueError("no_input and no_match belong to a node with 'expect'")
        if self.branch is not None:
            self._check_branches(self.branch)
        return self

    @staticmethod
    def _check_branches(branches: list[Branch]) -> None:
        if branches[-1].when is not None:
            raise ValueError("the last branch needs no 'when': say where all other callers go")
        if any(branch.when is None for branch in branches[:-1]):
            raise ValueError("a branch without 'when' takes every caller; only the last may")

    @property
    def ends(self) -> bool:
        """The call leaves the flow here."""
        return self.hang_up or self.hand_over is not None


Record = str | dict[str, str]


class Flow(_Part):
    flow: Name
    start: Name
    slots: dict[Name, Slot] = Field(default_factory=dict)
    data: dict[Name, dict[str, Record]] = Field(default_factory=dict)
    anywhere: list[Option] = Field(default_factory=list, max_length=50)
    no_input: Retry | None = None
    no_match: Retry | None = None
    nodes: dict[Name, Node] = Field(min_length=1, max_length=1000)
