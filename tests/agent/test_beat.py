"""The beat of the engine against microphones that jitter, pause and stall."""

from __future__ import annotations

import random

import pytest

from parley.dialogue.beat import MOST_CATCH_UP, TICK_S, Beat


def waits(offset_s: float, jitter_s: float, ticks: int = 1500) -> list[float]:
    """How long each frame waited for its tick, the microphone being ``offset_s`` off the beat."""
    rng = random.Random(1)
    beat, arrivals = Beat(), [offset_s + n * TICK_S for n in range(ticks + 2)]
    arrivals = sorted(max(0.0, a + rng.uniform(0, jitter_s)) for a in arrivals)
    beat.begin(0.0)
    waited: list[float] = []
    for _ in range(ticks):
        now = beat.due_s
        while arrivals and arrivals[0] <= now:
            at = arrivals.pop(0)
            waited.append(now - at)
            beat.arrived(at)
        beat.ticked(now)
    return waited


@pytest.mark.parametrize("offset_s", [0.0, 0.003, 0.0099, 0.0101, 0.015, 0.0199])
def test_a_steady_microphone_hardly_waits(offset_s: float) -> None:
    settled = waits(offset_s, 0.0)[200:]
    assert max(settled) <= 0.0015


def test_a_jittering_one_waits_for_most_of_its_frames() -> None:
    settled = sorted(waits(0.013, 0.006)[300:])
    assert settled[len(settled) // 2] < 0.006, "half a tick would be 10 ms"
    assert sum(w > 0.012 for w in settled) < len(settled) / 4, "few come too late and wait"


def test_ticks_stay_a_tick_apart() -> None:
    beat, rng = Beat(), random.Random(2)
    beat.begin(0.0)
    before = 0.0
    for n in range(1000):
        beat.arrived(n * TICK_S + rng.uniform(0, 0.05))
        beat.ticked(beat.due_s)
        assert TICK_S * 0.98 <= beat.due_s - before <= TICK_S * 1.06
        before = beat.due_s


def test_without_a_microphone_it_keeps_time() -> None:
    beat = Beat()
    beat.begin(5.0)
    for n in range(1, 100):
        beat.ticked(beat.due_s)
        assert beat.due_s == pytest.approx(5.0 + n * TICK_S)


def test_a_short_stall_is_made_up_for_and_a_long_one_is_not() -> None:
    beat = Beat()
    beat.begin(0.0)
    assert beat.ticked(0.1) == pytest.approx(0.08)
    assert beat.due_s == pytest.approx(0.02)
    behind = beat.ticked(1.0)
    assert behind > MOST_CATCH_UP * TICK_S and beat.due_s == 1.0
