"""What the agent says while something takes long, so that it keeps the floor; when it gives up.

A tool that answers at once needs no words about it; "One moment." before every answer is a tic.
So a line is due only when a call has run for a while *and* nobody has spoken since: the clock
starts again with every word of anybody's. A call that has run for too long is given up, whoever
speaks. Pure: times are given, in seconds of any one clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FillerPolicy:
    """When the agent speaks while its tools run, and what it says."""

    after_s: float = 0.8
    """Silence after which the first line is due; a shorter one is an ordinary pause."""
    again_s: float = 6.0
    """Silence after which the next one is: less than the time after which a caller is asked
    whether they are still there."""
    lines: tuple[str, ...] = (
        "One moment.",
        "I am still looking.",
        "This takes longer than usual; please bear with me.",
    )
    """In turn; the last one serves for the rest. None at all: the agent is silent."""
    give_up_s: float | None = 30.0
    """A call without a result for so long is given up: the caller is told, and what it gives later
    is told when it comes. None: never, the agent holds the line for as long as it takes."""

    def __post_init__(self) -> None:
        if self.give_up_s is not None and self.give_up_s <= 0:
            raise ValueError(
                f"give_up_s={self.give_up_s:g}: expected more than 0; None never gives up"
            )
        if self.after_s < 0 or self.again_s <= 0:
            raise ValueError(
                f"after_s={self.after_s:g}, again_s={self.again_s:g}: expected 0 or more, and "
                "more than 0; for no words at all give lines=()"
            )


class Filler:
    """The calls of one conversation that run now."""

    def __init__(self, policy: FillerPolicy | None = None) -> None:
        self.policy = policy or FillerPolicy()
        self._running: dict[str, float] = {}
        """When each of them began."""
        self._since = 0.0
        self._said = 0

    @property
    def busy(self) -> bool:
        """A tool runs."""
        return bool(self._running)

    @property
    def running(self) -> frozenset[str]:
        """Ids of the calls that have no result yet."""
        return frozenset(self._running)

    def called(self, call_id: str, now_s: float) -> None:
        """A tool begins. The first of several starts the clock."""
        if not self._running:
            self._since, self._said = now_s, 0
        self._running.setdefault(call_id, now_s)

    def answered(self, call_id: str) -> None:
        """It has given its result, or failed. Idempotent."""
        self._running.pop(call_id, None)

    def spoken(self, now_s: float) -> None:
        """Somebody has just finished speaking."""
        self._since = max(self._since, now_s)

    @property
    def give_up_at_s(self) -> float | None:
        """When the oldest call is given up; None: never."""
        if not self._running or self.policy.give_up_s is None:
            return None
        return min(self._running.values()) + self.policy.give_up_s

    def given_up(self, now_s: float) -> tuple[str, ...]:
        """Calls that have run for too long; from now on they count as answered."""
        if self.policy.give_up_s is None:
            return ()
        latest = now_s - self.policy.give_up_s
        late = tuple(call for call, began_s in self._running.items() if began_s <= latest)
        for call in late:
            del self._running[call]
        return late

    @property
    def due_s(self) -> float | None:
        """When the next line is due, should nobody speak before; None: never."""
        if not self._running or not self.policy.lines:
            return None
        return self._since + (self.policy.again_s if self._said else self.policy.after_s)

    def line(self) -> str:
        """The words that are due now."""
        lines = self.policy.lines
        text = lines[min(self._said, len(lines) - 1)]
        self._said += 1
        return text
