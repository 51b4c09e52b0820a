"""Reference speech as the flow takes it, decoded once per voice and kept for the next calls."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import torch

from parley_speech.codec.cosyvoice2.flow import Flow, Reference
from parley_speech.codec.cosyvoice2.flow_stream import FlowCall, prefill
from parley_speech.token_voice import TokenPrompt


class Voices:
    """The last ``kept`` voices that were used; an older one is decoded again when it returns.

    ``first_hop``: cut the reference at its start (under one chunk, 1 s) so that the first chunk
    with new tokens holds this many of them. None: leave it as it is.
    """

    def __init__(
        self, flow: Flow, *, left: int, first_hop: int | None, kept: int, reserve_chunks: int
    ) -> None:
        self._flow = flow
        self._left = left
        self._first_hop = first_hop
        self.kept = kept
        """How many voices stay decoded."""
        self._reserve = reserve_chunks
        self._decoded: OrderedDict[str, FlowCall] = OrderedDict()

    def tokens(self, prompt: TokenPrompt) -> tuple[int, ...]:
        """The part of the prompt's tokens that is used. Raises ValueError for a misfit."""
        config = self._flow.config
        if prompt.embedding.shape != (config.speaker_dim,):
            raise ValueError(
                f"voice {prompt.name!r}: the speaker embedding has shape {prompt.embedding.shape}, "
                f"expected ({config.speaker_dim},)"
            )
        if prompt.mel.ndim != 2 or prompt.mel.shape[1] != config.mel_bins:
            raise ValueError(
                f"voice {prompt.name!r}: the mel has shape {prompt.mel.shape}, "
                f"expected (frames, {config.mel_bins})"
            )
        outside = [t for t in prompt.tokens if not 0 <= t < config.vocabulary]
        if outside:
            raise ValueError(
                f"voice {prompt.name!r}: token {outside[0]} is outside the codebook "
                f"0…{config.vocabulary - 1}"
            )
        # As the original does: the shorter of the two counts.
        count = min(len(prompt.tokens), prompt.mel.shape[0] // config.frames_per_token)
        return prompt.tokens[:count][self._cut(count) :]

    def call(self, prompt: TokenPrompt) -> FlowCall:
        """A new call's place in the flow, behind the reference. Heavy for a voice not yet known."""
        key = _key(prompt)
        voice = self._decoded.pop(key, None)
        if voice is None:
            voice = FlowCall(self._flow, self._reference(prompt), left=self._left)
            prefill(self._flow, voice)
        self._decoded[key] = voice
        while len(self._decoded) > self.kept:
            self._decoded.popitem(last=False)
        return voice.fork(reserve_chunks=self._reserve)

    @property
    def nbytes(self) -> int:
        return sum(voice.nbytes for voice in self._decoded.values())

    def _reference(self, prompt: TokenPrompt) -> Reference:
        tokens = self.tokens(prompt)
        scale = self._flow.config.frames_per_token
        count = min(len(prompt.tokens), prompt.mel.shape[0] // scale)
        first = (count - len(tokens)) * scale
        mel = torch.from_numpy(prompt.mel[first : count * scale].T.copy())
        return Reference(
            tokens,
            mel.to(self._flow.device, self._flow.dtype),
            self._flow.speaker(torch.from_numpy(prompt.embedding.copy())),
        )

    def _cut(self, count: int) -> int:
        if self._first_hop is None:
            return 0
        cut = (count + self._first_hop) % self._flow.config.chunk_tokens
        return cut if cut < count else 0


def _key(prompt: TokenPrompt) -> str:
    """Two prompts of the same content are one voice."""
    digest = hashlib.sha256(repr(prompt.tokens).encode())
    digest.update(prompt.mel.tobytes())
    digest.update(prompt.embedding.tobytes())
    return digest.hexdigest()
