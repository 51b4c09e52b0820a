"""Conditional flow matching from speech tokens to mel, on whole utterances.

x' = v(x, t): 10 Euler steps from fixed noise, on a cosine time grid, with classifier-free guidance
v = 1.7 v(conditions) − 0.7 v(nothing). Chunks of running calls are in `flow_stream.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parley_speech.codec.cosyvoice2.config import NOISE_FRAMES, FlowConfig
from parley_speech.codec.cosyvoice2.encoder import TokenEncoder
from parley_speech.codec.cosyvoice2.estimator import Estimator
from parley_speech.codec.cosyvoice2.memory import Memory, Whole, chunk_mask


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference speech as the flow takes it."""

    tokens: tuple[int, ...]
    mel: Tensor
    """(bins, 2 × tokens)."""
    speaker: Tensor
    """(bins,): the speaker's embedding, normalised and projected."""


class FlowMatching(nn.Module):
    """Only a name in the state dict: `decoder.estimator`."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.estimator = Estimator(config)


class Flow(nn.Module):
    noise: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.input_embedding = nn.Embedding(config.vocabulary, config.width)
        self.spk_embed_affine_layer = nn.Linear(config.speaker_dim, config.mel_bins)
        self.encoder = TokenEncoder(config)
        self.encoder_proj = nn.Linear(config.width, config.mel_bins)
        self.decoder = FlowMatching(config)
        draw = torch.Generator().manual_seed(config.noise_seed)
        noise = torch.randn(1, config.mel_bins, NOISE_FRAMES, generator=draw)[0]
        self.register_buffer("noise", noise, persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder_proj.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.encoder_proj.weight.device

    def speaker(self, embedding: Tensor) -> Tensor:
        """(speaker_dim,) → (bins,)."""
        unit = F.normalize(embedding.to(self.device, self.dtype)[None])
        out: Tensor = self.spk_embed_affine_layer(unit)[0]
        return out

    def embed(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.input_embedding(tokens)
        return out

    def integrate(
        self,
        noise: Tensor,
        mu: Tensor,
        speaker: Tensor,
        cond: Tensor,
        memory: Memory,
        *,
        enter: Callable[[int], bool] = lambda step: True,
    ) -> Tensor | None:
        """noise, mu, cond (calls, bins, t), speaker (calls, bins) → mel (calls, bins, t).

        ``enter`` is told the number of each Euler step before it; False stops the work (None).
        """
        rows = [torch.stack([c, torch.zeros_like(c)], 1).flatten(0, 1) for c in (mu, speaker, cond)]
        mu2, speaker2, cond2 = (row.to(self.dtype) for row in rows)
        times = time_grid(self.config.steps)
        x, t = noise.float(), times[0]
        for step in range(self.config.steps):
            if not enter(step):
                return None
            x2 = x.repeat_interleave(2, dim=0).to(self.dtype)
            when = torch.tensor([t], device=x.device)
            v = self.decoder.estimator(x2, mu2, when, speaker2, cond2, memory).float()
            guided = (1 + self.config.guidance) * v[0::2] - self.config.guidance * v[1::2]
            x = x + (times[step + 1] - t) * guided
            t = times[step + 1]
        return x

    def whole(
        self,
        reference: Reference,
        tokens: list[int],
        *,
        streaming: bool,
        finalize: bool = True,
        left: int = -1,
        pinned: int = 0,
    ) -> Tensor:
        """The mel (bins, frames) of ``tokens`` in one pass, without the reference's.

        ``streaming``: with the chunk mask. Not ``finalize``: the last three tokens are only looked
        at. ``left``, ``pinned``: the estimator's window, see `chunk_mask`.
        """
        mu = self.condition(reference, tokens, streaming=streaming, finalize=finalize)
        frames, prompt = mu.shape[1], reference.mel.shape[1]
        if frames > NOISE_FRAMES:
            raise ValueError(f"{frames} frames: the flow's noise ends at {NOISE_FRAMES} (300 s)")
        cond = mu.new_zeros(mu.shape)
        cond[:, :prompt] = reference.mel
        chunk = self.config.chunk_frames
        mask = chunk_mask(frames, chunk, left=left, pinned=pinned, device=self.device)
        mel = self.integrate(
            self.noise[None, :, :frames],
            mu[None],
            reference.speaker[None],
            cond[None],
            Whole(mask if streaming else None),
        )
        assert mel is not None
        return mel[0, :, prompt:]

    def condition(
        self, reference: Reference, tokens: list[int], *, streaming: bool, finalize: bool = True
    ) -> Tensor:
        """mu (bins, 2 × tokens), the reference's included."""
        return self.encoder_proj(  # type: ignore[no-any-return]
            self.encode(reference, tokens, streaming=streaming, finalize=finalize)
        ).transpose(0, 1)

    def encode(
        self, reference: Reference, tokens: list[int], *, streaming: bool, finalize: bool = True
    ) -> Tensor:
        """The encoder's output (2 × tokens, width), the reference's included."""
        ahead, chunk = self.config.lookahead_tokens, self.config.chunk_tokens
        ids = [*reference.tokens, *tokens]
        given = len(ids)
        count = given if finalize else given - ahead
        if count < 1:
            raise ValueError(f"{given} tokens: expected at least {ahead + 1} to look ahead")
        x = self.embed(torch.tensor(ids + [0] * (count + ahead - given), device=self.device))
        real = (torch.arange(count + ahead, device=self.device) < given).to(x.dtype)

        def memory(size: int) -> Whole:
            scale = size // chunk
            if not streaming:
                return Whole()
            return Whole(chunk_mask(count * scale, size, device=self.device))

        out: Tensor = self.encoder(
            x[None], real[None], memory(chunk), memory(self.config.chunk_frames)
        )
        return out[0]


def time_grid(steps: int) -> list[float]:
    """steps + 1 times from 0 to 1, 1 − cos(k/steps · π/2): small steps first."""
    return [1 - math.cos(k / steps * math.pi / 2) for k in range(steps + 1)]
