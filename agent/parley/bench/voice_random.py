"""Token LMs that say nothing sensible at the cost of the published one, or at none: for benches."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parley_speech.lm.checkpoint import ARCHITECTURE
from parley_speech.lm.cosyvoice2 import CosyVoice2Lm
from parley_speech.lm.vllm_engine import VllmEngine
from parley_speech.lm.vllm_start import VllmOptions
from parley_speech.lm.vocabulary import CONFIG_KEY, MergedVocabulary
from parley_speech.token_voice import TokenPrompt

SPEECH_TOKENS = 6561
TEXT_ROWS = 151_936
TOKENS_PER_CHAR = 2  # of speech: 12.5 characters a second
TEXT_IDS_PER_WORD = 1.3

FULL_SIZE: dict[str, Any] = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "hidden_act": "silu",
}
"""Qwen2-0.5B, the published LM's backbone."""


class RandomStream:
    """Meets `parley_speech.token_voice.TokenStream`: as many tokens as the text asks for, at once
    when the text has ended."""

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._chars = 0
        self._gone = False

    def push(self, text: str) -> None:
        self._chars += len(text)

    def end(self) -> None:
        """Its reader asks for tokens only then: these benches push all text at once."""

    async def __aiter__(self) -> AsyncIterator[Sequence[int]]:
        if not self._gone:
            count = self._chars * TOKENS_PER_CHAR
            yield self._draw.integers(0, SPEECH_TOKENS, count).tolist()

    def cancel(self) -> None:
        self._gone = True

    async def aclose(self) -> None:
        self.cancel()


class RandomLm:
    """Meets `parley_speech.token_voice.TokenLm`; costs nothing."""

    def __init__(self) -> None:
        self._utterances = 0

    async def start(self) -> None:
        """Nothing to load."""

    def utterance(self, prompt: TokenPrompt, *, seed: int | None = None) -> RandomStream:
        self._utterances += 1
        return RandomStream(self._utterances if seed is None else seed)

    async def aclose(self) -> None:
        """Nothing to close."""


class RandomText:
    """Meets `parley_speech.lm.words.TextIds`: some ids for every word."""

    def __init__(self) -> None:
        self._draw = np.random.default_rng(0)

    def push(self, text: str) -> list[int]:
        count = round(len(text.split()) * TEXT_IDS_PER_WORD)
        return [int(n) for n in self._draw.integers(0, TEXT_ROWS, count)]

    def end(self) -> list[int]:
        return []


class RandomVllmLm(CosyVoice2Lm):
    """The published LM's size with weights that vLLM draws; ``folder`` takes its config.json."""

    def __init__(self, folder: Path, slots: int, *, size: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._ids = MergedVocabulary(TEXT_ROWS, SPEECH_TOKENS)
        config = {
            **(FULL_SIZE if size is None else size),
            "architectures": [ARCHITECTURE],
            "model_type": "qwen2",
            "vocab_size": self._ids.size,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": self._ids.eos,
            "use_bias": True,
            "dtype": "bfloat16",
            CONFIG_KEY: self._ids.as_config(),
        }
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        self._vllm = VllmEngine(folder, VllmOptions(slots=slots, load_format="dummy"))

    async def start(self) -> None:
        await self._vllm.start()
        self._engine, self._vocabulary = self._vllm, self._ids

    def _prompt(self, prompt: TokenPrompt) -> tuple[Sequence[int], Sequence[int]]:
        """The voice's own text, as long as its speech, and speech, as in service."""
        return RandomText().push("word " * (len(prompt.tokens) // 8)), prompt.tokens

    def _text(self) -> RandomText:
        return RandomText()
