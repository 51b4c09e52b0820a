"""What the agent's journal adds to a recording: what the floor decided, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from parley.bench.hearing import HeardReply

MATCH_S = (-0.05, 1.0)
"""A reply is heard this long after the floor's Speak: the room's way, and a busy machine."""


@dataclass(slots=True)
class Spoken:
    """A reply that the engine has played."""

    reply: int
    at: float
    """Wall-clock time of its first frame."""
    cause: str = ""
    waited_ms: float | None = None
    """How long the floor chose to wait (None: it answers no turn)."""
    latency_ms: float | None = None
    """Last voiced frame to first frame, as the engine counts it."""
    heard: str | None = None
    """The words that went into the context; None when the call ended before."""
    cut: bool = False
    acts: list[tuple[float, str]] = field(default_factory=list)
    """(wall-clock time, name) of Duck, Unduck and Yield while it played."""
    overlaps: list[dict[str, Any]] = field(default_factory=list)
    """The classifier's decisions."""


def spoken(events: Sequence[dict[str, Any]]) -> list[Spoken]:
    """Every reply that was played, oldest first. ``events`` have ``t`` in wall-clock seconds."""
    commits: dict[int, dict[str, Any]] = {}
    causes: dict[int, str] = {}
    played: dict[int, Spoken] = {}
    latency: float | None = None
    current: Spoken | None = None
    for event in events:
        match event:
            case {"kind": "reply", "reply": number, "cause": cause}:
                causes[number] = cause
            case {"kind": "act", "name": "Commit", "reply": number}:
                commits[number] = event
            case {"kind": "latency", "name": "reply", "ms": ms}:
                latency = ms
            case {"kind": "act", "name": "Speak", "reply": number}:
                current = played[number] = Spoken(number, event["t"], causes.get(number, ""))
                if current.cause == "user":
                    current.waited_ms = commits[number]["waited_ms"]
                    current.latency_ms = latency
            case {"kind": "act", "name": "Duck" | "Unduck" | "Yield" as name} if current:
                current.acts.append((event["t"], name))
            case {"kind": "overlap"} if current:
                current.overlaps.append(event)
            case {"kind": "agent_turn", "reply": number} if number in played:
                played[number].heard = event["heard"]
                played[number].cut = event["cut"]
    return list(played.values())


def matched(
    heard: Sequence[HeardReply], played: Sequence[Spoken]
) -> list[tuple[HeardReply, Spoken | None]]:
    """Each heard reply with what the engine knows of it; None where it knows nothing."""
    pairs: list[tuple[HeardReply, Spoken | None]] = []
    free = list(played)
    for reply in heard:
        fits = [s for s in free if MATCH_S[0] <= reply.start - s.at <= MATCH_S[1]]
        mine = min(fits, key=lambda s: abs(reply.start - s.at), default=None)
        if mine is not None:
            free.remove(mine)
        pairs.append((reply, mine))
    return pairs
