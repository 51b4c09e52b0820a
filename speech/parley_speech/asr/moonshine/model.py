"""Moonshine's encoder and decoder (Jeffries et al. 2024, arXiv 2410.15608) in onnxruntime.

    samples (n,) at 16 kHz ─ encoder ─ (n / 384, 288) ─ decoder ─ log P(token | tokens before it)

The encoder sees the whole sound at once, so a sound that grows is encoded anew: 14 ms a second of
it. The decoder writes one token a step, 5 ms each, or checks many that are guessed in one step:
``Speech.follow`` takes what was heard a little earlier for a guess and gives exactly what it would
have written without one, as far as the quantised weights allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from parley_speech.asr.moonshine.spelling import BEGIN, END, Spelling, read_pieces
from parley_speech.types import EngineUnavailable

if TYPE_CHECKING:
    import onnxruntime

ENCODER, DECODER, PIECES = "encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin"
FULL_SCALE = 32768.0
TOKENS_PER_S = 6.5
"""Of speech, at most, after the paper: what is longer has got into a loop."""
FEWEST_TOKENS = 8
LEAST_SAMPLES = 1600

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Written:
    """What a decoder wrote."""

    tokens: tuple[int, ...]
    """Without the specials."""
    logs: tuple[float, ...]
    """Natural log P of each, and of what would come behind them: the end, if it was reached. Never
    empty."""

    @property
    def log_p(self) -> float:
        return sum(self.logs)

    @property
    def mean_log_p(self) -> float:
        return self.log_p / len(self.logs)


@dataclass(slots=True)
class Work:
    """What was computed since the last look: what a clock would show, without its noise."""

    samples: int = 0
    steps: int = 0
    rows: int = 0
    """Tokens in those steps, of all hypotheses."""


class Moonshine:
    """The model; one for all streams of a process. Not for two threads at once."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Raises EngineUnavailable where ``folder`` does not hold the model."""
        missing = [name for name in (ENCODER, DECODER, PIECES) if not (folder / name).is_file()]
        if missing:
            raise EngineUnavailable(f"no {', '.join(missing)} in {folder}: not a Moonshine model")
        self.spelling = Spelling(read_pieces(folder / PIECES))
        self._encoder = _session(folder / ENCODER, threads)
        self._decoder = _session(folder / DECODER, threads)
        self._outputs = [output.name for output in self._decoder.get_outputs()]
        caches = [i for i in self._decoder.get_inputs() if i.name.startswith("past_key_values")]
        heads, width = caches[0].shape[1], caches[0].shape[3]
        empty = np.zeros((1, heads, 0, width), np.float32)
        self._empty = {cache.name: empty for cache in caches}
        self._states = self._encoder.get_outputs()[0].name
        self.work = Work()

    def listen(self, pcm: npt.NDArray[np.int16]) -> Speech:
        """``pcm`` (n,) at 16 kHz, encoded."""
        sound = np.zeros((1, max(len(pcm), LEAST_SAMPLES)), np.float32)
        sound[0, : len(pcm)] = pcm / FULL_SCALE
        mask = np.ones(sound.shape, np.int64)
        states = self._encoder.run([self._states], {"input_values": sound, "attention_mask": mask})[
            0
        ]
        self.work.samples += sound.shape[1]
        most = max(FEWEST_TOKENS, round(TOKENS_PER_S * sound.shape[1] / 16_000))
        return Speech(self, states, most)

    def step(
        self, states: FloatArray, tokens: npt.NDArray[np.int64], cache: Cache
    ) -> tuple[FloatArray, Cache]:
        """``tokens`` (hypotheses, new ones) after those in ``cache``. Gives log P of what follows
        each (hypotheses, new ones, vocabulary)."""
        rows = len(tokens)
        inputs: dict[str, Any] = {
            "input_ids": tokens,
            "encoder_hidden_states": np.repeat(states, rows, 0),
            # Of the samples, of which the model takes every 384th; one stands for all.
            "encoder_attention_mask": np.ones((rows, 1), np.int64),
            "use_cache_branch": np.array([bool(cache.own)]),
            **self._empty,
            **cache.speech,
            **cache.own,
        }
        logits, *present = self._decoder.run(self._outputs, inputs)
        kept = {
            name.replace("present", "past_key_values"): value
            for name, value in zip(self._outputs[1:], present, strict=True)
        }
        own = {name: value for name, value in kept.items() if ".decoder." in name}
        speech = cache.speech or {n: v for n, v in kept.items() if ".encoder." in n}
        self.work.steps += 1
        self.work.rows += tokens.size
        return _log_softmax(logits), Cache(speech, own)


@dataclass(slots=True)
class Cache:
    """Keys and values that the decoder has computed, by their names; batch first."""

    speech: dict[str, FloatArray] = field(default_factory=dict)
    own: dict[str, FloatArray] = field(default_factory=dict)

    def of(self, rows: Sequence[int]) -> Cache:
        """For these hypotheses, in this order."""
        same = list(rows) == list(range(len(next(iter(self.own.values())))))
        if same:
            return self
        pick = list(rows)
        return Cache(
            {name: value[pick] for name, value in self.speech.items()},
            {name: value[pick] for name, value in self.own.items()},
        )

    def cut(self, length: int) -> Cache:
        """As it was after ``length`` tokens."""
        return Cache(self.speech, {n: v[:, :, :length] for n, v in self.own.items()})


class Speech:
    """One sound, encoded: what can be asked about it."""

    def __init__(self, model: Moonshine, states: FloatArray, most: int) -> None:
        self.model = model
        self.states = states
        self.most = most
        """Tokens of so much sound, at most."""

    def follow(self, guess: Sequence[int] = ()) -> Written:
        """The likeliest next token, one after the other, until the end. ``guess``: what may come
        out; only what differs from it costs steps."""
        logs, cache = self.model.step(self.states, np.array([[BEGIN]], np.int64), Cache())
        written: list[int] = []
        found: list[float] = []
        guess = tuple(guess)[: self.most]
        if guess:
            # Behind the first token, not with it: its activations are so large that the quantised
            # weights would make less of all that is computed beside it.
            more, checked = self.model.step(self.states, np.array([guess], np.int64), cache)
            agreed = np.concatenate([logs, more], 1)[0]
            while len(written) < len(guess):
                token = int(agreed[len(written)].argmax())
                if token != guess[len(written)]:
                    break
                found.append(float(agreed[len(written), token]))
                written.append(token)
            logs, cache = agreed[None, len(written) :][:, :1], checked.cut(1 + len(written))
        while True:
            token = int(logs[0, 0].argmax())
            found.append(float(logs[0, 0, token]))
            if token == END or len(written) >= self.most:
                return Written(tuple(written), tuple(found))
            written.append(token)
            logs, cache = self.model.step(self.states, np.array([[token]], np.int64), cache)


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _log_softmax(logits: FloatArray) -> FloatArray:
    shifted = logits - logits.max(-1, keepdims=True)
    out: FloatArray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return out
