"""The acoustic front ends against what the originals computed."""

from __future__ import annotations

import numpy as np
import pytest

from parley_speech.voices.features import (
    kaldi_fbank,
    prompt_mel,
    speaker_features,
    whisper_log_mel,
)
from speech.voice.golden_files import GOLDEN, cases, worst


def test_whisper_log_mel_is_the_original_s() -> None:
    golden = cases("s3tokenizer-v2")
    mel = whisper_log_mel(golden["in/wav"].astype(np.float32))
    assert mel.dtype == np.float32
    assert worst(mel, golden["wav/mel"]) < 1e-4


def test_prompt_mel_is_the_original_s() -> None:
    golden = np.load(GOLDEN / "mel24k" / "cases.npz")
    mel = prompt_mel(golden["wav"])
    assert mel.dtype == np.float32
    assert worst(mel.T, golden["mel"]) < 1e-4


def test_filter_banks_are_kaldi_s() -> None:
    golden = np.load(GOLDEN / "kaldi-fbank" / "cases.npz")
    fbank = kaldi_fbank(golden["wav"].astype(np.float32))
    assert fbank.shape == golden["fbank"].shape
    assert np.abs(fbank - golden["fbank"]).max() < 1e-3


def test_silence_stands_at_each_front_end_s_floor() -> None:
    silence = np.zeros(16_000, np.float32)
    assert np.allclose(whisper_log_mel(silence), (-10 + 4) / 4)
    assert np.allclose(kaldi_fbank(silence), np.log(np.finfo(np.float32).eps))
    assert prompt_mel(silence).max() < -4.0


def test_frames_are_counted_as_the_originals_count_them() -> None:
    for samples in (16_000, 16_159, 16_160):
        assert whisper_log_mel(np.ones(samples, np.float32)).shape == (128, samples // 160)
        assert kaldi_fbank(np.ones(samples, np.float32)).shape == (1 + (samples - 400) // 160, 80)
    for samples in (24_000, 24_479, 24_480):
        assert prompt_mel(np.ones(samples, np.float32)).shape == (samples // 480, 80)


def test_speaker_features_have_no_mean_and_forget_the_gain() -> None:
    sound = np.random.default_rng(1).standard_normal(16_000).astype(np.float32) * 0.1
    features = speaker_features(sound)
    assert np.abs(features.mean(axis=0)).max() < 1e-4
    assert np.abs(features - speaker_features(sound * 2)).max() < 1e-3


@pytest.mark.parametrize("front_end", [whisper_log_mel, kaldi_fbank, prompt_mel])
def test_too_little_sound_is_refused(front_end) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="samples"):
        front_end(np.zeros(100, np.float32))
