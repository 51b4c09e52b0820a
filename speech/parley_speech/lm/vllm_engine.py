"""The token LM on vLLM: `AsyncLLM` with streaming input, one session per utterance.

vLLM's engine core is a process of its own. When it dies, running utterances end with `EngineDied`
and it is started again; new utterances wait meanwhile, as many as may wait.

What vLLM leaves to its caller, and what is done about it here (0.32):

- a session longer than ``max_model_len`` kills the whole engine: plans are bounded by `context`;
- an idle session (waiting for text) holds a place in the batch and its KV blocks, and a starved
  request waits for ever: at most ``slots`` sessions exist, and the KV cache holds them all in full;
- it grows the lists of ids that it is given: each gets a copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parley_speech.lm.checkpoint import BACKBONE
from parley_speech.lm.convert import Progress, merged
from parley_speech.lm.cosyvoice2 import CosyVoice2Lm, SpeechOptions
from parley_speech.lm.engine import Load
from parley_speech.lm.errors import EngineDied, LmBusy, LmError
from parley_speech.lm.segments import Dice, Rule, Segment
from parley_speech.lm.vllm_start import EngineStats, VllmOptions, launch
from parley_speech.lm.vocabulary import MergedVocabulary
from parley_speech.types import EngineUnavailable

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)
HEALTH_S = 1.0
"""How often an engine nobody uses is asked whether it lives."""


class VllmEngine:
    """Meets `parley_speech.lm.engine.Engine`. ``folder``: what vLLM loads."""

    def __init__(self, folder: Path, options: VllmOptions | None = None) -> None:
        self._folder = folder
        self.options = options or VllmOptions()
        self._llm: AsyncLLM | None = None
        self._ready = asyncio.Event()
        self._died = asyncio.Event()
        self._given_up: EngineDied | None = None
        self._slots = asyncio.Semaphore(self.options.slots)
        self._running = self._waiting = 0
        self._numbers = itertools.count()
        self._watch: asyncio.Task[None] | None = None
        self.stats = EngineStats()

    @property
    def context(self) -> int:
        return self.options.context

    @property
    def load(self) -> Load:
        used, ready = self.stats.kv_used, self._ready.is_set()
        return Load(self.options.slots, self._running, self._waiting, used, ready)

    async def start(self) -> None:
        if self._llm is None:
            self._llm = await self._launch()
            self._ready.set()
            self._watch = asyncio.create_task(self._keep_alive(), name="token-lm-watch")

    async def _launch(self) -> AsyncLLM:
        # Half a minute of imports and of waiting for the engine's process: beside the loop.
        return await asyncio.to_thread(launch, self._folder, self.options, self.stats)

    async def open(self, rule: Rule, dice: Dice) -> VllmSession:
        if self._waiting >= self.options.waiting:
            raise LmBusy(f"{self._waiting} utterances wait for a place: try again, or elsewhere")
        self._waiting += 1
        try:
            await self._slots.acquire()
            try:
                llm = await self._alive()
            except BaseException:
                self._slots.release()
                raise
        finally:
            self._waiting -= 1
        self._running += 1
        return VllmSession(self, llm, f"speech-{next(self._numbers)}", rule, dice)

    async def _alive(self) -> AsyncLLM:
        await self._ready.wait()
        if self._given_up or self._llm is None:
            raise self._given_up or EngineDied("the token LM is closed")
        return self._llm

    def release(self) -> None:
        self._running -= 1
        self._slots.release()

    def report_death(self) -> None:
        """A session saw that the engine is gone."""
        self._ready.clear()
        self._died.set()

    async def _keep_alive(self) -> None:
        """Starts a dead engine again, until it has died ``restarts`` times in a row."""
        failures = 0
        while failures <= self.options.restarts:
            if await self._still_well():
                failures = 0
                continue
            self._ready.clear()
            log.warning("vLLM's engine died; it is being started again")
            assert self._llm is not None
            await asyncio.to_thread(self._llm.shutdown)
            try:
                self._llm = await self._launch()
            except EngineUnavailable as error:
                failures += 1
                log.error("vLLM did not start (%d in a row): %s", failures, error)
                continue
            self._died.clear()
            self._ready.set()
        self._given_up = EngineDied(
            f"vLLM died and did not start again in {failures} attempts; its log says why"
        )
        self._ready.set()

    async def _still_well(self) -> bool:
        """True after a second without a death, False at once when it has died."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._died.wait(), HEALTH_S)
        return not self._died.is_set() and self._llm is not None and not self._llm.errored

    async def aclose(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        llm, self._llm = self._llm, None
        if llm is not None:
            if llm.output_handler is not None:  # else it reports the shutdown as a death
                llm.output_handler.cancel()
            await asyncio.to_thread(llm.shutdown)
        self._given_up = EngineDied("the token LM is closed")
        self._ready.set()


class VllmSession:
    """Meets `parley_speech.lm.engine.Session`."""

    def __init__(
        self, engine: VllmEngine, llm: AsyncLLM, name: str, rule: Rule, dice: Dice
    ) -> None:
        self._engine, self._llm, self._name = engine, llm, name
        self._rule, self._dice = rule, dice
        # A segment and the end of the session: never more than two.
        self._segments: asyncio.Queue[Segment | None] = asyncio.Queue(2)
        self._outputs: AsyncGenerator[Any, None] | None = None
        self._closed = False

    async def run(self, segment: Segment) -> AsyncGenerator[Sequence[int], None]:
        from vllm.v1.engine.exceptions import EngineDeadError

        self._segments.put_nowait(segment)
        if segment.last:  # so that vLLM frees everything in the step that samples the end
            self._segments.put_nowait(None)
        if self._outputs is None:
            params = self._params(segment)
            self._outputs = self._llm.generate(self._inputs(), params, self._name)
        count = 0
        try:
            while count < segment.max_tokens:
                output = await anext(self._outputs, None)
                if output is None or output.outputs[0].finish_reason == "abort":
                    raise LmError(f"vLLM ended {self._name} in the middle of a segment")
                tokens = output.outputs[0].token_ids
                count += len(tokens)
                if tokens:
                    yield tokens
                    if tokens[-1] in segment.stops:
                        return
        except EngineDeadError as error:
            self._engine.report_death()
            raise EngineDied("vLLM's engine died in the middle of an utterance") from error

    async def _inputs(self) -> AsyncGenerator[Any, None]:
        from vllm import TokensPrompt
        from vllm.engine.protocol import StreamingInput

        while (segment := await self._segments.get()) is not None:
            prompt: Any = TokensPrompt(prompt_token_ids=list(segment.feed))
            yield StreamingInput(
                prompt=prompt,
                sampling_params=self._params(segment),
            )

    def _params(self, segment: Segment) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from parley_speech.lm.vllm_sampler import extra_args

        return SamplingParams(
            temperature=0.0,  # `TokenSampler` has drawn already
            max_tokens=segment.max_tokens,
            stop_token_ids=sorted(segment.stops),
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args=extra_args(self._rule, self._dice, segment),
        )

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._outputs is not None:
                await self._outputs.aclose()  # aborts what still runs
        finally:
            self._engine.release()


class VllmTokenLm(CosyVoice2Lm):
    """CosyVoice 2's token LM on vLLM, from the published folder or a converted one."""

    def __init__(
        self,
        checkpoint: Path,
        options: VllmOptions | None = None,
        speech: SpeechOptions | None = None,
        *,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(speech)
        self._checkpoint, self._vllm_options = checkpoint, options
        self._cache, self._progress = cache, progress
        self.engine: VllmEngine | None = None

    async def start(self) -> None:
        folder = await asyncio.to_thread(
            merged, self._checkpoint, cache=self._cache, progress=self._progress
        )
        config = json.loads((folder / "config.json").read_text())
        engine = self.engine = VllmEngine(folder, self._vllm_options)
        await engine.start()
        backbone = self._checkpoint / BACKBONE
        self._use(
            engine,
            MergedVocabulary.from_config(config),
            backbone if backbone.is_dir() else folder,
        )
