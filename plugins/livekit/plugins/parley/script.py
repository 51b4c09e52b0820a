"""What a scripted caller does in a call: steps with their cues, and the live transcript."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from livekit.plugins.parley.caller_microphone import Utterance

Cue = Literal["silence", "speech"]


@dataclass(frozen=True, slots=True)
class Step:
    """Say ``clip`` at a cue: ``after_s`` into the agent's next speech, or ``after_s`` after the
    agent has fallen silent."""

    clip: str
    cue: Cue
    after_s: float
    what: str
    """For people: what this is."""


SHOP: tuple[Step, ...] = (
    Step("caller_order_status.flac", "silence", 0.3, "asks for the order status"),
    Step("caller_check_order_12345.flac", "silence", 0.3, "gives the order's number"),
    Step("caller_yes.flac", "speech", 3.0, "says yes while the agent speaks"),
    Step("noise_dog_bark.flac", "speech", 2.5, "has a barking dog"),
    Step("caller_help_me.flac", "speech", 5.0, "interrupts"),
    Step("caller_thank_you.flac", "silence", 0.3, "says thanks"),
)
"""The main job: a question, a number, a backchannel, a noise, an interruption, a goodbye."""


SETTLED_S = 0.2
"""After the caller's last sample: what is heard of the agent from then on is its answer."""


class Speaker(Protocol):
    """A caller, in a room or not."""

    def now(self) -> float: ...
    def say(self, clip: str | Path) -> Utterance: ...
    async def wait_agent(self) -> str: ...
    async def wait_speech(self, *, after: float | None = None, timeout_s: float = 30) -> float: ...
    async def wait_silence(self, ms: float, *, timeout_s: float = 30) -> float: ...


async def perform(
    caller: Speaker,
    steps: tuple[Step, ...],
    clips: Path,
    tell: Callable[[float, str, str], None] = lambda *_: None,
) -> None:
    """The caller's side of a call, cue by cue. ``tell(wall time, who, what)`` hears of it."""
    await caller.wait_agent()
    speech_since: float | None = None
    spoke_until = 0.0
    for step in steps:
        if step.cue == "silence":
            await _agent_is_through(caller, spoke_until)
            await asyncio.sleep(step.after_s)
            speech_since = None
        else:
            # consecutive steps over one and the same speech count from the step before
            if speech_since is None:
                speech_since = await caller.wait_speech()
            await asyncio.sleep(max(0.0, speech_since + step.after_s - caller.now()))
            speech_since = caller.now()
        said = caller.say(clips / step.clip)
        tell(await said, "caller", step.what)
        spoke_until = await said.done()
    await _agent_is_through(caller, spoke_until)


async def _agent_is_through(caller: Speaker, spoke_until: float) -> None:
    """It has answered what the caller said until then, and is silent now."""
    await caller.wait_speech(after=spoke_until + SETTLED_S, timeout_s=15)
    await caller.wait_silence(1000, timeout_s=60)


class JournalTail:
    """Follows a journal that another process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.started_at = 0.0
        self.events: list[dict[str, Any]] = []

    def has(self, kind: str) -> bool:
        for _ in self.read():
            pass
        return any(event["kind"] == kind for event in self.events)

    def read(self) -> Iterator[dict[str, Any]]:
        """What is new, whole lines only."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._at += len(line)
                event: dict[str, Any] = json.loads(line)
                if event["kind"] == "start":
                    self.started_at = event["wall"]
                self.events.append(event)
                yield event
