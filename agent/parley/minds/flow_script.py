"""A flow made ready to run: read, checked, its phrases and texts parsed once.

Whoever has a ``Script`` has a flow that cannot fail: every node is there and can be reached, every
text can be rendered wherever it is said, and between two questions there is no endless loop.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from parley.minds import flow_match, flow_slots, flow_template, flow_yaml
from parley.minds.flow_check import check
from parley.minds.flow_errors import FlowError, Problem, spell, suggest
from parley.minds.flow_errors import Path as Way
from parley.minds.flow_match import Pattern
from parley.minds.flow_schema import Flow, Node, Option, Retry, Slot
from parley.minds.flow_slots import SlotSpec
from parley.minds.flow_template import Template

SHIPPED = ("front_desk",)


@dataclass(frozen=True)
class Script:
    flow: Flow
    patterns: dict[str, Pattern]
    """By the phrase as written."""
    templates: dict[str, Template]
    """By the text as written."""

    def node(self, name: str) -> Node:
        return self.flow.nodes[name]

    def retry(self, node: Node, *, silent: bool) -> Retry:
        own, common = (
            (node.no_input, self.flow.no_input) if silent else (node.no_match, self.flow.no_match)
        )
        retry = own or common
        assert retry is not None  # flow_check
        return retry

    def options(self, name: str) -> tuple[Option, ...]:
        """What may be said in this node, its own phrases before those of everywhere. In a node
        that ends the call, where only an interrupting caller speaks, those of the first node."""
        node = self.flow.nodes[name]
        if node.expect is None:
            node = self.flow.nodes[self.flow.start]
        return (*(node.expect or ()), *self.flow.anywhere)


def shipped(name: str) -> Script:
    """A flow that comes with the package. Raises ValueError for an unknown name."""
    if name not in SHIPPED:
        raise ValueError(f"no flow {name!r} in the package{suggest(name, SHIPPED)}")
    text = importlib.resources.files("parley").joinpath("flows", f"{name}.yaml").read_text("utf-8")
    return parse(text, f"{name}.yaml")


def load(path: Path) -> Script:
    """Raises FlowError, also when the file cannot be read."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot be read: {error}; expected a flow in YAML, UTF-8"
        raise FlowError(str(path), [Problem(0, "", what)]) from error
    return parse(text, str(path))


def parse(text: str, file: str = "flow") -> Script:
    """Raises FlowError with every problem found and its line."""
    plain, lines = flow_yaml.read(text, file)
    try:
        flow = Flow.model_validate(plain)
    except ValidationError as error:
        raise FlowError(file, _problems(error, lines)) from error
    compiler = _Compiler(flow, lines)
    compiler.run()
    problems = compiler.problems or check(flow, compiler.patterns, compiler.templates, lines)
    if problems:
        raise FlowError(file, problems)
    return Script(flow, compiler.patterns, compiler.templates)


class _Compiler:
    """Parses every phrase and text of a flow."""

    def __init__(self, flow: Flow, lines: flow_yaml.Lines):
        self.flow, self.lines = flow, lines
        self.problems: list[Problem] = []
        self.patterns: dict[str, Pattern] = {}
        self.templates: dict[str, Template] = {}
        self.slots: dict[str, SlotSpec] = {}

    def run(self) -> None:
        for name, slot in self.flow.slots.items():
            self._slot(name, slot)
        for i, option in enumerate(self.flow.anywhere):
            self._option(option, ("anywhere", i))
        for key, retry in (("no_input", self.flow.no_input), ("no_match", self.flow.no_match)):
            self._texts(retry.say if retry else None, (key, "say"))
        for name, node in self.flow.nodes.items():
            way: Way = ("nodes", name)
            self._texts(node.say, (*way, "say"))
            for i, option in enumerate(node.expect or ()):
                self._option(option, (*way, "expect", i))
            for key, retry in (("no_input", node.no_input), ("no_match", node.no_match)):
                self._texts(retry.say if retry else None, (*way, key, "say"))

    def _slot(self, name: str, slot: Slot) -> None:
        if name in flow_slots.BUILT_IN:
            self._problem(("slots", name), "is the name of a built-in slot; choose another one")
            return
        try:
            self.slots[name] = flow_slots.declared(name, slot)
        except ValueError as error:
            self._problem(("slots", name), str(error))

    def _option(self, option: Option, way: Way) -> None:
        for i, phrase in enumerate(option.phrases):
            try:
                self.patterns[phrase] = flow_match.parse(phrase, self._find_slot)
            except ValueError as error:
                self._problem((*way, "phrases", i), str(error))
        self._texts(option.say, (*way, "say"))

    def _texts(self, texts: list[str] | None, way: Way) -> None:
        for i, text in enumerate(texts or ()):
            try:
                self.templates[text] = flow_template.parse(text)
            except ValueError as error:
                self._problem((*way, i), str(error))

    def _find_slot(self, inside: str) -> SlotSpec:
        name, _, kind = inside.partition(":")
        for built_in in flow_slots.BUILT_IN:
            if built_in == (kind or name):
                return flow_slots.built_in(built_in, name)
        if name in self.slots and not kind:
            return self.slots[name]
        known = {*self.flow.slots, *flow_slots.BUILT_IN}
        raise ValueError(f"unknown slot {{{inside}}}{suggest(kind or name, known)}")

    def _problem(self, way: Way, what: str) -> None:
        self.problems.append(Problem(flow_yaml.line_of(self.lines, way), spell(way), what))


def _problems(error: ValidationError, lines: flow_yaml.Lines) -> list[Problem]:
    """Pydantic's findings, in words for somebody who writes flows."""
    problems: list[Problem] = []
    for found in error.errors(include_url=False):
        # A union's or a key's error ends in the name of a type, which is not in the file.
        way = tuple(part for part in found["loc"] if part != "[key]")
        while way and way not in lines and found["type"] != "missing":
            way = way[:-1]
        match found["type"]:
            case "extra_forbidden":
                what = f"unknown key{suggest(str(way[-1]), _keys_beside(way))}"
            case "missing":
                what = f"'{way[-1]}' is missing"
                way = way[:-1]
            case "value_error":
                what = str(found["ctx"]["error"])
            case _:
                what = f"{found['msg']}; found {_short(found['input'])}"
        problems.append(Problem(flow_yaml.line_of(lines, way) or 1, spell(way), what))
    return problems


def _keys_beside(way: Way) -> list[str]:
    """The keys that are allowed where ``way`` stands."""
    match way:
        case (_,):
            model: type[object] = Flow
        case (*_, "expect", int(), _) | ("anywhere", int(), _):
            model = Option
        case (*_, "no_input" | "no_match", _):
            model = Retry
        case ("slots", _, _):
            model = Slot
        case ("nodes", _, _):
            model = Node
        case _:
            return []
    fields = getattr(model, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
