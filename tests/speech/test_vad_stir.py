"""A sound that begins is noticed at once, and a line's own noise is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_speech import audio
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ
from parley_speech.vad.fusion import FusionVad
from parley_speech.vad.stir import LEAST_DBFS, Stir

CLIPS = Path(__file__).parents[1] / "data" / "audio"
ABOUT = {e["file"]: e for e in json.loads((CLIPS / "manifest.json").read_text())}
SPOKEN = [name for name, e in ABOUT.items() if e["kind"] != "noise" and e.get("sound")]


def noise_levels(dbfs: float, frames: int, seed: int = 1) -> list[float]:
    noise = np.random.default_rng(seed).normal(size=frames * MIC_FRAME)
    pcm = audio.to_pcm(noise * audio.FULL_SCALE * 10 ** (dbfs / 20))
    return [audio.level_dbfs(f) for f in pcm.reshape(-1, MIC_FRAME)]


@pytest.mark.parametrize("dbfs", [-90, -67, -45, -25])
def test_steady_noise_does_not_stir_and_what_stands_out_of_it_does(dbfs: float) -> None:
    stir = Stir()
    assert not any(stir.push(level, False) for level in noise_levels(dbfs, 500))
    assert stir.push(max(dbfs + 12, LEAST_DBFS + 1), False)


def test_noise_that_begins_stirs_until_it_is_usual() -> None:
    stir = Stir()
    for level in noise_levels(-67, 100):
        stir.push(level, False)
    found = [stir.push(level, False) for level in noise_levels(-40, 1000)]
    assert found[0] and not any(found[-200:])


def test_a_voice_is_not_what_is_usual() -> None:
    stir = Stir()
    for level in noise_levels(-67, 100):
        stir.push(level, False)
    for _ in range(500):
        assert stir.push(-20.0, True)


@given(st.lists(st.tuples(st.floats(-120, 0), st.booleans()), max_size=60))
def test_what_is_too_soft_never_stirs(frames: list[tuple[float, bool]]) -> None:
    stir = Stir()
    for level, voice in frames:
        assert not stir.push(level, voice) or level > LEAST_DBFS


def test_recorded_voices_stir_before_the_detector_opens() -> None:
    leads = []
    for name in SPOKEN[::3]:
        voice = audio.read(CLIPS / name, MIC_HZ)[round(ABOUT[name]["sound"][0] * MIC_HZ) :]
        silence = np.zeros(MIC_HZ // 2)
        noise = np.random.default_rng(1).normal(size=len(silence) + len(voice)) * 15
        pcm = audio.to_pcm(np.concatenate([silence, voice]) + noise)
        stir, vad, stirred, opened = Stir(), FusionVad(), 0, 0
        for i, frame in enumerate(pcm[: len(pcm) // MIC_FRAME * MIC_FRAME].reshape(-1, MIC_FRAME)):
            voiced = vad.push(frame) >= 0.5
            if stir.push(audio.level_dbfs(frame), voiced) and not stirred:
                stirred = i
            if voiced:
                opened = i
                break
        assert stirred and opened
        leads.append((opened - stirred) * FRAME_MS)
    assert min(leads) >= 0
    assert np.mean(leads) >= FRAME_MS / 2, "or the detector would do"
