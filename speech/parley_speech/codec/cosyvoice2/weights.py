"""The two networks with their weights: from a checkpoint folder, or random for measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from parley_speech.codec.checkpoint import (
    State,
    fold_weight_norm,
    load_into,
    load_state,
    strip_prefix,
)
from parley_speech.codec.cosyvoice2.config import (
    FLOW,
    FLOW_FILE,
    HIFT,
    HIFT_FILE,
    FlowConfig,
    HiftConfig,
    fit_flow,
    fit_hift,
    read_settings,
)
from parley_speech.codec.cosyvoice2.flow import Flow
from parley_speech.codec.cosyvoice2.hift import Hift

M = TypeVar("M", bound=nn.Module)

HIFT_PREFIX = "generator."
"""Published vocoder files carry it; files saved from the bare module do not."""


def load_flow(folder: Path) -> Flow:
    """The flow in float32 on the CPU. Raises CheckpointError."""
    path = folder / FLOW_FILE
    state = load_state(path, FLOW)
    flow = Flow(fit_flow(read_settings(folder)[0], state, path))
    load_into(flow, state, path, FLOW)
    return _frozen(flow)


def load_hift(folder: Path) -> Hift:
    """The vocoder in float32 on the CPU. Raises CheckpointError."""
    path = folder / HIFT_FILE
    state: State = fold_weight_norm(strip_prefix(load_state(path, HIFT), HIFT_PREFIX))
    hift = Hift(fit_hift(read_settings(folder)[1], state, path))
    load_into(hift, state, path, HIFT)
    return _frozen(hift)


def random_networks(flow: FlowConfig, hift: HiftConfig, seed: int) -> tuple[Flow, Hift]:
    """Networks of these sizes with seeded random weights: right in cost, noise in sound."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _frozen(Flow(flow)), _frozen(Hift(hift))


def random_full_size(seed: int = 0) -> tuple[Flow, Hift]:
    """Random networks with the dimensions of the published CosyVoice2-0.5B."""
    return random_networks(FlowConfig(), HiftConfig(), seed)


def _frozen(module: M) -> M:
    return module.eval().requires_grad_(False)
