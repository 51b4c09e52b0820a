"""One reply that does not give up at the first fault.

Stages, each with its own limit (``Patience``):

* Until the first words. A request that fails is made again, elsewhere where there is an elsewhere,
  as long as the caller's patience lasts; one that is merely slow is overtaken: the same is asked
  at the next endpoint, and whoever speaks first is heard. The caller is told once that it takes a
  moment. A reply on a guess does none of this before it is wanted.
* Between words. An answer that breaks off is continued behind the words that were given, by an
  endpoint that can; nothing is said twice. Where none can, the error says that the thread is lost.
* In all. The time that a caller waits for words of one reply is bounded.

Whatever happens, the user's turn stays in the context: the next turn is answered together with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from parley.minds.base import (
    Cause,
    Context,
    MindError,
    MindEvent,
    MindSession,
    Reply,
    TextDelta,
    Urgent,
)
from parley.minds.breaker import Breaker
from parley.minds.endpoints_patience import EndpointStats, Patience

logger = logging.getLogger(__name__)

UNREACHABLE = "Sorry, I cannot think right now. Please try again in a moment."
SLOW = "Sorry, that is taking me too long. Could you say it again?"
MOST_CONTINUED = 2
"""Times that one reply is continued after it broke off."""


Place = tuple[str, Breaker, MindSession]


@dataclass(slots=True)
class _Leg:
    """One request."""

    place: Place
    reply: Reply
    events: AsyncIterator[MindEvent]
    begun_s: float
    first: asyncio.Task[MindEvent | None]
    judged: bool = False
    """Its endpoint's breaker knows how it ended."""


