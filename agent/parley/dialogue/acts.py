"""What the floor decides: frozen acts, carried out by the engine in the order given.

Replies are numbered. A reply begins with ``Speculate`` and ends that phase in exactly one
``Commit`` or ``Discard``; a committed one may ``Speak`` once and may be ended early by ``Yield``.
Acts are idempotent: carrying one out twice is the same as once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from parley.minds.base import Cause


@dataclass(frozen=True, slots=True)
class Listen:
    """The user has the floor."""


@dataclass(frozen=True, slots=True)
class Speculate:
    """Start making a reply; it may be thrown away."""

    reply: int
    cause: Cause
    text: str = ""
    """The user's words it answers (Cause.USER)."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The reply will be heard: the user's turn is over and enters the context."""

    reply: int
    cause: Cause
    text: str = ""
    waited_ms: int = 0
    """How long the floor chose to wait after the user's last voiced frame."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Throw the speculated reply away; it never happened."""

    reply: int


@dataclass(frozen=True, slots=True)
class Speak:
    """Play the committed reply from its first sample."""

    reply: int


@dataclass(frozen=True, slots=True)
class Backchannel:
    """Say a listener's word without taking the floor."""

    text: str


@dataclass(frozen=True, slots=True)
class Duck:
    """Lower the agent's voice: somebody else may want to speak."""


@dataclass(frozen=True, slots=True)
class Unduck:
    """Raise it again: it was not meant to take the floor."""

    heard: Literal["aside", "turn", "nothing"] = "aside"
    """What the user's words were: an aside (backchannel, noise; they answer nothing), the
    beginning of a turn that waits until the agent has finished, or nothing: no voice followed."""


@dataclass(frozen=True, slots=True)
class Yield:
    """Stop, and cut the context to what was heard."""

    reply: int
    by: Literal["user", "application"] = "user"


Act = Listen | Speculate | Commit | Discard | Speak | Backchannel | Duck | Unduck | Yield
