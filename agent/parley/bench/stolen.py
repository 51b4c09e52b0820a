"""What the host of a virtual machine takes away while something is measured.

A host that gives its processors to somebody else makes every figure longer, and nothing within the
machine shows why but this count (``steal`` in proc(5)).
"""

from __future__ import annotations

from pathlib import Path

STAT = Path("/proc/stat")
STEAL = 7
"""Place among user, nice, system, idle, iowait, irq, softirq, steal. Guests' time is in user's."""


class Stolen:
    """Of all processors' time since it was made."""

    def __init__(self, stat: Path = STAT) -> None:
        self._stat = stat
        self._before = _ticks(stat)

    def note(self) -> str:
        """For people; says so where the system does not count it."""
        ticks = [now - then for now, then in zip(_ticks(self._stat), self._before, strict=True)]
        if not sum(ticks):
            return "how much of the processors' time the host took is not known"
        return f"the host took {ticks[STEAL] / sum(ticks):.1%} of the processors' time"


def _ticks(stat: Path) -> list[int]:
    try:
        with stat.open(encoding="ascii") as lines:
            return [int(field) for field in lines.readline().split()[1 : STEAL + 2]]
    except OSError:
        return [0] * (STEAL + 1)
