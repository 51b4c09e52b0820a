"""Our sampling inside vLLM: a logits processor that draws the token and leaves vLLM no choice.

vLLM clears a request's output at each segment of a streaming input, may compute a step that it
throws away, and may take a request out of the batch and back. So nothing is remembered here: each
segment brings the tokens before it (`Segment.history`, `Segment.step`), vLLM holds those since,
and random numbers depend on the position alone.

This is the interface of vLLM's model runner V1, which `vllm_engine` asks for on GPUs too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from parley_speech.lm.sampling import Row, draw
from parley_speech.lm.segments import Allowed, Dice, Rule, Segment

KEY = "parley_speech"
"""Of the request's ``extra_args``."""


def extra_args(rule: Rule, dice: Dice, segment: Segment) -> dict[str, Any]:
    """What a segment tells `TokenSampler`, as plain data: it crosses a process border."""
    return {
        KEY: {
            "rule": asdict(rule),
            "dice": {"seed": dice.seed, "table": [list(row) for row in dice.table]},
            "allowed": asdict(segment.allowed),
            "history": list(segment.history),
            "step": segment.step,
        }
    }


@dataclass(frozen=True)
class _Request:
    rule: Rule
    dice: Dice
    allowed: Allowed
    history: list[int]
    step: int
    output: Sequence[int]
    """vLLM's own list: it grows with every token of the segment."""

    @property
    def row(self) -> Row:
        return Row(
            rule=self.rule,
            allowed=self.allowed,
            dice=self.dice,
            step=self.step + len(self.output),
            recent=[*self.history, *self.output],
        )


class TokenSampler(LogitsProcessor):
    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._requests: dict[int, _Request] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._requests, batch_update, _request)

    def apply(self, logits: Tensor) -> Tensor:
        """logits (requests, vocabulary): -inf in our rows but for the token that was drawn."""
        if not self._requests:
            return logits
        places = list(self._requests)
        index = torch.tensor(places, device=logits.device)
        chosen = draw(logits[index], [self._requests[place].row for place in places])
        logits[index] = float("-inf")
        logits[index, chosen] = 0.0
        return logits


def _request(
    params: SamplingParams, prompt: list[int] | None, output: list[int]
) -> _Request | None:
    """The state of a request that joins the batch; None for one that is not ours."""
    said = (params.extra_args or {}).get(KEY)
    if said is None:
        return None
    allowed: dict[str, Any] = {
        name: tuple(value) if isinstance(value, (list, tuple)) else value
        for name, value in said["allowed"].items()
    }
    table = tuple(tuple(row) for row in said["dice"]["table"])
    return _Request(
        rule=Rule(**said["rule"]),
        dice=Dice(said["dice"]["seed"], table),
        allowed=Allowed(**allowed),
        history=list(said["history"]),
        step=said["step"],
        output=output,
    )
