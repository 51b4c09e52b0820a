"""Whose audio goes first: the turns of many utterances at one WebSocket.

A WebSocket takes one message at a time, and when its network is slow the utterances of a
connection queue for it. They are let through by deadline: the moment at which their listener's
buffer runs dry. A first chunk has none left and goes before everything else.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

FIRST = 0.0
"""The deadline of a first chunk, and of an answer without audio."""


class Outlet:
    """A lock whose next holder is the one with the earliest deadline (seconds, any clock)."""

    def __init__(self) -> None:
        self._held = False
        self._order = count()  # of those with equal deadlines, who came first
        self._queue: list[tuple[float, int, asyncio.Future[None]]] = []

    def turn(self, deadline: float = FIRST) -> _Turn:
        """``async with outlet.turn(deadline):`` holds it."""
        return _Turn(self, deadline)

    async def acquire(self, deadline: float) -> None:
        """Returns when it is the caller's turn, who then owes a `release`."""
        if not self._held:
            self._held = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (deadline, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # its turn came in the same moment: pass it on
            raise

    def release(self) -> None:
        """The next one's turn."""
        while self._queue:
            turn = heapq.heappop(self._queue)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._held = False


class _Turn:
    """A context manager by hand: every chunk of every call passes here."""

    def __init__(self, outlet: Outlet, deadline: float) -> None:
        self._outlet, self._deadline = outlet, deadline

    async def __aenter__(self) -> None:
        await self._outlet.acquire(self._deadline)

    async def __aexit__(self, *_: object) -> None:
        self._outlet.release()
