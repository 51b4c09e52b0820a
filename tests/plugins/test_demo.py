"""What the demonstration takes for a success, and what it does not."""

from __future__ import annotations

from typing import Any

from livekit.plugins.parley.demo import Outcome, faults, remarks


def events(*, yields: int = 1, goodbye: bool = True) -> list[dict[str, Any]]:
    heard = ["Thank you, I have found it.", "Goodbye!" if goodbye else "And"]
    return [
        *({"kind": "user_turn", "text": str(i)} for i in range(4)),
        *({"kind": "act", "name": "Duck"} for _ in range(2)),
        *({"kind": "act", "name": "Yield"} for _ in range(yields)),
        *({"kind": "agent_turn", "heard": text, "cut": False} for text in heard),
    ]


def test_a_whole_conversation_is_a_success() -> None:
    outcome = Outcome.of(events())
    assert faults(outcome) == [] and remarks(outcome) == []


def test_a_stop_for_a_noise_is_remarked_and_a_missing_one_is_a_fault() -> None:
    assert remarks(Outcome.of(events(yields=2))) and not faults(Outcome.of(events(yields=2)))
    assert "did not stop" in faults(Outcome.of(events(yields=0)))[0]


def test_a_conversation_that_broke_off_and_an_error_are_faults() -> None:
    assert "goodbye" in faults(Outcome.of(events(goodbye=False)))[0]
    broken = [*events(), {"kind": "error", "where": "mind", "text": "it broke"}]
    assert "it broke" in faults(Outcome.of(broken))[0]
