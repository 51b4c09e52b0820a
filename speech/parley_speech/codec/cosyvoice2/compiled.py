"""torch.compile for the flow, on a GPU.

Compiled are the two halves of every transformer block around the attention: they hold nine tenths
of the multiplications outside it and their shapes depend only on the batch, never on a call's age.
With `BATCH_SIZES` (`CosyVoice2Decoder(batch_sizes=…)`) and chunks padded to full length there are
seven shapes in all, so that CUDA graphs (``mode="reduce-overhead"``) are recorded once each.
"""

from __future__ import annotations

from typing import Any

import torch

from parley_speech.codec.cosyvoice2.estimator import Transformer
from parley_speech.codec.cosyvoice2.flow import Flow
from parley_speech.types import EngineUnavailable

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


def compile_flow(flow: Flow, **options: Any) -> None:
    """Compiles in place; ``options`` go to torch.compile.

    Raises EngineUnavailable on a CPU, where it gains nothing, unless a backend is asked for.
    """
    if flow.device.type != "cuda" and "backend" not in options:
        raise EngineUnavailable("compiled=True needs a GPU: leave it out on a CPU")
    for module in flow.decoder.estimator.modules():
        if isinstance(module, Transformer):
            for half in ("before", "after"):
                compiled = torch.compile(getattr(module, half), dynamic=False, **options)
                setattr(module, half, compiled)
