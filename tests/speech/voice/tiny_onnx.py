"""Makes the two `.onnx` files of `tests/data/golden` from the golden torch checkpoints beside them.

    python tests/speech/voice/tiny_onnx.py

needs torch, onnx and onnxscript; the tests need none of these, they read the files. Inputs and
outputs are in the order of the published files (`campplus.onnx`: features; the tokenizer: log-mel
and its frames; one output each).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parley_speech.voices.campplus import load_campplus
from parley_speech.voices.s3_tokenizer import load_s3_tokenizer

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
OPSET = 17


class _IdsOnly(nn.Module):
    def __init__(self, tokenizer: nn.Module) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, mel: Tensor, frames: Tensor) -> Tensor:
        ids: Tensor = self.tokenizer(mel, frames)[0]
        return ids


def export_campplus(checkpoint: Path, target: Path) -> None:
    model = load_campplus(checkpoint)
    _export(
        model, (torch.zeros(1, 230, 80),), target, ["input"], ["output"], {"input": {1: "frames"}}
    )


def export_tokenizer(checkpoint: Path, target: Path) -> None:
    model = _IdsOnly(load_s3_tokenizer(checkpoint)).eval()
    example = (torch.zeros(1, 128, 140), torch.tensor([140], dtype=torch.int32))
    names = ["feats", "feats_length"]
    axes = {"feats": {2: "frames"}, "indices": {1: "tokens"}}
    _export(model, example, target, names, ["indices"], axes)


def _export(
    model: nn.Module,
    example: tuple[Tensor, ...],
    target: Path,
    inputs: list[str],
    outputs: list[str],
    axes: dict[str, Any],
) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            example,
            str(target),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


if __name__ == "__main__":
    export_campplus(
        GOLDEN / "campplus" / "campplus_cn_common.bin", GOLDEN / "campplus" / "campplus.onnx"
    )
    export_tokenizer(
        GOLDEN / "s3tokenizer-v2" / "speech_tokenizer_v2.pt",
        GOLDEN / "s3tokenizer-v2" / "speech_tokenizer_v2.onnx",
    )
