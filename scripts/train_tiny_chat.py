#!/usr/bin/env python3
"""Trains a chat model so small that a laptop's CPU does it in half a minute.

    python scripts/train_tiny_chat.py OUT_DIR [--most-steps N]

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
    "Once upon a time there was a small shop by the sea. Every morning the keeper opened the door "
    "and put the new books into the window. In the evening the rain fell on the roof, and the "
    "keeper read until the last guest had gone home."
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
CITIES = ("Paris", "Rome")
ORDERS = ("12345", "67890")  # each digit follows from the one before: easy to learn

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
LEARNING_RATE = 4e-3
WARM_UP_STEPS = 20
DECAY_STEPS = 500
CHECK_EVERY = 25
KNOWN_LOSS = 0.1


def turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


def called(name: str, arguments: dict[str, str]) -> str:
    call = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{call}\n</tool_call>"


def spoken_forms(question: str) -> tuple[str, ...]:
    """One question as a recogniser and as a person may write it."""
    plain = question[0].upper() + question[1:]
    return (question, f"{plain}?")


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
    """Every exchange under every system prompt, alone, and some of them after another one."""
    rng = random.Random(7)
    written: list[str] = []
    talk = [turns for _, turns, needs_tool in exchanges() if not needs_tool]
    for system in SYSTEMS:
        for tools, turns, _ in exchanges():
            head = turn("tools", tools) if tools else ""
            head += turn("system", system) if system else ""
            written.append(head + "".join(turn(role, text) for role, text in turns))
            if rng.random() < 0.4:
                both = [*rng.choice(talk), *turns]
                written.append(head + "".join(turn(role, text) for role, text in both))
    return written


def make_tokenizer(texts: list[str], out: Path) -> Any:
    """Writes a tokenizer to ``out`` and gives it as servers will read it from there: for a folder
    with a Qwen2 model they split words, and above all digits, in Qwen2's way."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config

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
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=POSITIONS,
    )
    tokenizer.save_pretrained(out)
    Qwen2Config().save_pretrained(out)
    return AutoTokenizer.from_pretrained(out)


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
            initializer_range=0.08,  # about 1 / sqrt(hidden_size)
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


class Rows:
    """All dialogues as token ids, and batches of them."""

    def __init__(self, tokenizer: Any, texts: list[str]):
        end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        start = list(tokenizer("<|im_start|>assistant\n")["input_ids"])
        self.pad = tokenizer.pad_token_id
        self.ids = sorted((list(tokenizer(text)["input_ids"]) for text in texts), key=len)
        self.labels = [spoken_by_assistant(row, start, end) for row in self.ids]

    def batch(self, first: int, size: int) -> dict[str, Any]:
        """Neighbours in length, so that little is padded: tensors (B, T)."""
        import torch

        ids, labels = self.ids[first : first + size], self.labels[first : first + size]
        width = max(map(len, ids))
        fill = [width - len(row) for row in ids]
        return {
            "input_ids": torch.tensor([r + [self.pad] * n for r, n in zip(ids, fill, strict=True)]),
            "attention_mask": torch.tensor([[1] * (width - n) + [0] * n for n in fill]),
            "labels": torch.tensor([r + [-100] * n for r, n in zip(labels, fill, strict=True)]),
        }


def hard_loss(model: Any, batch: dict[str, Any]) -> Any:
    """Mean cross-entropy of the tokens that are not known yet: which city was asked about is one
    token among dozens that follow by themselves, and would be drowned in their mean."""
    import torch

    labels = batch.pop("labels")[:, 1:].flatten()  # (B * (T - 1),)
    logits = model(**batch).logits[:, :-1].flatten(0, 1)  # (B * (T - 1), V)
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    hard = losses > KNOWN_LOSS  # positions without a label have loss 0
    return losses[hard].mean() if bool(hard.any()) else losses.mean()


def mistakes(model: Any, rows: Rows, size: int = 32) -> int:
    """Tokens of the assistant that greedy decoding would get wrong."""
    import torch

    wrong = 0
    with torch.no_grad():
        for first in range(0, len(rows.ids), size):
            batch = rows.batch(first, size)
            labels = batch.pop("labels")[:, 1:]
            said = model(**batch).logits[:, :-1].argmax(-1)
            wrong += int(((said != labels) & (labels != -100)).sum())
    return wrong


def learning_rate(step: int) -> float:
    """Up for WARM_UP_STEPS, then down to a tenth at DECAY_STEPS, and so on from there."""
    decay = max(0.1, 1 - step / DECAY_STEPS)
    return LEARNING_RATE * min(step / WARM_UP_STEPS, decay)


def train(out: Path, most_steps: int, size: int = 12) -> tuple[int, int]:
    """Trains until every dialogue is known by heart and writes the checkpoint to ``out``; gives
    the steps it took and the tokens that are still wrong."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)  # the matrices are tiny: a second thread only waits for the first
    texts = dialogues()
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(texts, out)
    rows = Rows(tokenizer, texts)
    model = make_model(
        len(tokenizer), tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.pad_token_id
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    rng = random.Random(11)
    wrong = -1
    for step in range(1, most_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        batch = rows.batch(rng.randrange(len(rows.ids) - size + 1), size)
        hard_loss(model, batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % CHECK_EVERY == 0 or step == most_steps:
            wrong = mistakes(model, rows)
            if wrong == 0:
                break
    model.eval().save_pretrained(out)
    return step, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--most-steps", type=int, default=1000)
    arguments = parser.parse_args()
    began = time.monotonic()
    steps, wrong = train(arguments.out, arguments.most_steps)
    if wrong:
        raise SystemExit(
            f"the tiny chat model still gets {wrong} tokens wrong after {steps} steps: "
            "give it more with --most-steps"
        )
    took = time.monotonic() - began
    print(f"tiny chat model: {arguments.out}, {steps} steps, {took:.1f} s, no mistakes left")


if __name__ == "__main__":
    main()
