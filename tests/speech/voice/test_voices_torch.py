"""The torch networks: golden checkpoints give golden numbers, and ONNX gives the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from parley_speech.voices.campplus import load_campplus  # noqa: E402
from parley_speech.voices.encoders import SpeakerEncoder, SpeechTokenizer  # noqa: E402
from parley_speech.voices.s3_tokenizer import load_s3_tokenizer  # noqa: E402
from speech.voice.golden_files import GOLDEN, cases, worst  # noqa: E402

TOKENIZER = GOLDEN / "s3tokenizer-v2" / "speech_tokenizer_v2.pt"
SPEAKER = GOLDEN / "campplus" / "campplus_cn_common.bin"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_campplus_step_by_step() -> None:
    golden, model = cases("campplus"), load_campplus(SPEAKER)
    with torch.inference_mode():
        layers = dict(model.xvector.named_children())
        head = model.head(torch.from_numpy(golden["in/fbank"]).transpose(1, 2))
        tdnn = layers["tdnn"](head)
        block1 = layers["block1"](tdnn)
        embedding = model(torch.from_numpy(golden["in/fbank"]))
    assert worst(head[:, :8].numpy(), golden["head"]) < 1e-4
    assert worst(tdnn.numpy(), golden["tdnn"]) < 1e-4
    assert worst(block1.numpy(), golden["block1"]) < 1e-4
    assert worst(embedding.numpy(), golden["embedding"]) < 1e-4


def test_campplus_over_more_than_two_segments() -> None:
    golden, model = cases("campplus"), load_campplus(SPEAKER)
    with torch.inference_mode():
        embedding = model(torch.from_numpy(golden["in/fbank_long"]))
    assert worst(embedding.numpy(), golden["embedding_long"]) < 1e-4


def test_tokenizer_step_by_step_with_padding() -> None:
    golden, model = cases("s3tokenizer-v2"), load_s3_tokenizer(TOKENIZER)
    with torch.inference_mode():
        mel, lengths = torch.from_numpy(golden["in/mel"]), torch.from_numpy(golden["in/mel_len"])
        hidden, counts = model.encoder(mel, lengths)
        down = model.quantizer._codebook.project_down(hidden).flatten(0, 1)
        ids = model.quantizer(hidden)
    assert worst(hidden.numpy(), golden["hidden"]) < 1e-4
    assert worst(down.numpy(), golden["project_down"]) < 1e-4
    assert np.array_equal(counts.numpy(), golden["ids_len"])
    assert np.array_equal(ids.numpy(), golden["ids"])


def test_a_row_alone_is_the_row_in_a_batch() -> None:
    golden, model = cases("s3tokenizer-v2"), load_s3_tokenizer(TOKENIZER)
    frames = int(golden["in/mel_len"][1])
    with torch.inference_mode():
        alone, _ = model(torch.from_numpy(golden["in/mel"][1:, :, :frames]), torch.tensor([frames]))
    count = int(golden["ids_len"][1])
    assert np.array_equal(alone[0].numpy(), golden["ids"][1, :count])


def test_torch_and_onnx_files_give_the_same() -> None:
    wav = cases("s3tokenizer-v2")["in/wav"].astype(np.float32)
    wav = np.tile(wav, 3)
    assert SpeechTokenizer(TOKENIZER)(wav) == SpeechTokenizer(TOKENIZER.with_suffix(".onnx"))(wav)
    onnx = SpeakerEncoder(SPEAKER.with_name("campplus.onnx"))(wav)
    assert worst(SpeakerEncoder(SPEAKER)(wav), onnx) < 1e-4


def test_a_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    foreign = tmp_path / "speech_tokenizer_v2.pt"
    torch.save({"something.weight": torch.zeros(3)}, foreign)
    with pytest.raises(ValueError, match=r"speech_tokenizer_v2\.pt is not an S3 tokenizer"):
        SpeechTokenizer(foreign)
    with pytest.raises(ValueError, match="is not a CAM"):
        SpeakerEncoder(foreign)


def test_the_onnx_files_are_laid_out_as_the_published_ones() -> None:
    """Which `tiny_onnx.py` made them to be: inputs by order, one output each, any length."""
    onnxruntime = pytest.importorskip("onnxruntime")
    speaker = onnxruntime.InferenceSession(str(SPEAKER.with_name("campplus.onnx")))
    tokenizer = onnxruntime.InferenceSession(str(TOKENIZER.with_suffix(".onnx")))
    features, mel, frames = (*speaker.get_inputs(), *tokenizer.get_inputs())
    assert features.shape == [1, "frames", 80] and features.type == "tensor(float)"
    assert mel.shape == [1, 128, "frames"] and frames.type == "tensor(int32)"
    assert len(speaker.get_outputs()) == len(tokenizer.get_outputs()) == 1
    wav = cases("s3tokenizer-v2")["in/wav"].astype(np.float32)
    for length in (len(wav), len(wav) * 2 // 3):
        cut = wav[:length]
        ids = SpeechTokenizer(TOKENIZER.with_suffix(".onnx"))(cut)
        assert ids == SpeechTokenizer(TOKENIZER)(cut)
