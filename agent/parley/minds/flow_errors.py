"""What is wrong with a flow file, said so that its author can mend it at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""The way to a value in the file: ("nodes", "welcome", "expect", 0, "go")."""

SHOWN = 12  # problems listed in one message; the rest is counted


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    line: int
    """From 1; 0 when it concerns the whole file."""
    where: str
    """The way to the value, as a person would write it: ``nodes.welcome.expect[0].go``."""
    what: str
    """What was wrong, what was expected and, if it helps, what to do."""


class FlowError(ValueError):
    """A flow cannot be used. The message has one line per problem: ``file:line: where: what``."""

    def __init__(self, file: str, problems: Iterable[Problem]):
        self.file = file
        self.problems = tuple(sorted(problems))
        lines = [_line(file, problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"{file}: and {len(self.problems) - SHOWN} more")
        super().__init__("\n".join(lines))


def spell(path: Path) -> str:
    """``("nodes", "a", "expect", 0)`` -> ``nodes.a.expect[0]``."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f"{'.' if out else ''}{part}"
    return out


def suggest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` or the list of what is known, for the end of a message."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; expected one of: {', '.join(names)}" if names else ""


def _line(file: str, problem: Problem) -> str:
    at = f"{file}:{problem.line}" if problem.line else file
    return ": ".join(part for part in (at, problem.where, problem.what) if part)
