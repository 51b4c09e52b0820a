"""The engine for machines without vLLM: torch and transformers, one utterance's step at a time.

Weights come from ``llm.pt`` directly or from any folder that transformers loads. Steps run on one
thread beside the event loop; utterances take turns token by token, so none waits for another's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from parley_speech.lm.checkpoint import BACKBONE, LmCheckpoint
from parley_speech.lm.cosyvoice2 import CosyVoice2Lm, SpeechOptions
from parley_speech.lm.engine import Load
from parley_speech.lm.errors import CheckpointError, EngineDied, LmBusy
from parley_speech.lm.segments import Dice, Rule, Segment

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TransformersOptions:
    slots: int = 4
    """Utterances at once."""
    waiting: int = 64
    context: int = 2048
    """Tokens that an utterance holds at most."""
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 0
    """Of torch, for the whole process; 0: as they are."""


class Weights(Protocol):
    """A causal language model with a cache."""

    base: int
    """The id that column 0 of the scores stands for."""

    def forward(self, ids: Sequence[int], cache: Any) -> tuple[Tensor, Any]:
        """Feeds ids after what the cache holds (None: nothing).

        Returns the scores after the last one, (1, ids), and the grown cache."""
        ...


class SpeechQwen2:
    """`Weights` of CosyVoice 2's token LM from ``llm.pt``; only its speech rows are scored."""

    def __init__(self, checkpoint: LmCheckpoint, device: str, dtype: str) -> None:
        import torch
        from transformers import Qwen2Config, Qwen2Model

        ids = checkpoint.vocabulary
        kind = getattr(torch, dtype)
        config = Qwen2Config.from_dict(checkpoint.merged_config())
        with torch.device("meta"):
            backbone: Any = Qwen2Model
            self._model = backbone(config)
        names = [name for name in checkpoint.merged_names() if name.startswith("model.")]
        tensors = {name.removeprefix("model."): checkpoint.merged(name).to(kind) for name in names}
        self._model.load_state_dict(tensors, assign=True, strict=True)
        self._model.rotary_emb = type(self._model.rotary_emb)(config)  # has no weights to load
        self._model.to(device).eval()
        self._head = checkpoint.state["llm_decoder.weight"].to(device, kind)
        self._bias = checkpoint.state["llm_decoder.bias"].to(device, kind)
        self._device = device
        self.vocabulary = ids
        self.base = ids.offset

    def forward(self, ids: Sequence[int], cache: Any) -> tuple[Tensor, Any]:
        import torch

        with torch.inference_mode():
            fed = torch.tensor([list(ids)], device=self._device)
            out = self._model(input_ids=fed, past_key_values=cache, use_cache=True)
            scores = torch.nn.functional.linear(
                out.last_hidden_state[:, -1], self._head, self._bias
            )
        return scores, out.past_key_values


