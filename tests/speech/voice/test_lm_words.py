"""Text deltas to ids: it must not matter where the deltas were cut."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from parley_speech.lm.errors import CheckpointError
from parley_speech.lm.words import COSYVOICE2_MARKS, TextTokenizer

CORPUS = (
    "Hello there, how are you today? I'm fine; we've been waiting 12 days for order 4711.\n"
    "Well ... that's it!\n\nThe weather in Rome: sunny, 25 degrees (or so). "
    "你好，世界。今天天气很好！"
)


@cache
def folder(tmp: Path) -> Path:
    """A small tokenizer in the files that a Qwen 2 is published with: vocab.json, merges.txt."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    from parley_speech.lm.words import QWEN2_SPLIT

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([CORPUS] * 3, trainer)
    made.model.save(str(tmp))
    return tmp


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    loaded = TextTokenizer.load(folder(tmp_path_factory.mktemp("qwen")), COSYVOICE2_MARKS)
    assert loaded is not None
    return loaded


def streamed(tokenizer: TextTokenizer, deltas: list[str]) -> list[int]:
    text, ids = tokenizer.stream(), []
    for delta in deltas:
        ids += text.push(delta)
    return ids + text.end()


PIECES = st.sampled_from(
    [
        *("hello", " there", "wor", "ld", " ", "  ", "\n", ".", "...", "'", "s", "'ve", "I'm"),
        *("12", "3", "你好", "，", "世", "é", "e\u0301", "\u0301", "[", "laughter", "]", "[laugh"),
        *("ter]", "<|endof", "prompt|>", "<", "strong>", "</strong>", "🙂", "\r\n", "\t", "(x)"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(deltas=st.lists(PIECES, max_size=14))
def test_cutting_the_text_anywhere_gives_the_same_ids(tokenizer: TextTokenizer, deltas: list[str]):
    assert streamed(tokenizer, deltas) == tokenizer.encode("".join(deltas))


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet="ab 1,.'\n你é[]<>|", max_size=40), data=st.data())
def test_character_by_character(tokenizer: TextTokenizer, text: str, data: st.DataObject):
    whole = tokenizer.encode(text)
    assert streamed(tokenizer, list(text)) == whole
    cut = data.draw(st.integers(0, len(text)))
    assert streamed(tokenizer, [text[:cut], text[cut:]]) == whole


def test_only_the_last_word_is_held_back(tokenizer: TextTokenizer):
    text = tokenizer.stream()
    assert text.push("Hello") == []
    assert text.push(" there, ho") == tokenizer.encode("Hello there,")
    assert text.push("w are") == tokenizer.encode(" how")
    assert text.end() == tokenizer.encode(" are")
    assert text.end() == []


def test_an_unfinished_mark_is_held_back_and_a_finished_one_is_one_token(tokenizer: TextTokenizer):
    (laughter,) = tokenizer.encode("[laughter]")
    text = tokenizer.stream()
    ids = text.push("Well [laugh")
    assert ids == tokenizer.encode("Well")
    ids = text.push("ter] yes no")
    assert laughter in ids
    assert text.push("[") + text.end() == tokenizer.encode(" no[")


def test_marks_follow_the_vocabulary_in_their_order(tokenizer: TextTokenizer):
    """The published vocabulary has 151,643 entries, then <|endoftext|>, then these."""
    ids = [tokenizer.encode(mark)[0] for mark in COSYVOICE2_MARKS]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    (end_of_text,) = tokenizer.encode("<|endoftext|>")
    assert ids[0] == end_of_text + 1
    assert COSYVOICE2_MARKS[2] == "<|endofprompt|>"  # 151646 in the published model


def test_no_tokenizer_and_a_broken_one(tmp_path: Path):
    assert TextTokenizer.load(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer"):
        TextTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"vocab\.json"):
        TextTokenizer.load(tmp_path)
