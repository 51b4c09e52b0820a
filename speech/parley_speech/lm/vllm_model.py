"""CosyVoice 2's token LM as a vLLM model: a Qwen 2 whose head knows speech alone.

The checkpoint holds a head over the whole merged vocabulary with -inf in the bias of every row
that is not speech, as upstream exports it. Only the rows of speech are kept and computed (6,564
instead of 158,000); every other id scores -inf here, inside the model, so the mask costs nothing
per request and does not meet vLLM's limit of 1,024 allowed ids on GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.distributed import get_pp_group
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM

from parley_speech.lm.vocabulary import MergedVocabulary


class SpeechQwen2ForCausalLM(Qwen2ForCausalLM):
    lm_head: Any

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        config = vllm_config.model_config.hf_config
        self.ids = MergedVocabulary.from_config(config.to_dict())
        self.vocabulary_size = int(config.vocab_size)
        if get_pp_group().is_last_rank:
            # In full on each rank of a tensor-parallel group: it is small.
            self.lm_head = nn.Linear(config.hidden_size, self.ids.head_rows, bias=True)
            self.lm_head.requires_grad_(False)

    def compute_logits(self, hidden_states: Tensor) -> Tensor:
        """hidden_states (n, hidden) -> scores (n, merged vocabulary), -inf but for speech."""
        spoken = self.lm_head(hidden_states).float()
        scores: Tensor = spoken.new_full((len(spoken), self.vocabulary_size), float("-inf"))
        scores[:, self.ids.offset : self.ids.offset + self.ids.head_rows] = spoken
        return scores

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        spoken = slice(self.ids.offset, self.ids.offset + self.ids.head_rows)
        cut = (
            (name, value[spoken] if name.startswith("lm_head.") else value)
            for name, value in weights
        )
        loaded: set[str] = super().load_weights(cut)
        return loaded
