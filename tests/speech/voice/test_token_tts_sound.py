"""A decoder's samples on their way out: exact in the middle, no click at the ends."""

from __future__ import annotations

import numpy as np
import pytest

from parley_speech.tts.token_sound import EDGE, Sound

HZ = 24_000
TONE = (0.5 * np.sin(np.arange(HZ) / 12)).astype(np.float32)


def test_quiet_edges_are_left_alone() -> None:
    envelope = np.minimum(1, np.minimum(np.arange(HZ), np.arange(HZ)[::-1]) / 2400)
    samples = (TONE * envelope).astype(np.float32)
    pcm = Sound(HZ).pcm(samples, last=True)
    assert np.array_equal(pcm, np.rint(samples * 32767).astype(np.int16))


@pytest.mark.parametrize("cut", [1, 100, 5000, HZ - 10, HZ])
def test_loud_edges_are_faded_and_nothing_else(cut: int) -> None:
    loud = np.full(HZ, 0.5, np.float32)
    sound = Sound(HZ)
    pcm = np.concatenate((sound.pcm(loud[:cut], last=False), sound.pcm(loud[cut:], last=True)))
    plain = round(0.5 * 32767)
    assert pcm[-1] == 0
    assert np.abs(np.diff(pcm.astype(int)))[EDGE:].max() < plain / 50
    inner = pcm[EDGE : HZ - EDGE]
    assert (inner == plain).all()
    assert HZ <= len(pcm) <= HZ + EDGE


def test_a_sound_that_ends_without_more_dies_away() -> None:
    sound = Sound(HZ)
    sound.pcm(np.full(2400, -0.25, np.float32), last=False)
    tail = sound.pcm(np.zeros(0, np.float32), last=True)
    assert len(tail) == EDGE
    assert tail[0] == -round(0.25 * 32767)
    assert tail[-1] == 0
    assert Sound(HZ).pcm(np.zeros(0, np.float32), last=True).size == 0


def test_full_scale_does_not_wrap() -> None:
    pcm = Sound(HZ).pcm(np.array([0.0, 1.5, -1.5, 0.0], np.float32), last=False)
    assert pcm.tolist() == [0, 32767, -32767, 0]


def test_another_rate_is_changed_on_the_way() -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32)
    sound = Sound(16_000)
    pieces = [sound.pcm(tone[at : at + 1000], last=at == 15_000) for at in range(0, 16_000, 1000)]
    pcm = np.concatenate(pieces).astype(float)
    assert abs(len(pcm) - HZ) < 200
    peak = np.abs(np.fft.rfft(pcm[:HZ])).argmax()
    assert peak == 440
