"""What one conversation was, before anybody judges it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from parley.bench.floor.line import Placed
from parley.bench.floor.scene import Scene
from parley.bench.instant import Rendering
from parley_speech.types import SPEAKER_HZ, Pcm


@dataclass
class PlayedReply:
    """One reply as it left the agent."""

    number: int
    at_ms: int
    """When its first frame began to be played."""
    cause: str
    text: str
    frames: list[Pcm] = field(default_factory=list)
    heard: str | None = None
    """What the agent takes to have been heard; None when the conversation ended before."""
    cut: bool = False

    @property
    def pcm(self) -> Pcm:
        return np.concatenate(self.frames) if self.frames else np.empty(0, np.int16)

    @property
    def end_ms(self) -> float:
        return self.at_ms + sum(map(len, self.frames)) * 1000 / SPEAKER_HZ


@dataclass(frozen=True, slots=True)
class Moved:
    """What the floor did: an act and when."""

    t_ms: int
    act: str
    reply: int = -1


@dataclass
class Played:
    """One conversation."""

    scene: Scene
    placed: list[Placed]
    replies: list[PlayedReply]
    moves: list[Moved]
    words: list[tuple[int, str, str]]
    """(ms, kind, text): kind is text, turn, aside or failed."""
    renderings: dict[str, Rendering]
    mic: Pcm
    """(samples,) at 16 kHz: what the agent was given."""
    agent: Pcm
    """(samples,) at 24 kHz: what it played, in step with ``mic``."""
    seconds: float
    floor_s: float
    """CPU time in the floor's steps."""
    cpu_s: float
    """... of everything."""
