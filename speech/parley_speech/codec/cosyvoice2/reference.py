"""The original's schedules on our modules: to compare with, in tests and measurements.

The flow decodes the whole prefix again for every chunk and keeps what is new; hops grow from 25 to
100 tokens. The vocoder prepends 8 frames of mel, overwrites the start of its source with the end
of the one before and cross-fades 3,840 samples. Nothing of this is used in service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parley_speech.codec.cosyvoice2.config import FlowConfig, HiftConfig
from parley_speech.codec.cosyvoice2.flow import Flow, Reference
from parley_speech.codec.cosyvoice2.hift import Hift

FIRST_HOP, LAST_HOP = 25, 100
OVERLAP_FRAMES = 8


@dataclass(frozen=True, slots=True)
class Hop:
    """One chunk of the original's schedule: the prefix it decodes and what of it is new."""

    first: int
    """Tokens that came out before."""
    given: int
    """Tokens decoded, the look-ahead included."""
    last: bool


def schedule(
    config: FlowConfig, reference: int, tokens: int, last_hop: int = LAST_HOP
) -> list[Hop]:
    """The original's hops on a first request: 25 (and what the reference of that many tokens lacks
    to a multiple of 25), 50, then 100."""
    hops, offset, hop = [], 0, FIRST_HOP
    this = hop + -reference % FIRST_HOP
    while tokens - offset >= this + config.lookahead_tokens:
        hops.append(Hop(offset, offset + this + config.lookahead_tokens, False))
        offset += this
        this = hop = min(2 * hop, last_hop)
    return [*hops, Hop(offset, tokens, True)]


def recompute(
    flow: Flow,
    reference: Reference,
    tokens: Sequence[int],
    hop: Hop,
    *,
    streaming_tail: bool = False,
) -> Tensor:
    """The new mel of one hop (bins, frames), the whole prefix decoded for it."""
    mel = flow.whole(
        reference,
        list(tokens[: hop.given]),
        streaming=streaming_tail or not hop.last,
        finalize=hop.last,
    )
    return mel[:, hop.first * flow.config.frames_per_token :]


def published_source(f0: Tensor, noise: Tensor, hift: Hift) -> Tensor:
    """The source in float32 with the original's order of operations; f0 (calls, t), noise
    (calls, 480 t, harmonics + 1) → (calls, 480 t). Its phases lose digits as they grow."""
    config = hift.config
    waves = _published_sines(f0.repeat_interleave(config.samples_per_frame, 1)[..., None], config)
    voiced = (f0 > config.voiced_above_hz).float()
    voiced = voiced.repeat_interleave(config.samples_per_frame, 1)[..., None]
    loudness = voiced * config.noise_deviation + (1 - voiced) * config.sine_amplitude / 3
    out: Tensor = hift.m_source(waves * voiced + loudness * noise)
    return out


def _published_sines(f0: Tensor, config: HiftConfig) -> Tensor:
    size = config.samples_per_frame
    harmonics = torch.arange(1, config.harmonics + 2, device=f0.device).float()
    turns = (f0 * harmonics / config.sample_rate_hz % 1).transpose(1, 2)
    turns = F.interpolate(turns, scale_factor=1 / size, mode="linear")
    phase = (turns.transpose(1, 2).cumsum(1) * 2 * torch.pi).transpose(1, 2)
    phase = F.interpolate(phase * size, scale_factor=size, mode="linear")
    return phase.transpose(1, 2).sin() * config.sine_amplitude


@dataclass
class CrossFaded:
    """The original's streaming vocoder: one mel (bins, t) after the other, with its noise
    (480 · t', harmonics + 1), where t' counts the repeated frames too."""

    hift: Hift
    mel: Tensor | None = None
    source: Tensor | None = None
    speech: Tensor | None = None

    def push(self, mel: Tensor, noise: Tensor, *, last: bool, f0: Tensor | None = None) -> Tensor:
        """The samples that this call emits. ``f0`` (t',) stands in for the predicted one."""
        size = self.hift.config.samples_per_frame
        overlap = OVERLAP_FRAMES * size
        joined = mel if self.mel is None else torch.cat([self.mel, mel], dim=1)
        pitch = self.hift.f0(joined[None]) if f0 is None else f0[None]
        source = published_source(pitch, noise[None], self.hift)[0]
        if self.source is not None:
            source[:overlap] = self.source
        wave = self.hift.decode(joined[None], source[None])[0]
        if self.speech is not None:
            fade = torch.from_numpy(np.hamming(2 * overlap)).float()
            wave[:overlap] = wave[:overlap] * fade[:overlap] + self.speech * fade[overlap:]
        if last:
            return wave
        self.mel = joined[:, -OVERLAP_FRAMES:]
        self.source, self.speech = source[-overlap:], wave[-overlap:]
        return wave[:-overlap]
