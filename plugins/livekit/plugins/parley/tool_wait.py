"""While the application's function tools run: a few words when they are slow, an end to waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from parley.dialogue.engine import Engine
from parley.dialogue.floor import State
from parley.minds.base import Cause
from parley.minds.filler import Filler, FillerPolicy

GIVEN_UP = "no result within {seconds:g} seconds; it may still come. Do not call it again now."
"""What a mind reads as the result of a tool that does not answer."""
TELL = (
    "{names} takes too long. Unless you have said so already, tell the caller in a few words and "
    "go on without it; its result is told when it comes."
)


class ToolWait:
    """Of one call. ``Filler`` decides when; this asks the engine for it, unless somebody has the
    floor or ``busy`` says that LiveKit waits for a reply of its own. ``give_up`` is told of calls
    that are waited for no longer."""

    def __init__(
        self,
        policy: FillerPolicy | None,
        busy: Callable[[], bool],
        give_up: Callable[[tuple[str, ...], str], None],
    ) -> None:
        self._filler = Filler(policy)
        self._busy = busy
        self._give_up = give_up
        self._engine: Engine | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._request: int | None = None
        """The engine's request for a line that is not said yet."""

    def use(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def running(self) -> frozenset[str]:
        """Ids of the calls that have no result yet."""
        return self._filler.running

    def called(self, call_id: str) -> None:
        """A tool begins."""
        self._filler.called(call_id, self._now_s)
        self._look()

    def answered(self, call_ids: Iterable[str]) -> None:
        """These have results. Idempotent."""
        for call_id in call_ids:
            self._filler.answered(call_id)
        self._look()

    def nobody_speaks(self) -> None:
        """The floor has just become free."""
        self._filler.spoken(self._now_s)
        self._look()

    def begun(self, request: int | None) -> None:
        """The engine has begun to serve this request."""
        if request is not None and request == self._request:
            self._request = None

    def close(self) -> None:
        self._engine = None
        self._look()

    @property
    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def _look(self) -> None:
        """What runs or who speaks has changed: see anew when the next words are due."""
        for timer in (self._timer, self._end):
            if timer is not None:
                timer.cancel()
        self._timer = self._end = None
        if self._engine is None:
            return
        if not self._filler.busy and self._request is not None:
            self._engine.withdraw(self._request)  # the result is there: no need to wait for it
            self._request = None
        loop = asyncio.get_running_loop()
        if (due_s := self._filler.due_s) is not None and self._request is None:
            self._timer = loop.call_at(due_s, self._say)
        if (end_s := self._filler.give_up_at_s) is not None:
            self._end = loop.call_at(end_s, self._stop_waiting)

    def _say(self) -> None:
        """It was silent for long enough. Where somebody has the floor, its end leads here again."""
        self._timer = None
        if self._engine is None or self._engine.floor.state is not State.IDLE or self._busy():
            return
        self._request = self._engine.request(Cause.INSTRUCTED, text=self._filler.line())

    def _stop_waiting(self) -> None:
        self._end = None
        late = self._filler.given_up(self._now_s)
        if late:
            self._give_up(late, GIVEN_UP.format(seconds=self._filler.policy.give_up_s))
        self._look()
