"""The flow's velocity estimator: a causal 1-D U-Net with transformers, of one resolution.

The recipe is Matcha-TTS's decoder (arXiv 2309.03199) with causal convolutions. Names are those of
the published state dict. Rows are (call, guidance): with the conditions, then without.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parley_speech.codec.cosyvoice2.config import FlowConfig
from parley_speech.codec.cosyvoice2.memory import Memory, convolve

TIME_SCALE = 1000.0
HIDDEN_TIMES = 4
KERNEL = 3


class TimeEmbedding(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def forward(self, t: Tensor) -> Tensor:
        """t (1,) in 0..1 → (1, hidden)."""
        half = self.width // 2
        powers = torch.arange(half, dtype=torch.float32, device=t.device) / (half - 1)
        angles = TIME_SCALE * t.float()[:, None] * torch.exp(-math.log(10_000.0) * powers)
        code = torch.cat([angles.sin(), angles.cos()], dim=-1).to(self.linear_1.weight.dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(code)))
        return out


class CausalBlock(nn.Module):
    """Causal convolution, LayerNorm over channels, Mish."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            [nn.Conv1d(inputs, outputs, KERNEL), nn.Identity(), nn.LayerNorm(outputs)]
        )

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        conv = self.block[0]
        assert isinstance(conv, nn.Conv1d)
        y = self.block[2](memory.conv(conv, x).transpose(1, 2))
        return F.mish(y).transpose(1, 2)


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.mlp = nn.ModuleList([nn.Identity(), nn.Linear(time, outputs)])
        self.block1 = CausalBlock(inputs, outputs)
        self.block2 = CausalBlock(outputs, outputs)
        self.res_conv = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor, memory: Memory) -> Tensor:
        """x (rows, inputs, t), ``time`` (1, time) through Mish already → (rows, outputs, t)."""
        h = self.block1(x, memory) + self.mlp[1](time)[..., None]
        out: Tensor = self.block2(h, memory) + convolve(self.res_conv, x)
        return out


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.to_q = nn.Linear(width, heads * dim, bias=False)
        self.to_k = nn.Linear(width, heads * dim, bias=False)
        self.to_v = nn.Linear(width, heads * dim, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(heads * dim, width)])

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values, each (rows, heads, t, dim)."""
        rows, t, _ = x.shape
        q, k, v = (
            linear(x).view(rows, t, self.heads, self.dim).transpose(1, 2)
            for linear in (self.to_q, self.to_k, self.to_v)
        )
        return q, k, v


class Hidden(nn.Module):
    """A linear layer and GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x))


class GeluFeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = HIDDEN_TIMES * width
        self.net = nn.ModuleList([Hidden(width, hidden), nn.Identity(), nn.Linear(hidden, width)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[2](self.net[0](x))
        return out


class Transformer(nn.Module):
    """Pre-normed self-attention and feed-forward. Its two halves touch no memory, so that they can
    be compiled with fixed shapes whatever the age of the calls (`compiled.py`)."""

    def __init__(self, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = SelfAttention(width, heads, dim)
        self.norm3 = nn.LayerNorm(width)
        self.ff = GeluFeedForward(width)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x (rows, t, width) → the same shape."""
        return self.after(x, memory.attend(*self.before(x)))

    def before(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.attn1.split(self.norm1(x))

    def after(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.attn1.to_out[0](mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class Estimator(nn.Module):
    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        channels, bins = config.channels, config.mel_bins
        inputs, time = 4 * bins, 4 * channels

        def transformers() -> nn.ModuleList:
            return nn.ModuleList(
                Transformer(channels, config.heads, config.head_dim)
                for _ in range(config.transformers)
            )

        def stage(width: int, *more: nn.Module) -> nn.ModuleList:
            return nn.ModuleList([Residual(width, channels, time), transformers(), *more])

        self.time_mlp = TimeEmbedding(inputs, time)
        self.down_blocks = nn.ModuleList([stage(inputs, nn.Conv1d(channels, channels, KERNEL))])
        self.mid_blocks = nn.ModuleList(stage(channels) for _ in range(config.mid_blocks))
        self.up_blocks = nn.ModuleList([stage(2 * channels, nn.Conv1d(channels, channels, KERNEL))])
        self.final_block = CausalBlock(channels, channels)
        self.final_proj = nn.Conv1d(channels, bins, 1)

    @property
    def attentions(self) -> int:
        """How many attention layers one evaluation runs through."""
        return sum(isinstance(module, Transformer) for module in self.modules())

    def forward(
        self, x: Tensor, mu: Tensor, t: Tensor, speaker: Tensor, cond: Tensor, memory: Memory
    ) -> Tensor:
        """x, mu, cond (rows, bins, t), speaker (rows, bins), t (1,) → velocity (rows, bins, t)."""
        time = F.mish(self.time_mlp(t))
        h = torch.cat([x, mu, speaker[..., None].expand_as(x), cond], dim=1)
        h = _stage(self.down_blocks[0], h, time, memory)
        skipped = h
        h = memory.conv(_conv(self.down_blocks[0]), h)
        for block in self.mid_blocks:
            h = _stage(block, h, time, memory)
        h = _stage(self.up_blocks[0], torch.cat([h, skipped], dim=1), time, memory)
        h = memory.conv(_conv(self.up_blocks[0]), h)
        return convolve(self.final_proj, self.final_block(h, memory))


def _stage(stage: nn.Module, x: Tensor, time: Tensor, memory: Memory) -> Tensor:
    assert isinstance(stage, nn.ModuleList)
    h = stage[0](x, time, memory).transpose(1, 2)
    transformers = stage[1]
    assert isinstance(transformers, nn.ModuleList)
    for transformer in transformers:
        h = transformer(h, memory)
    out: Tensor = h.transpose(1, 2)
    return out


def _conv(stage: nn.Module) -> nn.Conv1d:
    assert isinstance(stage, nn.ModuleList)
    conv = stage[2]
    assert isinstance(conv, nn.Conv1d)
    return conv
