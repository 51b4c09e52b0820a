"""Asks vLLM for judgements while the user speaks, and keeps the latest for whoever asks.

At most one request of each kind is on its way in a call: new words cancel the question about the
old ones. The floor never waits: until an answer is there, and when it is late, there is no opinion.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from parley.minds.base import Cause, Context, OverlapOpinion, Said
from parley.minds.judgement import (
    BUDGET_S,
    LETTERS,
    OVERLAP_QUESTION,
    Calibration,
    p_end,
    p_letters,
)
from parley.minds.vllm_http import COMPLETIONS, FAILURES

logger = logging.getLogger(__name__)

LATE_IN_A_ROW = 3
PAUSE_S = 5.0
"""After so many failures in a row, the server is left alone for so long."""
TIMED = 512
TOP_LOGPROBS = 20  # vLLM's most, unless it was started with --max-logprobs
SAMPLING: dict[str, object] = {
    "max_tokens": 1,
    "temperature": 0,
    "stream": False,
    "tool_choice": "none",  # the tools stay in the prompt
    "logprobs": True,
    "top_logprobs": TOP_LOGPROBS,
}

T = TypeVar("T")
Body = dict[str, object]
Compose = Callable[[Context], Body]
"""The request that a reply to this context would be, from which a judgement's is made."""
Post = Callable[[str, Body], Awaitable[tuple[int, bytes]]]
"""``Connections.post``: status and content of the answer."""


def end_question(body: Body) -> Body:
    """What comes after the user's words? Their turn is left open."""
    asked = {**body, **SAMPLING, "add_generation_prompt": False, "continue_final_message": True}
    return _plain(asked)


def overlap_question(body: Body) -> Body:
    choice = {"choice": list(LETTERS)}
    return _plain({**body, **SAMPLING, "structured_outputs": choice})


def _plain(body: Body) -> Body:
    """Without what only a streamed reply needs."""
    left_out = ["stream_options"] + ([] if "tools" in body else ["tool_choice"])
    return {key: value for key, value in body.items() if key not in left_out}


class Latest(Generic[T]):
    """One kind of opinion about a turn's words; at most one question on its way."""

    def __init__(self) -> None:
        self._turn = -1
        self._known: dict[str, T | None] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def get(self, text: str) -> T | None:
        return self._known.get(text)

    def ask(self, turn: int, text: str, question: Callable[[], Awaitable[T | None]]) -> None:
        """Unless these words were asked about in this turn. A question about other words is given
        up, and opinions of another turn are forgotten: there the same words mean something else."""
        if turn != self._turn:
            self._turn = turn
            self._known.clear()
        if text in self._known:
            return
        self._known[text] = None
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._keep(text, question), name="judgement")
        self._closing.add(self._task)
        self._task.add_done_callback(self._closing.discard)

    async def _keep(self, text: str, question: Callable[[], Awaitable[T | None]]) -> None:
        opinion = await question()
        if text in self._known:
            self._known[text] = opinion

    async def answered(self) -> None:
        """Waits for the question on its way."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def aclose(self) -> None:
        closing = set(self._closing)
        for task in closing:
            task.cancel()
        if closing:
            await asyncio.wait(closing)


class Judge:
    """One call's. ``end_token`` is what ends a user's turn in the model's template."""

    def __init__(
        self,
        post: Post,
        compose: Compose,
        calibration: Calibration,
        end_token: str,
        budget_s: float = BUDGET_S,
    ) -> None:
        self.took_ms: deque[float] = deque(maxlen=TIMED)
        """Of answers that came in time."""
        self.late = 0
        self.ends: Latest[float] = Latest()
        self.overlaps: Latest[OverlapOpinion] = Latest()
        self._send, self._compose = post, compose
        self._calibration, self._end_token = calibration, end_token
        self._budget_s = budget_s
        self._failures = 0
        self._resume_at = 0.0

    def attend(self, context: Context, *, over_agent: bool) -> None:
        said = context.items[-1] if context.items else None
        if not isinstance(said, Said) or said.role != "user" or not said.text:
            return
        if asyncio.get_running_loop().time() < self._resume_at:
            return
        turn = len(context.items)
        if over_agent and self._calibration.overlap is not None:
            self.overlaps.ask(turn, said.text, lambda: self.overlap(context))
        elif not over_agent and self._calibration.end is not None:
            self.ends.ask(turn, said.text, lambda: self.end(context))

    async def end(self, context: Context) -> float | None:
        """Calibrated P(the user has finished), None when it cannot be had in time."""
        calibrated = self._calibration.end
        answer = await self._ask(end_question(self._compose(context)))
        raw = self._read(answer, lambda found: p_end(found, self._end_token))
        return None if raw is None or calibrated is None else calibrated(raw)

    async def overlap(self, context: Context) -> OverlapOpinion | None:
        calibrated = self._calibration.overlap
        answer = await self._ask(overlap_question(self._compose(overlapping(context))))
        raw = self._read(answer, p_letters)
        if raw is None or calibrated is None:
            return None
        return OverlapOpinion(*calibrated(raw), weight=self._calibration.overlap_weight)

    async def _ask(self, body: Body) -> Mapping[str, object] | None:
        began = time.perf_counter()
        try:
            answer = await self._post(body)
            if answer is None:
                self.late += 1
                raise ValueError(f"no answer within {self._budget_s * 1000:.0f} ms")
            self.took_ms.append((time.perf_counter() - began) * 1000)
            status, content = answer
            if status != 200:
                raise ValueError(f"the server answered {status}")
            found = json.loads(content)
        except (ValueError, *FAILURES) as error:
            self._failed(str(error) or type(error).__name__)
            return None
        return found if isinstance(found, dict) else {}

    async def _post(self, body: Body) -> tuple[int, bytes] | None:
        """None when it takes too long, at which its connection is closed."""
        try:
            async with asyncio.timeout(self._budget_s):
                return await self._send(COMPLETIONS, body)
        except TimeoutError:
            return None

    def _read(
        self, answer: Mapping[str, object] | None, read: Callable[[Mapping[str, object]], T]
    ) -> T | None:
        if answer is None:
            return None
        try:
            raw = read(answer)
        except ValueError as error:
            self._failed(str(error))
            return None
        self._failures = 0
        return raw

    def _failed(self, why: str) -> None:
        """A judgement is missing: the floor does without. Many in a row, and none are asked."""
        self._failures += 1
        if self._failures >= LATE_IN_A_ROW:
            self._failures = 0
            self._resume_at = asyncio.get_running_loop().time() + PAUSE_S
            logger.warning("no judgements for %g s: %s", PAUSE_S, why)

    async def aclose(self) -> None:
        await self.ends.aclose()
        await self.overlaps.aclose()


def overlapping(context: Context) -> Context:
    """The question about the last words, said over the agent, as a stage direction."""
    said = context.items[-1]
    words = said.text if isinstance(said, Said) else ""
    question = OVERLAP_QUESTION.format(words=words)
    return replace(context, items=context.items[:-1], cause=Cause.INSTRUCTED, request=question)
