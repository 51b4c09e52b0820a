"""Several minds that give the same answers, taken for one: where one fails, the next is asked.

    mind = Endpoints({"gpu0": VllmMind(first), "gpu1": VllmMind(second)})

Each has a circuit breaker, shared by the calls of a worker; the first one whose circuit is closed
is asked. One alone is worth it too: a caller is told that it takes a moment, a server that comes
back in time still answers the turn, and one that is down is not waited for by everybody.
``endpoints_reply`` has what happens within a reply.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from parley.minds.base import Attentive, Context, Mind, MindSession, OverlapOpinion
from parley.minds.breaker import Breaker, BreakerPolicy
from parley.minds.endpoints_patience import EndpointStats, Patience
from parley.minds.endpoints_reply import EndpointsReply
from parley.minds.vllm_options import VllmOptions
from parley_speech.types import EngineUnavailable, Grammar

logger = logging.getLogger(__name__)

__all__ = ["Endpoint", "EndpointStats", "Endpoints", "Patience", "vllm_options"]

START_AGAIN_S = 5.0
"""Between two attempts to start one that was down."""


def vllm_options(base_url: str | None = None, model: str | None = None) -> list[VllmOptions]:
    """Of the endpoint that is named, else of PARLEY_LLM_URL, and of each one to fall back to:
    PARLEY_LLM_FALLBACK_URL holds their addresses, separated by white space.
    PARLEY_LLM_FALLBACK_MODEL names their model where it is another one. An address named twice
    counts once."""
    env = VllmOptions.from_env()
    first = replace(env, base_url=base_url or env.base_url, model=model or env.model)
    fallback_model = os.environ.get("PARLEY_LLM_FALLBACK_MODEL", "") or first.model
    found = {first.base_url: first}
    for url in os.environ.get("PARLEY_LLM_FALLBACK_URL", "").split():
        found.setdefault(url, replace(first, base_url=url, model=fallback_model))
    return list(found.values())


@dataclass
class Endpoint:
    """One of them, for all calls."""

    name: str
    mind: Mind
    breaker: Breaker = field(default_factory=Breaker)
    started: bool = False


class Endpoints:
    """A ``Mind``. The order of ``minds`` is the order of preference."""

    def __init__(
        self,
        minds: Mapping[str, Mind],
        *,
        patience: Patience | None = None,
        breaker: BreakerPolicy | None = None,
    ) -> None:
        if not minds:
            raise ValueError("Endpoints needs at least one mind")
        self.all = [Endpoint(name, mind, Breaker(breaker)) for name, mind in minds.items()]
        self.stats = EndpointStats()
        self._patience = patience or Patience()
        self._again: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts all. Raises EngineUnavailable when none can be; one that is down is tried again
        for as long as calls last."""
        down = [error for error in await asyncio.gather(*map(_start, self.all)) if error]
        if len(down) == len(self.all):
            raise down[0]
        if down and self._again is None:
            self._again = asyncio.create_task(self._start_again(), name="parley-endpoints")

    async def _start_again(self) -> None:
        while not all(endpoint.started for endpoint in self.all):
            await asyncio.sleep(START_AGAIN_S)
            await asyncio.gather(*(_start(e) for e in self.all if not e.started))

    def session(self) -> EndpointsSession:
        return EndpointsSession(self.all, self._patience, self.stats)

    async def aclose(self) -> None:
        if self._again is not None:
            self._again.cancel()
            await asyncio.wait({self._again})
            self._again = None
        await asyncio.gather(*(e.mind.aclose() for e in self.all), return_exceptions=True)


async def _start(endpoint: Endpoint) -> EngineUnavailable | None:
    if endpoint.started:
        return None
    try:
        await endpoint.mind.start()
    except EngineUnavailable as error:
        logger.warning("%s is not there: %s", endpoint.name, error)
        return error
    endpoint.started = True
    return None


class EndpointsSession:
    """The mind of one call: a session at each endpoint, made when it is first needed."""

    def __init__(
        self,
        endpoints: list[Endpoint],
        patience: Patience,
        stats: EndpointStats,
    ) -> None:
        self._endpoints = endpoints
        self._patience, self._stats = patience, stats
        self._sessions: dict[str, MindSession] = {}

    def reply(self, context: Context) -> EndpointsReply:
        places = [(e.name, e.breaker, self._at(e)) for e in self._endpoints if e.started]
        return EndpointsReply(places, context, self._patience, self._stats)

    def grammar(self) -> Grammar | None:
        return self._first.grammar()

    def completeness(self, text: str) -> float | None:
        return self._first.completeness(text)

    def attend(self, context: Context, *, over_agent: bool) -> None:
        first = self._first
        if isinstance(first, Attentive):
            first.attend(context, over_agent=over_agent)

    def overlap(self, text: str) -> OverlapOpinion | None:
        first = self._first
        return first.overlap(text) if isinstance(first, Attentive) else None

    async def aclose(self) -> None:
        await asyncio.gather(*(s.aclose() for s in self._sessions.values()))

    @property
    def _first(self) -> MindSession:
        """Opinions come from the endpoint that would be asked for a reply now."""
        now = time.monotonic()
        there = [e for e in self._endpoints if e.started]
        free = [e for e in there if e.breaker.free_at(now) <= now]
        return self._at((free or there)[0])

    def _at(self, endpoint: Endpoint) -> MindSession:
        if endpoint.name not in self._sessions:
            self._sessions[endpoint.name] = endpoint.mind.session()
        return self._sessions[endpoint.name]
