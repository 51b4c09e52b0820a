"""What is kept of a call of the bench: enough to judge it again later, without the call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parley.bench.scenarios import Plan
from parley.report.recording import Recording


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing the caller did. Wall-clock times of its audible part, at the microphone."""

    clip: str
    what: str
    gain_db: float
    onset: float
    end: float
    aimed_s: float | None = None
    """An interruption: how far into the reply it was to begin."""


@dataclass(frozen=True)
class CallRecord:
    """All that is known of one call."""

    plan: Plan
    room: str
    recording: Recording
    trials: tuple[Trial, ...]
    events: tuple[dict[str, Any], ...]
    """The journal, ``t`` in wall-clock seconds; empty for a stock session."""
    agent: dict[str, Any]
    """What the agent told at its end."""
    cpu_percent: float | None = None
    """Of one core, the agent's process and its children."""
    echo_ms: int | None = None
    caller_late_ms: tuple[float, float] = (0.0, 0.0)
    """Median and maximum of how late the caller's own frames were: a busy caller measures badly."""
