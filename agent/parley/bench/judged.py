"""A call with its replies, found in the recording and joined to the journal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from parley.bench.hearing import HeardReply, replies
from parley.bench.instant import Rendering, Renderings
from parley.bench.journals import Spoken, matched, spoken
from parley.bench.records import CallRecord, Trial
from parley.bench.scenarios import TEXTS

SURE = 0.5
"""Alignment.score below which a sound is not taken for the reply (see there)."""


@dataclass(frozen=True)
class Judged:
    """One call with its replies."""

    call: CallRecord
    replies: tuple[tuple[HeardReply, Spoken | None], ...]
    unsure: int
    """Sounds of the agent that are not its text, as far as can be told: holes in it, or noise."""

    def during(self, at: float) -> tuple[HeardReply, Spoken | None] | None:
        """The reply that sounded then."""
        return next(
            ((h, s) for h, s in self.replies if h.span.start_s <= at < h.span.end_s + 0.02), None
        )


def judge_call(call: CallRecord, renderings: Renderings) -> Judged:
    heard = replies(call.recording, _rendering(call, renderings))
    sure = [h for h in heard if h.score >= SURE]
    pairs = matched(sure, spoken(call.events))
    return Judged(call, tuple(pairs), len(heard) - len(sure))


def _rendering(call: CallRecord, renderings: Renderings) -> Rendering:
    return renderings[TEXTS[call.plan.text]]


def ends(trials: Sequence[Trial]) -> list[float]:
    """When the next trial begins, for each."""
    return [*(trial.onset for trial in trials[1:]), math.inf][: len(trials)]


def stages(known: Spoken | None, onset: float, after: float) -> dict[str, Any]:
    """When the engine decided, and what its classifier said then."""
    stages: dict[str, Any] = {}
    if known is None:
        return stages
    for name in ("Duck", "Yield"):
        at = next((t for t, act in known.acts if act == name and onset < t < after), None)
        stages[f"engine_{name.lower()}_ms"] = since(at, onset)
    decided = [o for o in known.overlaps if onset < o["t"] < after]
    if decided:
        stages |= {k: decided[-1].get(k) for k in ("class", "p", "since_onset_ms")}
    return stages


def since(at: float | None, onset: float) -> float | None:
    return None if at is None else round((at - onset) * 1000, 1)


def void(calls: Sequence[Judged], judged: int, counts: Callable[[Trial], bool]) -> tuple[str, ...]:
    """A note about trials that tell nothing."""
    tried = sum(counts(trial) for call in calls for trial in call.call.trials)
    if tried == judged:
        return ()
    return (f"{tried - judged} of {tried} tell nothing: the agent did not speak, or not clearly",)
