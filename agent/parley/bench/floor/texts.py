"""What the agent says. Plain words without punctuation: a pause of its own would hide a duck."""

from __future__ import annotations

from parley.bench import scenarios

TEXTS: dict[str, str] = {
    "certainly": "certainly I will look after that for you right now",
    "short": "all right that is done",
    **{name: scenarios.TEXTS[name] for name in ("harbour", "garden", "workshop", "notice")},
    "number": (
        "your order one two three four five will arrive on Tuesday between nine and eleven in the "
        "morning and the driver will ring you on the number that you gave us ten minutes before"
    ),
}
GO_ON = "harbour"
"""The text for what nobody has planned."""
