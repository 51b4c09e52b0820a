"""The harmonic source: f0 per frame to a sum of sines, continuous over chunks.

Between the middles of two frames the phase of harmonic h runs linearly: from the middle of frame
i-1 to that of frame i it advances by 480·(f0_i·h/sr mod 1) cycles. Before the first middle and
behind the last one it stands still. So a frame's second half needs the f0 of the frame after it.

Phases are kept in cycles mod 1 in float64: at five minutes they are as exact as at the start,
where a running float32 sum of radians (the original) has lost its last digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from parley_speech.codec.cosyvoice2.config import HiftConfig


def sines(
    f0: Tensor, noise: Tensor, config: HiftConfig, before: Tensor | None
) -> tuple[Tensor, Tensor]:
    """f0 (calls, t) in Hz, noise (calls, t, 480, harmonics + 1) standard normal → harmonics with
    noise (calls, 480 t, harmonics + 1), and the phases in cycles at the middle of each frame
    (calls, t, harmonics + 1).

    ``before``: the phases at the middle of the frame before the first, (calls, harmonics + 1);
    None: nothing was before.
    """
    size = config.samples_per_frame
    advance = _advance(f0, config)
    still = torch.zeros_like(advance[:, :1])
    start = still if before is None else before[:, None]
    middles = torch.remainder(start + advance.cumsum(1), 1.0)
    # Sample p of a frame lies (p + 0.5)/480 - 0.5 frames from its middle.
    offsets = (torch.arange(size, dtype=torch.float64, device=f0.device) + 0.5) / size - 0.5
    passed = torch.cat([still if before is None else advance[:, :1], advance[:, 1:]], dim=1)
    coming = torch.cat([advance[:, 1:], still], dim=1)
    behind = offsets.clamp(max=0)[:, None] * passed[:, :, None]
    ahead = offsets.clamp(min=0)[:, None] * coming[:, :, None]
    cycles = torch.remainder(middles[:, :, None] + behind + ahead, 1.0)
    waves = (2 * torch.pi * cycles).float().sin() * config.sine_amplitude
    voiced = (f0 > config.voiced_above_hz).float()[..., None, None]
    loudness = voiced * config.noise_deviation + (1 - voiced) * config.sine_amplitude / 3
    return (waves * voiced + loudness * noise).flatten(1, 2), middles


def frame_noise(seed: int, first: int, count: int, config: HiftConfig) -> Tensor:
    """Normal noise of the frames first … first+count, (count, 480, harmonics + 1), on the CPU.

    Every frame has a seed of its own: it sounds the same whenever and however often it is drawn.
    """
    shape = (config.samples_per_frame, config.harmonics + 1)
    draw = torch.Generator()
    rows = []
    for frame in range(first, first + count):
        draw.manual_seed((seed << 20) + frame)
        rows.append(torch.randn(shape, generator=draw))
    return torch.stack(rows) if rows else torch.zeros(0, *shape)


def _advance(f0: Tensor, config: HiftConfig) -> Tensor:
    """Cycles from the middle of the frame before to that of each, (calls, t, harmonics + 1)."""
    harmonics = torch.arange(1, config.harmonics + 2, dtype=torch.float32, device=f0.device)
    # In float32 as published: what is left after "mod 1" is multiplied by 480.
    per_sample = torch.remainder(f0.float()[..., None] * harmonics / config.sample_rate_hz, 1.0)
    return per_sample.double() * config.samples_per_frame
