"""Speech tokens and speaker embedding: sound in, the original's numbers out, through ONNX."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from parley_speech.voices.encoders import SpeakerEncoder, SpeechTokenizer
from speech.voice.golden_files import GOLDEN, cases, worst

TOKENIZER = GOLDEN / "s3tokenizer-v2" / "speech_tokenizer_v2.onnx"
_speaker = cache(SpeakerEncoder)
SPEAKER = GOLDEN / "campplus" / "campplus.onnx"


def test_tokens_of_a_waveform_are_the_original_s() -> None:
    golden = cases("s3tokenizer-v2")
    tokens = SpeechTokenizer(TOKENIZER)(golden["in/wav"].astype(np.float32))
    assert list(tokens) == golden["wav/ids"][0].tolist()


def test_tokens_of_the_original_s_features_at_two_lengths() -> None:
    golden, tokenizer = cases("s3tokenizer-v2"), SpeechTokenizer(TOKENIZER)

    def ids(mel: NDArray[Any]) -> Any:
        return tokenizer._run(mel, np.array([mel.shape[2]], np.int32)).tolist()

    assert ids(golden["in/mel"][:1]) == golden["ids"][:1].tolist()
    assert ids(golden["in/mel"][:1, :, :103]) == golden["single/ids"].tolist()


def test_embeddings_are_the_original_s_at_two_lengths() -> None:
    golden, run = cases("campplus"), _speaker(SPEAKER)._run
    for row in range(2):
        got = run(golden["in/fbank"][row : row + 1])
        assert worst(got, golden["embedding"][row : row + 1]) < 1e-4
    assert worst(run(golden["in/fbank_long"]), golden["embedding_long"]) < 1e-4


def test_an_embedding_is_of_the_sound() -> None:
    encoder = _speaker(SPEAKER)
    rng = np.random.default_rng(2)
    one, other = (rng.standard_normal(32_000).astype(np.float32) * 0.1 for _ in range(2))
    other = np.convolve(other, np.ones(8) / 8, mode="same").astype(np.float32)
    assert encoder(one).shape == (192,)
    assert np.array_equal(encoder(one), encoder(one))
    assert worst(encoder(other), encoder(one)) > 1e-3


# --- files that are not what they should be -------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"campplus\.onnx"):
        SpeakerEncoder(tmp_path / "campplus.onnx")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "speech_tokenizer_v2.onnx"
    broken.write_bytes(TOKENIZER.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"speech_tokenizer_v2\.onnx.*100000 bytes; truncated"):
        SpeechTokenizer(broken)


def test_one_network_in_the_other_s_place_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"takes 1 inputs, .* expected 2, .* \(1, 128, frames\)"):
        SpeechTokenizer(SPEAKER)
    with pytest.raises(ValueError, match=r"takes 2 inputs, .* expected 1, .* \(1, frames, 80\)"):
        SpeakerEncoder(TOKENIZER)
