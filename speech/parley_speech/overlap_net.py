"""The network behind the overlap classifier: one GRU layer and a softmax over three kinds.

Per 20 ms frame, x being the normalised features (SIZE,) and h the state (hidden,):

    z, r = sigmoid(W_zr x + U_zr h + b_zr)          Cho et al. 2014, in the arrangement of
    n    = tanh(W_n x + b_n + r * (U_n h + c))      cuDNN and torch (reset after the product)
    h   <- h + z * (n - h)
    p    = softmax(V h + d)                         backchannel, interruption, noise

Fitted with the cross-entropy of every frame from the opening of the VAD to the end of the sound,
so that p is the belief given the sound *so far*: P(kind | prefix). The mean of several networks
from different seeds is used. Weights: data/overlap_net.npz, made by scripts/fit_overlap.py.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from importlib import resources

import numpy as np

from parley_speech.overlap_features import FLOOR, SIZE, FloatArray, normalise, peak_after

PREROLL = 10
"""Frames before the VAD opened that the network is shown first: the VAD takes 20-140 ms."""

WEIGHTS = "overlap_net.npz"


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the sound so far is the beginning of; sums to 1."""

    backchannel: float
    interruption: float
    noise: float


@dataclass(frozen=True, slots=True)
class Weights:
    """``k`` networks with ``h`` hidden units side by side; gates in the order z, r, n."""

    W: FloatArray  # (k, SIZE, 3h)
    U: FloatArray  # (k, h, 3h)
    b: FloatArray  # (k, 3h)
    c: FloatArray  # (k, h)
    V: FloatArray  # (k, h, 3)
    d: FloatArray  # (k, 3)

    def __post_init__(self) -> None:
        k, h = self.c.shape
        wanted = ((k, SIZE, 3 * h), (k, h, 3 * h), (k, 3 * h), (k, h), (k, h, 3), (k, 3))
        shapes = tuple(a.shape for a in (self.W, self.U, self.b, self.c, self.V, self.d))
        if shapes != wanted:
            raise ValueError(
                f"overlap weights: expected shapes {wanted} for {SIZE} features, got {shapes}: "
                "fit them again with scripts/fit_overlap.py"
            )


@functools.lru_cache(maxsize=1)
def load() -> Weights:
    """The fitted weights that come with the package, shared by all calls."""
    data = resources.files("parley_speech").joinpath("data", WEIGHTS).read_bytes()
    return read(data)


def read(data: bytes) -> Weights:
    """Weights from the bytes of an .npz file (float16 on disk)."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return Weights(**{name: file[name].astype(np.float32) for name in "WUbcVd"})


class OverlapNet:
    """One sound's progress through the networks."""

    def __init__(self, weights: Weights) -> None:
        self._w = weights
        self._hidden = weights.c.shape[1]
        self.reset()

    def reset(self) -> None:
        self._h = np.zeros(self._w.c.shape, np.float32)  # (k, h)
        self._peak = FLOOR

    def step(self, raw: FloatArray) -> Posterior:
        """One raw feature vector (SIZE,); the belief after it."""
        w, n = self._w, self._hidden
        self._peak = peak_after(raw, self._peak)
        x = normalise(raw, self._peak) @ w.W + w.b  # (k, 3h)
        u = (self._h[:, None] @ w.U)[:, 0]
        gates = 1.0 / (1.0 + np.exp(-(x[:, : 2 * n] + u[:, : 2 * n])))
        candidate = np.tanh(x[:, 2 * n :] + gates[:, n:] * (u[:, 2 * n :] + w.c))
        self._h = self._h + gates[:, :n] * (candidate - self._h)
        logits = (self._h[:, None] @ w.V)[:, 0] + w.d
        share = np.exp(logits - logits.max(1, keepdims=True))
        mean = np.mean(share / share.sum(1, keepdims=True), 0)
        return Posterior(float(mean[0]), float(mean[1]), float(mean[2]))
