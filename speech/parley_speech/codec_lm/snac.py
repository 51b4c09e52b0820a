"""SNAC's decoder: codes of three rates to sound (Siuzdak, Grötschla, Lanzendörfer 2024).

Written from the paper and the published files. Layers by their names in the state dict:

    quantizer.quantizers.N     codebook (codes, 8), out_proj 8 -> latent; repeated, summed
    decoder.model.0, .1        depth-wise convolution of 7, point-wise one
    decoder.model.2 ..         blocks: snake, transposed convolution, noise, three residual units
    decoder.model.-2, -1       snake, convolution of 7 to one channel; then tanh

The noise is an argument here, so that a caller can give every sample its own for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class SnacConfig:
    sampling_rate: int
    latent: int
    decoder_dim: int
    decoder_rates: tuple[int, ...]
    codebook_size: int
    codebook_dim: int
    vq_strides: tuple[int, ...]
    """Columns of the finest rate that one code of each codebook covers, coarse first."""
    noise: bool
    depthwise: bool

    @property
    def hop(self) -> int:
        """Samples of one column of the finest codebook: 512."""
        return int(torch.tensor(self.decoder_rates).prod())

    @property
    def frame(self) -> int:
        """Samples of one code of the coarsest codebook: 2,048."""
        return self.hop * self.vq_strides[0]

    def noise_lengths(self, frames: int) -> list[int]:
        """How many random numbers each noise block takes for so many frames."""
        lengths, length = [], frames * self.vq_strides[0]
        for rate in self.decoder_rates:
            length *= rate
            lengths.append(length)
        return lengths


class Snac(nn.Module):
    """Codebooks and decoder. The state dict is the published one without the encoder."""

    def __init__(self, config: SnacConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = nn.Module()
        self.quantizer.quantizers = nn.ModuleList(_Codebook(config) for _ in config.vq_strides)
        self.decoder = nn.Module()
        self.decoder.model = _layers(config)

    def embed(self, codes: Sequence[Tensor]) -> Tensor:
        """codes: one (B, F * strides[0] / strides[n]) int64 for each codebook.

        Returns (B, latent, F * strides[0])."""
        total: Tensor | None = None
        books: Any = self.quantizer.quantizers
        for book, stride, level in zip(books, self.config.vq_strides, codes, strict=True):
            part: Tensor = book(level).repeat_interleave(stride, dim=-1)
            total = part if total is None else total + part
        assert total is not None
        return total

    def forward(self, codes: Sequence[Tensor], noise: Sequence[Tensor] | None = None) -> Tensor:
        """noise: (B, 1, n) for each block, n as `SnacConfig.noise_lengths` says; None: silence.

        Returns sound, (B, F * frame), -1..1."""
        x = self.embed(codes)
        draws = iter(noise or ())
        layers: Any = self.decoder.model
        for layer in layers:
            x = layer(x, draws) if isinstance(layer, _Block) else layer(x)
        sound: Tensor = torch.tanh(x).squeeze(1)
        return sound


def _layers(config: SnacConfig) -> nn.ModuleList:
    groups = config.latent if config.depthwise else 1
    layers: list[nn.Module] = [nn.Conv1d(config.latent, config.latent, 7, padding=3, groups=groups)]
    if config.depthwise:
        layers.append(nn.Conv1d(config.latent, config.decoder_dim, 1))
    else:
        layers[0] = nn.Conv1d(config.latent, config.decoder_dim, 7, padding=3)
    width = config.decoder_dim
    for rate in config.decoder_rates:
        layers.append(_Block(width, width // 2, rate, config))
        width //= 2
    return nn.ModuleList([*layers, _Snake(width), nn.Conv1d(width, 1, 7, padding=3)])


class _Codebook(nn.Module):
    def __init__(self, config: SnacConfig) -> None:
        super().__init__()
        self.codebook = nn.Embedding(config.codebook_size, config.codebook_dim)
        self.out_proj = nn.Conv1d(config.codebook_dim, config.latent, 1)

    def forward(self, codes: Tensor) -> Tensor:
        projected: Tensor = self.out_proj(self.codebook(codes).transpose(1, 2))
        return projected


class _Snake(nn.Module):
    """x + sin²(a x) / a, a for each channel (Ziyin et al. 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + torch.sin(self.alpha * x).square() / (self.alpha + 1e-9)
        return y


class _Noise(nn.Module):
    """Adds noise whose strength the signal itself sets."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(width, width, 1, bias=False)

    def forward(self, x: Tensor, draw: Tensor) -> Tensor:
        y: Tensor = x + draw * self.linear(x)
        return y


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            _Snake(width),
            nn.Conv1d(width, width, 7, padding=3 * dilation, dilation=dilation, groups=groups),
            _Snake(width),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.block(x)
        return y


class _Block(nn.Module):
    def __init__(self, wide: int, narrow: int, rate: int, config: SnacConfig) -> None:
        super().__init__()
        groups = narrow if config.depthwise else 1
        up = nn.ConvTranspose1d(
            wide,
            narrow,
            2 * rate,
            stride=rate,
            padding=-(-rate // 2),
            output_padding=rate % 2,
        )
        noise = [_Noise(narrow)] if config.noise else []
        units = [_Residual(narrow, dilation, groups) for dilation in (1, 3, 9)]
        self.block = nn.ModuleList([_Snake(wide), up, *noise, *units])

    def forward(self, x: Tensor, draws: Iterator[Tensor]) -> Tensor:
        for layer in self.block:
            if isinstance(layer, _Noise):
                draw = next(draws, None)
                x = x if draw is None else layer(x, draw)
            else:
                x = layer(x)
        return x


def fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight norm (Salimans, Kingma 2016) resolved: w = g v / |v|, the norm over all axes but 0."""
    folded: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith("parametrizations.weight.original0"):
            direction = state[name[:-1] + "1"]
            norm = direction.flatten(1).norm(dim=1).view(-1, *[1] * (direction.dim() - 1))
            weight = value * direction / norm
            folded[name.replace("parametrizations.weight.original0", "weight")] = weight
        elif not name.endswith("parametrizations.weight.original1"):
            folded[name] = value
    return folded


def decode(model: Snac, codes: Sequence[Tensor], noise: Sequence[Tensor] | None) -> Tensor:
    """`Snac.forward` without gradients."""
    with torch.inference_mode():
        sound: Tensor = model(codes, noise)
    return sound
