"""A grammar as a graph of words: what may come next, and where one may stop.

Reads JSGF as ``grammar.jsgf_source`` writes it (JSpeech Grammar Format, W3C note of 5 June 2000):
rules, words, groups, options, alternatives, ``+`` and ``*``. Weights are skipped: a neural
decoder's own scores are far apart, and no weight that pocketsphinx needs helps it. A rule may
refer to itself at its end, which makes a loop; anywhere else it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from parley_speech.asr.grammar import GrammarError

END = 0
"""The node at which an utterance is whole."""
MOST_NODES = 20_000

_RULE = re.compile(r"(?:public\s+)?<([^<>]+)>\s*=\s*([^;]*);")
_WEIGHT = re.compile(r"/[^/]*/")
_TOKEN = re.compile(r"<[^<>]*>|[()\[\]|+*]|[^\s()\[\]|+*<>]+")
_CLOSING = {"(": ")", "[": "]"}


class WordGraph:
    """``after(node)`` gives (word, next node); a node whose ``whole`` holds may be the last."""

    def __init__(self, source: str) -> None:
        """``source``: a JSGF text whose last rule is what may be said. Raises GrammarError."""
        rules = dict(_RULE.findall(source.split(";", 2)[-1] if "grammar" in source else source))
        if not rules:
            raise GrammarError(f"no rule in {source[:80]!r}")
        self._rules = {
            name: _TOKEN.findall(_WEIGHT.sub(" ", body).lower()) for name, body in rules.items()
        }
        self._words: list[tuple[str, int] | None] = [None]
        self._free: list[list[int]] = [[]]
        self._of_rule: dict[tuple[str, int], int] = {}
        self._open: list[tuple[str, int]] = []
        self._next: dict[int, tuple[tuple[tuple[str, int], ...], bool]] = {}
        try:
            self.start = self._rule(next(reversed(rules)), END)
        except RecursionError:
            raise GrammarError("this grammar has groups within groups beyond all measure") from None

    def after(self, node: int) -> tuple[tuple[str, int], ...]:
        """The words that may come at ``node``, each with the node that it leads to."""
        return self._reached(node)[0]

    def whole(self, node: int) -> bool:
        return self._reached(node)[1]

    def along(self, words: Sequence[str]) -> frozenset[int]:
        """The nodes at which one is after ``words``; none where the grammar does not allow them."""
        nodes = frozenset([self.start])
        for word in words:
            nodes = frozenset(to for node in nodes for said, to in self.after(node) if said == word)
        return nodes

    def _reached(self, node: int) -> tuple[tuple[tuple[str, int], ...], bool]:
        if node not in self._next:
            seen, todo = {node}, [node]
            words: dict[tuple[str, int], None] = {}
            while todo:
                now = todo.pop()
                if (word := self._words[now]) is not None:
                    words[word] = None
                fresh = [n for n in self._free[now] if n not in seen]
                seen.update(fresh)
                todo += fresh
            self._next[node] = (tuple(words), END in seen)
        return self._next[node]

    # --- made from the end to the beginning: every part is told what follows it ----------------

    def _node(self, word: tuple[str, int] | None = None, free: Sequence[int] = ()) -> int:
        if len(self._words) >= MOST_NODES:
            raise GrammarError(f"this grammar has more than {MOST_NODES} places")
        self._words.append(word)
        self._free.append(list(free))
        return len(self._words) - 1

    def _rule(self, name: str, then: int) -> int:
        """The node at which rule ``name`` begins, if ``then`` follows it."""
        if name == "null":
            return then
        if name == "void":
            return self._node()
        if name not in self._rules:
            raise GrammarError(f"no rule <{name}>")
        key = (name, then)
        if key not in self._of_rule:
            if any(open_name == name for open_name, _ in self._open):
                raise GrammarError(f"<{name}> refers to itself before its end")
            self._of_rule[key] = begin = self._node()
            self._open.append(key)
            self._free[begin].append(self._either(self._rules[name], then))
            self._open.pop()
        return self._of_rule[key]

    def _either(self, tokens: Sequence[str], then: int) -> int:
        """Alternatives, of which each is a sequence."""
        ways = []
        for items in _alternatives(tokens):
            at = then
            for item in reversed(items):
                at = self._item(item, at)
            ways.append(at)
        return self._node(free=ways)

    def _item(self, tokens: Sequence[str], then: int) -> int:
        first, last = tokens[0], tokens[-1]
        if last in ("+", "*"):
            if len(tokens) == 1:
                raise GrammarError(f"{last!r} follows nothing that could be said again")
            again = self._node(free=[then])
            begin = self._item(tokens[:-1], again)
            self._free[again].append(begin)
            return begin if last == "+" else again
        if first == "(":
            return self._either(tokens[1:-1], then)
        if first == "[":
            return self._node(free=[self._either(tokens[1:-1], then), then])
        if first.startswith("<"):
            return self._rule(first[1:-1], then)
        return self._node((first, then))


def _alternatives(tokens: Sequence[str]) -> Iterator[list[Sequence[str]]]:
    """Each alternative as its items: a word, a reference or a group, with the "+" behind it."""
    items: list[Sequence[str]] = []
    at = 0
    while at < len(tokens):
        if tokens[at] == "|":
            yield items
            items, at = [], at + 1
            continue
        end = _end_of(tokens, at)
        if end < len(tokens) and tokens[end] in ("+", "*"):
            end += 1
        items.append(tokens[at:end])
        at = end
    yield items


def _end_of(tokens: Sequence[str], at: int) -> int:
    """Behind the group that begins at ``at``, or behind the word there."""
    if tokens[at] not in _CLOSING:
        return at + 1
    depth = 0
    for end in range(at, len(tokens)):
        depth += (tokens[end] in "([") - (tokens[end] in ")]")
        if depth == 0:
            return end + 1
    raise GrammarError(f"a closing {_CLOSING[tokens[at]]!r} is missing")
