"""What a network remembers of a call between two chunks, and how its layers reach it.

Layers with a past (causal convolutions, attention) ask a `Memory` for it, in the order in which
they run. `Whole` has no past: it masks. `Chunked` serves the next chunks of several calls of
different ages: each keeps its own keys and values in a `CallMemory`, so nothing of one call touches
another.

Rows: a network runs ``rows`` sequences per call (two under classifier-free guidance); row
``call * rows + r`` of a batch belongs to ``call``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attention = Literal["each", "padded"]
"""How a batch attends: call by call without copies, or in one go over padded copies."""

GROWTH = 1.5
"""An unbounded cache that is full grows by this factor, so that copies cost little on average."""


class Memory(Protocol):
    def conv(self, conv: nn.Conv1d, x: Tensor) -> Tensor:
        """A causal convolution of x (rows, channels, t): as many frames come out as went in."""
        ...

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Softmax attention of the new positions, each (rows, heads, t, dim), to all visible."""
        ...

    def spans(self) -> list[int] | None:
        """How many earlier positions each row has; None: whole utterances, without a past."""
        ...


class _Place(NamedTuple):
    """Where one chunk's keys and values are kept."""

    start: int
    size: int
    valid: int
    """Positions that hold something once it is there."""


class KeyValues:
    """Keys and values of one call: ``groups`` (Euler steps) times ``layers`` layers.

    Bounded (``left`` ≥ 0): ``pinned`` first chunks and the last ``left`` chunks stay, in a ring;
    the order of keys does not matter to attention without positions. Unbounded: all stay.
    """

    def __init__(
        self,
        groups: int,
        layers: int,
        *,
        chunk: int,
        left: int = -1,
        pinned: int = 0,
    ) -> None:
        self.seen = 0
        """Positions of the past, those that fell out of the window included."""
        self._layers = layers
        self.chunk = chunk
        self._left = left
        self._pinned = pinned
        self._stored: list[Tensor | None] = [None] * groups  # (layers, 2, rows, heads, room, dim)
        self._places: list[_Place] = []
        """Of the new positions, chunk by chunk."""
        self._room = 0

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self._stored if t is not None)

    def begin(self, fresh: int) -> None:
        """``fresh`` new positions follow: up to one chunk, or several whole ones."""
        if fresh > self.chunk and fresh % self.chunk:
            raise ValueError(f"{fresh} positions: expected at most {self.chunk} or a multiple")
        if self._left >= 0:
            self._room = (self._pinned + self._left + 1) * self.chunk
        elif self.seen + fresh > self._room:
            self._room = max(int(self._room * GROWTH), self.seen + fresh)
        sizes = [min(self.chunk, fresh - at) for at in range(0, fresh, self.chunk)]
        self._places = [self._place(self.seen + n * self.chunk, c) for n, c in enumerate(sizes)]

    def put(
        self, group: int, layer: int, k: Tensor, v: Tensor, part: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Stores k, v (rows, heads, ≥ its size, dim) of the new chunk number ``part``; gives all
        that this chunk sees. The chunks of a layer come in their order."""
        store = self._store(group, k)
        place = self._places[part]
        end = place.start + place.size
        store[layer, 0, :, :, place.start : end] = k[:, :, : place.size]
        store[layer, 1, :, :, place.start : end] = v[:, :, : place.size]
        keys, values = store[layer, 0], store[layer, 1]
        hole = self.chunk - place.size
        if self._left >= 0 and hole and place.valid > end:
            # A last, short chunk takes the place of a whole one: its rest is no longer visible.
            keep = [*range(end), *range(end + hole, place.valid)]
            return keys[:, :, keep], values[:, :, keep]
        return keys[:, :, : place.valid], values[:, :, : place.valid]

    def commit(self) -> None:
        self.seen += sum(place.size for place in self._places)

    def _place(self, seen: int, size: int) -> _Place:
        """Of a chunk of ``size`` positions that comes after ``seen`` others."""
        if self._left < 0:
            return _Place(seen, size, seen + size)
        at = seen // self.chunk
        ring = self._left + 1
        slot = at if at < self._pinned else self._pinned + (at - self._pinned) % ring
        start = slot * self.chunk
        return _Place(start, size, max(min(seen, self._room), start + size))

    def age(self, chunks: int) -> None:
        """As if ``chunks`` whole chunks of zeros had followed: for measurements."""
        used = min(self.seen, self._room)
        self.seen += chunks * self.chunk
        if self._left < 0:
            self._room = self.seen + 2 * self.chunk
        aged = [None if s is None else _resized(s, used, self._room) for s in self._stored]
        for store in aged:
            if store is not None:
                store[..., used:, :] = 0.0
        self._stored = aged

    def copy(self, reserve_chunks: int = 0) -> KeyValues:
        """An independent copy with room for ``reserve_chunks`` more."""
        twin = copy.copy(self)
        if self._left < 0:
            twin._room = self.seen + reserve_chunks * self.chunk
        used = min(self.seen, twin._room)
        twin._stored = [None if s is None else _resized(s, used, twin._room) for s in self._stored]
        return twin

    def _store(self, group: int, like: Tensor) -> Tensor:
        store = self._stored[group]
        if store is None:
            rows, heads, _, dim = like.shape
            store = like.new_empty(self._layers, 2, rows, heads, self._room, dim)
        elif store.shape[-2] < self._room:
            store = _resized(store, self.seen, self._room)
        self._stored[group] = store
        return store


def _resized(store: Tensor, used: int, room: int) -> Tensor:
    """A copy of the first ``used`` positions, with place for ``room``. The rest is left as it is:
    nothing is visible before it is written, and on a CPU what was never touched takes no memory."""
    larger = store.new_empty(*store.shape[:-2], room, store.shape[-1])
    larger[..., :used, :] = store[..., :used, :]
    return larger


class CallMemory:
    """One network's memory of one call: keys and values, and each convolution's last inputs."""

    def __init__(self, kv: KeyValues) -> None:
        self.kv = kv
        self.tails: dict[tuple[int, int], Tensor] = {}  # (group, convolution) → (rows, c, kernel-1)

    @property
    def nbytes(self) -> int:
        return self.kv.nbytes + sum(t.numel() * t.element_size() for t in self.tails.values())

    def copy(self, reserve_chunks: int = 0) -> CallMemory:
        twin = CallMemory(self.kv.copy(reserve_chunks))
        twin.tails = {key: tail.clone() for key, tail in self.tails.items()}
        return twin


class Whole:
    """No past: the whole utterance at once, with an additive mask (t, t) or none."""

    def __init__(self, mask: Tensor | None = None) -> None:
        self._mask = mask

    def conv(self, conv: nn.Conv1d, x: Tensor) -> Tensor:
        return convolve(conv, F.pad(x, (conv.kernel_size[0] - 1, 0)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = None if self._mask is None else self._mask.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def attend_biased(self, q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor]) -> Tensor:
        """``biases``: one (heads, t, t) per call."""
        bias = torch.stack(list(biases))
        if self._mask is not None:
            bias = bias + self._mask.to(bias.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    def spans(self) -> list[int] | None:
        return None


class Chunked:
    """The next chunk of several calls, or the same number of whole chunks of each. ``fresh``: how
    many of the new positions each really has; the rest are padding at the end, which nothing real
    ever sees. ``spare``: rows of no call behind the others, to fill a batch up to a fixed size."""

    def __init__(
        self,
        calls: Sequence[CallMemory],
        fresh: Sequence[int],
        *,
        rows: int = 1,
        spare: int = 0,
        attention: Attention = "each",
    ) -> None:
        self._calls = calls
        self._rows = rows
        self._spare = spare * rows
        self._attention = attention
        self._group = self._conv = self._layer = 0
        self._tails: dict[tuple[int, int], Tensor] = {}
        chunk = calls[0].kv.chunk
        self._parts = max(1, max(fresh) // chunk)
        if self._parts > 1 and set(fresh) != {self._parts * chunk}:
            raise ValueError(f"chunks of unlike number: {list(fresh)} positions")
        self._chunk = chunk
        for call, count in zip(calls, fresh, strict=True):
            call.kv.begin(count)

    def enter(self, group: int) -> None:
        """The network runs again from its first layer, for Euler step ``group``."""
        self._group, self._conv, self._layer = group, 0, 0

    def spans(self) -> list[int] | None:
        return [call.kv.seen for call in self._calls for _ in range(self._rows)]

    def commit(self) -> None:
        """The chunk is done: what it left is every call's past from now on."""
        for number, call in enumerate(self._calls):
            call.kv.commit()
            rows = slice(number * self._rows, (number + 1) * self._rows)
            for key, tail in self._tails.items():
                # A copy of its own: a view would keep the whole batch alive.
                call.tails[key] = tail[rows].clone()

    def conv(self, conv: nn.Conv1d, x: Tensor) -> Tensor:
        key, keep = (self._group, self._conv), conv.kernel_size[0] - 1
        self._conv += 1
        before = [self._tail(call, key, x, keep) for call in self._calls]
        if self._spare:
            before.append(x.new_zeros(self._spare, x.shape[1], keep))
        joined = torch.cat([before[0] if len(before) == 1 else torch.cat(before), x], dim=-1)
        self._tails[key] = joined[..., -keep:]
        return convolve(conv, joined)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.attend_biased(q, k, v, None)

    def attend_biased(
        self, q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor] | None
    ) -> Tensor:
        """``biases``: one (heads, t, past + t) per call, added to its scores."""
        layer = self._layer
        self._layer += 1
        if self._parts == 1:
            return self._attend_chunk(layer, 0, q, k, v, biases)
        mixed = []
        for part in range(self._parts):
            own = slice(part * self._chunk, (part + 1) * self._chunk)
            rows = None if biases is None else [bias[:, own] for bias in biases]
            new = (q[:, :, own], k[:, :, own], v[:, :, own])
            mixed.append(self._attend_chunk(layer, part, *new, rows))
        return torch.cat(mixed, dim=2)

    def _attend_chunk(
        self,
        layer: int,
        part: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        biases: Sequence[Tensor] | None,
    ) -> Tensor:
        """Chunk number ``part`` of every call."""
        size = self._rows
        rows = [slice(n * size, (n + 1) * size) for n in range(len(self._calls))]
        seen = [
            call.kv.put(self._group, layer, k[own], v[own], part)
            for call, own in zip(self._calls, rows, strict=True)
        ]
        real = q[: len(seen) * size]
        if biases is None and self._attention == "padded" and len(seen) > 1:
            return self._filled([_attend_padded(real, seen)])
        each = []
        for n, (own, (keys, values)) in enumerate(zip(rows, seen, strict=True)):
            bias = None if biases is None else biases[n][None, ..., : keys.shape[2]]
            each.append(F.scaled_dot_product_attention(q[own], keys, values, attn_mask=bias))
        return self._filled(each)

    def _filled(self, parts: list[Tensor]) -> Tensor:
        if self._spare:
            parts = [*parts, parts[0].new_zeros(self._spare, *parts[0].shape[1:])]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _tail(self, call: CallMemory, key: tuple[int, int], x: Tensor, keep: int) -> Tensor:
        tail = call.tails.get(key)
        return x.new_zeros(self._rows, x.shape[1], keep) if tail is None else tail


