"""From raw judgements of a model to probabilities that mean what they say. Pure numbers (numpy).

Platt's method: two numbers turn a raw score into a probability, fitted on one half of labelled
examples by the likelihood of their labels and checked on the other half (Platt 1999; Guo et al.
2017, "On Calibration of Modern Neural Networks", for the curve and its error).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parley.minds.judgement import LEAST, LetterCalibration, Platt

Floats = NDArray[np.float64]
STEPS = 4000
RATE = 0.2
RIDGE = 1e-3
"""Keeps a model that is always right from being given an infinite slope."""
BINS = 10
Z90 = 1.645
"""Standard deviations to either side that hold 90 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Point:
    """One bar of a calibration curve: what was said, what was so, and how often."""

    said: float
    true: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """In which the true share lies in 90 of 100 cases (Wilson 1927)."""
        z2 = Z90**2
        middle = (self.true + z2 / (2 * self.n)) / (1 + z2 / self.n)
        spread = self.true * (1 - self.true) / self.n + z2 / (4 * self.n**2)
        half = Z90 * math.sqrt(spread) / (1 + z2 / self.n)
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Curve:
    points: tuple[Point, ...]
    error: float
    """Expected calibration error: mean |said - true| over the examples."""
    log_loss: float
    """Mean -ln P(what was so), in nats."""
    n: int

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> Curve:
        """What ``dataclasses.asdict`` has made of one."""
        points = tuple(Point(**point) for point in entry["points"])
        return Curve(points, entry["error"], entry["log_loss"], entry["n"])


def fit_platt(raw: Sequence[float], so: Sequence[bool]) -> Platt:
    """Raises ValueError without examples of both kinds."""
    if len(raw) != len(so) or not any(so) or all(so):
        raise ValueError(
            f"{len(raw)} raw values, {sum(so)} of {len(so)} labels true: "
            "expected as many labels as values, and both kinds"
        )
    p = np.clip(np.asarray(raw, np.float64), LEAST, 1 - LEAST)
    x = np.log(p / (1 - p))  # (n,)
    positive, negative = sum(so), len(so) - sum(so)
    # Platt's targets: never quite 1 or 0, the less so the fewer examples there are.
    high, low = (positive + 1) / (positive + 2), 1 / (negative + 2)
    y = np.where(np.asarray(so), high, low)
    scale = float(np.abs(x).mean()) or 1.0
    features = np.stack([x / scale, np.ones_like(x)], 1)  # (n, 2)
    w = np.array([scale, 0.0])
    for _ in range(50):  # Newton's method on the ridge-regularised likelihood
        q = 1 / (1 + np.exp(-features @ w))
        gradient = features.T @ (q - y) / len(y) + RIDGE * w
        curvature = (features * (q * (1 - q))[:, None]).T @ features / len(y) + RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        w = w - step / max(1.0, float(np.abs(step).max()) / 2)
        if float(np.abs(step).max()) < 1e-9:
            break
    return Platt(float(w[0]) / scale, float(w[1]))


def fit_letters(raw: Sequence[Sequence[float]], meant: Sequence[int]) -> LetterCalibration:
    """``raw``: (n, 3); ``meant``: place of the letter that was right. Raises ValueError."""
    x = np.log(np.clip(np.asarray(raw, np.float64), LEAST, 1.0))
    if x.ndim != 2 or x.shape[1] != 3 or len(x) != len(meant) or len(x) == 0:
        raise ValueError(f"raw is {x.shape}, labels {len(meant)}: expected (n, 3) and n, n > 0")
    y = np.eye(3)[np.asarray(meant)]
    slope, offsets = 1.0, np.zeros(3)
    for _ in range(STEPS):
        q = _softmax(slope * x + offsets)
        wrong = (q - y) / len(x)  # (n, 3)
        slope -= RATE * (float((wrong * x).sum()) + RIDGE * (slope - 1))
        offsets = offsets - RATE * (wrong.sum(0) + RIDGE * offsets)
        offsets -= offsets.mean()  # only differences matter
    a, b, c = (float(o) for o in offsets)
    return LetterCalibration(float(slope), (a, b, c))


def curve(said: Sequence[float], so: Sequence[bool]) -> Curve:
    """Examples in BINS bins of equal width by what was said."""
    p = np.clip(np.asarray(said, np.float64), LEAST, 1 - LEAST)
    y = np.asarray(so, np.float64)
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    points = tuple(
        Point(float(p[bins == b].mean()), float(y[bins == b].mean()), int((bins == b).sum()))
        for b in range(BINS)
        if (bins == b).any()
    )
    error = sum(point.n * abs(point.said - point.true) for point in points) / max(1, len(p))
    loss = float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()) if len(p) else 0.0
    return Curve(points, error, loss, len(p))


def _softmax(scores: Floats) -> Floats:
    e: Floats = np.exp(scores - scores.max(1, keepdims=True))
    total: Floats = e.sum(1, keepdims=True)
    return e / total
