"""A text decoder whose mind one knows: stands for Moonshine's where its ears are of no concern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from parley_speech.asr.moonshine.model import Cache, FloatArray, Moonshine, Speech, Work
from parley_speech.asr.moonshine.spelling import END, SPACE, Spelling

SPECIALS = [b"<unk>", b"<s>", b"</s>"]
LETTERS = [bytes([c]) for c in range(33, 127)]
NEVER = 1e-6
"""Probability, to start from, of what no text begins with: about -14 nats."""


def small_spelling(*pairs: str) -> Spelling:
    """A vocabulary that one can overlook: signs, and pairs of them in the order of merging."""
    return Spelling([*SPECIALS, SPACE.encode(), *LETTERS, *(p.encode() for p in pairs)])


class Script:
    """Decoder that would write one of some texts, each with its probability."""

    def __init__(self, spelling: Spelling, texts: Mapping[str, float]) -> None:
        self.spelling = spelling
        self.size = spelling.tokens("~")[0] + 100
        self.work = Work()
        self._texts = [((*spelling.tokens(f" {t}"), END), p) for t, p in texts.items()]

    def speech(self, most: int = 60) -> Speech:
        return Speech(cast(Moonshine, self), np.zeros((1, 1, 1), np.float32), most)

    def step(
        self, states: FloatArray, tokens: npt.NDArray[np.int64], cache: Cache
    ) -> tuple[FloatArray, Cache]:
        """As ``Moonshine.step``; what it keeps of the tokens is the tokens."""
        before = cache.own.get("tokens", np.zeros((len(tokens), 1, 0, 1), np.float32))
        own = np.concatenate([before, tokens[:, None, :, None].astype(np.float32)], 2)
        logs = np.empty((*tokens.shape, self.size), np.float32)
        for row, line in enumerate(own[:, 0, :, 0].astype(int)):
            for at in range(tokens.shape[1]):
                logs[row, at] = self._after(line[1 : before.shape[2] + at + 1])
        self.work.steps += 1
        self.work.rows += tokens.size
        return logs, Cache({"sound": np.zeros((len(tokens), 1), np.float32)}, {"tokens": own})

    def _after(self, written: Sequence[int]) -> npt.NDArray[np.float64]:
        count = len(written)
        p = np.full(self.size, NEVER)
        for tokens, chance in self._texts:
            if tokens[:count] == tuple(written) and count < len(tokens):
                p[tokens[count]] += chance
        out: npt.NDArray[np.float64] = np.log(p / p.sum())
        return out