def convolve(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """``conv`` without padding of its own, x (rows, channels, t).

    On a CPU as one matrix product: for the few frames of a chunk five times faster than the
    convolution routine.
    """
    if x.device.type != "cpu":
        return conv(x)  # type: ignore[no-any-return]
    windows = x.unfold(2, conv.kernel_size[0], 1).transpose(1, 2).flatten(2)  # (rows, t, c·k)
    return F.linear(windows, conv.weight.flatten(1), conv.bias).transpose(1, 2)


def _attend_padded(q: Tensor, seen: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """All calls at once: keys and values padded with zeros to the longest, and masked."""
    longest = max(keys.shape[-2] for keys, _ in seen)
    k = torch.cat([F.pad(keys, (0, 0, 0, longest - keys.shape[-2])) for keys, _ in seen])
    v = torch.cat([F.pad(values, (0, 0, 0, longest - values.shape[-2])) for _, values in seen])
    lengths = torch.tensor(
        [keys.shape[-2] for keys, _ in seen for _ in range(keys.shape[0])], device=q.device
    )
    visible = torch.arange(longest, device=q.device) < lengths[:, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None, :])


def chunk_mask(
    length: int, chunk: int, *, left: int = -1, pinned: int = 0, device: torch.device
) -> Tensor:
    """Additive streaming mask (length, length): a position sees its own chunk, ``left`` chunks
    before it (below 0: all) and the first ``pinned`` chunks."""
    at = torch.arange(length, device=device) // chunk
    query, key = at[:, None], at[None, :]
    visible = key <= query
    if left >= 0:
        visible = visible & ((key >= query - left) | (key < pinned))
    return torch.zeros(length, length, device=device).masked_fill(~visible, float("-inf"))
