"""The colours of a conversation's picture, on light and on dark paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Theme:
    paper: str
    ink: str
    faint: str
    grid: str
    caller: str
    agent: str
    error: str
    states: dict[str, str]
    other_states: tuple[str, ...]
    """For states that ``states`` does not name, in the order in which they appear."""


LIGHT = Theme(
    paper="#ffffff", ink="#1c2430", faint="#707b8a", grid="#e6e9ee",
    caller="#2f6fd0", agent="#d2622a", error="#c01c28",
    states={
        "idle": "#e3e7ed", "listening": "#cfe0f8", "user": "#cfe0f8", "thinking": "#f4e2a1",
        "speaking": "#f7cdb5", "agent": "#f7cdb5", "overlap": "#dcb9ef", "silent": "#e3e7ed",
    },
    other_states=("#bfe3d0", "#f2c4d6", "#c9e3ea", "#d9d3c3"),
)  # fmt: skip
DARK = Theme(
    paper="#14181f", ink="#e7eaf0", faint="#95a0b0", grid="#262d38",
    caller="#6ea3f2", agent="#ee9162", error="#ff6b70",
    states={
        "idle": "#2b323d", "listening": "#24436f", "user": "#24436f", "thinking": "#6a5a1c",
        "speaking": "#74401f", "agent": "#74401f", "overlap": "#5e3678", "silent": "#2b323d",
    },
    other_states=("#24563f", "#6b2d47", "#23525d", "#4d473a"),
)  # fmt: skip


def state_colours(states: Sequence[str], theme: Theme) -> dict[str, str]:
    """A colour for each state of the floor: its own, or a spare one for names not known here."""
    colours: dict[str, str] = {}
    spare = iter(theme.other_states * (1 + len(states)))
    for state in dict.fromkeys(states):
        known = next((c for name, c in theme.states.items() if name in state.lower()), None)
        colours[state] = known if known and known not in colours.values() else next(spare)
    return colours
