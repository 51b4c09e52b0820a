"""How finished a voice sounds: prosody of made tones, the network, one call's pauses."""

from __future__ import annotations

import io
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_speech.overlap_features import HISTORY, FrameFeatures
from parley_speech.turn_end import net, prosody
from parley_speech.turn_end.finality import LEAD, Finality
from parley_speech.types import MIC_FRAME, MIC_HZ, Pcm

QUIET = np.zeros(MIC_FRAME, np.int16)


def voice(pitches_hz: list[float], tail_ms: int = 0) -> list[Pcm]:
    """A buzz with this pitch, 20 ms each; frames (320,), of which ``tail_ms`` ring off."""
    hz = np.repeat(np.array(pitches_hz), MIC_FRAME)
    phase = 2 * np.pi * np.cumsum(hz) / MIC_HZ
    wave = np.sum([np.sin(k * phase) / k for k in range(1, 9)], axis=0)
    tail = tail_ms * MIC_HZ // 1000
    if tail:
        wave[-tail:] *= np.linspace(1.0, 0.0, tail)
    return list((wave * 6000).astype(np.int16).reshape(-1, MIC_FRAME))


def described(frames: list[Pcm], median: float | None = None) -> dict[str, float]:
    features = FrameFeatures()
    lead = [QUIET] * LEAD
    raw = features.restart([*lead, *frames], np.ones(len(frames), np.float32))
    found = prosody.describe(raw, median)
    assert found is not None
    return dict(zip(prosody.NAMES, map(float, found), strict=True))


# --- prosody ------------------------------------------------------------------------------------


def test_a_falling_voice_ends_below_its_middle_and_a_rising_one_above() -> None:
    level = [160.0] * 30
    falling = described(voice([*level, *np.linspace(160, 110, 12)]))
    rising = described(voice([*level, *np.linspace(160, 230, 12)]))
    assert falling["pitch_end"] < -0.2 < 0.2 < rising["pitch_end"]
    assert falling["slope_200"] < -1.0 < 1.0 < rising["slope_200"]
    assert falling["pitch_step"] < 0 < rising["pitch_step"]


def test_pitch_counts_from_the_speakers_own_median() -> None:
    high_speaker = np.log2(240 / 160)
    found = described(voice([160.0] * 30), median=float(high_speaker))
    assert found["pitch_end"] == pytest.approx(np.log2(160 / 240), abs=0.03)


def test_the_gain_of_the_line_does_not_matter() -> None:
    frames = voice([*[180.0] * 30, *np.linspace(180, 130, 10)], tail_ms=80)
    softer = [np.round(frame / 4).astype(np.int16) for frame in frames]
    loud, soft = described(frames), described(softer)
    for name in prosody.NAMES:
        assert loud[name] == pytest.approx(soft[name], abs=0.1), name


def test_a_slow_decay_is_told_from_a_sudden_end() -> None:
    slow = described(voice([150.0] * 40, tail_ms=300))
    sudden = described(voice([150.0] * 40))
    assert slow["level_slope_300"] < sudden["level_slope_300"]


def test_too_little_sound_has_no_prosody() -> None:
    raw = FrameFeatures().restart([QUIET] * LEAD + voice([150.0] * 3), np.ones(3, np.float32))
    assert prosody.describe(raw) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(prosody.LEAST, 200), st.floats(-60, 0))
def test_prosody_of_any_sound_is_finite(seed: int, count: int, level_db: float) -> None:
    noise = np.random.default_rng(seed).standard_normal((count, MIC_FRAME))
    noise *= np.random.default_rng(seed + 1).random((count, 1))
    frames = list((noise * 3000 * 10 ** (level_db / 20)).astype(np.int16))
    raw = FrameFeatures().restart([QUIET] * LEAD + frames, np.ones(count, np.float32))
    found = prosody.describe(raw)
    assert found is None or (found.shape == (prosody.SIZE,) and np.isfinite(found).all())


# --- the network --------------------------------------------------------------------------------


def test_the_package_has_weights_and_a_fall_sounds_more_finished_than_a_level_tone() -> None:
    weights = net.load()
    features = {
        name: prosody_of(pitches)
        for name, pitches in {
            "falls": [*[150.0] * 40, *np.linspace(150, 105, 15)],
            "level": [150.0] * 55,
        }.items()
    }
    p = {name: net.probability(weights, x) for name, x in features.items()}
    assert 0.0 < p["level"] < p["falls"] < 1.0


