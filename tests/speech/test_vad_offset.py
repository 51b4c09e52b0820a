"""When a voice ended, to the frame."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_speech import audio
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, Pcm
from parley_speech.vad.fusion import FusionVad
from parley_speech.vad.offset import Offset

CLIPS = Path(__file__).parents[1] / "data" / "audio"
ABOUT = {e["file"]: e for e in json.loads((CLIPS / "manifest.json").read_text())}
SPOKEN = [name for name, e in ABOUT.items() if e["kind"] != "noise" and e.get("sound")]


def frame(level_dbfs: float) -> Pcm:
    t = np.arange(MIC_FRAME)
    wave = np.sign(np.sin(2 * np.pi * 200 * t / MIC_HZ))
    return audio.to_pcm(wave * audio.FULL_SCALE * 10 ** (level_dbfs / 20))


def end_of(name: str, noise_dbfs: float) -> tuple[float, float, float]:
    """True end, the detector's and the estimated one, in ms."""
    first_ms = 500
    true_ms = first_ms + ABOUT[name]["sound"][1] * 1000
    voice = audio.read(CLIPS / name, MIC_HZ)[: round(ABOUT[name]["sound"][1] * MIC_HZ)]
    silence = np.zeros(first_ms * MIC_HZ // 1000)
    noise = np.random.default_rng(1).normal(size=2 * len(silence) + len(voice))
    sound = np.concatenate([silence, voice, silence])
    pcm = audio.to_pcm(sound + noise * audio.FULL_SCALE * 10 ** (noise_dbfs / 20))
    vad, offset, voiced = FusionVad(), Offset(), False
    detected = estimated = 0.0
    for i in range(len(pcm) // MIC_FRAME):
        piece = pcm[i * MIC_FRAME : (i + 1) * MIC_FRAME]
        was, voiced = voiced, vad.push(piece) >= (0.35 if voiced else 0.5)
        silence_ms = offset.push(piece, voiced)
        if was and not voiced:
            now_ms = (i + 1) * FRAME_MS
            detected, estimated = now_ms - FRAME_MS, now_ms - silence_ms
    return true_ms, detected, estimated


@pytest.mark.parametrize("noise_dbfs", [-80, -55])
def test_the_end_is_found_nearer_than_the_detector_does(noise_dbfs: float) -> None:
    ends = [end_of(name, noise_dbfs) for name in SPOKEN[::3]]
    late = np.array([detected - true for true, detected, _ in ends])
    off = np.array([estimated - true for true, _, estimated in ends])
    assert np.median(late) > 30, "the detector is late, or this module is not needed"
    assert np.percentile(np.abs(off), 90) <= 2 * FRAME_MS
    assert abs(float(np.median(off))) <= FRAME_MS / 2


def test_silence_counts_from_the_last_frame_that_sounded() -> None:
    offset = Offset()
    for _ in range(20):
        offset.push(frame(-60), False)
    for _ in range(20):
        assert offset.push(frame(-20), True) == 0
    for _ in range(3):  # the sound is over, the detector holds on
        assert offset.push(frame(-60), True) == 0
    assert offset.push(frame(-60), False) == 4 * FRAME_MS
    assert offset.push(frame(-60), False) == 5 * FRAME_MS


def test_a_sound_that_goes_on_is_the_detectors_to_judge() -> None:
    """Music under a voice that has ended: only the detector knows."""
    offset = Offset()
    for _ in range(20):
        offset.push(frame(-20), True)
    assert [offset.push(frame(-22), False) for _ in range(3)] == [20, 40, 60]


def test_what_rings_on_far_below_the_voice_is_not_the_voice() -> None:
    offset = Offset()
    for _ in range(5):
        offset.push(frame(-75), False)
    for _ in range(20):
        offset.push(frame(-15), True)
    for _ in range(3):
        offset.push(frame(-55), True)
    assert offset.push(frame(-55), False) == 4 * FRAME_MS


@given(
    st.lists(st.tuples(st.floats(-70, -5), st.booleans()), max_size=80), st.sampled_from([0, 60])
)
def test_never_after_the_detectors_end_nor_more_than_its_reach_before(
    frames: list[tuple[float, bool]], reach_ms: int
) -> None:
    offset, unvoiced_ms = Offset(reach_ms), 0
    for level, voice in frames:
        silence_ms = offset.push(frame(level), voice)
        unvoiced_ms = 0 if voice else unvoiced_ms + FRAME_MS
        assert unvoiced_ms <= silence_ms <= unvoiced_ms + reach_ms
        assert not voice or silence_ms == 0


def test_a_negative_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="reach_ms"):
        Offset(-1)
