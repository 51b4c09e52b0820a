"""What an engine tells whoever runs it: frozen records, in the order things happened.

``t_ms`` is stream time (the engine's ticks); ``Engine.started_at`` ties it to wall-clock time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from parley.dialogue.acts import Act
from parley.dialogue.floor import State
from parley.minds.base import Cause, ToolCall
from parley_speech.types import Pcm


@dataclass(frozen=True, slots=True)
class FloorMoved:
    t_ms: int
    state: State
    acts: tuple[Act, ...]


@dataclass(frozen=True, slots=True)
class UserStarted:
    t_ms: int


@dataclass(frozen=True, slots=True)
class UserStopped:
    t_ms: int


@dataclass(frozen=True, slots=True)
class UserText:
    """The user's words so far in this turn; not yet committed."""

    t_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class UserTurn:
    """The user's turn is over and in the context."""

    t_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class UserAside:
    """Words that answered nothing: a backchannel."""

    t_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class OverlapDecided:
    t_ms: int
    kind: Literal["interruption", "aside", "turn"]
    p_interruption: float
    p_noise: float
    since_onset_ms: int


@dataclass(frozen=True, slots=True)
class ReplyCommitted:
    """A reply that will be heard. ``request`` names the application's request it serves."""

    t_ms: int
    reply: int
    cause: Cause
    request: int | None = None


@dataclass(frozen=True, slots=True)
class ReplyFrame:
    """20 ms of a reply, played now: (480,) int16 at 24 kHz."""

    t_ms: int
    reply: int
    pcm: Pcm


@dataclass(frozen=True, slots=True)
class ReplyWords:
    """More of a reply's text was heard; the deltas of a reply joined give its heard text."""

    t_ms: int
    reply: int
    delta: str


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    t_ms: int
    reply: int
    heard: str
    text: str
    """All that was made, heard or not."""
    cut: bool


@dataclass(frozen=True, slots=True)
class ToolCalled:
    t_ms: int
    reply: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The reply before this has been heard: hand the call over now."""

    t_ms: int
    to: str


@dataclass(frozen=True, slots=True)
class HungUp:
    """The last words have been heard: end the call now."""

    t_ms: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A latency. Names: ``reply`` (last voiced frame → first sample), ``reply_waited`` (the part
    of it that the floor chose), ``duck`` and ``stop`` (onset → act)."""

    t_ms: int
    name: str
    ms: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong and was handled; what the user heard about it is in the reply."""

    t_ms: int
    where: Literal["mind", "voice", "ears", "engine"]
    error: str


EngineEvent = (
    FloorMoved
    | UserStarted
    | UserStopped
    | UserText
    | UserTurn
    | UserAside
    | OverlapDecided
    | ReplyCommitted
    | ReplyFrame
    | ReplyWords
    | ReplyEnded
    | ToolCalled
    | HandedOver
    | HungUp
    | Measured
    | Failed
)
