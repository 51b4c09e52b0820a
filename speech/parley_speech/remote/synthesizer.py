"""``RemoteSynthesizer``: a voice on speech servers, with replicas and an embedded voice behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import weakref
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from parley_speech import registry
from parley_speech.remote.errors import SourceLost, SpeechServersLost
from parley_speech.remote.replica import Manner, Replica
from parley_speech.remote.stream import Failures, ResumingStream, Source
from parley_speech.server.protocol import PATH
from parley_speech.types import EngineUnavailable, SpeechStream, Synthesizer

logger = logging.getLogger("parley_speech.remote")

START_S = 5.0
"""Longest wait for the first server, when the voice starts."""
PATIENCE_S = 0.3
"""Longest wait for a server to come back, or to have a slot, before the embedded voice speaks."""
LONG_PATIENCE_S = 3.0
"""The same where there is no embedded voice."""
MOST_TIMES = 3
"""A server that was lost so often within one word is left alone for this utterance."""
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class RemoteSynthesizer:
    """Meets `parley_speech.types.Synthesizer`.

    A sentence whose server dies goes on at a replica, or else in the embedded voice, from the
    first word that was not given whole.

    Args:
        urls: of one server, or of replicas, as ``http://host:port``.
        voice: its name on the servers; empty: each server's default.
        speed: a factor; 1.0 is the voice's own.
        instructions: how to speak, for voices that take instructions.
        token: the servers' access token; None: from PARLEY_SPEECH_TOKEN.
        fallback: the embedded voice: an engine's name, a `Synthesizer` (the caller's to close), or
            None for none.
        stall_s: silence of a server, after the text has ended, that counts as its death.

    Raises ValueError for an address that is none.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        voice: str = "",
        speed: float = 1.0,
        instructions: str = "",
        token: str | None = None,
        fallback: str | Synthesizer | None = "espeak",
        stall_s: float = 5.0,
    ) -> None:
        addresses = [urls] if isinstance(urls, str) else list(urls)
        if not addresses:
            raise ValueError("a remote voice needs the address of a speech server")
        token = token or os.environ.get("PARLEY_SPEECH_TOKEN") or None
        manner = Manner(voice, speed, instructions, stall_s)
        self._changed = asyncio.Event()  # a server has connected
        self.replicas = tuple(
            Replica(_address(url), token, manner, self._changed.set) for url in addresses
        )
        self._fallback_wanted = fallback
        self._fallback: _Embedded | None = None
        self._streams: weakref.WeakSet[ResumingStream] = weakref.WeakSet()

    @classmethod
    def from_url(cls, url: str) -> RemoteSynthesizer:
        """``http://host:port``, several with commas between, ``?voice=NAME&speed=1.1`` behind."""
        bases = [part.strip() for part in url.split(",") if part.strip()]
        options: dict[str, str] = {}
        for base in bases:
            options |= dict(parse_qsl(urlsplit(base).query))
        if unknown := options.keys() - {"voice", "speed", "instructions"}:
            raise ValueError(
                f"{url!r}: unknown {', '.join(sorted(unknown))}; expected voice, speed"
            )
        urls = [urlunsplit(urlsplit(base)._replace(query="", fragment="")) for base in bases]
        return cls(
            urls,
            voice=options.get("voice", ""),
            speed=float(options.get("speed", 1.0)),
            instructions=options.get("instructions", ""),
        )

    async def start(self) -> None:
        """Connects. Idempotent. Raises EngineUnavailable when no server can be used and there is
        no embedded voice, and when a server refuses us: that no waiting would mend."""
        for replica in self.replicas:
            replica.start()
        await self._start_fallback()
        await self._first_connection()
        if any(replica.ready for replica in self.replicas):
            return
        problems = "; ".join(f"{replica.url}: {replica.problem}" for replica in self.replicas)
        if self._fallback is None or all(replica.refused for replica in self.replicas):
            await self.aclose()
            raise EngineUnavailable(f"no speech server can be used: {problems}")
        logger.warning("no speech server yet, the embedded voice speaks until then: %s", problems)

    def stream(self) -> ResumingStream:
        stream = ResumingStream(self)
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        """Cancels what still speaks. The voice may be started again."""
        await asyncio.gather(*(stream.aclose() for stream in list(self._streams)))
        await asyncio.gather(*(replica.aclose() for replica in self.replicas))
        fallback, self._fallback = self._fallback, None
        if fallback is not None and isinstance(self._fallback_wanted, str):
            await fallback.engine.aclose()

    # --- which source speaks ------------------------------------------------------------------

    def best(self, failed: Failures) -> Source | None:
        """The ready server with the fewest utterances of ours, if possible none that was busy a
        moment ago."""
        usable = [r for r in self.replicas if r.ready and self._usable(r, failed)]
        return min(usable, key=lambda replica: (replica.busy_s > 0, replica.load), default=None)

    def _usable(self, replica: Replica, failed: Failures) -> bool:
        """It did not fail this utterance, or is connected anew since, or may have a slot now."""
        failure = failed.get(replica)
        if failure is None:
            return True
        if failure.again is None:
            return replica.since > failure.at and failure.times < MOST_TIMES
        return failure.again is not None and failure.again <= time.monotonic()

    async def wait(self, failed: Failures, since: float, problem: SourceLost | None) -> Source:
        """Any server that becomes ready or free in time, else the embedded voice."""
        fallback = self._fallback if self._fallback not in failed else None
        until = since + (LONG_PATIENCE_S if fallback is None else PATIENCE_S)
        while (left_s := until - time.monotonic()) > 0:
            if (source := self.best(failed)) is not None:
                return source
            if not any(self._may_come(replica, left_s, failed) for replica in self.replicas):
                break
            await self._something_new(left_s, failed)
        if fallback is not None:
            logger.warning("the embedded voice speaks: %s", problem or "no speech server is ready")
            return fallback
        raise SpeechServersLost(f"no speech server is left to speak: {problem or 'none is ready'}")

    def _may_come(self, replica: Replica, within_s: float, failed: Failures) -> bool:
        if not replica.ready:
            return not replica.refused
        again = failed[replica].again if replica in failed else None
        return again is not None and again - time.monotonic() < within_s

    async def _something_new(self, left_s: float, failed: Failures) -> None:
        """Until a server connects, or one that is busy may be free."""
        now = time.monotonic()
        again = [f.again - now for f in failed.values() if f.again is not None and f.again > now]
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min([left_s, *again]) + 0.001):
                await self._changed.wait()

    # --- starting -----------------------------------------------------------------------------

    async def _first_connection(self) -> None:
        """Until one server is ready, or all have been tried."""
        tried = [asyncio.ensure_future(replica.tried.wait()) for replica in self.replicas]
        try:
            async with asyncio.timeout(START_S):
                for attempt in asyncio.as_completed(tried):
                    await attempt
                    if any(replica.ready for replica in self.replicas):
                        return
        except TimeoutError:
            logger.debug("no speech server within %g s", START_S)
        finally:
            for attempt_ in tried:
                attempt_.cancel()

    async def _start_fallback(self) -> None:
        wanted = self._fallback_wanted
        if wanted is None or self._fallback is not None:
            return
        try:
            engine = registry.load("tts", wanted)() if isinstance(wanted, str) else wanted
            await engine.start()
        except EngineUnavailable as error:
            logger.warning("no embedded voice will stand in for a lost server: %s", error)
            return
        self._fallback = _Embedded(engine)


class _Embedded:
    """The embedded voice as a source; what it raises is the listener's to know."""

    def __init__(self, engine: Synthesizer) -> None:
        self.engine = engine

    def stream(self) -> SpeechStream:
        return self.engine.stream()

    def is_busy(self, retry_s: float) -> None:
        """It never says so."""


def _address(url: str) -> str:
    """``http://host:port`` as the WebSocket's address."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a speech server; expected http://HOST:PORT")
    path = parts.path.rstrip("/")
    path = path if path.endswith(PATH) else path + PATH
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, "", ""))