class EndpointsReply:
    """A ``Reply`` that is ``Urgent``."""

    def __init__(
        self,
        places: Sequence[Place],
        context: Context,
        patience: Patience,
        stats: EndpointStats,
    ) -> None:
        self._places, self._context, self._patience = places, context, patience
        self._stats, self._clock = stats, time.monotonic
        self._legs: list[_Leg] = []
        self._speaks: _Leg | None = None
        self._stir = asyncio.Event()
        """Something has happened that ``_wait`` waits for."""
        self._wanted = False
        self._wanted_s = self._since_s = 0.0
        """When it became wanted; since when its next words are waited for."""
        self._cancelled = self._begun = False
        self._committed: bool = False
        self._told: set[int] = set()
        """Sessions (ids) that know that their reply is being heard."""
        self._apologised = False
        self._text = ""
        """Of the answer, without the apology."""
        self._acted = False
        """It called a tool or hung up: what broke off cannot be continued."""
        self._waited_s = 0.0
        self._failed: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._error: MindError | None = None
        if not context.speculative:
            self.wanted()

    # --- what the conversation says ------------------------------------------------------------

    def wanted(self) -> None:
        if self._wanted:
            return
        self._wanted_s = self._since_s = self._clock()
        self._wanted = True
        self._stir.set()
        for leg in self._legs:
            _tell_wanted(leg)

    def commit(self) -> None:
        self.wanted()
        self._committed = True
        if self._speaks is not None:
            self._tell_commit(self._speaks)

    def _tell_commit(self, leg: _Leg) -> None:
        """Once for each session, however often it has continued the reply."""
        session = leg.place[2]
        if id(session) not in self._told:
            self._told.add(id(session))
            leg.reply.commit()

    def cancel(self) -> None:
        self._cancelled = True
        self._stir.set()
        for leg in self._legs:
            leg.reply.cancel()

    async def aclose(self) -> None:
        self.cancel()
        for leg in list(self._legs):
            await self._drop(leg)

    # --- its events ----------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncGenerator[MindEvent, None]:
        if self._begun:
            raise RuntimeError("a reply can be iterated once; ask the session for another one")
        self._begun = True
        if self._cancelled:
            return
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if self._cancelled:
                        return
                    yield event
        except MindError as error:
            self._stats.lost += 1
            raise _after(error, apologised=self._apologised and not self._text) from error
        finally:
            await self.aclose()

    async def _events(self) -> AsyncGenerator[MindEvent, None]:
        broken: MindError | None = None
        for _ in range(1 + MOST_CONTINUED):
            try:
                async with aclosing(self._first()) as apologies:
                    async for apology in apologies:
                        yield apology
            except MindError as error:
                raise broken or error from None
            if self._speaks is None:
                return  # cancelled before anybody spoke
            if broken is not None:
                self._stats.continued += 1
            try:
                async with aclosing(self._rest(joined=broken is not None)) as rest:
                    async for event in rest:
                        yield event
                return
            except MindError as error:
                broken = error
                if not error.passing or self._acted or not self._text.strip():
                    raise
                logger.info("a reply broke off and is continued: %s", error)
                self._since_s = self._clock()
        raise broken or MindError("the reply broke off")

    async def _rest(self, *, joined: bool) -> AsyncGenerator[MindEvent, None]:
        """What the leg that speaks gives, up to its end. Raises MindError."""
        leg = self._speaks
        assert leg is not None, "it has just begun to speak"
        event = leg.first.result()
        while event is not None:
            if isinstance(event, TextDelta):
                if joined and self._text[-1:].isspace():
                    event = TextDelta(event.text.lstrip())
                joined = False
                self._text += event.text
            else:
                self._acted = True
            yield event
            event = await self._next(leg)

    async def _next(self, leg: _Leg) -> MindEvent | None:
        began = self._clock()
        try:
            async with asyncio.timeout(self._patience.total_s - self._waited_s):
                return await anext(leg.events, None)
        except TimeoutError:
            what = f"the caller waited {self._patience.total_s:g} s for words of one reply"
            late = MindError(what)
            await self._lost(leg, late)
            raise late from None
        except MindError as error:
            await self._lost(leg, error)
            raise
        finally:
            self._waited_s += self._clock() - began

    async def _lost(self, leg: _Leg, error: MindError) -> None:
        self._blame(leg, error)
        self._speaks = None
        await self._drop(leg)

    # --- until the first words -----------------------------------------------------------------

    async def _first(self) -> AsyncGenerator[TextDelta, None]:
        """Until some leg speaks (``_speaks``); gives an apology when that takes long. Raises
        MindError when the patience is at its end."""
        began = self._clock()
        while not self._cancelled:
            self._stir.clear()
            self._ask_where_due()
            if self._apology_due() <= self._clock():
                self._apologised = True
                self._stats.apologies += 1
                yield TextDelta(f"{self._patience.apology} ")
            await self._wait()
            if await self._settle():
                self._waited_s += self._clock() - max(began, self._since_s)
                return
            if self._wanted:
                self._give_up_in_time()

    def _ask_where_due(self) -> None:
        """Starts a request where one is due: none runs, or those that run are slow."""
        now = self._clock()
        if self._legs:
            if not self._wanted or self._overtake_at() > now:
                return
        elif self._failed and not self._wanted:
            return  # a guess that failed is not worth more
        for place in self._free():
            if self._ready_at(place, now) <= now and place[1].take(now):
                self._ask(place)
                return

    def _free(self) -> list[Place]:
        """Endpoints at which nothing of ours runs."""
        busy = {leg.place[0] for leg in self._legs}
        return [place for place in self._places if place[0] not in busy]

    def _ready_at(self, place: Place, now: float) -> float:
        name, breaker, _ = place
        return max(breaker.free_at(now), self._not_before.get(name, 0.0))

    def _ask(self, place: Place) -> None:
        context, said = self._context, self._text.rstrip()
        speculative = not self._wanted
        if said != context.said or speculative != context.speculative:
            context = replace(context, said=said, speculative=speculative)
        reply = place[2].reply(context)
        events = aiter(reply)
        self._legs.append(_Leg(place, reply, events, self._clock(), self._begin(events)))

    def _begin(self, events: AsyncIterator[MindEvent]) -> asyncio.Task[MindEvent | None]:
        async def first() -> MindEvent | None:
            try:
                return await anext(events, None)
            finally:
                self._stir.set()

        return asyncio.create_task(first(), name="parley-endpoint")

    def _overtake_at(self) -> float:
        """When the slowness of those that run is worth another request."""
        begun = max([self._since_s, *(leg.begun_s for leg in self._legs)])
        return begun + self._patience.overtake_s

    def _apology_due(self) -> float:
        told = self._apologised or self._text or not self._patience.apology
        if told or not self._wanted or self._context.cause is Cause.NO_INPUT:
            return float("inf")
        return self._wanted_s + self._patience.apology_s

    async def _wait(self) -> None:
        """For an answer, a failure, being wanted, or the next thing that is due."""
        if any(leg.first.done() for leg in self._legs):
            return
        if not self._wanted:
            await self._stir.wait()
            return
        now = self._clock()
        ready = [self._ready_at(place, now) for place in self._free()]
        if self._legs:
            ready = [max(at, self._overtake_at()) for at in ready]
        due = min([self._deadline(), self._apology_due(), *ready])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - now)):
                await self._stir.wait()

    async def _settle(self) -> bool:
        """Looks at what has come. True when a leg speaks."""
        for leg in [leg for leg in self._legs if leg.first.done()]:
            try:
                leg.first.result()
            except MindError as error:
                self._error = error
                self._blame(leg, error)
                await self._drop(leg)
                continue
            await self._hear(leg)
            return True
        return False

    async def _hear(self, leg: _Leg) -> None:
        leg.judged = True
        leg.place[1].succeeded()
        self._speaks = leg
        self._stats.elsewhere += leg.place[0] != self._places[0][0]
        for other in [other for other in self._legs if other is not leg]:
            if other.begun_s < leg.begun_s:
                self._stats.overtaken += 1
                self._blame(other, MindError("slower than the next", passing=True))
            await self._drop(other)
        if self._committed:
            self._tell_commit(leg)

    def _blame(self, leg: _Leg, error: MindError) -> None:
        """The endpoint learns of it, and is left alone for a moment by this reply; one that has
        refused the request will refuse it again."""
        name, breaker, _ = leg.place
        leg.judged = True
        self._stats.failures += 1
        logger.info("%s failed: %s", name, error)
        if not error.passing:
            breaker.succeeded()  # it is well; it does not like what it was asked
            self._not_before[name] = float("inf")
            return
        now = self._clock()
        breaker.failed(now, error.retry_after_s)
        times = self._failed[name] = self._failed.get(name, 0) + 1
        self._not_before[name] = now + self._patience.again_s * 2 ** (times - 1)

    def _deadline(self) -> float:
        return self._since_s + self._patience.first_s

    def _give_up_in_time(self) -> None:
        """Raises when nothing can come any more before the deadline."""
        now = self._clock()
        ready = (self._ready_at(place, now) for place in self._free())
        may_come = self._legs or any(at < self._deadline() for at in ready)
        if may_come and now < self._deadline():
            return
        late = MindError(
            f"no answer within {self._patience.first_s:g} s", spoken=SLOW, passing=True
        )
        for leg in self._legs:
            self._blame(leg, late)
        if self._error is not None or self._legs:
            raise self._error or late
        raise MindError("every endpoint has failed and is left alone now", spoken=UNREACHABLE)

    async def _drop(self, leg: _Leg) -> None:
        """Ends it, whether it was of use or not."""
        if leg in self._legs:
            self._legs.remove(leg)
        if not leg.judged:
            leg.judged = True
            leg.place[1].abandoned(self._clock())
        leg.reply.cancel()
        leg.first.cancel()
        await asyncio.gather(leg.first, return_exceptions=True)
        await leg.reply.aclose()


def _tell_wanted(leg: _Leg) -> None:
    if isinstance(leg.reply, Urgent):
        leg.reply.wanted()


def _after(error: MindError, *, apologised: bool) -> MindError:
    """The error as it is to be told: one apology is enough."""
    spoken = error.spoken.removeprefix("Sorry, ") if apologised else error.spoken
    return MindError(
        str(error),
        spoken=spoken[:1].upper() + spoken[1:],
        passing=error.passing,
        retry_after_s=error.retry_after_s,
    )
