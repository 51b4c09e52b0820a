"""The S3 speech tokenizer v2 in torch: 16 kHz speech as 25 tokens per second.

A Whisper-like encoder (two strided convolutions, blocks of attention with rotary positions and a
convolutional memory over the values) and finite scalar quantisation: eight values of three levels
are one token of 6561. CosyVoice 2 ships it as `speech_tokenizer_v2.onnx`, which needs no torch;
this module loads the torch state dict (`speech_tokenizer_v2.pt`) and exports to that form.
Paper: Du et al., "CosyVoice 2" (2024), section 2.2; Mentzer et al., "Finite Scalar Quantization".
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_DIM = 64  # the rotary table is made for it
ROTARY_BASE = 10_000.0
DIGITS, LEVELS = 8, 3
MEMORY = 31  # frames of the convolutional memory
SQUASH = 0.999  # keeps tanh from the very edge of its outer levels


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_DIM
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.fsmn_block = nn.Conv1d(width, width, MEMORY, groups=width, bias=False)

    def forward(self, x: Tensor, mask: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """x (B, T, D), mask (B, T, 1) of ones and zeros."""
        value = self.value(x)
        q, k = (_rotated(self._split(y), rotary) for y in (self.query(x), self.key(x)))
        bias = (1.0 - mask.transpose(1, 2).unsqueeze(1)) * -1.0e10  # (B, 1, 1, T)
        scores = (q * HEAD_DIM**-0.25) @ (k * HEAD_DIM**-0.25).transpose(-1, -2) + bias
        mixed = (scores.softmax(-1) @ self._split(value)).transpose(1, 2).flatten(2)
        y: Tensor = self.out(mixed) + self._memory(value * mask, mask)
        return y

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, heads, T, head)."""
        return x.reshape(x.shape[0], -1, self.heads, HEAD_DIM).transpose(1, 2)

    def _memory(self, value: Tensor, mask: Tensor) -> Tensor:
        edge = (MEMORY - 1) // 2
        around = self.fsmn_block(F.pad(value.transpose(1, 2), (edge, edge))).transpose(1, 2)
        y: Tensor = (around + value) * mask
        return y


def _rotated(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turns the two halves of each head, (B, heads, T, 64), against each other."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = _Attention(width)
        self.attn_ln = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attn(self.attn_ln(x), mask, rotary)
        y: Tensor = x + self.mlp(self.mlp_ln(x))
        return y


class _Encoder(nn.Module):
    def __init__(self, mels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(mels, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))

    def forward(self, mel: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """mel (B, 128, T), frames (B,) to hidden (B, T/4, D) and its lengths (B,)."""
        x = F.gelu(self.conv1(mel * _valid(mel, frames)))
        frames = _halved(frames)
        x = F.gelu(self.conv2(x * _valid(x, frames)))
        frames = _halved(frames)
        mask = _valid(x, frames).transpose(1, 2)
        x = x.transpose(1, 2)
        rotary = _rotary(x)
        for block in self.blocks:
            x = block(x, mask, rotary)
        return x, frames


def _halved(frames: Tensor) -> Tensor:
    return (frames - 1) // 2 + 1


def _valid(x: Tensor, frames: Tensor) -> Tensor:
    """(B, 1, T): one where (B, C, T) holds data, zero where it is padding."""
    at = torch.arange(x.shape[-1], device=x.device)
    return (at[None, :] < frames[:, None]).to(x.dtype).unsqueeze(1)


def _rotary(x: Tensor) -> tuple[Tensor, Tensor]:
    speeds = ROTARY_BASE ** -(torch.arange(0, HEAD_DIM, 2, device=x.device) / HEAD_DIM)
    angles = torch.arange(x.shape[1], device=x.device)[:, None].to(x.dtype) * speeds
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


class _Codebook(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.project_down = nn.Linear(width, DIGITS)

    def forward(self, x: Tensor) -> Tensor:
        digits = (self.project_down(x).tanh() * SQUASH).round() + 1.0
        weights = float(LEVELS) ** torch.arange(DIGITS, device=x.device)
        ids: Tensor = (digits * weights).sum(-1).to(torch.int32)
        return ids


class _Quantizer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self._codebook = _Codebook(width)

    def forward(self, x: Tensor) -> Tensor:
        ids: Tensor = self._codebook(x)
        return ids


class S3Tokenizer(nn.Module):
    """Log-mel (B, 128, T) and frames (B,) to token ids (B, T/4) int32 and their counts (B,)."""

    def __init__(self, *, mels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.encoder = _Encoder(mels, width, blocks)
        self.quantizer = _Quantizer(width)

    def forward(self, mel: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        hidden, counts = self.encoder(mel, frames)
        return self.quantizer(hidden), counts


def load_s3_tokenizer(path: Path) -> S3Tokenizer:
    """The network of a state dict, ready for use. Raises ValueError for a foreign file."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        width, mels, _ = state["encoder.conv1.weight"].shape
        blocks = 1 + max(int(key.split(".")[2]) for key in state if ".blocks." in key)
        model = S3Tokenizer(mels=mels, width=width, blocks=blocks)
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not an S3 tokenizer v2 checkpoint (speech_tokenizer_v2.pt): {error}"
        ) from error
    return model.eval()