def prosody_of(pitches: list[float]) -> np.ndarray:
    frames = voice(pitches, tail_ms=60)
    raw = FrameFeatures().restart([QUIET] * LEAD + frames, np.ones(len(frames), np.float32))
    found = prosody.describe(raw)
    assert found is not None
    return found


def test_a_probability_is_the_mean_of_the_networks() -> None:
    size = prosody.SIZE
    weights = net.Weights(
        mean=np.zeros(size, np.float32), scale=np.ones(size, np.float32),
        W=np.zeros((2, size, 1), np.float32), b=np.zeros((2, 1), np.float32),
        v=np.zeros((2, 1), np.float32), c=np.array([0.0, np.log(3.0)], np.float32),
    )  # fmt: skip
    assert net.probability(weights, np.zeros(size, np.float32)) == pytest.approx(0.625)


def test_no_feature_decides_alone() -> None:
    weights = net.load()
    x = weights.mean.copy()
    for value in (1e3, 1e9):
        x[0] = value
        assert np.abs(net.standardised(weights, x)).max() == 4.0


def test_weights_of_another_feature_set_are_refused_with_what_to_do() -> None:
    data = resources.files("parley_speech").joinpath("data", net.WEIGHTS).read_bytes()
    with np.load(io.BytesIO(data)) as file:
        arrays = dict(file)
    arrays["mean"] = arrays["mean"][:-1]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with pytest.raises(ValueError, match=r"fit them again with scripts/fit_turn_end\.py"):
        net.read(buffer.getvalue())


# --- a call -------------------------------------------------------------------------------------


def heard(finality: Finality, frames: list[Pcm], silent: int = 10) -> list[float | None]:
    given = [(frame, True) for frame in frames] + [(QUIET, False)] * silent
    return [finality.push(frame, float(sounds), sounds) for frame, sounds in given]


def test_a_pause_is_judged_when_the_detector_closes_and_until_the_voice_comes_back() -> None:
    finality = Finality()
    for _ in range(10):
        assert finality.push(QUIET, 0.0, False) is None
    frames = voice([150.0] * 40)
    found = heard(finality, frames)
    assert set(found[: len(frames)]) == {None}
    p = found[len(frames)]
    assert p is not None and 0.0 < p < 1.0
    assert set(found[len(frames) :]) == {p}
    assert finality.push(frames[0], 1.0, True) is None


def test_a_click_tells_nothing() -> None:
    finality = Finality()
    assert finality.describe() is None, "no frame has come"
    heard(finality, [], silent=30)
    assert heard(finality, voice([150.0] * 2))[-1] is None


def test_a_call_is_judged_the_same_every_time() -> None:
    frames = voice([*[150.0] * 30, *np.linspace(150, 110, 12)])
    one, other = Finality(), Finality()
    assert heard(one, frames) == heard(other, frames)


def test_the_speakers_pitch_is_learnt_from_stretch_to_stretch() -> None:
    """The same low end means less from somebody who always speaks so low."""
    high, low = Finality(), Finality()
    for _ in range(3):
        heard(high, voice([200.0] * 40))
        heard(low, voice([120.0] * 40))
    last = voice([120.0] * 40)
    (from_high, from_low) = (_described(f, last)[0] for f in (high, low))
    assert from_high < -0.5
    assert from_low == pytest.approx(0.0, abs=0.05)


def _described(finality: Finality, frames: list[Pcm]) -> np.ndarray:
    seen: list[np.ndarray] = []

    class Seen(Finality):
        def describe(self) -> np.ndarray | None:
            found = super().describe()
            assert found is not None
            seen.append(found)
            return found

    finality.__class__ = Seen  # the same state, looked at
    heard(finality, frames)
    return seen[-1]


def test_of_an_unknown_voice_the_evidence_counts_half() -> None:
    lone, known = Finality(), Finality()
    heard(known, voice([150.0] * 60))
    short = voice([*[150.0] * 12, *np.linspace(150, 110, 8)])
    (p_lone, p_known) = (heard(f, short)[-1] for f in (lone, known))
    assert p_lone is not None and p_known is not None
    x = _described(Finality(), short)
    whole = net.probability(net.load(), x)
    assert np.log(p_lone / (1 - p_lone)) == pytest.approx(np.log(whole / (1 - whole)) / 2, rel=1e-4)


def test_a_frame_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="320"):
        Finality().push(np.zeros(100, np.int16), 0.0, False)


def test_features_look_no_further_back_than_the_frames_that_are_kept() -> None:
    assert LEAD * MIC_FRAME >= HISTORY - MIC_FRAME
