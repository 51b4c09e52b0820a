"""The published token LM of CosyVoice 2 as a table of tensors in the merged vocabulary.

Reads ``llm.pt`` (a torch state dict) and ``CosyVoice-BlankEN/`` (the configuration and tokenizer
of the Qwen 2 it grew from) of a checkpoint's folder, and says which file is wrong and how.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parley_speech.lm.errors import CheckpointError
from parley_speech.lm.vocabulary import (
    CONFIG_KEY,
    MARK_ROWS,
    SPECIAL_SPEECH_ROWS,
    MergedVocabulary,
)

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "llm.pt"
BACKBONE = "CosyVoice-BlankEN"
TEXT_ROWS = "llm.model.model.embed_tokens.weight"
SPEECH_ROWS = "speech_embedding.weight"
MARKS = "llm_embedding.weight"
HEAD, HEAD_BIAS = "llm_decoder.weight", "llm_decoder.bias"
TEXT_HEAD = "llm.model.lm_head.weight"
"""Of the text model that this one grew from; never used."""
PREFIX = "llm.model."
ARCHITECTURE = "ParleySpeechQwen2ForCausalLM"
"""The name under which `vllm_model` is registered."""


@dataclass(frozen=True)
class LmCheckpoint:
    folder: Path
    config: dict[str, Any]
    """Of the backbone, as ``CosyVoice-BlankEN/config.json`` has it."""
    state: Mapping[str, Tensor]
    """``llm.pt``, mapped from the disk."""
    vocabulary: MergedVocabulary

    @classmethod
    def open(cls, folder: Path) -> LmCheckpoint:
        config = read_config(folder / BACKBONE / "config.json")
        state = read_state(folder / WEIGHTS)
        vocabulary = _vocabulary(folder / WEIGHTS, config, state)
        return cls(folder, config, state, vocabulary)

    def merged_config(self) -> dict[str, Any]:
        """config.json of the merged checkpoint."""
        ids = self.vocabulary
        return {
            **self.config,
            "architectures": [ARCHITECTURE],
            "model_type": "qwen2",
            "vocab_size": ids.size,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": ids.eos,
            "use_bias": True,
            "dtype": str(self.state[HEAD].dtype).removeprefix("torch."),
            CONFIG_KEY: ids.as_config(),
        }

    def merged(self, name: str) -> Tensor:
        """One tensor of the merged checkpoint, made when asked for."""
        import torch

        state, ids = self.state, self.vocabulary
        width = state[HEAD].shape[1]
        if name == "model.embed_tokens.weight":
            rows = [state[TEXT_ROWS], state[SPEECH_ROWS], state[MARKS]]
            pad = ids.size - sum(len(part) for part in rows)
            return torch.cat([*rows, state[HEAD].new_zeros(pad, width)])
        spoken = slice(ids.offset, ids.offset + ids.head_rows)
        if name == "lm_head.weight":
            head = state[HEAD].new_zeros(ids.size, width)
            head[spoken] = state[HEAD]
            return head
        if name == "lm_head.bias":
            bias = state[HEAD_BIAS].new_full((ids.size,), float("-inf"))
            bias[spoken] = state[HEAD_BIAS]
            return bias
        return state[PREFIX + name]

    def merged_names(self) -> list[str]:
        kept = (
            name.removeprefix(PREFIX)
            for name in self.state
            if name.startswith(PREFIX) and name != TEXT_HEAD
        )
        return sorted({*kept, "lm_head.weight", "lm_head.bias"})


def read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing: expected the configuration of the Qwen 2 backbone; fetch the "
            f"whole checkpoint, the folder {BACKBONE} included"
        )
    try:
        config = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is no JSON ({error}): fetch it again") from error
    wanted = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    lacking = [key for key in wanted if not isinstance(config, dict) or key not in config]
    if lacking or config.get("model_type", "qwen2") != "qwen2":
        raise CheckpointError(
            f"{path} does not describe a Qwen 2 model (model_type "
            f"{config.get('model_type')!r}, lacking {lacking})"
            if isinstance(config, dict)
            else f"{path}: expected a JSON object"
        )
    return dict(config)


def read_state(path: Path) -> Mapping[str, Tensor]:
    """A state dict; only tensors are unpickled."""
    import torch

    if not path.is_file():
        raise CheckpointError(f"{path} is missing: expected a torch state dict of the token LM")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as a torch state dict, it is "
            f"truncated or something else: {str(error).splitlines()[0]}; fetch it again"
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a {type(found).__name__}, expected a state dict")
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def _vocabulary(
    path: Path, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> MergedVocabulary:
    """Checks that the tensors are those of a CosyVoice 2 token LM."""
    layers = range(int(config["num_hidden_layers"]))
    wanted = [TEXT_ROWS, SPEECH_ROWS, MARKS, HEAD, HEAD_BIAS, f"{PREFIX}model.norm.weight"]
    wanted += [f"{PREFIX}model.layers.{n}.self_attn.q_proj.weight" for n in layers]
    lacking = [name for name in wanted if name not in state]
    if lacking:
        raise CheckpointError(
            f"{path} is no token LM of CosyVoice 2: it lacks {', '.join(lacking[:3])}"
            f"{' …' if len(lacking) > 3 else ''} and holds {', '.join(list(state)[:3])} …"
        )
    width = int(config["hidden_size"])
    speech = len(state[HEAD]) - SPECIAL_SPEECH_ROWS
    shapes = {
        TEXT_ROWS: (int(config["vocab_size"]), width),
        SPEECH_ROWS: (speech + SPECIAL_SPEECH_ROWS, width),
        MARKS: (MARK_ROWS, width),
        HEAD: (speech + SPECIAL_SPEECH_ROWS, width),
        HEAD_BIAS: (speech + SPECIAL_SPEECH_ROWS,),
    }
    for name, shape in shapes.items():
        if tuple(state[name].shape) != shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(state[name].shape)}, expected {shape}; is "
                f"{BACKBONE}/config.json of the same checkpoint?"
            )
    return MergedVocabulary(int(config["vocab_size"]), speech)
