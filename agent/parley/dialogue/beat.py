"""When the engine ticks: every 20 ms, and soon after the microphone's frames come in.

A frame that came just after a tick would wait 20 ms for the next one, and so would everything that
is decided by it. So the beat follows the arrivals: it is pulled towards the moment at which nearly
all frames have come, by so little at a time that what is played does not notice (1 % of a tick
earlier, 5 % later). The uneven steps make it settle where five of six frames are in time, however
much they jitter.

Pure: times are given, in seconds of any one clock.
"""

from __future__ import annotations

from parley_speech.types import FRAME_MS

TICK_S = FRAME_MS / 1000
MARGIN_S = 0.001
"""After an arrival: the time to take the frame in."""
EARLIER_S = 0.0002
LATER_S = 0.001
MOST_CATCH_UP = 10
"""Ticks run at once after a stall; a longer one moves the clock on."""


class Beat:
    """The times of one engine's ticks."""

    def __init__(self) -> None:
        self.due_s = 0.0
        """When the next tick is to run."""
        self._arrived_s: float | None = None

    def begin(self, now_s: float) -> None:
        """The first tick is due now."""
        self.due_s = now_s

    def arrived(self, now_s: float) -> None:
        """A whole microphone frame came."""
        self._arrived_s = now_s

    def ticked(self, now_s: float) -> float:
        """A tick has run; how late it was compared with the next one's time (negative: there is
        time left)."""
        self.due_s += TICK_S + self._pull()
        behind_s = now_s - self.due_s
        if behind_s > MOST_CATCH_UP * TICK_S:
            self.due_s = now_s
        return behind_s

    def _pull(self) -> float:
        """Towards the arrivals, the nearer way around."""
        if self._arrived_s is None:
            return 0.0
        wanted_s = self._arrived_s + MARGIN_S
        self._arrived_s = None
        early_s = (wanted_s - self.due_s + TICK_S / 2) % TICK_S - TICK_S / 2
        return min(early_s, LATER_S) if early_s > 0 else max(early_s, -EARLIER_S)
