"""P(the turn is finished | how the voice ended): a few small networks side by side.

For x the prosody of a pause (prosody.SIZE,), standardised:

    h = tanh(W x + b)        (k, hidden)
    p = mean over the k networks of sigmoid(v h + c)

Fitted with the cross-entropy of ends and pauses, weighted so that both are equally likely: the
log-odds of p are then the evidence of the sound alone, to be added to that of the words. Weights:
data/turn_end_net.npz, made by scripts/fit_turn_end.py.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from importlib import resources

import numpy as np

from parley_speech.overlap_features import FloatArray
from parley_speech.turn_end.prosody import SIZE

WEIGHTS = "turn_end_net.npz"


@dataclass(frozen=True, slots=True)
class Weights:
    """``k`` networks with ``h`` hidden units."""

    mean: FloatArray  # (SIZE,)
    scale: FloatArray  # (SIZE,)
    W: FloatArray  # (k, SIZE, h)
    b: FloatArray  # (k, h)
    v: FloatArray  # (k, h)
    c: FloatArray  # (k,)

    def __post_init__(self) -> None:
        k, h = self.b.shape
        wanted = ((SIZE,), (SIZE,), (k, SIZE, h), (k, h), (k, h), (k,))
        shapes = tuple(a.shape for a in (self.mean, self.scale, self.W, self.b, self.v, self.c))
        if shapes != wanted:
            raise ValueError(
                f"turn-end weights: expected shapes {wanted} for {SIZE} features, got {shapes}: "
                "fit them again with scripts/fit_turn_end.py"
            )


@functools.lru_cache(maxsize=1)
def load() -> Weights:
    """The fitted weights that come with the package, shared by all calls."""
    return read(resources.files("parley_speech").joinpath("data", WEIGHTS).read_bytes())


def read(data: bytes) -> Weights:
    """Weights from the bytes of an .npz file."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        names = ("mean", "scale", "W", "b", "v", "c")
        return Weights(**{name: file[name].astype(np.float32) for name in names})


def probability(weights: Weights, x: FloatArray) -> float:
    """P(finished) for a vector of prosody (SIZE,)."""
    w = weights
    hidden = np.tanh(standardised(w, x) @ w.W + w.b)  # (k, h)
    logits = np.sum(hidden * w.v, 1) + w.c  # (k,)
    return float(np.mean(1.0 / (1.0 + np.exp(-logits))))


def standardised(weights: Weights, x: FloatArray) -> FloatArray:
    """No feature farther than four deviations: a tracker's error is not to decide alone."""
    return np.asarray(((x - weights.mean) / weights.scale).clip(-4.0, 4.0), np.float32)
