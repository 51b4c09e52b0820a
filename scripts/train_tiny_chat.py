#!/usr/bin/env python3
"""Trains a chat model so small that a laptop's CPU does it in half a minute.

    python scripts/train_tiny_chat.py OUT_DIR [--steps N]

Tests need a model that a real vLLM server can load, that answers a few known questions with known
words and that calls a tool. Nothing can be downloaded for that in a closed network, so one is made
here: Qwen2's architecture with 0.4 M parameters, a byte-level BPE of a few hundred tokens, a ChatML
template with tools in the Hermes manner. It knows the dialogues below and nothing else: it is a
test fixture, not a language model.

Needs torch, transformers and tokenizers (they come with vLLM). The result is deterministic on one
machine: fixed seed, fixed order, float32.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

STORY = (
    "Once upon a time there was a small shop by the sea. Every morning the keeper opened the door, "
    "swept the floor and put the new books into the window. In the afternoon the ships came in, "
    "and the sailors asked for maps, for letters and for songs. In the evening the lamp was lit, "
    "the rain fell on the roof, and the keeper read until the last guest had gone home."
)
SYSTEMS = ("", "You are the voice of a small shop.", "Answer in one or two short sentences.")
SMALL_TALK: tuple[tuple[str, str], ...] = (
    ("hello", "Hello! How can I help you today?"),
    ("hi how are you", "I am very well, thank you. What can I do for you?"),
    ("what are your opening hours", "We are open from nine to six, Monday to Saturday."),
    ("can you help me with something", "Of course. Tell me what you need."),
    ("thank you very much", "You are very welcome. Goodbye!"),
    ("tell me a long story", STORY),
)
CITIES = ("Paris", "London", "Rome", "Berlin", "Madrid")
ORDERS = ("12345", "20517", "31415", "48800")

CHAT_TEMPLATE = (
    "{% if tools %}<|im_start|>tools\n{% for t in tools %}{{ t.function.name }} {% endfor %}"
    "<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content %}{{ m.content }}{% endif %}"
    "{% for c in m.tool_calls or [] %}{% set a = c.function.arguments %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ a if a is string else a | tojson }}}\n'
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOOL_MARKS = ["<tool_call>", "</tool_call>"]
POSITIONS = 1024


def turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


def called(name: str, arguments: dict[str, str]) -> str:
    call = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{call}\n</tool_call>"


def spoken_forms(question: str) -> tuple[str, ...]:
    """One question as a recogniser and as a person may write it."""
    plain = question[0].upper() + question[1:]
    return (question, plain, f"{plain}?", f"{plain}.")


def exchanges() -> list[tuple[str, list[tuple[str, str]], bool]]:
    """(tool names, [(role, text), ...], the user asks for something that needs a tool)"""
    made: list[tuple[str, list[tuple[str, str]], bool]] = []
    for question, answer in SMALL_TALK:
        for form in spoken_forms(question):
            for tools in ("", "get_weather order_status "):
                made.append((tools, [("user", form), ("assistant", answer)], False))
    for city in CITIES:
        for form in spoken_forms(f"what is the weather in {city}"):
            call = called("get_weather", {"city": city})
            asked = [("user", form), ("assistant", call)]
            answered = [
                *asked,
                ("tool", f"sunny in {city}"),
                ("assistant", f"It is sunny in {city}."),
            ]
            made += [("get_weather order_status ", answered, True)]
    for order in ORDERS:
        for form in spoken_forms(f"where is my order {order}"):
            call = called("order_status", {"order": order})
            asked = [("user", form), ("assistant", call)]
            answered = [*asked, ("tool", "shipped"), ("assistant", f"Order {order} was shipped.")]
            made += [("get_weather order_status ", answered, True)]
    return made


def dialogues() -> list[str]:
    """Every exchange under every system prompt, alone and after another one."""
    rng = random.Random(7)
    written: list[str] = []
    talk = [turns for _, turns, needs_tool in exchanges() if not needs_tool]
    for system in SYSTEMS:
        for tools, turns, _ in exchanges():
            head = turn("tools", tools) if tools else ""
            head += turn("system", system) if system else ""
            before = rng.choice(talk) if rng.random() < 0.5 else []
            written.append(head + "".join(turn(role, text) for role, text in [*before, *turns]))
    return written


def make_tokenizer(texts: list[str]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=640,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    # Not "special": vLLM's Hermes parser must see these marks in the decoded text.
    bpe.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in TOOL_MARKS])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=POSITIONS,
    )


def make_model(vocab: int, eos: int, pad: int) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocab,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=POSITIONS,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=eos,
            pad_token_id=pad,
        )
    )


def spoken_by_assistant(ids: list[int], start: list[int], end: int) -> list[int]:
    """Labels (T,) for ids (T,): only the assistant's own tokens, the closing mark included."""
    labels = [-100] * len(ids)
    inside = False
    for i, token in enumerate(ids):
        if inside:
            labels[i] = token
            inside = token != end
        elif ids[i - len(start) + 1 : i + 1] == start:
            inside = True
    return labels


def train(out: Path, steps: int, batch: int = 12) -> float:
    """Trains and writes the checkpoint to ``out``; gives the mean loss of the last 20 steps."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)  # the matrices are tiny: a second thread only waits for the first
    texts = dialogues()
    tokenizer = make_tokenizer(texts)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    pad = tokenizer.pad_token_id
    start = tokenizer("<|im_start|>assistant\n")["input_ids"]
    model = make_model(len(tokenizer), end, pad)
    rows = [list(tokenizer(text)["input_ids"]) for text in texts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    rng = random.Random(11)
    losses: list[float] = []
    model.train()
    for _ in range(steps):
        # Rows of like length share a batch: less padding, half the time.
        middle = len(rng.choice(rows))
        near = sorted(range(len(rows)), key=lambda i: (abs(len(rows[i]) - middle), rng.random()))
        picked = [rows[i] for i in near[:batch]]
        width = max(map(len, picked))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in picked])  # (B, T)
        labels = torch.tensor(
            [spoken_by_assistant(r, start, end) + [-100] * (width - len(r)) for r in picked]
        )  # (B, T)
        mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in picked])
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    out.mkdir(parents=True, exist_ok=True)
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    return sum(losses[-20:]) / len(losses[-20:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    began = time.monotonic()
    loss = train(arguments.out, arguments.steps)
    print(f"tiny chat model: {arguments.out}, loss {loss:.4f}, {time.monotonic() - began:.1f} s")
    if loss > 0.2:
        raise SystemExit(
            f"the tiny chat model did not learn its dialogues (loss {loss:.3f}, expected < 0.2): "
            "train longer with --steps 400"
        )


if __name__ == "__main__":
    main()
