"""How long a caller is made to wait for a language model, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller is made to wait, and what they are told. Times in seconds, counted from
    when the reply is wanted."""

    apology_s: float = 1.5
    apology: str = "Sorry, this takes a moment."
    """Empty: nothing is said."""
    overtake_s: float = 2.5
    """A request without an answer for so long is also made at the next endpoint."""
    first_s: float = 10.0
    """Longest wait for the first words, all attempts together."""
    total_s: float = 30.0
    """Longest wait for words of one reply, all of its pauses together."""
    again_s: float = 0.25
    """From a failure to the next attempt at the same endpoint; doubles each time."""

    def __post_init__(self) -> None:
        if min(self.apology_s, self.overtake_s, self.first_s, self.total_s, self.again_s) <= 0:
            raise ValueError("every time of Patience must be above zero")


@dataclass(slots=True)
class EndpointStats:
    """What happened to the replies of all calls."""

    apologies: int = 0
    failures: int = 0
    """Requests that failed."""
    overtaken: int = 0
    """... that were slower than the one made at the next endpoint."""
    elsewhere: int = 0
    """Replies that another endpoint than the preferred one gave."""
    continued: int = 0
    """Replies that broke off and went on."""
    lost: int = 0
    """... that ended in an error after all."""
