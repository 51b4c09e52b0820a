"""A circuit breaker: a server that keeps failing is left alone for a while.

Without it every caller waits out a deadline that the last caller has already waited out, and a
server that struggles to come back is met by all of them at once. Pure: times are given, in seconds
of any one clock.

* ``CLOSED``     requests pass. A success forgets the failures before it.
* ``OPEN``       none pass, for ``open_s`` or as long as the server has asked for.
* ``HALF_OPEN``  one passes, to try. Success closes; failure opens again, for twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Circuit(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    failures: int = 3
    """In a row; one may be chance, and the second attempt of the same turn makes two."""
    open_s: float = 3.0
    """The first time; less than the patience of a caller who is being put off."""
    longest_s: float = 60.0
    """An engine that has died is restarted, a model loaded, within minutes."""
    trial_s: float = 10.0
    """A try that nobody has told the end of within this time is taken to be lost."""

    def __post_init__(self) -> None:
        if self.failures < 1 or not 0 < self.open_s <= self.longest_s or self.trial_s <= 0:
            raise ValueError("expected failures >= 1, 0 < open_s <= longest_s and trial_s > 0")


class Breaker:
    """Of one server, shared by all calls of a worker."""

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self.policy = policy or BreakerPolicy()
        self.state = Circuit.CLOSED
        self.opened = 0
        """How often it has opened."""
        self._failures = 0
        self._open_s = self.policy.open_s
        self._until = 0.0

    def free_at(self, now_s: float) -> float:
        """When a request may pass: now, or later."""
        return now_s if self.state is Circuit.CLOSED else max(now_s, self._until)

    def take(self, now_s: float) -> bool:
        """Whether a request may pass now. Each True is followed by one of ``succeeded``,
        ``failed`` and ``abandoned``."""
        if self.free_at(now_s) > now_s:
            return False
        if self.state is not Circuit.CLOSED:
            self.state = Circuit.HALF_OPEN
            self._until = now_s + self.policy.trial_s
        return True

    def succeeded(self) -> None:
        """It has begun to answer."""
        self.state = Circuit.CLOSED
        self._failures = 0
        self._open_s = self.policy.open_s

    def failed(self, now_s: float, retry_after_s: float | None = None) -> None:
        """It has not. ``retry_after_s``: the server itself asks to be left alone for so long."""
        tried = self.state is Circuit.HALF_OPEN
        self._failures += 1
        if retry_after_s is not None:
            self._open(now_s, retry_after_s)
        elif tried:
            self._open_s = min(2 * self._open_s, self.policy.longest_s)
            self._open(now_s, self._open_s)
        elif self.state is Circuit.CLOSED and self._failures >= self.policy.failures:
            self._open(now_s, self._open_s)

    def abandoned(self, now_s: float) -> None:
        """Nobody waited for its answer: neither good nor bad. Another may try."""
        if self.state is Circuit.HALF_OPEN:
            self.state, self._until = Circuit.OPEN, now_s

    def _open(self, now_s: float, seconds: float) -> None:
        self.opened += self.state is not Circuit.OPEN
        self.state = Circuit.OPEN
        self._until = now_s + min(seconds, self.policy.longest_s)
