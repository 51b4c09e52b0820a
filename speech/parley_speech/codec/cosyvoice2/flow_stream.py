"""The flow on running calls: one chunk of 25 tokens (50 frames, 1 s) after the other.

The grid of chunks counts from the start of the reference speech, as the streaming mask does: the
first chunk with new tokens also holds the reference's last ones. A chunk is computed as soon as
its tokens and the three that follow are known; what it leaves behind (keys, values, convolution
tails, per Euler step) is all that later chunks need, so the result equals the whole pass with the
streaming mask, and the linear layers cost the same at any age.

What grows with age are attention and its memory, by one chunk per chunk: all left context is
visible unless ``left`` bounds the estimator's window. Then the whole chunks of the reference stay
visible, as the voice hangs on them, and so do the encoder's keys (under 1 % of the memory).

Where the tokens of several chunks are there already, one pass makes them: all layers but attention
take them together, which reads the weights once instead of once per chunk; attention goes chunk by
chunk, so that each sees what it would have seen alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from parley_speech.codec.cosyvoice2.flow import Flow, Reference
from parley_speech.codec.cosyvoice2.memory import Attention, CallMemory, Chunked, KeyValues

WIDEST = 4
"""Chunks of one pass: with four, all that reading the weights once can gain is gained (100 and 400
frames cost 0.86 and 0.65 of 50 apiece on a CPU), and a pass stays as short as one of four calls."""


class FlowCall:
    """One call's place in the flow."""

    def __init__(self, flow: Flow, reference: Reference, *, left: int = -1) -> None:
        config = flow.config
        self._config = config
        self.reference = reference
        self.pending: list[int] = list(reference.tokens)
        """Tokens not yet decoded; the reference's come first."""
        self.position = 0
        """Tokens decoded, the reference's included."""
        self.last = False
        """No more tokens will come."""
        chunk, frames = config.chunk_tokens, config.chunk_frames
        self.tokens = CallMemory(KeyValues(1, config.encoder_blocks, chunk=chunk))
        self.frames = CallMemory(KeyValues(1, config.up_blocks, chunk=frames))
        self.velocity = CallMemory(
            KeyValues(
                config.steps,
                flow.decoder.estimator.attentions,
                chunk=frames,
                left=left,
                pinned=len(reference.tokens) // chunk,
            )
        )

    @property
    def ready(self) -> bool:
        """There is a chunk to compute."""
        if self.last:
            return bool(self.pending)
        return len(self.pending) >= self._config.chunk_tokens + self._config.lookahead_tokens

    @property
    def ending(self) -> bool:
        """What is left is less than a chunk and what it looks ahead to: the original's tail."""
        return self.last and len(self.pending) < (
            self._config.chunk_tokens + self._config.lookahead_tokens
        )

    @property
    def done(self) -> bool:
        return self.last and not self.pending

    @property
    def frame(self) -> int:
        """Frames decoded, the reference's included."""
        return self.position * self._config.frames_per_token

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + self.frames.nbytes + self.velocity.nbytes

    def fork(self, *, reserve_chunks: int = 0) -> FlowCall:
        """A call that goes on from here by itself: how a reference is decoded only once.

        ``reserve_chunks``: room made at once for this many chunks more.
        """
        twin = copy.copy(self)
        twin.pending = list(self.pending)
        for name in ("tokens", "frames", "velocity"):
            setattr(twin, name, getattr(self, name).copy(reserve_chunks))
        return twin

    @property
    def whole_chunks(self) -> int:
        """Chunks whose tokens, and those they look ahead to, are there."""
        seen = len(self.pending) - self._config.lookahead_tokens
        return max(0, seen // self._config.chunk_tokens)

    def take(self, chunks: int = 1) -> tuple[list[int], int]:
        """The next chunks' tokens with those they look ahead to, and how many are their own."""
        own = min(chunks * self._config.chunk_tokens, len(self.pending))
        seen = self.pending[: own + self._config.lookahead_tokens]
        return seen, own


def advance(
    flow: Flow,
    calls: Sequence[FlowCall],
    *,
    attention: Attention = "each",
    batch_sizes: Sequence[int] = (),
    abandoned: Callable[[], bool] = lambda: False,
    widest: int = 1,
) -> list[Tensor] | None:
    """The next chunk of each call; every one must be `ready`. Gives each call's new mel
    (bins, 2 × its tokens), the reference's frames included; None if ``abandoned`` became true in
    the middle: then the calls are spoilt.

    ``batch_sizes``: the batch is padded to the next of them and every chunk to its full length.
    ``widest``: so many chunks, of all calls together, may be made in one pass where every call has
    its tokens; never with ``batch_sizes``, whose shapes are fixed.
    """
    chunks = min(widest // len(calls), *(call.whole_chunks for call in calls))
    taken = [call.take(1 if batch_sizes else max(1, chunks)) for call in calls]
    own = [count for _, count in taken]
    scale, ahead = flow.config.frames_per_token, flow.config.lookahead_tokens
    longest = flow.config.chunk_tokens if batch_sizes else max(own)
    size = min((s for s in batch_sizes if s >= len(calls)), default=len(calls))
    frames, spare = [count * scale for count in own], size - len(calls)
    rows = [seen for seen, _ in taken] + [[]] * spare
    ids, given = _padded(rows, longest + ahead)
    token_memory = Chunked([call.tokens for call in calls], own, spare=spare)
    frame_memory = Chunked([call.frames for call in calls], frames, spare=spare)
    velocity_memory = Chunked(
        [call.velocity for call in calls], frames, rows=2, spare=spare, attention=attention
    )

    def columns(pick: Callable[[FlowCall], Tensor]) -> Tensor:
        parts = [_window(pick(call), call.frame, longest * scale) for call in calls]
        return _with_spare(torch.stack(parts), spare)

    def enter(step: int) -> bool:
        velocity_memory.enter(step)
        return not abandoned()

    hidden = flow.encoder(
        flow.embed(ids.to(flow.device)),
        given.to(flow.device, flow.dtype),
        token_memory,
        frame_memory,
    )
    mu = flow.encoder_proj(hidden).transpose(1, 2)
    mel = flow.integrate(
        columns(lambda call: flow.noise),
        mu,
        _with_spare(torch.stack([call.reference.speaker for call in calls]), spare),
        columns(lambda call: call.reference.mel).to(mu.dtype),
        velocity_memory,
        enter=enter,
    )
    if mel is None:
        return None
    for memory in (token_memory, frame_memory, velocity_memory):
        memory.commit()
    for call, count in zip(calls, own, strict=True):
        del call.pending[:count]
        call.position += count
    return [mel[n, :, :count] for n, count in enumerate(frames)]


def prefill(flow: Flow, call: FlowCall) -> None:
    """Decodes the chunks that hold nothing but reference speech: `fork` is cheap from there."""
    while call.ready:
        advance(flow, [call], widest=WIDEST)


def _padded(rows: Sequence[list[int]], length: int) -> tuple[Tensor, Tensor]:
    """Token rows (rows, length), and 1 where there is a token."""
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    given = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return ids, given


def _window(x: Tensor, start: int, length: int) -> Tensor:
    """Columns start … start+length of x (rows, columns), zeros where x has ended."""
    part = x[:, start : start + length]
    return torch.nn.functional.pad(part, (0, length - part.shape[1]))


def _with_spare(x: Tensor, spare: int) -> Tensor:
    """``spare`` rows of zeros behind those of x."""
    return torch.cat([x, x.new_zeros(spare, *x.shape[1:])]) if spare else x
