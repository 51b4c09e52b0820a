"""The contract between a conversation and the mind that answers in it.

A mind sees only what was really heard (``Context``), streams what it wants to say or do, and
changes nothing outside itself until its reply is committed: a reply may be a speculation, made
while the user still speaks, and be thrown away without trace.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol, runtime_checkable

from parley_speech.types import Grammar


class Cause(Enum):
    """Why a reply is asked for."""

    OPENING = "opening"  # the call begins
    USER = "user"
    """The user's turn ended. Its text is the last item of the context; where that is not the
    user's, they said something, but nobody knows what."""
    NO_INPUT = "no_input"  # the user has been silent for long
    INSTRUCTED = "instructed"  # the application asks: generate_reply(instructions=...)
    TOOL = "tool"  # results of tool calls are the last items of the context


@dataclass(frozen=True, slots=True)
class Said:
    """Words that were heard by the other side."""

    role: Literal["user", "agent"]
    text: str
    cut: bool = False
    """The speaker was interrupted after the last of these words."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str
    """A JSON object."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    id: str
    """Of the call it answers."""
    name: str
    output: str
    error: bool = False


Item = Said | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class ToolSpec:
    name: str
    description: str
    parameters: Mapping[str, object]
    """JSON schema of the arguments object."""


@dataclass(frozen=True, slots=True)
class Context:
    """All that a reply may depend on."""

    cause: Cause
    items: tuple[Item, ...] = ()
    """Oldest first."""
    instructions: str = ""
    """Standing ones; for Cause.INSTRUCTED ``request`` holds what is asked in addition."""
    request: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Literal["auto", "none", "required"] = "auto"
    said: str = ""
    """Words of this reply that the user hears already: go on behind them. Another server began
    it and broke off; a mind that cannot go on raises MindError."""
    speculative: bool = False
    """Asked for on a guess. A reply that is ``Urgent`` is told by ``wanted`` when it is none any
    more; one that is never told will be closed."""

    @property
    def user_text(self) -> str:
        """The user's words since the agent last spoke, empty when there are none."""
        words: list[str] = []
        for item in reversed(self.items):
            if not isinstance(item, Said) or item.role != "user":
                break
            words.append(item.text)
        return " ".join(reversed(words))


# --- what a reply gives ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """After these words, hand the call to a person or another agent."""

    to: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """After these words, the call is over."""


MindEvent = TextDelta | ToolCall | HandOver | HangUp


class MindError(RuntimeError):
    """A mind failed to answer. ``spoken`` is what the user should hear about it.

    ``passing``: asking again, or asking another server, may help. ``retry_after_s``: how long the
    server itself wants to be left alone; None: it did not say.
    """

    def __init__(
        self,
        message: str,
        *,
        spoken: str = "Sorry, I lost my thread. Could you say that again?",
        passing: bool = False,
        retry_after_s: float | None = None,
    ):
        super().__init__(message)
        self.spoken, self.passing, self.retry_after_s = spoken, passing, retry_after_s


class Reply(Protocol):
    """One reply being made. Iterate it once; it ends, or raises MindError."""

    def __aiter__(self) -> AsyncIterator[MindEvent]: ...

    def commit(self) -> None:
        """This reply is going to be heard: let its consequences happen (a flow moves on).
        Called at most once, may come before or after the last event."""
        ...

    def cancel(self) -> None:
        """Discarded or cut: stop generating at once. Idempotent; after ``commit`` it only stops
        the rest of the text, what was committed stays."""
        ...

    async def aclose(self) -> None:
        """Cancel and wait until everything is released."""
        ...


@runtime_checkable
class Urgent(Protocol):
    """What a reply may have besides: it begins with little right to the machine, and asks for more
    when the caller waits for it."""

    def wanted(self) -> None:
        """The turn it answers is over. Comes before ``commit``, which tells of its first sample;
        a reply that is wanted may still be cancelled. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class OverlapOpinion:
    """What the user's words over the agent's voice mean, as a mind judges them; sums to 1."""

    p_floor: float
    """They want to speak now."""
    p_backchannel: float
    """They only show that they listen."""
    p_aside: float
    """Not said to the agent."""
    weight: float = 0.0
    """0..1: how much this is to count beside the sound; 0 leaves it to the sound alone."""


@runtime_checkable
class Attentive(Protocol):
    """What a mind's session may have besides: it thinks about the user's words while they speak.
    Its opinions are evidence for the floor, never more; they may come late or not at all."""

    def attend(self, context: Context, *, over_agent: bool) -> None:
        """The user's words have changed; the last item of the context holds them, as far as they
        are recognised. Never blocks. ``completeness`` and ``overlap`` answer later."""
        ...

    def overlap(self, text: str) -> OverlapOpinion | None:
        """About these words, said over the agent's voice; None: no opinion (yet)."""
        ...


class MindSession(Protocol):
    """The mind of one call."""

    def reply(self, context: Context) -> Reply: ...

    def grammar(self) -> Grammar | None:
        """What the user may be expected to say next; None: anything."""
        ...

    def completeness(self, text: str) -> float | None:
        """P(the user's turn is finished | its words so far), None: no opinion."""
        ...

    async def aclose(self) -> None: ...


class Mind(Protocol):
    """Makes a session per call. Shared by all calls of a worker."""

    async def start(self) -> None: ...

    def session(self) -> MindSession: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class MindLimits:
    """Bounds that every mind keeps, whatever its model does."""

    max_chars: int = 4000
    """A reply longer than this is ended."""
    first_s: float = 8.0
    """Longest wait for the first event."""
    stall_s: float = 5.0
    """Longest wait between two events."""
