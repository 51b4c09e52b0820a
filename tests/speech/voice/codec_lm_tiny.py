"""A tiny random Llama with Orpheus' layout of ids, scaled down: the same recipe, other numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from parley_speech.codec_lm.engine import CodecLm
from parley_speech.codec_lm.recipe import ORPHEUS

TEXT_IDS, CODES = 40, 32
RECIPE = replace(
    ORPHEUS,
    name="tiny",
    prompt=(33, 30, "{voice}: {text}", 31, 34, 35, 36),
    audio_offset=TEXT_IDS,
    codes=CODES,
    ends=(37,),
    context=200,
)
TEXT = [33, 30, 1, 2, 3, 4, 31, 34, 35, 36]
"""A whole prompt, as ids."""


def make_llama(folder: Path) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=TEXT_IDS + 7 * CODES,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=37,
        initializer_range=0.3,
    )
    torch.manual_seed(4)
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # so that an end comes after some frames
        model.lm_head.weight[37] *= 2.0
    model.save_pretrained(folder)
    return folder


async def said(lm: CodecLm, ids: list[int], seed: int) -> list[int]:
    stream = lm.utterance_of_ids(seed=seed)
    stream.push_ids(ids)
    stream.end()
    try:
        return [token async for tokens in stream for token in tokens]
    finally:
        await stream.aclose()
