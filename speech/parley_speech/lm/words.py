"""Text deltas to ids, so that it does not matter where the deltas were cut.

A byte-pair tokenizer first cuts text into pre-tokens (a word with the space before it, a digit, a
run of marks), then merges within each. The last pre-token of what has come so far may still grow;
everything before it stands. Marks of the model that are written in the text (``[laughter]``) are
cut out first, so an unfinished one is held back too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from parley_speech.lm.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

COSYVOICE2_MARKS = (
    *("<|im_start|>", "<|im_end|>", "<|endofprompt|>"),
    *("[breath]", "<strong>", "</strong>", "[noise]", "[laughter]", "[cough]", "[clucking]"),
    *("[accent]", "[quick_breath]", "<laughter>", "</laughter>", "[hissing]", "[sigh]"),
    *("[vocalized-noise]", "[lipsmack]", "[mn]"),
)
"""Marks that CosyVoice 2 adds to its text tokenizer, in the order that gives them their ids."""


class TextIds(Protocol):
    """One utterance's text to ids."""

    def push(self, text: str) -> list[int]:
        """The ids that are certain now."""
        ...

    def end(self) -> list[int]:
        """The rest."""
        ...


class TextTokenizer:
    """A model's tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder().values()
        self._marks = tuple(token.content for token in added)

    @classmethod
    def load(cls, folder: Path, marks: Sequence[str] = ()) -> TextTokenizer | None:
        """The tokenizer in a checkpoint's folder; None where there are no files of one.

        ``marks`` are added as single tokens unless the tokenizer has them.
        """
        if (folder / "tokenizer.json").is_file():
            tokenizer = _from_json(folder / "tokenizer.json")
        elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            tokenizer = _from_qwen2_files(folder)
        else:
            return None
        tokenizer.add_special_tokens(list(marks))
        return cls(tokenizer)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def stream(self) -> GrowingText:
        return GrowingText(self._tokenizer, self._marks)


class GrowingText:
    """Text of which the end is not known yet."""

    def __init__(self, tokenizer: Tokenizer, marks: Sequence[str]) -> None:
        self._tokenizer, self._marks = tokenizer, marks
        self._held = ""

    def push(self, text: str) -> list[int]:
        self._held += text
        limit = self._unfinished_mark()
        coded = self._tokenizer.encode(self._held[:limit], add_special_tokens=False)
        certain = _before_last_word(coded.word_ids)
        if not certain:
            return []
        self._held = self._held[coded.offsets[certain][0] :]
        return list(coded.ids[:certain])

    def end(self) -> list[int]:
        held, self._held = self._held, ""
        return list(self._tokenizer.encode(held, add_special_tokens=False).ids)

    def _unfinished_mark(self) -> int:
        """Where a mark begins that the text breaks off in; the text's length: nowhere."""
        text = self._held
        for start in range(max(0, len(text) - max(map(len, self._marks), default=0)), len(text)):
            tail = text[start:]
            if any(mark.startswith(tail) and mark != tail for mark in self._marks):
                return start
        return len(text)


def _before_last_word(words: Sequence[int | None]) -> int:
    """How many tokens come before the last pre-token."""
    last = len(words) - 1
    while last > 0 and words[last - 1] == words[last]:
        last -= 1
    return max(last, 0)


def _from_json(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise CheckpointError(f"{path} is no tokenizer file ({error}): fetch it again") from error


def _from_qwen2_files(folder: Path) -> Tokenizer:
    """The files of a Qwen 2 tokenizer: byte-level pairs, NFC, its own cut into pre-tokens."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    try:
        model = models.BPE.from_file(str(vocabulary), str(merges))
    except Exception as error:
        raise CheckpointError(
            f"{vocabulary} and {merges} are no byte-pair tokenizer ({error}): fetch them again"
        ) from error
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(tokenizers.Regex(QWEN2_SPLIT), behavior="isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    # Ids 151643.. follow the vocabulary; the other two are among COSYVOICE2_MARKS.
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen 2 cuts text into pre-tokens: contractions, words with one sign or space before them,
single digits, runs of signs, line ends, spaces."""
