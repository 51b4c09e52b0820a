"""The original's schedules on our modules: to compare with, in tests and measurements.

The flow decodes the whole prefix again for every chunk and keeps what is new; hops grow from 25 to
100 tokens. The vocoder prepends 8 frames of mel, overwrites the start of its source with the end
of the one before and cross-fades 3,840 samples. Nothing of this is used in service.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parley_speech.codec.cosyvoice2.config import HiftConfig
from parley_speech.codec.cosyvoice2.flow import Flow, Reference
from parley_speech.codec.cosyvoice2.hift import Hift

FIRST_HOP, LAST_HOP = 25, 100
OVERLAP_FRAMES = 8


def recompute(
    flow: Flow,
    reference: Reference,
    tokens: Sequence[int],
    *,
    last_hop: int = LAST_HOP,
    streaming_tail: bool = False,
) -> Iterator[Tensor]:
    """The mel of each chunk (bins, frames) as the original makes it on a first request."""
    ahead, scale = flow.config.lookahead_tokens, flow.config.frames_per_token
    offset, hop = 0, FIRST_HOP
    this = hop + -len(reference.tokens) % FIRST_HOP
    while len(tokens) - offset >= this + ahead:
        given = list(tokens[: offset + this + ahead])
        mel = flow.whole(reference, given, streaming=True, finalize=False)
        yield mel[:, offset * scale :]
        offset += this
        hop = min(2 * hop, last_hop)
        this = hop
    mel = flow.whole(reference, list(tokens), streaming=streaming_tail)
    yield mel[:, offset * scale :]


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
