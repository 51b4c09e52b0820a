"""One utterance: text in, codec tokens out, driven by a plan on an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from parley_speech.lm.engine import Engine, Session
from parley_speech.lm.errors import LmError
from parley_speech.lm.segments import Dice, Plan, Rule
from parley_speech.lm.words import TextIds


class PlannedStream:
    """Meets `parley_speech.token_voice.TokenStream`.

    A task of its own computes, so that cancelling is cancelling that task, and a slow listener
    does not hold up the model; what it has computed and nobody took is bounded by the context.
    """

    def __init__(
        self, engine: Engine, plan: Plan, rule: Rule, dice: Dice, text: TextIds | None
    ) -> None:
        self._engine, self._plan, self._rule, self._dice = engine, plan, rule, dice
        self._text = text
        self._tokens: list[int] = []
        self._changed = asyncio.Event()  # for the listener
        self._more_text = asyncio.Event()  # for the task
        self._ended = False
        self._error: LmError | None = None
        self._task: asyncio.Task[None] | None = None

    def push(self, text: str) -> None:
        """A text delta; words may be split between deltas."""
        if self._text is None:
            raise LmError(
                "this checkpoint has no tokenizer files: put tokenizer.json, or vocab.json and "
                "merges.txt, into its folder, or push ids with push_ids"
            )
        self._feed(self._text.push(text))

    def push_ids(self, ids: Sequence[int]) -> None:
        """Text as ids of the model's tokenizer, one piece."""
        self._feed(ids)

    def end(self) -> None:
        if self._ended:
            return
        if self._text is not None:
            self._feed(self._text.end())
        self._ended = True
        self._plan.end()
        self._wake()

    def cancel(self) -> None:
        """Nothing more is computed after this returns but the step that runs just now."""
        self._ended = True
        self._plan.end()
        self._start(_nothing)
        assert self._task is not None
        self._task.cancel()
        self._tokens.clear()
        self._changed.set()

    async def aclose(self) -> None:
        self.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def __aiter__(self) -> AsyncIterator[Sequence[int]]:
        self._start()
        assert self._task is not None
        while True:
            if self._tokens:
                tokens, self._tokens = self._tokens, []
                yield tokens
            elif self._task.done():
                break
            else:
                self._changed.clear()
                await self._changed.wait()
        if not self._task.cancelled():
            self._task.result()

    def _feed(self, ids: Sequence[int]) -> None:
        if self._ended:
            return
        try:
            self._plan.feed(ids)
        except LmError as error:  # told to whoever listens; the pushing side may be elsewhere
            self._error = error
        self._wake()

    def _wake(self) -> None:
        self._start()
        self._more_text.set()

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task((work or self._compute)())
            self._task.add_done_callback(lambda _: self._changed.set())

    async def _compute(self) -> None:
        session: Session | None = None
        try:
            while not self._plan.finished:
                if self._error:
                    raise self._error
                segment = self._plan.next()
                if segment is None:
                    if self._plan.finished:
                        break
                    self._more_text.clear()
                    await self._more_text.wait()
                    continue
                if session is None:
                    session = await self._engine.open(self._rule, self._dice)
                async for sampled in session.run(segment):
                    self._take(sampled)
        finally:
            if session is not None:
                await session.close()

    def _take(self, sampled: Sequence[int]) -> None:
        for token in sampled:
            spoken = self._plan.take(token)
            if spoken is not None:
                self._tokens.append(spoken)
        self._changed.set()


async def _nothing() -> None:
    """The task of an utterance that was cancelled before it began."""
