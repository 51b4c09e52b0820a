"""Calls for the tests of the bench's judges: what a caller would have recorded, made to order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parley.bench.instant import Rendering
from parley.bench.records import CallRecord, Trial
from parley.bench.scenarios import Plan
from parley.dialogue.mixer import Fade, Mixer
from parley.report.recording import Recording
from parley_speech.types import FRAME_MS, SPEAKER_HZ, Pcm

WALL = 1_700_000_000.0
WAY_S = 0.04
"""From the engine's frame to the caller's ear."""


def played(rendering: Rendering, acts: dict[int, Fade]) -> tuple[Pcm, int]:
    """What the mixer plays when ``acts`` happen before the frames of these numbers; how many
    samples of it were audible, as the ledger counts them."""
    mixer = Mixer()
    mixer.open()
    mixer.feed(rendering.pcm)
    mixer.finish()
    frames, audible, number = [], 0, 0
    while not mixer.done:
        if number in acts:
            mixer.to(acts[number])
        mixed = mixer.frame()
        frames.append(mixed.pcm)
        audible += mixed.audible
        number += 1
    return np.concatenate(frames), audible


@dataclass
class Script:
    """Makes a CallRecord: replies that play, and what the caller did, on one time line."""

    rendering: Rendering
    plan: Plan
    pieces: list[tuple[float, Pcm]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def reply(
        self,
        at: float,
        acts: dict[int, Fade] | None = None,
        *,
        waited_ms: int = 200,
        context: str | None = None,
        cause: str = "user",
    ) -> str:
        """A reply whose first frame is played ``at`` (seconds into the call); the words that were
        heard of it. ``context`` puts other words into the context."""
        acts = acts or {}
        number = sum(e["kind"] == "reply" for e in self.events)
        pcm, audible = played(self.rendering, acts)
        self.pieces.append((at + WAY_S, pcm))
        t = WALL + at
        self.events += [
            {"t": t, "kind": "reply", "reply": number, "cause": cause},
            {"t": t, "kind": "act", "name": "Commit", "reply": number, "waited_ms": waited_ms},
            {"t": t, "kind": "latency", "name": "reply", "ms": waited_ms + 20},
            {"t": t, "kind": "act", "name": "Speak", "reply": number},
        ]
        names = {Fade.DUCK: "Duck", Fade.FULL: "Unduck", Fade.STOP: "Yield"}
        for frame, fade in acts.items():
            when = t + frame * FRAME_MS / 1000
            self.events.append({"t": when, "kind": "act", "name": names[fade], "reply": number})
        cut = Fade.STOP in acts.values()
        heard = self.words(audible) if cut else self.rendering.text
        end = t + len(pcm) / SPEAKER_HZ
        told = heard if context is None else context
        self.events.append(
            {"t": end, "kind": "agent_turn", "reply": number, "heard": told, "cut": cut}
        )
        self.history.append({"text": told, "interrupted": cut})
        return heard

    def words(self, samples: int) -> str:
        n = sum(samples >= (m.start + m.end) // 2 for m in self.rendering.marks)
        return " ".join(self.rendering.text.split()[:n])

    def says(self, start: float, end: float, *, what: str = "speech", aimed: bool = False) -> None:
        aim = 0.0 if aimed else None
        self.trials.append(Trial("clip.flac", what, 0.0, WALL + start, WALL + end, aim))

    def record(self, **more: Any) -> CallRecord:
        end = max(at + len(pcm) / SPEAKER_HZ for at, pcm in self.pieces) + 1
        line = np.zeros(round(end * SPEAKER_HZ), np.int16)
        for at, pcm in self.pieces:
            first = round(at * SPEAKER_HZ)
            line[first : first + len(pcm)] += pcm
        recording = Recording(np.stack([np.zeros_like(line), line], axis=1), SPEAKER_HZ, WALL)
        return CallRecord(
            self.plan,
            self.plan.room(),
            recording,
            tuple(self.trials),
            tuple(sorted(self.events, key=lambda e: e["t"])),
            {"history": self.history, **more.pop("agent", {})},
            **more,
        )


def stats(calls: Sequence[tuple[int, int, float]]) -> list[dict[str, Any]]:
    """Agents' counters: (ticks, late ticks, worst ms)."""
    return [{"stats": {"ticks": t, "late_ticks": n, "worst_late_ms": w}} for t, n, w in calls]
