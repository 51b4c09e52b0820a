"""Silero VAD v6 (MIT, https://github.com/snakers4/silero-vad), its ONNX file run directly.

The file comes inside the wheels ``livekit-plugins-silero`` and ``silero-vad``; neither package
is imported (the second would bring torch). 3.9 ms of CPU for a second of sound.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parley_speech.audio import FULL_SCALE, check_pcm
from parley_speech.types import MIC_FRAME, MIC_HZ, EngineUnavailable, Pcm

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

WINDOW = 512  # samples: 32 ms, what the model was trained on at 16 kHz
CONTEXT = 64  # samples of the window before, given again
STATE_SHAPE = (2, 1, 128)

DISTRIBUTIONS = ("livekit-plugins-silero", "silero-vad")
KNOWN_SHA256 = {
    "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",  # silero-vad 6.2.x
}


class SileroVad:
    """Voice activity of one call. The model is shared by all calls of the process.

    Windows of 32 ms straddle frames of 20 ms: a push runs the model at most once, and gives the
    probability of the latest window that is complete, so it is 0 to 28 ms old.
    """

    def __init__(self, model: Path | None = None) -> None:
        """``model``: another silero VAD file (v5 or v6); None finds the one installed.

        Raises EngineUnavailable when there is none.
        """
        self._session = _session(model or find_model())
        self._rate = np.array(MIC_HZ, np.int64)
        self.reset()

    def reset(self) -> None:
        self._state = np.zeros(STATE_SHAPE, np.float32)
        self._window = np.zeros((1, CONTEXT + WINDOW), np.float32)
        self._filled = 0  # samples of the window that have come
        self._probability = 0.0

    def push(self, frame: Pcm) -> float:
        """One microphone frame (320,); P(a voice sounds), 0..1."""
        samples = check_pcm(frame, "frame", MIC_FRAME).astype(np.float32) / np.float32(FULL_SCALE)
        taken = min(WINDOW - self._filled, MIC_FRAME)
        at = CONTEXT + self._filled
        self._window[0, at : at + taken] = samples[:taken]
        self._filled += taken
        if self._filled == WINDOW:
            self._probability = self._run()
            rest = samples[taken:]
            self._window[0, :CONTEXT] = self._window[0, WINDOW:]
            self._window[0, CONTEXT : CONTEXT + rest.size] = rest
            self._filled = rest.size
        return self._probability

    def _run(self) -> float:
        inputs = {"input": self._window, "state": self._state, "sr": self._rate}
        probability, self._state = self._session.run(None, inputs)
        return float(probability[0, 0])


def find_model() -> Path:
    """The silero_vad.onnx of an installed distribution, without importing it."""
    for name in DISTRIBUTIONS:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name == "silero_vad.onnx" and (path := Path(str(file.locate()))).is_file():
                return path
    raise EngineUnavailable(
        "the silero VAD model was not found: install one of the wheels that carry it "
        f"({' or '.join(DISTRIBUTIONS)}), or pass its path as SileroVad(model=...)"
    )


@functools.lru_cache(maxsize=4)
def _session(model: Path) -> onnxruntime.InferenceSession:
    """One session a process and file; ``run`` may be called from several threads."""
    import onnxruntime

    if not model.is_file():
        raise EngineUnavailable(f"no silero VAD model at {model}: expected an ONNX file")
    if hashlib.sha256(model.read_bytes()).hexdigest() not in KNOWN_SHA256:
        log.warning("%s is not a silero VAD release this was measured with", model)
    options = onnxruntime.SessionOptions()
    # A window takes 0.1 ms: more threads would cost more than they give, and spinning ones
    # would burn the cores that other calls need.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            model.as_posix(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises a class of its own for each kind of failure
        raise EngineUnavailable(
            f"{model} is not a model that onnxruntime can run: {error}"
        ) from error
