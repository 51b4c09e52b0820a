"""Who may speak now: a number of slots, a short queue before them, and a clear "busy".

An utterance holds its slot from when it is begun until nothing is computed for it any more. One
that finds no slot waits a moment in a short queue, as most utterances are short; a full queue, or
a wait that takes too long, is answered by `ServerBusy` with a hint when to come again. A server
that drains begins nothing new. One event loop; knows nothing of speech.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final, Literal

Reason = Literal["full", "loading", "draining"]

MIN_RETRY_MS, MAX_RETRY_MS = 100, 10_000
_MEMORY: Final = 0.1  # weight of the newest utterance in the mean time that slots are held


class ServerBusy(Exception):
    """There is no slot now."""

    def __init__(self, reason: Reason, retry_ms: int) -> None:
        super().__init__(_SAID[reason])
        self.reason = reason
        self.retry_ms = retry_ms


_SAID: Final[dict[Reason, str]] = {
    "full": "all slots of this speech server are taken; try again later, or another server",
    "loading": "this speech server is still loading its voices; try again later",
    "draining": "this speech server is about to stop; use another server",
}


class Admission:
    """The slots of one server.

    Args:
        slots: utterances that may be spoken at one time.
        waiting: utterances that may wait for a slot.
        patience_s: how long they wait at most.
    """

    def __init__(self, slots: int, *, waiting: int, patience_s: float) -> None:
        self.slots = slots
        self.speaking = 0
        self.closed: Literal["loading", "draining"] | None = "loading"
        """Why nothing new is begun; `open` when the voices are loaded."""
        self._most_waiting = waiting
        self._patience_s = patience_s
        self._queue: deque[asyncio.Future[None]] = deque()
        self._held_s = 2.0  # mean time that a slot is held; a guess until one was
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def open(self) -> None:
        if self.closed == "loading":
            self.closed = None

    def drain(self) -> None:
        """Begins nothing new from now on; who waits is told. Idempotent."""
        self.closed = "draining"
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_exception(self._busy())
        self._settle()

    async def drained(self) -> None:
        """Returns when nothing speaks."""
        await self._idle.wait()

    def slot(self) -> Slot:
        """A new utterance's, not taken yet."""
        return Slot(self)

    def take(self) -> bool:
        """Takes a slot where one is free now; whoever got it owes `leave`. Raises ServerBusy when
        there is none and no room to wait."""
        if self.closed is not None:
            raise self._busy()
        if self.speaking < self.slots and not self._queue:
            self._take()
            return True
        if len(self._queue) >= self._most_waiting:
            raise self._busy()
        return False

    async def wait(self) -> int:
        """Waits for a slot; gives how long, in ms. Raises ServerBusy."""
        since = time.monotonic()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            async with asyncio.timeout(self._patience_s):
                await waiter
        except BaseException as error:
            if waiter in self._queue:
                self._queue.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._pass_on()  # the slot came in the same moment: pass it on
            if isinstance(error, TimeoutError):
                raise self._busy() from None
            raise
        return round((time.monotonic() - since) * 1000)

    def _take(self) -> None:
        self.speaking += 1
        self._idle.clear()

    def leave(self, held_s: float) -> None:
        """A slot is given back that was held for so long."""
        self._held_s += _MEMORY * (held_s - self._held_s)
        self._pass_on()

    def _pass_on(self) -> None:
        self.speaking -= 1
        while self._queue and self.speaking < self.slots:
            waiter = self._queue.popleft()
            if not waiter.done():
                self._take()
                waiter.set_result(None)
        self._settle()

    def _settle(self) -> None:
        if self.speaking == 0:
            self._idle.set()

    def _busy(self) -> ServerBusy:
        if self.closed is not None:
            return ServerBusy(self.closed, 1000)
        turn_s = self._held_s * (len(self._queue) + 1) / self.slots
        return ServerBusy("full", min(MAX_RETRY_MS, max(MIN_RETRY_MS, round(turn_s * 1000))))


class Slot:
    """One utterance's slot: ``async with`` waits for it, holds it, and gives how long was waited,
    in ms. Raises ServerBusy. An utterance that should begin in this very moment asks `at_once`
    first, and owes the ``async with`` where that says True."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._since: float | None = None

    @property
    def held(self) -> bool:
        return self._since is not None

    def at_once(self) -> bool:
        """Takes it if it is free. Raises ServerBusy."""
        if self._since is None and self._admission.take():
            self._since = time.monotonic()
        return self.held

    async def __aenter__(self) -> int:
        if self.at_once():
            return 0
        waited_ms = await self._admission.wait()
        self._since = time.monotonic()
        return waited_ms

    async def __aexit__(self, *_: object) -> None:
        since, self._since = self._since, None
        assert since is not None, "it was entered"
        self._admission.leave(time.monotonic() - since)
