"""The floor's diagram, drawn from its table: ``python -m parley.dialogue.diagram``."""

from __future__ import annotations

from itertools import groupby

from parley.dialogue.floor import TABLE, State

MEANING = {
    State.IDLE: "nobody speaks",
    State.USER: "the user speaks",
    State.PAUSE: "the user is silent, perhaps finished",
    State.THINK: "the turn is over, the reply has no sound yet",
    State.HELD: "... and the user makes a sound again",
    State.AGENT: "the agent speaks",
    State.ALERT: "... and a sound begins that may be the user: it is ducked",
    State.OVERLAP: "both do; the agent is ducked",
}


def mermaid() -> str:
    """A Mermaid state diagram; one arrow for each pair of states."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    lines += [f"    {state.value}: {state.value}<br/>{MEANING[state]}" for state in State]
    rows = sorted((s.value, r.next.value, e.value, r.acts) for (s, e), r in TABLE.items())
    for (source, target), group in groupby(rows, key=lambda r: (r[0], r[1])):
        labels = [f"{event} / {', '.join(acts)}" if acts else event for _, _, event, acts in group]
        lines.append(f"    {source} --> {target}: {'<br/>'.join(labels)}")
    return "\n".join(lines)


def page() -> str:
    """docs/floor.md"""
    rows = "\n".join(
        f"| {s.value} | {e.value} | {r.next.value} | {', '.join(r.acts) or '–'} |"
        for (s, e), r in TABLE.items()
    )
    return (
        "# Who has the floor\n\n"
        "Generated from the table in `agent/parley/dialogue/floor.py` by "
        "`python -m parley.dialogue.diagram > docs/floor.md`; a test keeps it true.\n\n"
        f"```mermaid\n{mermaid()}\n```\n\n"
        "| state | event | next | acts |\n|---|---|---|---|\n"
        f"{rows}\n"
    )


if __name__ == "__main__":
    print(page(), end="")
