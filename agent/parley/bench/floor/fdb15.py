"""The metrics of Full-Duplex-Bench v1.5: overlap, each with a twin in which nobody overlaps.

Lin et al., "Full-Duplex-Bench v1.5: Evaluating Overlap Handling for Full-Duplex Speech Models",
arXiv 2507.23159, section 3 (scenarios: user interruption, user backchannel, talking to others,
background speech; measures: behaviour, stop latency, response latency).

Two things differ. Behaviour is decided by rules where the paper asks GPT-4o: ``answered`` is its
C_RESPOND, ``continued`` its C_RESUME, ``yielded`` (silent, without an answer) its uncertain and
unknown ones. And the agent's speech is known, where the paper has Silero's segments with pauses of
up to 0.5 s joined: joined, an answer that follows a stop at once would hide it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from parley.bench.floor.timeline import Timeline

FOLLOW_S = 3.0
"""How long after the overlap an answer, or a silence, is taken for its effect."""
Behaviour = Literal["continued", "yielded", "answered"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What one overlap led to."""

    kind: str
    behaviour: Behaviour
    stop_s: float | None
    """From the overlap's begin to the agent's silence; None: it spoke on until its end."""
    response_s: float | None
    """From the overlap's end to the agent's next speech, without one None."""
    shift_s: float | None = None
    """How much later, than in the twin, the agent came to the end of the speech that was
    overlapped; None without a twin, or when it did not."""


def overlap(timeline: Timeline, index: int, clean: Timeline | None = None) -> Overlap | None:
    """Of the ``index``-th sound; None when the agent was silent as it began."""
    sound = timeline.user[index]
    under = timeline.agent_at(sound.begin_s)
    if under is None:
        return None
    until = min(timeline.until(index), sound.end_s + FOLLOW_S)
    twin = clean.agent_at(sound.begin_s) if clean is not None else None
    # Without a twin a speech that ends within reach of the sound is taken to be stopped by it.
    length = twin.end_s - twin.begin_s if twin is not None else None
    natural = under.begin_s + length if length is not None else None
    stopped = under.end_s < until and (natural is None or under.end_s < natural - 0.1)
    after = next((s for s in timeline.agent if under.end_s <= s.begin_s < until), None)
    stop = under.end_s - sound.begin_s if stopped else None
    response = after.begin_s - sound.end_s if after is not None else None
    if not stopped:
        shift = under.end_s - natural if natural is not None else None
        return Overlap(sound.kind, "continued", None, response, shift)
    return Overlap(sound.kind, "yielded" if after is None else "answered", stop, response)


def behaviours(overlaps: Sequence[Overlap]) -> dict[str, dict[str, float]]:
    """Shares of the behaviours of each kind of sound."""
    counts: dict[str, Counter[str]] = {}
    for o in overlaps:
        counts.setdefault(o.kind, Counter())[o.behaviour] += 1
    return {
        kind: {b: count[b] / count.total() for b in ("continued", "yielded", "answered")}
        for kind, count in sorted(counts.items())
    }


def latencies(overlaps: Sequence[Overlap]) -> dict[str, tuple[float | None, float | None]]:
    """Mean (stop, response) latency of each kind, over those that have one."""
    out: dict[str, tuple[float | None, float | None]] = {}
    for kind in sorted({o.kind for o in overlaps}):
        mine = [o for o in overlaps if o.kind == kind]
        stops = [o.stop_s for o in mine if o.stop_s is not None]
        responses = [o.response_s for o in mine if o.response_s is not None]
        out[kind] = (
            sum(stops) / len(stops) if stops else None,
            sum(responses) / len(responses) if responses else None,
        )
    return out
