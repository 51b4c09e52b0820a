"""Tiny token decoders for tests: the golden weights, and small random ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from parley_speech.codec.cosyvoice2.config import FlowConfig, HiftConfig
from parley_speech.codec.cosyvoice2.decoder import CosyVoice2Decoder
from parley_speech.codec.cosyvoice2.flow import Flow, Reference
from parley_speech.codec.cosyvoice2.hift import Hift
from parley_speech.codec.cosyvoice2.weights import load_flow, load_hift, random_networks
from parley_speech.token_voice import DecoderWork, Floats, TokenPrompt

torch.set_num_threads(1)

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
FLOW, HIFT = GOLDEN / "cosyvoice2-flow", GOLDEN / "cosyvoice2-hift"

TINY_FLOW = FlowConfig(
    vocabulary=40,
    width=16,
    speaker_dim=12,
    encoder_heads=2,
    encoder_hidden=16,
    encoder_blocks=1,
    up_blocks=1,
    channels=8,
    head_dim=4,
    heads=2,
    transformers=1,
    mid_blocks=1,
)
TINY_HIFT = HiftConfig(channels=16, harmonics=1, f0_channels=8)


@cache
def golden_flow() -> tuple[Flow, dict[str, Tensor]]:
    return load_flow(FLOW), load_file(FLOW / "cases.safetensors")


@cache
def golden_hift() -> tuple[Hift, dict[str, Tensor]]:
    return load_hift(HIFT), load_file(HIFT / "cases.safetensors")


def golden_reference(kind: str = "") -> Reference:
    """``kind``: "" the long prompt, "short_" the short one, "none" no prompt."""
    flow, cases = golden_flow()
    speaker = flow.speaker(cases["flow/in/embedding"][0])
    if kind == "none":
        return Reference((), torch.zeros(80, 0), speaker)
    tokens = cases[f"flow/in/{kind}prompt_token"][0].tolist()
    return Reference(tuple(tokens), cases[f"flow/in/{kind}prompt_feat"][0].T, speaker)


def golden_prompt() -> TokenPrompt:
    _, cases = golden_flow()
    return TokenPrompt(
        name="golden",
        text="",
        tokens=tuple(cases["flow/in/prompt_token"][0].tolist()),
        mel=cases["flow/in/prompt_feat"][0].numpy(),
        embedding=cases["flow/in/embedding"][0].numpy(),
    )


@cache
def tiny_networks() -> tuple[Flow, Hift]:
    """Random weights that speak with a voice: f0 of 100 to 300 Hz."""
    flow, hift = random_networks(TINY_FLOW, TINY_HIFT, seed=7)
    hift.f0_predictor.classifier.weight.mul_(300.0)
    hift.f0_predictor.classifier.bias.fill_(200.0)
    hift.m_source.l_linear.weight.fill_(1.0)
    return flow, hift


def tiny_decoder(**options: object) -> CosyVoice2Decoder:
    return CosyVoice2Decoder(*tiny_networks(), **options)  # type: ignore[arg-type]


def tiny_prompt(tokens: int, seed: int = 0) -> TokenPrompt:
    draw = np.random.default_rng(seed)
    return TokenPrompt(
        name=f"voice {seed}",
        text="",
        tokens=tuple(draw.integers(0, TINY_FLOW.vocabulary, tokens).tolist()),
        mel=draw.normal(-4.0, 1.5, (2 * tokens, 80)).astype(np.float32),
        embedding=draw.normal(0, 1, TINY_FLOW.speaker_dim).astype(np.float32),
    )


def tiny_tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, TINY_FLOW.vocabulary, count).tolist()


def say(
    decoder: CosyVoice2Decoder, prompt: TokenPrompt, tokens: list[int], hops: list[int]
) -> list[Floats]:
    """One call alone; ``hops``: tokens per step, the rest comes with the last step."""
    call, at, out = decoder.open(prompt), 0, []
    for hop in hops:
        out += decoder.step([DecoderWork(call, tokens[at : at + hop])])
        at += hop
    return out + decoder.step([DecoderWork(call, tokens[at:], last=True)])


def relative(got: Tensor | Floats, wanted: Tensor | Floats) -> float:
    """max |difference| / max |wanted|."""
    difference = abs(torch.as_tensor(got) - torch.as_tensor(wanted))
    return float(difference.max() / abs(torch.as_tensor(wanted)).max())
