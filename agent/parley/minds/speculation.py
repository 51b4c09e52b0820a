"""A reply on a guess: asked for with little right to the machine, promoted when it is wanted.

A request's priority is fixed once it is sent. So when the turn is over (``wanted``) and the guess
has no token yet, there are two cases that look the same from here: it is still in the server's
queue, behind everything more urgent, or it runs and its first token is near. A guess older than
``RESEND_AFTER_S`` is taken to wait: it is sent again with the priority of a reply, and whichever
of the two speaks first is heard; the other one is aborted. One that has spoken goes on as it is.

A guess may cost ``most_tokens`` tokens at most. A wanted one that ended there is continued from its
last word by another request, whose prompt is in the prefix cache.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from parley.minds.base import MindEvent, TextDelta
from parley.minds.vllm_usage import Usage

logger = logging.getLogger(__name__)

RESEND_AFTER_S = 0.05
LEAST_TOKENS = 8
"""A guess that may cost less than this is not worth a request."""


@dataclass(frozen=True, slots=True)
class Ask:
    """How a request is to be made."""

    urgent: bool
    max_tokens: int | None = None
    """None: as many as a reply may have."""
    said: str = ""
    """Continue these words of the agent."""


class Leg(Protocol):
    """One request's answer (``VllmReply``)."""

    usage: Usage

    def __aiter__(self) -> AsyncIterator[MindEvent]: ...
    def cancel(self) -> None: ...
    async def aclose(self) -> None: ...


@dataclass(slots=True)
class SpeculationStats:
    """What guessing has cost and brought, for one call or for all."""

    started: int = 0
    kept: int = 0
    discarded: int = 0
    resent: int = 0
    continued: int = 0
    tokens_used: int = 0
    """Of replies that were wanted; of one that was no guess and was cut, none are known."""
    tokens_discarded: int = 0
    """Of replies that were thrown away, and of requests that lost against their second sending."""

    @property
    def waste(self) -> float:
        """Tokens thrown away for each one used."""
        return self.tokens_discarded / max(1, self.tokens_used)


class TurnBudget:
    """Tokens that the guesses of one turn may cost together."""

    def __init__(self, most_tokens: int, most_each: int):
        self.most_tokens, self.most_each = most_tokens, most_each
        self.turn = 0
        self._spent = 0

    def next(self) -> int:
        """How many the next guess may have."""
        return max(0, min(self.most_each, self.most_tokens - self._spent))

    def spend(self, tokens: int, turn: int) -> None:
        if turn == self.turn:  # else it was told late, of a turn that is over
            self._spent += tokens

    def renew(self) -> None:
        """The turn is over."""
        self._spent = 0
        self.turn += 1