class CausalLm:
    """`Weights` of any folder that transformers loads as a causal language model."""

    base = 0

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        try:
            auto: Any = AutoModelForCausalLM
            loaded = auto.from_pretrained(
                str(folder), local_files_only=True, dtype=getattr(torch, dtype)
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"{folder} cannot be loaded as a causal language model: {error}"
            ) from error
        self._model: Any = loaded.to(device)
        self._model.eval()
        self._device = device

    def forward(self, ids: Sequence[int], cache: Any) -> tuple[Tensor, Any]:
        import torch

        with torch.inference_mode():
            fed = torch.tensor([list(ids)], device=self._device)
            out = self._model(
                input_ids=fed, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
        return out.logits[:, -1], out.past_key_values


class TransformersEngine:
    """Meets `parley_speech.lm.engine.Engine`."""

    def __init__(self, folder: Path, options: TransformersOptions | None = None) -> None:
        self._folder = folder
        self.options = options or TransformersOptions()
        self.weights: Weights | None = None
        # One thread: torch divides a step among its own; two steps at once would only contend.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="token-lm")
        self._slots = asyncio.Semaphore(self.options.slots)
        self._running = self._waiting = 0
        self._held_tokens = 0

    @property
    def context(self) -> int:
        return self.options.context

    @property
    def load(self) -> Load:
        capacity = self.options.slots * self.options.context
        used = self._held_tokens / capacity
        ready = self.weights is not None
        return Load(self.options.slots, self._running, self._waiting, used, ready)

    async def start(self) -> None:
        if self.weights is None:
            loop = asyncio.get_running_loop()
            self.weights = await loop.run_in_executor(self._thread, self._load)

    def _load(self) -> Weights:
        import torch

        options = self.options
        if options.threads:
            torch.set_num_threads(options.threads)
        if (self._folder / "llm.pt").exists() or not (self._folder / "config.json").exists():
            checkpoint = LmCheckpoint.open(self._folder)
            return SpeechQwen2(checkpoint, options.device, options.dtype)
        return CausalLm(self._folder, options.device, options.dtype)

    async def open(self, rule: Rule, dice: Dice) -> TransformersSession:
        if self.weights is None:
            raise EngineDied("the token LM is not started: await start() first")
        if self._waiting >= self.options.waiting:
            raise LmBusy(f"{self._waiting} utterances wait for a place: try again, or elsewhere")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        return TransformersSession(self, self.weights, rule, dice)

    async def step(
        self, session: TransformersSession, ids: Sequence[int], segment: Segment, own: list[int]
    ) -> int:
        """One step on the thread; a session closed meanwhile is not computed."""
        if self.weights is None:
            raise EngineDied("the token LM was closed in the middle of an utterance")
        loop = asyncio.get_running_loop()
        self._held_tokens += len(ids)
        session.held += len(ids)
        return await loop.run_in_executor(self._thread, session.compute, ids, segment, own)

    def release(self, held: int) -> None:
        self._running -= 1
        self._held_tokens -= held
        self._slots.release()

    async def aclose(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self.weights = None


class TransformersSession:
    """Meets `parley_speech.lm.engine.Session`."""

    def __init__(
        self, engine: TransformersEngine, weights: Weights, rule: Rule, dice: Dice
    ) -> None:
        self._engine, self._weights, self._rule, self._dice = engine, weights, rule, dice
        self._cache: Any = None
        self._closed = False
        self.held = 0

    async def run(self, segment: Segment) -> AsyncGenerator[Sequence[int], None]:
        ids: Sequence[int] = segment.feed
        own: list[int] = []
        while len(own) < segment.max_tokens:
            token = await self._engine.step(self, ids, segment, own)
            own.append(token)
            yield (token,)
            if token in segment.stops:
                return
            ids = (token,)

    def compute(self, ids: Sequence[int], segment: Segment, own: Sequence[int]) -> int:
        """Feeds ids, draws one token. On the engine's thread."""
        from parley_speech.lm.sampling import Row, draw

        if self._closed:
            return -1
        scores, cache = self._weights.forward(ids, self._cache)
        if not self._closed:
            self._cache = cache
        row = Row(
            rule=self._rule,
            allowed=segment.allowed,
            dice=self._dice,
            step=segment.step + len(own),
            recent=[*segment.history, *own],
        )
        return int(draw(scores, [row], base=self._weights.base)[0])

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._cache = None
            self._engine.release(self.held)


class TransformersTokenLm(CosyVoice2Lm):
    """CosyVoice 2's token LM without vLLM, straight from the published folder."""

    def __init__(
        self,
        checkpoint: Path,
        options: TransformersOptions | None = None,
        speech: SpeechOptions | None = None,
    ) -> None:
        super().__init__(speech)
        self._checkpoint, self._engine_options = checkpoint, options

    async def start(self) -> None:
        engine = TransformersEngine(self._checkpoint, self._engine_options)
        await engine.start()
        assert isinstance(engine.weights, SpeechQwen2)
        self._use(engine, engine.weights.vocabulary, self._checkpoint / BACKBONE)
