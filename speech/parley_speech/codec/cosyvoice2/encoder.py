"""The token encoder: look-ahead, conformer blocks at 25 Hz, doubling, blocks at 50 Hz.

The conformer blocks have no convolution module: attention with relative positions
(Transformer-XL, arXiv 1901.02860) and a feed-forward, both pre-normed. Names are those of the
published state dict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parley_speech.codec.cosyvoice2.config import FlowConfig
from parley_speech.codec.cosyvoice2.memory import Memory

BLOCK_EPS = 1e-12
EMBED_EPS = 1e-5
FREQUENCY_BASE = 10_000.0
UP_KERNEL = 5
LOOKAHEAD_KERNEL_2 = 3


class BiasedMemory(Memory, Protocol):
    def attend_biased(
        self, q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor]
    ) -> Tensor: ...


def sinusoids(first: int, last: int, width: int, like: Tensor) -> Tensor:
    """Codes of the relative positions first, first-1 … last, shape (first-last+1, width):
    sin(p·w) in even columns, cos(p·w) in odd ones."""
    positions = torch.arange(first, last - 1, -1, dtype=torch.float32, device=like.device)
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=like.device)
    angles = positions[:, None] * torch.exp(steps * -(math.log(FREQUENCY_BASE) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like.dtype)


class RelativeAttention(nn.Module):
    """score(i, j) = ((q_i + u)·k_j + (q_i + v)·W p(i−j)) / sqrt(dim)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, width // heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, self.dim))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, self.dim))
        self._table: Tensor | None = None  # projected codes, (heads, positions, dim)
        self._reach = (0, 0)

    def forward(self, x: Tensor, memory: BiasedMemory) -> Tensor:
        """x (calls, t, width) → the same shape."""
        calls, t, width = x.shape
        q, k, v = (
            linear(x).view(calls, t, self.heads, self.dim)
            for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        spans = memory.spans()
        biases = self._biases(
            (q + self.pos_bias_v).transpose(1, 2), [0] * calls if spans is None else spans, t
        )
        mixed = memory.attend_biased(
            (q + self.pos_bias_u).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), biases
        )
        out: Tensor = self.linear_out(mixed.transpose(1, 2).reshape(calls, t, width))
        return out

    def _biases(self, q: Tensor, spans: list[int], t: int) -> list[Tensor]:
        """The positional part of each call's scores, (heads, t, span + t), already scaled."""
        biases = []
        for call, span in enumerate(spans):
            codes = self._codes(span + t - 1, 1 - t, q)  # relative positions, falling
            scores = q[call] @ codes.transpose(1, 2) / math.sqrt(self.dim)  # (heads, t, span+2t-1)
            # Row a, key j sits in column t-1-a+j: one shear instead of a gather.
            h, _, w = scores.shape
            biases.append(scores.as_strided((h, t, span + t), (t * w, w - 1, 1), t - 1))
        return biases

    def _codes(self, first: int, last: int, like: Tensor) -> Tensor:
        """W p for the relative positions first … last; kept, as every call needs the same."""
        high, low = self._reach
        if self._table is None or first > high or last < low or self._table.dtype != like.dtype:
            high, low = max(2 * first, high), min(last, low)
            codes = self.linear_pos(sinusoids(high, low, self.linear_pos.in_features, like))
            self._table = codes.view(-1, self.heads, self.dim).transpose(0, 1).contiguous()
            self._reach = (high, low)
        return self._table[:, high - first : high - last + 1]


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w_2(F.silu(self.w_1(x)))
        return out


class ConformerBlock(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = RelativeAttention(width, heads)
        self.feed_forward = FeedForward(width, hidden)
        self.norm_ff = nn.LayerNorm(width, eps=BLOCK_EPS)
        self.norm_mha = nn.LayerNorm(width, eps=BLOCK_EPS)

    def forward(self, x: Tensor, memory: BiasedMemory) -> Tensor:
        x = x + self.self_attn(self.norm_mha(x), memory)
        out: Tensor = x + self.feed_forward(self.norm_ff(x))
        return out


class InputLayer(nn.Module):
    """Linear, LayerNorm, times sqrt(width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.ModuleList([nn.Linear(width, width), nn.LayerNorm(width, eps=EMBED_EPS)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out[1](self.out[0](x)) * math.sqrt(x.shape[-1])
        return out


class LookAhead(nn.Module):
    """Two convolutions and a residual: the first sees the token and those that follow it."""

    def __init__(self, width: int, ahead: int) -> None:
        super().__init__()
        self.ahead = ahead
        self.conv1 = nn.Conv1d(width, width, ahead + 1)
        self.conv2 = nn.Conv1d(width, width, LOOKAHEAD_KERNEL_2)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (calls, t + ahead, width): the last ``ahead`` only serve as context → (calls, t, w)."""
        seen = F.leaky_relu(self.conv1(x.transpose(1, 2)))
        out: Tensor = memory.conv(self.conv2, seen).transpose(1, 2)
        return out + x[:, : x.shape[1] - self.ahead]


class UpLayer(nn.Module):
    """Each position twice, then a causal convolution."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.times = times
        self.conv = nn.Conv1d(width, width, UP_KERNEL)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        repeated = x.repeat_interleave(self.times, dim=1).transpose(1, 2)
        return memory.conv(self.conv, repeated).transpose(1, 2)


class TokenEncoder(nn.Module):
    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        width, heads, hidden = config.width, config.encoder_heads, config.encoder_hidden
        self.embed = InputLayer(width)
        self.after_norm = nn.LayerNorm(width, eps=EMBED_EPS)
        self.pre_lookahead_layer = LookAhead(width, config.lookahead_tokens)
        self.encoders = nn.ModuleList(
            ConformerBlock(width, heads, hidden) for _ in range(config.encoder_blocks)
        )
        self.up_layer = UpLayer(width, config.frames_per_token)
        self.up_embed = InputLayer(width)
        self.up_encoders = nn.ModuleList(
            ConformerBlock(width, heads, hidden) for _ in range(config.up_blocks)
        )

    def forward(
        self, x: Tensor, given: Tensor, tokens: BiasedMemory, frames: BiasedMemory
    ) -> Tensor:
        """x (calls, t + 3, width) embedded tokens, ``given`` (calls, t + 3) 0 where there is none
        (behind the last one the look-ahead sees zeros) → (calls, 2t, width).

        ``tokens`` and ``frames`` are the memories of the 25 Hz and the 50 Hz part.
        """
        x = self.embed(x) * given[..., None]
        x = self.pre_lookahead_layer(x, tokens)
        for block in self.encoders:
            x = block(x, tokens)
        x = self.up_embed(self.up_layer(x, frames))
        for block in self.up_encoders:
            x = block(x, frames)
        out: Tensor = self.after_norm(x)
        return out
