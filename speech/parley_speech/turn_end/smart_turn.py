"""Smart Turn v3 (Daily, BSD-2-Clause): a learned judge of finished turns, optional.

Its ONNX file (8 MB, Whisper-tiny's encoder and a head) comes inside the wheel ``pipecat-ai``,
which is found and not imported, or from anywhere as a path. It listens to the last 8 s and is
asked twice a pause, when the detector closes and ``AGAIN_MS`` later; between, it costs nothing.
It runs in one thread of the process, beside the event loop: an answer counts from when it is there.

It was made for recorded and neural voices. docs/turn.md says how it does on the bench's.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parley_speech.audio import FULL_SCALE, check_pcm
from parley_speech.turn_end.log_mel import FloatArray, log_mel
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, EngineUnavailable, Pcm

if TYPE_CHECKING:
    import onnxruntime

VARIABLE = "PARLEY_SMART_TURN"
"""Environment variable with the path of the model."""
PACKAGE = "pipecat"
INSIDE = "audio/turn/smart_turn/data"
SECONDS = 8
AGAIN_MS = 200
"""The model has learnt from recordings with a rest of silence: it knows better a little later."""


class SmartTurn:
    """One call's user; the model and its thread are shared by all calls of the process."""

    def __init__(self, model: Path | None = None) -> None:
        """``model``: a Smart Turn v3 ONNX file; None: that of the environment variable, else that
        of an installed pipecat-ai.

        Raises EngineUnavailable where there is none, or onnxruntime cannot run it."""
        self._judge = _judge(model or find_model())
        self._frames: deque[Pcm] = deque(maxlen=SECONDS * 1000 // FRAME_MS)
        self._asked: Future[float] | None = None
        self._stale = False
        """What was asked is about a pause that is over."""
        self._silent = 0  # frames
        self.p_finished: float | None = None

    def push(self, frame: Pcm, p_voice: float, voice: bool) -> float | None:
        """One microphone frame (320,) after echo cancellation, its probability of a voice (not
        needed here), and whether the detector holds. Gives P(finished) of this pause; None while
        the voice sounds, before any voice, and until the model has answered."""
        self._frames.append(check_pcm(frame, "frame", MIC_FRAME))
        if voice:
            self._silent, self._stale, self.p_finished = 1, self._asked is not None, None
        elif self._silent:
            self._silent += 1
            if self._silent in (2, 2 + AGAIN_MS // FRAME_MS):
                self._ask()
        self._take()
        return self.p_finished

    def _ask(self) -> None:
        """At most one question of a call is under way; a newer one is then not asked."""
        if self._asked is None:
            self._stale = False
            self._asked = _thread().submit(self._judge, np.concatenate(list(self._frames)))

    def _take(self) -> None:
        """Raises what the model raised."""
        if self._asked is not None and self._asked.done():
            asked, self._asked = self._asked, None
            if not self._stale:
                self.p_finished = asked.result()


def find_model() -> Path:
    """The file that the environment variable names, else the newest of an installed pipecat-ai.

    Raises EngineUnavailable where there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        found = sorted(Path(folder, INSIDE).glob("smart-turn-v3*.onnx"))
        if found:
            return found[-1]
    raise EngineUnavailable(
        "no Smart Turn model was found: install the wheel that carries it (pip install --no-deps "
        f"pipecat-ai), or set {VARIABLE} to the path of a smart-turn-v3 ONNX file"
    )


class Judge:
    """The model. Calls from several threads are safe."""

    def __init__(self, model: Path) -> None:
        """Raises EngineUnavailable."""
        self._session = _session(model)

    def __call__(self, pcm: Pcm) -> float:
        """P(the turn is finished) after these samples at 16 kHz, of which the last 8 s count."""
        size = SECONDS * MIC_HZ
        samples = np.zeros(size, np.float32)  # shorter sounds stand at the end
        tail = pcm[-size:].astype(np.float32) / np.float32(FULL_SCALE)
        samples[size - len(tail) :] = tail
        features: FloatArray = log_mel(samples)[None]
        return float(np.ravel(self._session.run(None, {"input_features": features})[0])[0])


@functools.lru_cache(maxsize=2)
def _judge(model: Path) -> Judge:
    return Judge(model)


@functools.lru_cache(maxsize=1)
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "parley-smart-turn")


def _session(model: Path) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailable(
            f"Smart Turn needs onnxruntime, which cannot be imported ({error}): "
            "pip install onnxruntime"
        ) from error
    if not model.is_file():
        raise EngineUnavailable(f"no Smart Turn model at {model}: expected an ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            model.as_posix(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises a class of its own for each kind of failure
        raise EngineUnavailable(
            f"{model} is not a model that onnxruntime can run: {error}"
        ) from error
    shapes = {one.name: list(one.shape) for one in session.get_inputs()}
    if list(shapes) != ["input_features"] or shapes["input_features"][1:] != [80, 100 * SECONDS]:
        raise EngineUnavailable(
            f"{model} is not a Smart Turn v3 model: expected one input input_features of "
            f"(n, 80, {100 * SECONDS}), got {shapes}"
        )
    return session
