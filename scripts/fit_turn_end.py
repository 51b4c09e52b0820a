"""Fits the network of parley_speech.turn_end: synthesises ends and pauses, trains, reports.

    python scripts/fit_turn_end.py [--cache DIR] [--out FILE] [--stop-after SECONDS]

Needs what fit_overlap.py needs. About ten minutes on one core; every part is kept in the cache, so
that a run that was stopped goes on where it was (exit status 3: run it again). Everything drawn is
drawn from seeds. The recorded clips of tests/data/audio are never trained on.

Five stretches of a speaker are heard as in a call: a level and a line noise drawn at random, the
product's own voice activity detector, and ``Finality`` when the detector closes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from fit_turn_end_voices import BROKEN, Stretch, Voices

from parley_speech.turn_end.finality import Finality
from parley_speech.turn_end.net import Weights
from parley_speech.turn_end.prosody import NAMES, SIZE
from parley_speech.types import MIC_FRAME, MIC_HZ
from parley_speech.vad.fusion import FusionVad

EACH = 5
"""Stretches of a speaker in a call: the first are heard without knowing the voice."""
PARTS = {
    # name: split, source, speakers, seed
    **{f"espeak-{n}": ("train", "espeak", 100, 100 + n) for n in range(5)},
    **{f"flite-{n}": ("train", "flite", 50, 200 + n) for n in range(3)},
    **{f"piper-{n}": ("train", "piper", 12, 300 + n) for n in range(4)},
    "validation-espeak": ("validation", "espeak", 60, 501),
    "validation-kokoro": ("validation", "kokoro", 6, 502),
    "test-espeak": ("test", "espeak", 60, 601),
    "test-kokoro": ("test", "kokoro", 6, 602),
}
HIDDEN = 12
SEEDS = (1, 2, 3)
EPOCHS = 500
RATE = 0.015
DECAY = 2e-3


def heard(call: list[Stretch], rng: np.random.Generator) -> list[np.ndarray | None]:
    """The prosody of each stretch as a call would have it; None where nothing was noticed."""
    level = 10 ** (rng.uniform(-30, -3) / 20)
    noise = 10 ** (rng.uniform(-70, -48) / 20)
    silence = np.zeros(int(0.5 * MIC_HZ), np.float32)
    parts, ends = [silence[: int(rng.integers(MIC_FRAME))]], []
    for stretch in call:
        parts += [silence, stretch.pcm * level]
        ends.append(sum(map(len, parts)) / MIC_FRAME)
    x = np.concatenate([*parts, silence])
    x = x + rng.standard_normal(len(x)).astype(np.float32) * noise
    pcm = (x.clip(-1, 1) * 32767).astype(np.int16)
    vad, ears, voice = FusionVad(), _Ears(), False
    found: list[np.ndarray | None] = [None] * len(call)
    for n, frame in enumerate(pcm[: len(pcm) // MIC_FRAME * MIC_FRAME].reshape(-1, MIC_FRAME)):
        p = vad.push(frame)
        voice = p >= (0.35 if voice else 0.5)
        ears.push(frame, p, voice)
        which = next((k for k, end in enumerate(ends) if end - 2 <= n <= end + 15), None)
        if ears.found is not None and which is not None:
            found[which] = ears.found
        ears.found = None
    return found


class _Ears(Finality):
    """Keeps the vector instead of asking a network that there is not yet."""

    def __init__(self) -> None:
        super().__init__(_nothing())
        self.found: np.ndarray | None = None

    def _judge(self) -> float | None:
        self.found = self.describe()
        return None


def _nothing() -> Weights:
    zero = np.zeros
    return Weights(
        zero(SIZE), np.ones(SIZE), zero((1, SIZE, 1)), zero((1, 1)), zero((1, 1)), zero(1)
    )


def part(name: str) -> dict[str, np.ndarray]:
    split, source, count, seed = PARTS[name]
    rng = np.random.default_rng(seed)
    rows, labels, broken = [], [], []
    for call in Voices(seed, split).calls(source, count, EACH):
        for stretch, x in zip(call, heard(call, rng), strict=True):
            if x is not None:
                rows.append(x)
                labels.append(stretch.finished)
                broken.append(stretch.text.endswith(BROKEN))
    return {"x": np.array(rows, np.float32), "y": np.array(labels), "broken": np.array(broken)}


def fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray, seed: int) -> list[np.ndarray]:
    """One network: Adam on the weighted cross-entropy. ``x`` is standardised."""
    rng = np.random.default_rng(seed)
    theta = [
        rng.standard_normal((x.shape[1], HIDDEN)) / np.sqrt(x.shape[1]),
        np.zeros(HIDDEN),
        rng.standard_normal(HIDDEN) / np.sqrt(HIDDEN),
        np.zeros(1),
    ]
    first = [np.zeros_like(t) for t in theta]
    second = [np.zeros_like(t) for t in theta]
    for step in range(1, EPOCHS + 1):
        noisy = x + rng.standard_normal(x.shape) * 0.15  # a tracker is never exact
        hidden = np.tanh(noisy @ theta[0] + theta[1])
        p = 1 / (1 + np.exp(-(hidden @ theta[2] + theta[3])))
        error = (p - y) * weight / weight.sum()
        back = error[:, None] * theta[2] * (1 - hidden**2)
        slopes = [
            noisy.T @ back + DECAY * theta[0], back.sum(0), hidden.T @ error + DECAY * theta[2],
            np.array([error.sum()]),
        ]  # fmt: skip
        for t, g, m, v in zip(theta, slopes, first, second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            t -= RATE * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return theta


def balanced(y: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Ends and pauses of every source count the same."""
    weight = np.zeros(len(y))
    for name in np.unique(source):
        for label in (False, True):
            mine = (source == name) & (y == label)
            weight[mine] = 1.0 / max(1, mine.sum())
    return weight


