"""How much the bench does, and what comes of it before it is judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from livekit.plugins.parley.room_trip import RoomTrip

from parley.bench.records import CallRecord


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    interruptions: int = 51
    calls: int = 3
    """... in this many calls, each with another text."""
    sounds: int = 50
    echoes: int = 51
    """Replies with echo; the same number for each delay."""
    echo_calls: int = 3
    """... each delay in so many calls."""
    shop_rounds: int = 2
    stock_interruptions: int = 9
    stock_sounds: int = 6
    clicks: int = 12


FULL = Size()
QUICK = Size(9, 1, 10, 6, 1, 1, 3, 3, 8)


@dataclass
class Results:
    """Everything that was measured, before it is judged."""

    trips: list[RoomTrip] = field(default_factory=list)
    calls: dict[str, list[CallRecord]] = field(default_factory=dict)
    """By scenario."""
    failures: list[str] = field(default_factory=list)

    @property
    def clicks_ms(self) -> list[float]:
        return [ms for trip in self.trips for ms in trip.clicks_ms]
