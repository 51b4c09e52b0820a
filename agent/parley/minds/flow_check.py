"""Checks what refers to what in a flow: nodes, tables, slots, and every way a call can take.

The last check is a data-flow analysis. A *fact* is something that holds whichever way a caller came
to a node: this slot is set, its value is a key of that table. A text may use only what is a fact
where it is said, so no call can ever come to "your order {order}" without an order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from parley.minds.flow_errors import Path, Problem, spell, suggest
from parley.minds.flow_match import Pattern
from parley.minds.flow_schema import Condition, Flow, Node, Option, Retry
from parley.minds.flow_template import Hole, Template
from parley.minds.flow_yaml import Lines, line_of

MAX_TRAIL = 100
"""Nodes in a row without listening; a longer row is a mistake."""

Facts = frozenset[tuple[str, ...]]
"""("slot", name) or ("in", table, name)."""


def check(
    flow: Flow,
    patterns: Mapping[str, Pattern],
    templates: Mapping[str, Template],
    lines: Lines,
) -> list[Problem]:
    """All problems, none for a flow that can be run."""
    checker = _Checker(flow, patterns, templates, lines)
    checker.names()
    if not checker.problems:
        checker.ways()
    if not checker.problems:
        checker.facts()
    return checker.problems


@dataclass(frozen=True, slots=True)
class _Edge:
    source: str
    target: str
    gives: Facts = frozenset()
    """What holds behind it in addition."""
    sets: frozenset[str] = frozenset()
    """Slots that may get a new value on it: old facts about these are gone."""


class _Checker:
    def __init__(
        self,
        flow: Flow,
        patterns: Mapping[str, Pattern],
        templates: Mapping[str, Template],
        lines: Lines,
    ):
        self.flow, self.patterns, self.templates, self.lines = flow, patterns, templates, lines
        self.problems: list[Problem] = []
        self.captured = {slot.name for pattern in patterns.values() for slot in pattern.slots}

    # --- everything that is named exists ---

    def names(self) -> None:
        self._target(self.flow.start, ("start",))
        for way, target in self._all_targets():
            self._target(target, way)
        for name, node in self.flow.nodes.items():
            self._retries(name, node)
            for i, branch in enumerate(node.branch or ()):
                if branch.when is not None:
                    self._condition(branch.when, ("nodes", name, "branch", i, "when"))

    def _target(self, target: str, way: Path) -> None:
        if target not in self.flow.nodes:
            self._problem(way, f"unknown node {target!r}{suggest(target, self.flow.nodes)}")

    def _all_targets(self) -> Iterator[tuple[Path, str]]:
        yield from _option_targets(self.flow.anywhere, ("anywhere",))
        yield from _retry_targets(self.flow.no_input, self.flow.no_match, ())
        for name, node in self.flow.nodes.items():
            way: Path = ("nodes", name)
            if node.go is not None:
                yield (*way, "go"), node.go
            for i, branch in enumerate(node.branch or ()):
                yield (*way, "branch", i, "go"), branch.go
            yield from _option_targets(node.expect or (), (*way, "expect"))
            yield from _retry_targets(node.no_input, node.no_match, way)

    def _retries(self, name: str, node: Node) -> None:
        for key in ("no_input", "no_match"):
            if node.expect and getattr(node, key) is None and getattr(self.flow, key) is None:
                case = "is silent" if key == "no_input" else "says something else"
                self._problem(
                    ("nodes", name),
                    f"nothing tells what to do when the caller {case}; "
                    f"add '{key}' here or once for the whole flow",
                )

    def _condition(self, when: Condition, way: Path) -> None:
        if when.slot is not None and when.slot not in self.captured:
            what = f"no phrase sets the slot {when.slot!r}{suggest(when.slot, self.captured)}"
            self._problem((*way, "slot"), what)
        if when.visits is not None:
            self._target(when.visits, (*way, "visits"))
        if when.in_ is not None and when.in_ not in self.flow.data:
            what = f"unknown table {when.in_!r}{suggest(when.in_, self.flow.data)}"
            self._problem((*way, "in"), what)

    # --- every node can be reached, and no ring of nodes goes on without listening ---

    def ways(self) -> None:
        reached = {self.flow.start}
        waiting = [self.flow.start]
        edges = list(self._edges())
        while waiting:
            here = waiting.pop()
            for edge in edges:
                if edge.source == here and edge.target not in reached:
                    reached.add(edge.target)
                    waiting.append(edge.target)
        for name in self.flow.nodes:
            if name not in reached:
                self._problem(("nodes", name), "no way leads to this node from the start")
        self._rings()

    def _rings(self) -> None:
        done: set[str] = set()
        for name in self.flow.nodes:
            trail: list[str] = []
            self._follow(name, trail, done)

    def _follow(self, name: str, trail: list[str], done: set[str]) -> None:
        if name in trail:
            ring = " -> ".join([*trail[trail.index(name) :], name])
            self._problem(("nodes", name), f"goes round without ever listening: {ring}")
            done.update(trail)
            return
        if name in done or len(trail) > MAX_TRAIL:
            if len(trail) > MAX_TRAIL:
                what = f"more than {MAX_TRAIL} nodes in a row without listening"
                self._problem(("nodes", name), what)
            return
        node = self.flow.nodes[name]
        trail.append(name)
        for target in [node.go, *(branch.go for branch in node.branch or ())]:
            if target is not None:
                self._follow(target, trail, done)
        trail.pop()
        done.add(name)

    # --- every text can be said ---

    def facts(self) -> None:
        known = self._solve()
        for name, node in self.flow.nodes.items():
            here = known[name]
            way: Path = ("nodes", name)
            self._texts(node.say, here, (*way, "say"))
            for key in ("no_input", "no_match"):
                retry = getattr(node, key)
                self._texts(retry.say if retry else None, here, (*way, key, "say"))
            for i, option in enumerate(node.expect or ()):
                after = _apply(here, self._option_edge(name, option))
                self._texts(option.say, after, (*way, "expect", i, "say"))
        self._common_texts(known)

    def _common_texts(self, known: Mapping[str, Facts]) -> None:
        """What is said everywhere may use only what holds everywhere."""
        listening = [facts for name, facts in known.items() if self.flow.nodes[name].expect]
        everywhere = frozenset.intersection(*listening) if listening else frozenset()
        for key in ("no_input", "no_match"):
            retry = getattr(self.flow, key)
            self._texts(retry.say if retry else None, everywhere, (key, "say"))
        for i, option in enumerate(self.flow.anywhere):
            after = _apply(everywhere, self._option_edge("", option))
            self._texts(option.say, after, ("anywhere", i, "say"))

    def _solve(self) -> dict[str, Facts]:
        """The greatest solution: facts of a node = what every way to it agrees on."""
        everything = frozenset(
            {("slot", slot) for slot in self.captured}
            | {("in", table, slot) for table in self.flow.data for slot in self.captured}
        )
        known: dict[str, Facts] = dict.fromkeys(self.flow.nodes, everything)
        known[self.flow.start] = frozenset()
        edges = list(self._edges())
        changed = True
        while changed:
            changed = False
            for edge in edges:
                after = known[edge.target] & _apply(known[edge.source], edge)
                if after != known[edge.target]:
                    known[edge.target] = after
                    changed = True
        return known

    def _edges(self) -> Iterator[_Edge]:
        for name, node in self.flow.nodes.items():
            if node.go is not None:
                yield _Edge(name, node.go)
            for branch in node.branch or ():
                yield _Edge(name, branch.go, _condition_facts(branch.when))
            yield from self._listening_edges(name, node)

    def _listening_edges(self, name: str, node: Node) -> Iterator[_Edge]:
        """Also out of a node that ends the call: a caller may speak over the last words."""
        if node.expect is None and not node.ends:
            return
        heard = node.expect or self.flow.nodes[self.flow.start].expect or []
        for option in (*heard, *self.flow.anywhere):
            edge = self._option_edge(name, option)
            yield edge
            if node.ends and option.go is None:
                yield _Edge(name, self.flow.start, edge.gives, edge.sets)
        if node.expect:
            for own, common in (
                (node.no_input, self.flow.no_input),
                (node.no_match, self.flow.no_match),
            ):
                retry = own or common
                if retry is not None:
                    yield _Edge(name, retry.then)

    def _option_edge(self, name: str, option: Option) -> _Edge:
        slots = [{s.name for s in self.patterns[phrase].slots} for phrase in option.phrases]
        gives = frozenset(("slot", slot) for slot in set.intersection(*slots))
        return _Edge(name, option.go or name, gives, frozenset(set.union(*slots)))

    def _texts(self, texts: Sequence[str] | None, facts: Facts, way: Path) -> None:
        for i, text in enumerate(texts or ()):
            for part in self.templates[text]:
                if isinstance(part, Hole):
                    self._hole(part, facts, (*way, i))

    def _hole(self, hole: Hole, facts: Facts, way: Path) -> None:
        if hole.slot not in self.captured:
            what = f"no phrase sets the slot {hole.slot!r}{suggest(hole.slot, self.captured)}"
            self._problem(way, what)
        elif ("slot", hole.slot) not in facts:
            self._problem(
                way,
                f"a caller can come here without having told {hole.slot!r}; "
                "ask for it on every way, or branch on {known: true} before",
            )
        elif hole.table:
            self._lookup(hole, facts, way)

    def _lookup(self, hole: Hole, facts: Facts, way: Path) -> None:
        table = self.flow.data.get(hole.table)
        if table is None:
            what = f"unknown table {hole.table!r}{suggest(hole.table, self.flow.data)}"
            self._problem(way, what)
            return
        if ("in", hole.table, hole.slot) not in facts:
            self._problem(
                way,
                f"a caller can come here with a {hole.slot!r} that is not in {hole.table!r}; "
                f"branch on {{slot: {hole.slot}, in: {hole.table}}} before",
            )
        for key, record in table.items():
            has = not isinstance(record, str) and hole.field in record
            if isinstance(record, str) == bool(hole.field) or (hole.field and not has):
                want = f"a field {hole.field!r}" if hole.field else "a text without fields"
                self._problem(("data", hole.table, key), f"expected {want}: {spell(way)} needs it")

    def _problem(self, way: Path, what: str) -> None:
        self.problems.append(Problem(line_of(self.lines, way), spell(way), what))


def _apply(facts: Facts, edge: _Edge) -> Facts:
    kept = {fact for fact in facts if fact[0] == "slot" or fact[-1] not in edge.sets}
    return frozenset(kept) | edge.gives


def _condition_facts(when: Condition | None) -> Facts:
    if when is None or when.slot is None or when.known is False:
        return frozenset()
    facts: set[tuple[str, ...]] = {("slot", when.slot)}
    if when.in_ is not None:
        facts.add(("in", when.in_, when.slot))
    return frozenset(facts)


def _option_targets(options: Sequence[Option], way: Path) -> Iterator[tuple[Path, str]]:
    for i, option in enumerate(options):
        if option.go is not None:
            yield (*way, i, "go"), option.go


def _retry_targets(
    no_input: Retry | None, no_match: Retry | None, way: Path
) -> Iterator[tuple[Path, str]]:
    for key, retry in (("no_input", no_input), ("no_match", no_match)):
        if retry is not None:
            yield (*way, key, "then"), retry.then