def trained(parts: dict[str, dict[str, np.ndarray]]) -> Weights:
    mine = {n: p for n, p in parts.items() if PARTS[n][0] == "train"}
    x = np.concatenate([p["x"] for p in mine.values()])
    y = np.concatenate([p["y"] for p in mine.values()])
    source = np.concatenate([[PARTS[n][1]] * len(p["y"]) for n, p in mine.items()])
    mean, scale = x.mean(0), x.std(0) + 1e-3
    z = ((x - mean) / scale).clip(-4, 4)
    found = [fit(z, y.astype(float), balanced(y, source), seed) for seed in SEEDS]
    W, b, v, c = (np.stack([theta[n] for theta in found]) for n in range(4))
    return Weights(*(a.astype(np.float32) for a in (mean, scale, W, b, v, c[:, 0])))


def judged(weights: Weights, x: np.ndarray) -> np.ndarray:
    z = ((x - weights.mean) / weights.scale).clip(-4, 4)
    logits = np.einsum("nkh,kh->nk", np.tanh(np.einsum("ns,ksh->nkh", z, weights.W) + weights.b),
                       weights.v) + weights.c  # fmt: skip
    return np.asarray((1 / (1 + np.exp(-logits))).mean(1))


def area(p: np.ndarray, y: np.ndarray) -> float:
    """Under the ROC curve."""
    greater = (p[y][:, None] > p[~y][None]).mean()
    same = (p[y][:, None] == p[~y][None]).mean()
    return float(greater + same / 2)


def report(weights: Weights, parts: dict[str, dict[str, np.ndarray]]) -> None:
    print("part                 ends pauses  area   ends at P>=0.5  pauses at P>=0.5  broken off")
    for name, data in parts.items():
        p, y, broken = judged(weights, data["x"]), data["y"], data["broken"]
        hits = [
            float((p[m] >= 0.5).mean()) if m.any() else np.nan for m in (y, ~y & ~broken, broken)
        ]
        print(f"{name:20s} {y.sum():4d} {(~y).sum():6d} {area(p, y):.3f} {hits[0]:15.2f} "
              f"{hits[1]:17.2f} {hits[2]:11.2f}")  # fmt: skip


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cache", type=Path, default=Path("out/fit_turn_end"))
    arguments.add_argument(
        "--out", type=Path, default=Path("speech/parley_speech/data/turn_end_net.npz")
    )
    arguments.add_argument("--stop-after", type=float, default=float("inf"))
    given = arguments.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + given.stop_after
    parts = {}
    for n, name in enumerate(PARTS, 1):
        path = given.cache / f"{name}.npz"
        if not path.is_file():
            if time.monotonic() > until:
                print("stopped; run it again to go on", file=sys.stderr)
                return 3
            np.savez(path, **part(name))
        with np.load(path) as file:
            parts[name] = dict(file)
        print(f"{n}/{len(PARTS)} {name}", file=sys.stderr)
    weights = trained(parts)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        given.out, **{n: getattr(weights, n) for n in ("mean", "scale", "W", "b", "v", "c")}
    )
    report(weights, parts)
    print("features:", ", ".join(NAMES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
