"""`CosyVoice2Decoder`: tokens in, samples out, many calls at once (`TokenDecoder`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from parley_speech.codec.checkpoint import CheckpointError
from parley_speech.codec.cosyvoice2 import flow_stream, vocoder
from parley_speech.codec.cosyvoice2.config import NOISE_FRAMES, FlowConfig
from parley_speech.codec.cosyvoice2.flow import Flow
from parley_speech.codec.cosyvoice2.flow_stream import FlowCall
from parley_speech.codec.cosyvoice2.hift import Hift
from parley_speech.codec.cosyvoice2.memory import Attention
from parley_speech.codec.cosyvoice2.vocoder import HOLD_FRAMES, Piece, VocoderCall
from parley_speech.codec.cosyvoice2.voices import Voices
from parley_speech.codec.cosyvoice2.weights import load_flow, load_hift
from parley_speech.token_voice import DecoderCall, DecoderWork, Floats, TokenPrompt
from parley_speech.types import EngineUnavailable

Tail = Literal["streaming", "upstream"]
MAX_BATCH = 64
VOICES_KEPT = 4


class UtteranceTooLong(ValueError):
    """An utterance would go beyond the flow's noise: 300 s, the reference speech included."""

    def __init__(self, call: Call, given: int, room: int) -> None:
        super().__init__(
            f"{given} more tokens were given, {room} fit: reference speech and utterance together "
            f"may last {NOISE_FRAMES // 50} s; end this call and open another"
        )
        self.call = call


class Call:
    """One utterance in the decoder (`DecoderCall`)."""

    def __init__(self, prompt: TokenPrompt, reference: int, seed: int, needed: int) -> None:
        self.prompt = prompt
        self.reference = reference
        """Tokens of the reference speech."""
        self.seed = seed
        self.closed = False
        self.given: list[int] = []
        self.state: State | None = None
        """None before the first step and after the end."""
        self._needed = needed

    @property
    def needed(self) -> int:
        """Tokens to give until the next step yields sound; 0 when the call has ended."""
        return 0 if self.closed else self._needed

    @property
    def nbytes(self) -> int:
        """What this call's state holds."""
        state = self.state
        return 0 if state is None else state.flow.nbytes + state.voice.nbytes

    def drop(self) -> None:
        self.closed = True
        self.state = None
        self.given = []


class State(NamedTuple):
    flow: FlowCall
    voice: VocoderCall


