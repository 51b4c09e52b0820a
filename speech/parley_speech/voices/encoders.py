"""Runs the two networks that read a voice: speech tokens and the speaker's embedding.

The published files are ONNX and run with onnxruntime; a torch checkpoint of the same network is
taken too where torch is installed. Both give the same numbers (tests hold them to it).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parley_speech.types import EngineUnavailable
from parley_speech.voices.features import (
    FBANK_BINS,
    WHISPER_BINS,
    Floats,
    speaker_features,
    whisper_log_mel,
)

TOKENS = 6561  # 3 ** 8
Run = Callable[..., NDArray[Any]]


class SpeechTokenizer:
    """S3 tokenizer v2: 16 kHz speech to 25 tokens per second.

    Raises FileNotFoundError, ValueError for a foreign or truncated file, and EngineUnavailable for
    a torch checkpoint where torch is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._run = _loaded(path, "an S3 tokenizer v2", (WHISPER_BINS, None), 2, _torch_tokenizer)

    def __call__(self, samples: Floats) -> tuple[int, ...]:
        """Mono samples at 16 kHz in -1..1, shape (n,), 30 s at most."""
        mel = whisper_log_mel(samples)[None]  # (1, 128, frames)
        ids = self._run(mel, np.array([mel.shape[2]], np.int32)).reshape(-1)
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < TOKENS:
            raise ValueError(
                f"{self.path} gave tokens from {ids.min()} to {ids.max()}, expected 0 to "
                f"{TOKENS - 1}: it is not a 25 Hz S3 tokenizer v2"
            )
        return tuple(int(token) for token in ids)


class SpeakerEncoder:
    """CAM++: 16 kHz speech to an embedding of the speaker. Raises as `SpeechTokenizer` does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._run = _loaded(path, "a CAM++ network", (None, FBANK_BINS), 1, _torch_speaker)

    def __call__(self, samples: Floats) -> Floats:
        """Mono samples at 16 kHz in -1..1, shape (n,), to (192,)."""
        embedding = self._run(speaker_features(samples)[None])
        return embedding.reshape(-1).astype(np.float32)


def _loaded(
    path: Path,
    what: str,
    shape: tuple[int | None, int | None],
    inputs: int,
    load_torch: Callable[[Path], Run],
) -> Run:
    """The network of a file; ``shape``: the last two sizes of its first input, None for free."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected {what} (.onnx)")
    if path.suffix == ".onnx":
        return _onnx(path, what, shape, inputs)
    try:
        return load_torch(path)
    except ImportError as error:
        raise EngineUnavailable(
            f"{path} is a torch checkpoint and torch is not installed: use the .onnx file, or "
            "pip install torch"
        ) from error


def _onnx(path: Path, what: str, shape: tuple[int | None, int | None], inputs: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # a few seconds of speech, once per voice
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ValueError(
            f"{path} is not {what} that can be read ({path.stat().st_size} bytes; truncated, or "
            f"another file?): {str(error).splitlines()[0]}"
        ) from error
    takes = session.get_inputs()
    got = takes[0].shape
    fits = (
        len(takes) == inputs
        and len(got) == 3
        and all(
            want is None or size == want or not isinstance(size, int)
            for want, size in zip(shape, got[1:], strict=True)
        )
    )
    if not fits:
        raise ValueError(
            f"{path} takes {len(takes)} inputs, the first of shape {got}; expected {inputs}, the "
            f"first of shape (1, {shape[0] or 'frames'}, {shape[1] or 'frames'}): it is not {what}"
        )

    def run(*values: NDArray[Any]) -> NDArray[Any]:
        given = {one.name: value for one, value in zip(takes, values, strict=True)}
        result: NDArray[Any] = session.run(None, given)[0]
        return result

    return run


def _torch_tokenizer(path: Path) -> Run:
    import torch

    from parley_speech.voices.s3_tokenizer import load_s3_tokenizer

    model = load_s3_tokenizer(path)

    def run(mel: NDArray[Any], frames: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            ids: NDArray[Any] = model(torch.from_numpy(mel), torch.from_numpy(frames))[0].numpy()
        return ids

    return run


def _torch_speaker(path: Path) -> Run:
    import torch

    from parley_speech.voices.campplus import load_campplus

    model = load_campplus(path)

    def run(features: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            embedding: NDArray[Any] = model(torch.from_numpy(features)).numpy()
        return embedding

    return run
