"""What was played reaches the canceller: all of it, once, in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parley.dialogue.reference import _MOST, FarEnd
from parley_speech.types import MIC_FRAME, SPEAKER_FRAME, Pcm


def frame(level: int) -> Pcm:
    return np.full(SPEAKER_FRAME, level, np.int16)


def levels(pcm: Pcm) -> list[int]:
    return [int(f[MIC_FRAME // 2]) for f in pcm.reshape(-1, MIC_FRAME)]


@given(st.lists(st.booleans(), max_size=80))
def test_however_the_two_sides_come_every_frame_is_given_once_and_in_order(
    puts: list[bool],
) -> None:
    far, put, taken = FarEnd(), 0, []
    for is_put in puts:
        if is_put:
            far.put(frame(100 * put))
            put += 1
        else:
            taken += levels(far.take())
    taken += levels(far.take())
    assert taken == [100 * i for i in range(put)]


def test_nothing_played_is_nothing_taken() -> None:
    far = FarEnd()
    assert far.take().shape == (0,)
    far.put(frame(0))
    assert far.take().shape == (MIC_FRAME,)
    assert far.take().shape == (0,)


def test_while_nobody_takes_the_oldest_goes() -> None:
    far = FarEnd()
    for i in range(_MOST + 5):
        far.put(frame(10 * i))
    assert levels(far.take()) == [10 * i for i in range(5, _MOST + 5)]


def test_a_tone_keeps_its_pitch_and_level_through_the_change_of_rate() -> None:
    t = np.arange(24_000) / 24_000
    tone = (8000 * np.sin(2 * np.pi * 500 * t)).astype(np.int16)
    far = FarEnd()
    for part in tone.reshape(-1, SPEAKER_FRAME):
        far.put(part)
    out = far.take().astype(np.float64)
    wanted = 8000 * np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000)
    assert np.abs(out - wanted).max() < 0.05 * 8000
