"""Keeps one call's prompt within its budget without ever making a reply wait.

When a prompt grows past a share of its budget, a background request with the lowest priority sums
up the oldest turns. Its prompt is the conversation's own beginning, so the prefix cache has most
of it. When the summary is there, the shortened prompt is put into the cache by one more background
request, and only then do replies use it. Should a prompt be too long before that, or should the
summary fail, the oldest turns are dropped: the reply that is asked for now goes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import accumulate

from parley.minds.base import Cause, Context, MindError
from parley.minds.budget import Budget, TokenMeter, size
from parley.minds.context import Fold, Transcript
from parley.minds.vllm_messages import Message, messages, tools

logger = logging.getLogger(__name__)

REQUEST = (
    "Leave the conversation for a moment. Write down in at most eighty words what was said so far, "
    "with all names, numbers and promises, for somebody who has to go on with it."
)
SUMMARY_TOKENS = 160
AGAIN_AFTER_ITEMS = 6
"""A summary that failed is tried again when the conversation is so much longer."""

Complete = Callable[[list[Message], Context, int], Awaitable[str]]
"""Asks the model in the background: messages, the context they are of, most tokens -> its words.
Raises MindError."""


class Folding:
    """One call's."""

    def __init__(
        self, transcript: Transcript, budget: Budget, complete: Complete, convention: str
    ) -> None:
        self.meter = TokenMeter()
        self.summaries = 0
        self.dropped = 0
        """Times that turns were left out for want of a summary."""
        self._transcript, self._budget = transcript, budget
        self._complete, self._convention = complete, convention
        self._task: asyncio.Task[None] | None = None
        self._not_before = 0
        """Items before which no further summary is tried."""
        self._latest: tuple[Context, list[Message]] | None = None

    def fit(self, context: Context) -> Context:
        """The context as it is to be written now. Never blocks."""
        written = self._transcript.written(context)
        tokens = self._tokens(written)
        if self._budget.too_long(tokens):
            written = self._drop(context, written)
        elif self._budget.wants_summary(tokens):
            self._sum_up(context)
        return written

    def asked(self, written: Context) -> list[Message]:
        """A written context as messages. Those of the latest one are kept: what is measured is
        sent next."""
        if self._latest is None or self._latest[0] is not written:
            self._latest = written, messages(written, self._convention)
        return self._latest[1]

    def size(self, written: Context) -> int:
        """Characters of a written context's prompt."""
        return size(self.asked(written), tools(written.tools))

    def _tokens(self, written: Context) -> int:
        return self.meter.tokens(self.size(written))

    # --- what has to go ------------------------------------------------------------------------

    def _old(self, context: Context) -> int:
        """How many of the oldest items to fold."""
        sizes = [size(messages(Context(Cause.TOOL, (item,)))) for item in context.items]
        behind = list(accumulate(reversed(sizes)))[::-1]  # of item i and all after it
        tokens_of = {i: self.meter.tokens(s) for i, s in enumerate(behind)}
        fixed = self._tokens(replace(context, items=())) + SUMMARY_TOKENS
        return self._budget.old(context.items, fixed, tokens_of)

    def _drop(self, context: Context, written: Context) -> Context:
        """The prompt is too long now: the oldest turns go, with their summary if there is one."""
        n = self._old(context)
        fold = self._transcript.fold
        if n == 0 or (fold is not None and n <= len(fold.items)):
            return written  # a single turn that is longer than any budget: the server will refuse
        if self._task is not None:
            self._task.cancel()  # it would bring back what is left out now
        self.dropped += 1
        logger.warning(
            "the conversation is too long for its budget of %d tokens and has no summary yet: "
            "its oldest %d items are left out from now on",
            self._budget.most,
            n,
        )
        summary = fold.summary if fold is not None else ""
        self._transcript.fold = Fold(context.items[:n], summary)
        return self._transcript.written(context)

    # --- the summary ---------------------------------------------------------------------------

    def _sum_up(self, context: Context) -> None:
        running = self._task is not None and not self._task.done()
        if running or len(context.items) < self._not_before:
            return
        n = self._old(context)
        fold = self._transcript.fold
        if n <= (len(fold.items) if fold is not None else 0):
            return
        self._not_before = len(context.items) + AGAIN_AFTER_ITEMS
        self._task = asyncio.create_task(self._summarise(context, n), name="summary")

    async def _summarise(self, context: Context, n: int) -> None:
        old = replace(context, items=context.items[:n], cause=Cause.INSTRUCTED, request=REQUEST)
        asked = messages(self._transcript.written(old), self._convention)
        try:
            summary = await self._complete(asked, context, SUMMARY_TOKENS)
        except MindError as error:
            logger.warning("the conversation could not be summed up: %s", error)
            return
        if not summary.strip():
            logger.warning("the conversation could not be summed up: the model gave no words")
            return
        fold = Fold(context.items[:n], " ".join(summary.split()))
        await self._warm(context, fold)
        self._transcript.fold = fold
        self.summaries += 1

    async def _warm(self, context: Context, fold: Fold) -> None:
        """Puts the shortened prompt into the prefix cache before a reply needs it."""
        beginning = Transcript()
        beginning.fold = fold
        asked = messages(beginning.written(replace(context, cause=Cause.TOOL)), self._convention)
        with contextlib.suppress(MindError):  # then the first reply after the fold warms it
            await self._complete(asked, context, 1)

    async def settled(self) -> None:
        """Waits for a summary that is being made."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
