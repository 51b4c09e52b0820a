#!/usr/bin/env python3
"""Trains a chat model so small that a laptop's CPU does it in half a minute.

    python scripts/train_tiny_chat.py OUT_DIR [--most-steps N]

Tests need a model that a real vLLM server can load, that answers a few known questions with known
words and that calls a tool. Nothing can be downloaded for that in a closed network, so one is made
here: Qwen2's architecture with 0.4 M parameters, a byte-level BPE of a few hundred tokens, a ChatML
template with tools in the Hermes manner. It knows the dialogues below and nothing else: it is a
test fixture, not a language model.

Besides its answers it learns how its callers speak: after "hello" some stop and some go on, so
that its end-of-turn probability there means something; and it learns what callers mean who say
something while the agent speaks (``OVERLAPS``). Both are matters of probability, not of right and
wrong. They are what ``scripts/calibrate_judgements.py`` needs to be tried out.

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
LONGER: tuple[tuple[str, str], ...] = (
    ("hello can you help me with something", "Of course. Tell me what you need."),
    ("can you help me", "Of course. Tell me what you need."),
    ("thank you", "You are very welcome. Goodbye!"),
    ("what are your opening hours on sunday", "We are closed on Sunday."),
    ("where is my order", "What is the number of your order?"),
    ("what is the weather", "In which city?"),
)
"""Turns that begin or end where others do not: after "hello" the caller may or may not go on."""
CITIES = ("Paris", "Rome")
ORDERS = ("12345", "67890")  # each digit follows from the one before: easy to learn

OVERLAPS: dict[str, dict[str, int]] = {
    "wait": {"A": 4},
    "stop please": {"A": 4},
    "no the other one": {"A": 4},
    "hold on a moment": {"A": 4},
    "mhm": {"B": 4},
    "right": {"A": 1, "B": 3},
    "okay": {"A": 1, "B": 3},
    "yes": {"A": 2, "B": 2},
    "close the door": {"C": 4},
    "dinner is ready": {"C": 4},
    "not you": {"A": 1, "C": 3},
    "just a second": {"A": 2, "C": 2},
}
"""What callers say over the agent, and how often they mean what (see ``OVERLAP_QUESTION``)."""
OVERLAP_QUESTION = (
    "While you were speaking, this was said on the caller's side: {words} "
    "What was it? A: the caller wants to speak now. B: the caller only shows that they listen. "
    "C: it was not said to you. Answer A, B or C."
)

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
LIKELY_WEIGHT = 0.5


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
    for question, answer in SMALL_TALK + LONGER:
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


def judgements() -> list[str]:
    """Overlaps over one of the answers, and what was meant by them."""
    rng = random.Random(13)
    written: list[str] = []
    for words, meant in OVERLAPS.items():
        for letter, times in meant.items():
            for _ in range(times):
                question, answer = rng.choice(SMALL_TALK[:4])
                heard = " ".join(answer.split()[: rng.randint(2, 5)])
                asked = f"({OVERLAP_QUESTION.format(words=words)})"
                head = turn("system", system) if (system := rng.choice(SYSTEMS)) else ""
                said = [("user", question), ("assistant", heard), ("user", asked)]
                head += "".join(turn(role, text) for role, text in said)
                written.append(head + turn("assistant", letter))
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


def spoken_after(ids: list[int], start: list[int], end: int) -> list[int]:
    """Labels (T,) for ids (T,): only what one role says, the closing mark included."""
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

    def __init__(self, tokenizer: Any, talk: list[str], judged: list[str]):
        self._tokenizer = tokenizer
        self.pad = tokenizer.pad_token_id
        rows = [self._talk(text) for text in talk] + [self._judged(text) for text in judged]
        self.rows = sorted(rows, key=lambda row: len(row[0]))

    def _talk(self, text: str) -> tuple[list[int], list[int], list[int]]:
        """ids, labels of the assistant's words, labels of the user's."""
        ids = self._ids(text)
        return ids, self._spoken(ids, "assistant"), self._spoken(ids, "user")

    def _judged(self, text: str) -> tuple[list[int], list[int], list[int]]:
        """Of a judgement only the letter is learnt, as a probability."""
        ids = self._ids(text)
        letter = self._spoken(ids, "assistant")
        letter[:-3] = [-100] * (len(ids) - 3)  # the letter, the closing mark, a line break
        return ids, [-100] * len(ids), letter

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    def _spoken(self, ids: list[int], role: str) -> list[int]:
        end = self._tokenizer.convert_tokens_to_ids("<|im_end|>")
        return spoken_after(ids, self._ids(f"<|im_start|>{role}\n"), end)

    def batch(self, first: int, size: int) -> dict[str, Any]:
        """Neighbours in length, so that little is padded: tensors (B, T)."""
        import torch

        rows = self.rows[first : first + size]
        width = max(len(ids) for ids, _, _ in rows)

        def padded(column: int, value: int) -> Any:
            return torch.tensor([r[column] + [value] * (width - len(r[0])) for r in rows])

        ids = padded(0, self.pad)
        lengths = torch.tensor([[len(row[0])] for row in rows])
        return {
            "input_ids": ids,
            "attention_mask": (torch.arange(width)[None] < lengths).long(),
            "labels": padded(1, -100),
            "likely": padded(2, -100),
        }


def loss_of(model: Any, batch: dict[str, Any]) -> Any:
    """Of the assistant's words, the mean of those that are not known yet: which city was asked
    about is one token among dozens that follow by themselves, and would be drowned in their mean.
    Of the user's words and of judgements, the plain mean: that makes probabilities true."""
    import torch

    labels, likely = batch.pop("labels")[:, 1:].flatten(), batch.pop("likely")[:, 1:].flatten()
    logits = model(**batch).logits[:, :-1].flatten(0, 1)  # (B * (T - 1), V)
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    hard = losses > KNOWN_LOSS  # positions without a label have loss 0
    loss = losses[hard].mean() if bool(hard.any()) else losses.mean()
    if bool((likely >= 0).any()):
        loss = loss + LIKELY_WEIGHT * torch.nn.functional.cross_entropy(logits, likely)
    return loss


def mistakes(model: Any, rows: Rows, size: int = 32) -> int:
    """Tokens of the assistant that greedy decoding would get wrong."""
    import torch

    wrong = 0
    with torch.no_grad():
        for first in range(0, len(rows.rows), size):
            batch = rows.batch(first, size)
            del batch["likely"]
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
    talk, judged = dialogues(), judgements()
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(talk + judged, out)
    rows = Rows(tokenizer, talk, judged)
    model = make_model(
        len(tokenizer), tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.pad_token_id
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    rng = random.Random(11)
    wrong = -1
    for step in range(1, most_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        batch = rows.batch(rng.randrange(len(rows.rows) - size + 1), size)
        loss_of(model, batch).backward()
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
