"""The table of the issue: what was to be reached, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parley.bench.figures import Figure, Goal

LATE_MS = 700.0
CHANNEL = ("telephone",)
"""Families whose line has a delay of its own: not in the times."""

Conversation = dict[str, Any]
Row = dict[str, Any]


def rows_of(conversations: Sequence[Conversation]) -> list[Row]:
    return [row for c in conversations for row in c["rows"]]


def table(conversations: Sequence[Conversation]) -> list[Figure]:
    """The goals in the order of the issue. Rates are means of 0 and 1, in percent."""
    rows = rows_of(conversations)
    direct = [r for r in rows if not r["family"].startswith(CHANNEL)]
    turns = [r for r in direct if r["kind"] == "turn"]
    wishes = [
        r for r in direct if r["kind"] == "interruption" and r["over_agent"] and not played_out(r)
    ]
    # Only of an agent that gives account of what was heard; another one pauses and goes on.
    replies = [r for c in conversations for r in c["agent"] if r["heard"] is not None]
    pauses = [p for r in rows if r["kind"] == "turn" for p in r["pauses"]]
    return [
        *_answers(turns),
        rate("cut_in", "pauses inside a turn in which the agent cut in", 5.0,
             [p["cut_in"] for p in pauses]),
        Figure("ducked", "onset of an interruption → ducked",
               samples=tuple(r["ducked_ms"] for r in wishes), goals=(Goal("p95", 100),)),
        Figure("silent", "onset of an interruption → silent",
               samples=tuple(r["silent_ms"] for r in wishes),
               goals=(Goal("p50", 250), Goal("p95", 400))),
        *(_kept(rows, kind, what) for kind, what in KEPT),
        Figure("answered", "sounds that were no turn, answered like one", "%",
               tuple(100.0 * (r["answered_ms"] is not None) for r in rows
                     if r["kind"] not in ("turn", "interruption"))),
        rate("missed", f"interruptions missed, or later than {LATE_MS:.0f} ms", 2.0,
             [r["silent_ms"] is None or r["silent_ms"] > LATE_MS for r in wishes]),
        Figure("heard_error", "words by which the context differs from what was heard", "words",
               tuple(float(r["heard_error"]) for r in replies), (Goal("count", 0),)),
        Figure("lost", "samples lost or repeated at a resume", "samples",
               tuple(float(sum(map(abs, r["slips"]))) for r in replies), (Goal("count", 0),)),
        Figure("floor_cost", "the floor's own time for 10 minutes of conversation",
               samples=tuple(_cost_ms(conversations)), goals=(Goal("p50", 1000),)),
    ]  # fmt: skip


KEPT = (
    ("backchannel", "a backchannel"),
    ("noise", "a noise"),
    ("echo", "its own echo"),
    ("side", "side talk"),
    ("nothing", "nothing but the line's own noise"),
)


def _answers(turns: Sequence[Row]) -> list[Figure]:
    """Of turns that the agent let the user finish: a cut-in is counted for itself."""
    clean = [r for r in turns if not r["cut_in_ms"]]
    desk = [r for r in clean if not r["family"].endswith("_open")]
    all_ = Figure(
        "answer",
        "user's end → first sample of the answer",
        samples=tuple(r["answered_ms"] for r in clean),
        goals=(Goal("p50", 200), Goal("p95", 350)),
    )
    known = Figure(
        "answer_desk",
        "… where a grammar knows when words are complete",
        samples=tuple(r["answered_ms"] for r in desk),
    )
    return [all_, known]


def _kept(rows: Sequence[Row], kind: str, what: str) -> Figure:
    mine = [r for r in rows if r["kind"] == kind and r["over_agent"]]
    return rate(f"yields_{kind}", f"yields to {what}", 2.0, [r["stopped"] for r in mine])


def played_out(row: Mapping[str, Any]) -> bool:
    """The reply ended by itself before anybody could be late."""
    return not row["stopped"] and row["left_ms"] is not None and row["left_ms"] <= LATE_MS


def rate(name: str, what: str, most: float, hits: Sequence[bool]) -> Figure:
    return Figure(
        name, what, "%", tuple(100.0 * hit for hit in hits), (Goal("mean", most, f"{most:g} %"),)
    )


def _cost_ms(conversations: Sequence[Conversation]) -> list[float]:
    """One number, or none."""
    seconds = sum(c["seconds"] for c in conversations)
    spent = sum(float(c["floor_s"]) for c in conversations)
    return [1000 * 600 * spent / float(seconds)] if spent else []
