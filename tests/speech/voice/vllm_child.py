"""Runs token LMs on vLLM for `test_lm_vllm`: ``python vllm_child.py CACHE``.

pytest never imports vLLM, and a crash here cannot take it down. Reads a case's name from each
line of stdin, writes {"value": …} or {"error": traceback} as a line of JSON to stdout, ends with
stdin. One engine serves all cases; it is started with the first that needs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import lm_golden as golden
import psutil
from codec_lm_tiny import RECIPE, TEXT, make_llama, said

from parley.bench.voice_lm import cancel_latency, cancelled_leave_nothing, idle
from parley_speech.codec_lm.engine import CodecLm
from parley_speech.lm.cosyvoice2 import SpeechOptions
from parley_speech.lm.errors import EngineDied, LmBusy, UtteranceTooLong
from parley_speech.lm.segments import GREEDY, RAS
from parley_speech.lm.stream import PlannedStream
from parley_speech.lm.vllm_engine import VllmEngine, VllmTokenLm
from parley_speech.lm.vllm_start import VllmOptions

SLOTS, WAITING, CONTEXT = 4, 2, 256
PATIENCE_S = 100.0


class Cases:
    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._lm: VllmTokenLm | None = None
        self.progress: list[tuple[int, int, str]] = []

    async def _started(self) -> VllmTokenLm:
        if self._lm is None:
            self._lm = VllmTokenLm(
                golden.GOLDEN,
                VllmOptions(slots=SLOTS, waiting=WAITING, context=CONTEXT),
                cache=self._cache,
                progress=lambda *step: self.progress.append(step),
            )
            await self._lm.start()
        return self._lm

    async def _stopped(self) -> None:
        lm, self._lm = self._lm, None
        if lm is not None:
            await lm.aclose()

    async def golden(self) -> Any:
        """Every stored case, one after the other."""
        lm, got = await self._started(), {}
        for case in golden.CASES:
            lm.options = case.options
            got[case.name] = await golden.speak(lm, case)
        return got

    async def together(self) -> Any:
        """The interleaved cases, side by side and more than there are places."""
        lm = await self._started()
        lm.options = golden.INTERLEAVED
        cases = [case for case in golden.CASES if case.options == golden.INTERLEAVED] * 2
        return [
            [c.name, t]
            for c, t in zip(
                cases,
                await asyncio.gather(*(golden.speak(lm, case) for case in cases)),
                strict=True,
            )
        ]

    async def seeds(self) -> Any:
        lm = await self._started()
        lm.options = SpeechOptions(rule=RAS)

        async def said_with(seed: int) -> list[int]:
            stream = lm.utterance_of_ids((), (), seed=seed)
            for token in golden.ids("in/text"):
                stream.push_ids([token])
            stream.end()
            return await everything(stream)

        return await asyncio.gather(said_with(7), said_with(8))

    async def too_long(self) -> Any:
        lm = await self._started()
        lm.options = SpeechOptions(rule=GREEDY)
        stream = lm.utterance_of_ids((), ())
        stream.push_ids((golden.ids("in/text") * 6)[: CONTEXT // 2])
        stream.end()
        got: list[int] = []
        try:
            async for tokens in stream:
                got += tokens
        except UtteranceTooLong as error:
            await stream.aclose()
            after = await golden.speak(lm, golden.CASES[4])
            return {"error": str(error), "tokens": len(got), "after": after}
        raise AssertionError("the utterance ended without a word about its length")

    async def places(self) -> Any:
        """Idle utterances hold the places; the next wait, one more is turned away."""
        lm = await self._started()
        assert lm.engine is not None
        lm.options = SpeechOptions(rule=GREEDY)
        holding = [await self._idle_utterance(lm) for _ in range(SLOTS)]
        waiting = [lm.utterance_of_ids((), ()) for _ in range(WAITING)]
        for stream in waiting:
            stream.push_ids(golden.ids("in/text")[:5])
        while lm.load.waiting < WAITING:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        busy = lm.load
        refused = lm.utterance_of_ids((), ())
        refused.push_ids(golden.ids("in/text")[:5])
        try:
            await everything(refused)
        except LmBusy as error:
            message = str(error)
        holding[0].cancel()
        first = list(await asyncio.wait_for(anext(aiter(waiting[0])), PATIENCE_S))
        for stream in [*holding, *waiting]:
            await stream.aclose()
        await asyncio.wait_for(lm.engine.stats.until(idle), PATIENCE_S)
        free = lm.load
        return {
            "busy": [busy.slots, busy.running, busy.waiting, busy.kv_used],
            "refused": message,
            "first": first,
            "free": [free.slots, free.running, free.waiting, free.kv_used],
        }

    async def _idle_utterance(self, lm: VllmTokenLm) -> PlannedStream:
        stream = lm.utterance_of_ids((), ())
        stream.push_ids(golden.ids("in/text")[:5])
        await asyncio.wait_for(anext(aiter(stream)), PATIENCE_S)
        return stream

    async def cancels(self) -> Any:
        lm = await self._started()
        lm.options = SpeechOptions()
        figures = await cancel_latency(lm, 10)
        left = await cancelled_leave_nothing(lm, 40)
        return {
            "steps_after": figures.steps_after,
            "running": left.slots_running + left.engine_running,
            "kv_used": left.kv_used,
        }

    async def death(self) -> Any:
        """The engine's process is killed in the middle of an utterance."""
        lm = await self._started()
        lm.options = SpeechOptions(rule=GREEDY)
        speaking, waiting = await self._idle_utterance(lm), await self._idle_utterance(lm)
        for process in psutil.Process().children(recursive=True):
            if "EngineCore" in " ".join(process.cmdline()) + process.name():
                os.kill(process.pid, signal.SIGKILL)
        errors = []
        for stream in (speaking, waiting):
            stream.push_ids(golden.ids("in/text")[5:])
            stream.end()
            try:
                await asyncio.wait_for(everything(stream), PATIENCE_S)
            except EngineDied as error:
                errors.append(str(error))
            await stream.aclose()
        after = await asyncio.wait_for(golden.speak(lm, golden.CASES[3]), PATIENCE_S)
        return {"errors": errors, "after": after, "running": lm.load.running}

    async def codec_lm(self) -> Any:
        """An ordinary causal LM by a recipe, on an engine of its own."""
        await self._stopped()
        folder = make_llama(self._cache / "llama")
        lm = CodecLm(RECIPE, folder, VllmEngine(folder, VllmOptions(slots=2, context=CONTEXT)))
        await lm.start()
        try:
            return await asyncio.gather(*(said(lm, TEXT, seed) for seed in (1, 2)))
        finally:
            await lm.aclose()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever else is printed goes to the log
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            case: Callable[[], Awaitable[Any]] = getattr(self, line.strip())
            try:
                answer = {"value": await asyncio.wait_for(case(), 2 * PATIENCE_S)}
            except Exception:
                answer = {"error": traceback.format_exc()}
            print(json.dumps(answer), file=answers, flush=True)
        await self._stopped()


async def everything(stream: PlannedStream) -> list[int]:
    try:
        return [token async for tokens in stream for token in tokens]
    finally:
        await stream.aclose()


if __name__ == "__main__":
    asyncio.run(Cases(Path(sys.argv[1])).serve())
