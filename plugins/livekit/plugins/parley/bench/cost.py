"""What a call costs: the processor time of a process and of those it has started."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

import psutil


class CpuMeter:
    """From its making to ``stop``. A process that ended in between counts as far as it was seen."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._seen: dict[int, float] = {}
        self._before = self._total()
        self._began = time.monotonic()
        self._percent: float | None = None
        self.seconds = 0.0

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Self | None:
        """A meter for the process in an agent's file; None when it names none that runs."""
        try:
            return cls(about["pid"])
        except (KeyError, psutil.NoSuchProcess):
            return None

    def stop(self) -> None:
        """Takes the final reading, while the process still runs."""
        self.seconds = time.monotonic() - self._began
        self._percent = 100 * (self._total() - self._before) / max(self.seconds, 1e-3)

    @property
    def percent(self) -> float | None:
        """Of one core; None before ``stop``."""
        return self._percent

    def _total(self) -> float:
        """Seconds of processor time, user and system, until now."""
        try:
            family = [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        for process in family:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            self._seen[process.pid] = times.user + times.system
        return sum(self._seen.values())
