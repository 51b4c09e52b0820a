"""A GRU with a softmax at every step, trained by back-propagation through time, in numpy.

The equations are in parley_speech.overlap_net; ``Gru.forward`` is that step for whole batches.
"""

from __future__ import annotations

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


def train(
    x: Array, kind: Array, weight: Array, *, hidden: int, epochs: int, seed: int,
    batch: int = 128, rate: float = 4e-3,
) -> Gru:  # fmt: skip
    """Adam (Kingma and Ba 2015) with warm-up, cosine decay, clipping at norm 1, weight decay.

    x (n, T, SIZE), kind (n,), weight (n, T): the cost of each frame, 0 where nothing is asked.
    """
    r = np.random.default_rng(seed)
    net = Gru(x.shape[2], hidden, r)
    first = {name: 0 * value for name, value in net.p.items()}
    second = {name: 0 * value for name, value in net.p.items()}
    one_hot = np.eye(CLASSES, dtype=np.float32)
    batches = len(x) // batch
    total, step = epochs * batches, 0
    for epoch in range(epochs):
        order, loss = r.permutation(len(x)), 0.0
        for k in range(batches):
            rows = order[k * batch : (k + 1) * batch]
            inputs = disturbed(r, x[rows].astype(np.float32))
            w = weight[rows]
            p = net.forward(inputs)
            right = p[np.arange(batch), :, kind[rows]]
            loss -= float((np.log(right + 1e-9) * w).sum() / w.sum())
            error = (p - one_hot[kind[rows]][:, None]) * w[:, :, None] / w.sum()
            grad = net.backward(error.astype(np.float32))
            step += 1
            now = rate * 0.5 * (1 + np.cos(np.pi * step / total)) * min(1, step / 100)
            clip = min(1, 1 / np.sqrt(sum((g * g).sum() for g in grad.values())))
            for name, g in grad.items():
                g = g * clip
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                mean, power = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
                decay = 1e-4 * net.p[name] * (name in "WUV")
                net.p[name] -= (now * (mean / (np.sqrt(power) + 1e-8) + decay)).astype(np.float32)
        print(f"  seed {seed}, {epoch + 1}/{epochs}: loss {loss / batches:.4f}", flush=True)
    return net


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
