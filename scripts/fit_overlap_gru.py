"""A GRU with a softmax at every step, trained by back-propagation through time, in numpy.

The equations are in parley_speech.overlap_net; ``Gru.forward`` is that step for whole batches.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from parley_speech.overlap_features import MEL, SIZE, VOICE

CLASSES = 3
Array = np.ndarray


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


class Gru:
    """``p``: the weights, under the names of overlap_net.Weights, of one network."""

    def __init__(self, size: int, hidden: int, r: np.random.Generator) -> None:
        def draw(a: int, b: int) -> Array:
            return (r.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32)

        self.hidden = hidden
        self.p = {
            "W": draw(size, 3 * hidden),
            "U": draw(hidden, 3 * hidden),
            "b": np.zeros(3 * hidden, np.float32),
            "c": np.zeros(hidden, np.float32),
            "V": draw(hidden, CLASSES) * np.float32(0.5),
            "d": np.zeros(CLASSES, np.float32),
        }
        self.p["b"][:hidden] = -1  # remember rather than follow, to begin with

    def forward(self, x: Array) -> Array:
        """(B, T, size) to probabilities (B, T, CLASSES); keeps what ``backward`` needs."""
        p, n = self.p, self.hidden
        batch, steps, _ = x.shape
        inputs = (x.reshape(batch * steps, -1) @ p["W"] + p["b"]).reshape(batch, steps, 3 * n)
        h = np.zeros((batch, n), np.float32)
        self._x, self._states, self._gates = x, [h], []
        for t in range(steps):
            u = h @ p["U"]
            zr = sigmoid(inputs[:, t, : 2 * n] + u[:, : 2 * n])
            z, reset, inner = zr[:, :n], zr[:, n:], u[:, 2 * n :] + p["c"]
            candidate = np.tanh(inputs[:, t, 2 * n :] + reset * inner)
            h = h + z * (candidate - h)
            self._states.append(h)
            self._gates.append((z, reset, candidate, inner))
        self._all = np.stack(self._states[1:], 1)
        logits = self._all @ p["V"] + p["d"]
        share = np.exp(logits - logits.max(2, keepdims=True))
        return share / share.sum(2, keepdims=True)

    def backward(self, d_logits: Array) -> dict[str, Array]:
        """The gradient of the loss with respect to ``p``, given that of the logits."""
        p, n = self.p, self.hidden
        batch, steps, _ = self._x.shape
        grad = {name: np.zeros_like(value) for name, value in p.items()}
        grad["V"] = self._all.reshape(-1, n).T @ d_logits.reshape(batch * steps, -1)
        grad["d"] = d_logits.sum((0, 1))
        from_out = d_logits @ p["V"].T
        d_inputs = np.empty((batch, steps, 3 * n), np.float32)
        dh = np.zeros((batch, n), np.float32)
        for t in range(steps - 1, -1, -1):
            dh = dh + from_out[:, t]
            h, (z, reset, candidate, inner) = self._states[t], self._gates[t]
            dz = dh * (candidate - h) * z * (1 - z)
            dn = dh * z * (1 - candidate * candidate)
            dr = dn * inner * reset * (1 - reset)
            d_inner = dn * reset
            d_inputs[:, t] = np.concatenate((dz, dr, dn), 1)
            d_state = np.concatenate((dz, dr, d_inner), 1)
            grad["U"] += h.T @ d_state
            grad["c"] += d_inner.sum(0)
            dh = dh * (1 - z) + d_state @ p["U"].T
        flat = d_inputs.reshape(batch * steps, -1)
        grad["W"] = self._x.reshape(batch * steps, -1).T @ flat
        grad["b"] = flat.sum(0)
        return grad


class Training:
    """Adam (Kingma and Ba 2015) with warm-up, cosine decay, clipping at norm 1, weight decay.

    One epoch at a time, so that a run can be stopped between them and gives the same result."""

    BATCH, RATE, WARM_UP = 128, 4e-3, 100

    def __init__(self, size: int, hidden: int, epochs: int, seed: int) -> None:
        self.net = Gru(size, hidden, np.random.default_rng(seed))
        self.epoch = self.step = 0
        self._epochs, self._seed = epochs, seed
        self._first = {name: 0 * value for name, value in self.net.p.items()}
        self._second = {name: 0 * value for name, value in self.net.p.items()}

    def one_epoch(self, x: Array, kind: Array, weight: Array) -> float:
        """x (n, T, SIZE), kind (n,), weight (n, T): the cost of each frame, 0 where nothing is
        asked. Gives the mean loss."""
        r = np.random.default_rng((self._seed, self.epoch))
        batches = len(x) // self.BATCH
        order, loss = r.permutation(len(x)), 0.0
        for k in range(batches):
            rows = order[k * self.BATCH : (k + 1) * self.BATCH]
            loss += self._batch(disturbed(r, x[rows].astype(np.float32)), kind[rows], weight[rows])
            self._update(self.step / (self._epochs * batches))
        self.epoch += 1
        return loss / batches

    def _batch(self, x: Array, kind: Array, weight: Array) -> float:
        """The loss of these sequences; leaves its gradient."""
        p = self.net.forward(x)
        right = p[np.arange(len(x)), :, kind]
        error = (p - np.eye(CLASSES, dtype=np.float32)[kind][:, None]) * weight[:, :, None]
        self._grad = self.net.backward((error / weight.sum()).astype(np.float32))
        return -float((np.log(right + 1e-9) * weight).sum() / weight.sum())

    def _update(self, share: float) -> None:
        """One step, ``share`` of the whole training being over."""
        self.step += 1
        rate = self.RATE * 0.5 * (1 + np.cos(np.pi * share)) * min(1, self.step / self.WARM_UP)
        clip = min(1, 1 / np.sqrt(sum((g * g).sum() for g in self._grad.values())))
        for name, whole in self._grad.items():
            g, value = whole * clip, self.net.p[name]
            first = self._first[name] = 0.9 * self._first[name] + 0.1 * g
            second = self._second[name] = 0.999 * self._second[name] + 0.001 * g * g
            mean, power = first / (1 - 0.9**self.step), second / (1 - 0.999**self.step)
            decay = 1e-4 * value * (name in "WUV")
            change = rate * (mean / (np.sqrt(power) + 1e-8) + decay)
            self.net.p[name] = value - change.astype(np.float32)

    # --- checkpoints ------------------------------------------------------------------------

    def keep(self, file: Path) -> None:
        groups = {"p": self.net.p, "first": self._first, "second": self._second}
        arrays = {f"{g}_{name}": a for g, held in groups.items() for name, a in held.items()}
        draft = file.with_suffix(".draft.npz")
        np.savez(draft, at=np.array([self.epoch, self.step]), **arrays)
        draft.replace(file)

    def restore(self, file: Path) -> None:
        with np.load(file) as kept:
            self.epoch, self.step = (int(n) for n in kept["at"])
            for group, held in (
                ("p", self.net.p),
                ("first", self._first),
                ("second", self._second),
            ):
                held.update({name: kept[f"{group}_{name}"] for name in held})


def disturbed(r: np.random.Generator, x: Array) -> Array:
    """Another line (a colour per sequence), measurement noise, a VAD that errs in 15 % of them."""
    bands = MEL.stop
    x[:, :, :bands] += r.standard_normal((len(x), 1, bands)).astype(np.float32) * 0.06
    x += r.standard_normal(x.shape).astype(np.float32) * 0.04
    erring = r.random(len(x)) < 0.15
    error = r.standard_normal((int(erring.sum()), 1)) * 0.3
    x[erring, :, VOICE] = np.clip(x[erring, :, VOICE] + error, 0, 1)
    assert x.shape[2] == SIZE
    return x