class CosyVoice2Decoder:
    """Meets `parley_speech.token_voice.TokenDecoder`.

    The sound of any schedule of steps is that of one pass with the streaming mask: mel within
    1e-4, samples within 1e-3 of full scale. One thread calls `prepare` and `step`; `open`, `close`
    and `needed` are cheap and may be used from another one.

    - ``left_chunks``: how many seconds of its own past the flow sees, besides the reference. None:
      what the checkpoint says (the published one: -1, all of it; then attention and its memory,
      229 MB a second in float32, grow with a call's age). With a bound, the cost of a chunk is
      constant and so is a call's memory but for the encoder's 1.4 MB a second; the mel is that of
      one pass with the same bound.
    - ``hold_frames``: frames of 20 ms that the vocoder keeps back until it knows what follows.
    - ``tail``: "upstream" decodes the last chunk as the original does, without a mask and with the
      whole utterance anew; its cost grows with age.
    - ``first_hop``: cuts the reference speech at its start, by under 1 s, so that the first chunk
      needs this many tokens (and three to look ahead). None: the reference as it is; then the
      first chunk needs 25 less the reference's remainder by 25.
    - ``batch_sizes``: rounds batches up to these sizes, for compiled networks of fixed shapes.
    - ``reserve_s``: room made at once for this much speech in every call.
    - ``widest``: chunks that one pass of the flow may make, of all calls together, where a step
      brings tokens for several.
    """

    def __init__(
        self,
        flow: Flow,
        hift: Hift,
        *,
        left_chunks: int | None = None,
        hold_frames: int = HOLD_FRAMES,
        tail: Tail = "streaming",
        first_hop: int | None = None,
        attention: Attention | None = None,
        max_batch: int = MAX_BATCH,
        batch_sizes: Sequence[int] = (),
        voices_kept: int = VOICES_KEPT,
        reserve_s: int = 0,
        widest: int = flow_stream.WIDEST,
        seed: int = 0,
    ) -> None:
        config = flow.config
        if config.mel_bins != hift.config.mel_bins:
            raise ValueError(
                f"the flow makes {config.mel_bins} mel bins, the vocoder takes "
                f"{hift.config.mel_bins}: they are of different checkpoints"
            )
        if first_hop is not None and not 1 <= first_hop <= config.chunk_tokens:
            raise ValueError(f"first_hop is {first_hop}: expected 1 to {config.chunk_tokens}")
        if hold_frames < 0 or min(max_batch, voices_kept, widest) < 1:
            raise ValueError(
                "expected hold_frames ≥ 0, max_batch ≥ 1, voices_kept ≥ 1 and widest ≥ 1"
            )
        self.flow, self.hift = flow, hift
        self._hold = hold_frames
        self._tail = tail
        cuda = flow.device.type == "cuda"
        self._attention: Attention = attention or ("padded" if cuda else "each")
        self._max_batch = max_batch
        self._batch_sizes = tuple(sorted(batch_sizes))
        self._widest = widest
        self._seed = seed
        self.voices = Voices(
            flow,
            left=config.left_chunks if left_chunks is None else left_chunks,
            first_hop=first_hop,
            kept=voices_kept,
            reserve_chunks=reserve_s,
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        left_chunks: int | None = None,
        hold_frames: int = HOLD_FRAMES,
        tail: Tail = "streaming",
        first_hop: int | None = None,
        max_batch: int = MAX_BATCH,
        compiled: bool = False,
    ) -> Self:
        """From a checkpoint folder (`cosyvoice2.yaml`, `flow.pt`, `hift.pt`). ``dtype`` is the
        flow's (float32 or bfloat16); the vocoder and the Euler steps' sum stay in float32.
        ``compiled``: with torch.compile, GPU only. Raises CheckpointError, EngineUnavailable."""
        if not folder.is_dir():
            raise CheckpointError(
                f"{folder} is no folder: expected a CosyVoice 2 checkpoint with cosyvoice2.yaml, "
                "flow.pt and hift.pt"
            )
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineUnavailable(f"device {device!r}: torch finds no GPU here; use 'cpu'")
        flow = load_flow(folder).to(device=device, dtype=dtype)
        batch_sizes: tuple[int, ...] = ()
        if compiled:
            from parley_speech.codec.cosyvoice2.compiled import BATCH_SIZES, compile_flow

            compile_flow(flow)
            batch_sizes = BATCH_SIZES
        return cls(
            flow,
            load_hift(folder).to(device),
            left_chunks=left_chunks,
            hold_frames=hold_frames,
            tail=tail,
            first_hop=first_hop,
            max_batch=max_batch,
            batch_sizes=batch_sizes,
        )

    @property
    def sample_rate_hz(self) -> int:
        return self.hift.config.sample_rate_hz

    # --- calls ------------------------------------------------------------------------------

    def open(self, prompt: TokenPrompt, *, seed: int | None = None) -> Call:
        """A new utterance in the voice of ``prompt``; ``seed`` is that of the source's noise.

        Cheap: the reference speech is decoded by `prepare`, or else by the first step.
        Raises ValueError for a prompt that does not fit this checkpoint.
        """
        reference = len(self.voices.tokens(prompt))
        needed = tokens_missing(
            self.flow.config, reference, 0, pending=reference, heard=0, hold=self._hold
        )
        return Call(prompt, reference, self._seed if seed is None else seed, needed)

    def prepare(self, prompt: TokenPrompt) -> None:
        """Decodes the reference speech of a voice ahead of its first call. Heavy."""
        with torch.inference_mode():
            self.voices.call(prompt)

    def warm_up(self, prompt: TokenPrompt) -> None:
        """Makes a chunk that nobody hears, in one call and in every batch of ``batch_sizes``: what
        is compiled, recorded or allocated once is there before the first caller. Heavy."""
        tokens = [0] * (self.flow.config.chunk_tokens + self.flow.config.lookahead_tokens)
        for size in sorted({1, *(size for size in self._batch_sizes if size <= self._max_batch)}):
            calls = [self.open(prompt) for _ in range(size)]
            self.step([DecoderWork(call, tokens) for call in calls])
            for call in calls:
                self.close(call)

    def close(self, call: DecoderCall) -> None:
        """Forget a call; its memory is free at once, or after the Euler step that is running."""
        _own(call).drop()

    def step(self, work: Sequence[DecoderWork]) -> list[Floats]:
        """See `TokenDecoder.step`. A call that was closed gives nothing.

        Raises ValueError, before anything is computed or changed, for a call that occurs twice, a
        token outside the codebook and, as `UtteranceTooLong`, for tokens beyond 300 s.
        """
        calls = [_own(part.call) for part in work]
        self._check(calls, work)
        pieces: dict[int, list[Tensor]] = {id(call): [] for call in calls}
        with torch.inference_mode():
            for call, part in zip(calls, work, strict=True):
                self._accept(call, part)
            while ready := [(call, s) for call in calls if (s := call.state) and s.flow.ready]:
                for at in range(0, len(ready), self._max_batch):
                    self._round(ready[at : at + self._max_batch], pieces)
        for call, part in zip(calls, work, strict=True):
            if part.last:
                call.drop()
            elif (state := call.state) is not None:
                call._needed = self._missing(call, state)
        return [_joined(pieces[id(call)]) for call in calls]

    # --- one step ---------------------------------------------------------------------------

    def _check(self, calls: list[Call], work: Sequence[DecoderWork]) -> None:
        if len({id(call) for call in calls}) != len(calls):
            raise ValueError("a call occurs twice in one step: join its tokens")
        config = self.flow.config
        for call, part in zip(calls, work, strict=True):
            outside = [t for t in part.tokens if not 0 <= t < config.vocabulary]
            if outside:
                raise ValueError(
                    f"token {outside[0]} is outside the codebook 0…{config.vocabulary - 1}"
                )
            room = NOISE_FRAMES // config.frames_per_token - call.reference - len(call.given)
            if len(part.tokens) > room and not call.closed:
                raise UtteranceTooLong(call, len(part.tokens), room)

    def _accept(self, call: Call, part: DecoderWork) -> None:
        if call.closed:
            return
        state = call.state
        if state is None:
            state = State(self.voices.call(call.prompt), VocoderCall(self.hift, call.seed))
            call.state = state
        state.flow.pending += part.tokens
        state.flow.last = part.last
        call.given += part.tokens

    def _round(self, ready: list[tuple[Call, State]], pieces: dict[int, list[Tensor]]) -> None:
        """One chunk of each call, through the flow and the vocoder."""
        anew = [(c, s) for c, s in ready if self._tail == "upstream" and s.flow.ending]
        chunked = [(c, s) for c, s in ready if (c, s) not in anew]
        mels = [(call, state, self._upstream_tail(call, state.flow)) for call, state in anew]
        if chunked:
            starts = [state.flow.frame for _, state in chunked]
            new = flow_stream.advance(
                self.flow,
                [state.flow for _, state in chunked],
                attention=self._attention,
                batch_sizes=self._batch_sizes,
                abandoned=lambda: all(call.closed for call, _ in chunked),
                widest=self._widest,
            )
            if new is not None:
                for (call, state), start, mel in zip(chunked, starts, new, strict=True):
                    mels.append((call, state, mel[:, max(0, self._prompt_frames(call) - start) :]))
        waves = vocoder.advance(
            self.hift,
            [Piece(state.voice, mel, state.flow.done) for _, state, mel in mels],
            hold=self._hold,
        )
        for (call, _, _), wave in zip(mels, waves, strict=True):
            pieces[id(call)].append(wave)

    def _upstream_tail(self, call: Call, flow: FlowCall) -> Tensor:
        """The remaining frames, with the whole utterance decoded anew and no mask."""
        given = list(call.given)
        start = max(0, flow.frame - self._prompt_frames(call))
        flow.position += len(flow.pending)
        flow.pending.clear()
        if not given:  # closed a moment ago, or nothing was ever said
            return flow.reference.mel[:, :0]
        return self.flow.whole(flow.reference, given, streaming=False)[:, start:]

    def _prompt_frames(self, call: Call) -> int:
        return call.reference * self.flow.config.frames_per_token

    def _missing(self, call: Call, state: State) -> int:
        flow, heard = state.flow, state.voice.heard
        return tokens_missing(
            self.flow.config,
            call.reference,
            flow.position,
            pending=len(flow.pending),
            heard=heard,
            hold=self._hold,
        )


def tokens_missing(
    config: FlowConfig, reference: int, position: int, *, pending: int, heard: int, hold: int
) -> int:
    """How many tokens must follow before a chunk completes that brings more than ``heard`` frames
    out, when ``position`` tokens are decoded and ``pending`` more are there."""
    chunks = 1
    while True:
        decoded = position + chunks * config.chunk_tokens - reference
        if decoded * config.frames_per_token - hold > heard:
            break
        chunks += 1
    return max(0, chunks * config.chunk_tokens + config.lookahead_tokens - pending)


def _own(call: DecoderCall) -> Call:
    if not isinstance(call, Call):
        raise TypeError(f"expected a call that this decoder opened, not a {type(call).__name__}")
    return call


def _joined(pieces: list[Tensor]) -> Floats:
    if not pieces:
        return np.zeros(0, np.float32)
    out: Floats = torch.cat([piece.cpu() for piece in pieces]).numpy()
    return out
