"""Reads YAML as plain strings, lists and mappings, and remembers the line of every value.

Scalars stay strings: an order number keeps its leading zero and ``yes`` is a word, not a boolean;
the schema says what is a number. Anchors are refused, since a few of them can unfold into
gigabytes, and so are keys written twice, of which YAML would silently keep the last.
"""

from __future__ import annotations

import yaml

from parley.minds.flow_errors import FlowError, Path, Problem, spell

MAX_BYTES = 1_000_000
MAX_DEPTH = 20

Plain = str | list["Plain"] | dict[str, "Plain"]
Lines = dict[Path, int]
"""Way to a value -> its line, from 1. For a value in a mapping it is the line of its key."""


def read(text: str, file: str) -> tuple[dict[str, Plain], Lines]:
    """The mapping in ``text`` and where its parts stand. ``file`` is for messages only."""
    if len(text.encode()) > MAX_BYTES:
        raise FlowError(file, [Problem(0, "", f"larger than {MAX_BYTES} bytes")])
    root = _compose(text, file)
    if root is None:
        raise FlowError(
            file, [Problem(0, "", "the file is empty; expected a flow with 'start' and 'nodes'")]
        )
    reader = _Reader(file)
    plain = reader.plain(root, ())
    if reader.problems:
        raise FlowError(file, reader.problems)
    if not isinstance(plain, dict):
        kind = "a list" if isinstance(plain, list) else "a single value"
        what = f"the file holds {kind}; expected a mapping with 'start' and 'nodes'"
        raise FlowError(file, [Problem(1, "", what)])
    return plain, reader.lines


def line_of(lines: Lines, path: Path) -> int:
    """The line of ``path``, or of the nearest thing around it that stands in the file."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else 0
                what = f"alias *{event.anchor}: anchors and aliases are not supported; write it out"
                raise FlowError(file, [Problem(line, "", what)])
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        what = "; ".join(part for part in (error.problem, error.context) if part)
        raise FlowError(file, [Problem(line, "", f"not valid YAML: {what}")]) from error
    except yaml.YAMLError as error:
        raise FlowError(file, [Problem(0, "", f"not valid YAML: {error}")]) from error
    except RecursionError as error:
        raise FlowError(file, [Problem(0, "", "nested far too deeply")]) from error
    return node


class _Reader:
    """Turns YAML nodes into plain values, collecting lines and problems on the way."""

    def __init__(self, file: str):
        self.file = file
        self.lines: Lines = {}
        self.problems: list[Problem] = []

    def plain(self, node: yaml.Node, path: Path) -> Plain:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > MAX_DEPTH:
            self._problem(node, path, f"nested deeper than {MAX_DEPTH} levels")
            return ""
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, (*path, i)) for i, item in enumerate(node.value)]
        return str(node.value)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> Plain:
        out: dict[str, Plain] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, path, "expected a plain word as key")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key in out:
                first = self.lines[here]
                self._problem(key_node, here, f"written twice; first in line {first}")
                continue
            self.lines[here] = key_node.start_mark.line + 1
            out[key] = self.plain(value_node, here)
        return out

    def _problem(self, node: yaml.Node, path: Path, what: str) -> None:
        self.problems.append(Problem(node.start_mark.line + 1, spell(path), what))