class SpeculativeReply:
    """A ``Reply`` that is ``Urgent``. ``ask`` makes its requests."""

    def __init__(
        self,
        ask: Callable[[Ask], Leg],
        budget: TurnBudget,
        stats: SpeculationStats,
        on_commit: Callable[[], None] | None = None,
    ):
        self._ask, self._budget, self._stats = ask, budget, stats
        self._turn = budget.turn
        self._on_commit = on_commit
        self._legs: list[Leg] = []
        self._lost: set[int] = set()
        """Places of legs that were overtaken."""
        self._wanted = asyncio.Event()
        self._cancelled = False
        self._begun = self._settled = False
        self._guessed = False
        self._text = ""

    # --- what the conversation says ------------------------------------------------------------

    def wanted(self) -> None:
        if not self._wanted.is_set() and not self._cancelled:
            self._wanted.set()
            self._budget.renew()

    def commit(self) -> None:
        self.wanted()
        if self._on_commit is not None:
            self._on_commit()

    def cancel(self) -> None:
        self._cancelled = True
        for leg in self._legs:
            leg.cancel()
        self._settle()

    async def aclose(self) -> None:
        self.cancel()
        await self._close_legs()

    async def _close_legs(self) -> None:
        for leg in self._legs:
            await leg.aclose()

    # --- its events ----------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncGenerator[MindEvent, None]:
        if self._begun:
            raise RuntimeError("a reply can be iterated once; ask the session for another one")
        self._begun = True
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if self._cancelled:
                        return
                    if isinstance(event, TextDelta):
                        self._text += event.text
                    yield event
        finally:
            await self._close_legs()  # whether it was of use is told by wanted, perhaps later

    async def _events(self) -> AsyncGenerator[MindEvent, None]:
        most = self._budget.next()
        if most < LEAST_TOKENS:
            await self._wanted.wait()
        if self._wanted.is_set():
            async for event in self._leg(Ask(urgent=True)):
                yield event
            return
        self._guessed = True
        self._stats.started += 1
        guess = self._leg(Ask(urgent=False, max_tokens=most))
        run, spoken = await self._first(guess)
        while spoken is not None:
            yield spoken
            spoken = await anext(run, None)
        ended_at_cap = self._legs[0].usage.finish_reason == "length"
        if run is guess and ended_at_cap and not self._cancelled:
            await self._wanted.wait()
            self._stats.continued += 1
            async for event in self._leg(Ask(urgent=True, said=self._text)):
                yield event

    def _leg(self, ask: Ask) -> _Run:
        leg = self._ask(ask)
        self._legs.append(leg)
        return aiter(leg)

    async def _first(self, guess: _Run) -> tuple[_Run, MindEvent | None]:
        """Who speaks first, and what; a guess that fails in silence is asked again when wanted."""
        asked_at = asyncio.get_running_loop().time()
        ahead = _task(anext(guess, None))
        again: asyncio.Task[MindEvent | None] | None = None
        try:
            await self._until_it_is_late(ahead, asked_at)
            if ahead.done() and ahead.exception() is None:
                return guess, ahead.result()
            if ahead.done():
                logger.info(
                    "a speculated reply failed and is asked for again: %s", ahead.exception()
                )
                await self._wanted.wait()
            self._stats.resent += 1
            fresh = self._leg(Ask(urgent=True))
            again = _task(anext(fresh, None))
            if await _one_speaks(ahead, again) is ahead:
                self._lose(1)
                return guess, ahead.result()
            self._lose(0)
            return fresh, await again
        finally:
            for task in (ahead, again):
                if task is not None and not task.done():
                    task.cancel()
                    await asyncio.wait({task})

    async def _until_it_is_late(self, ahead: asyncio.Task[Any], asked_at: float) -> None:
        """Until the guess speaks, or is wanted and old enough to be taken to wait."""
        wanted = _task(self._wanted.wait())
        try:
            await asyncio.wait({ahead, wanted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wanted.cancel()
        left = asked_at + RESEND_AFTER_S - asyncio.get_running_loop().time()
        if not ahead.done() and left > 0:
            await asyncio.wait({ahead}, timeout=left)

    def _lose(self, place: int) -> None:
        self._lost.add(place)
        self._legs[place].cancel()

    # --- counting ------------------------------------------------------------------------------

    def _settle(self) -> None:
        if self._settled:
            return
        self._settled = True
        for place, leg in enumerate(self._legs):
            tokens = leg.usage.completion_tokens
            if self._wanted.is_set() and place not in self._lost:
                self._stats.tokens_used += tokens
            else:
                self._stats.tokens_discarded += tokens
                self._budget.spend(tokens, self._turn)
        if self._guessed and self._wanted.is_set():
            self._stats.kept += 1
        elif self._guessed:
            self._stats.discarded += 1


_Run = AsyncIterator[MindEvent]


def _task(awaitable: Any) -> asyncio.Task[Any]:
    async def run() -> Any:
        return await awaitable

    return asyncio.create_task(run(), name="speculated reply")


async def _one_speaks(
    ahead: asyncio.Task[MindEvent | None], again: asyncio.Task[MindEvent | None]
) -> asyncio.Task[MindEvent | None]:
    """The first that gives something. A failure counts only when the other one has failed too."""
    waiting = {task for task in (ahead, again) if not _failed(task)}
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        spoke = [task for task in (ahead, again) if task in done and not _failed(task)]
        if spoke:
            return spoke[0]
    return again


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
