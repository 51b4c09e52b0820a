"""One streamed answer of the language model, and all that can go wrong with it.

A pump task reads the connection and fills a small queue; whoever iterates empties it. Cancelling
ends the pump, which closes the connection; that is how the server learns to stop generating. The
pump is cancelled at most once, be it by a deadline, by ``cancel`` or by both: what it does at its
end is not to be interrupted.

Every failure is a ``MindError`` with words for the caller. When nothing was given yet, one second
attempt is made for what may be different the second time (connection, 429, 5xx, a broken or empty
stream); both attempts share the time of ``MindLimits.first_s``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass

import aiohttp

from parley.minds.base import MindError, MindEvent, TextDelta
from parley.minds.vllm_deltas import DeltaError, DeltaReader
from parley.minds.vllm_guard import Repetition, TextGuard
from parley.minds.vllm_http import FAILURES, NO_CONNECTION, Connections
from parley.minds.vllm_leaks import LeakFilter, leaked_calls
from parley.minds.vllm_options import VllmOptions
from parley.minds.vllm_refusal import UNREACHABLE, refusal, unreachable
from parley.minds.vllm_sse import SseError, SseParser
from parley.minds.vllm_usage import Usage

logger = logging.getLogger(__name__)

NEVER = float("inf")
QUEUED = 64  # events; more than that, and the connection is read no further
RETRY_AFTER_S = 0.1  # where the server names no time
REST_S = 0.1
"""Longest wait for what follows a complete answer (its counts, ``[DONE]``): only a connection that
was read to its end serves the next request, and a new one costs the server a millisecond."""

SLOW = "Sorry, that is taking me too long. Could you say it again?"
CUT_OFF = "Sorry, I lost my thread there. Could you say that again?"
SPEECHLESS = "Sorry, I have no answer to that. Could you put it another way?"
LEAKED = (
    "the model wrote parts of its template, its thoughts or a tool call as text; they were left "
    "out. Does the server know its chat template, --reasoning-parser and --tool-call-parser?"
)


@dataclass(frozen=True, slots=True)
class _Failed:
    """Put last into the queue."""

    error: MindError | None


class _Retryable(Exception):
    """This attempt failed with ``error``; another one may not."""

    def __init__(self, error: MindError, after_s: float = RETRY_AFTER_S):
        super().__init__(str(error))
        self.error, self.after_s = error, after_s


def _again(error: MindError) -> Exception:
    if not error.passing:
        return error
    return _Retryable(error, RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s)


class VllmReply:
    """Asks when it is first iterated. It changes nothing outside itself; ``on_commit`` is told
    when it is going to be heard."""

    def __init__(
        self,
        client: Connections,
        body: Mapping[str, object],
        options: VllmOptions,
        on_commit: Callable[[], None] | None = None,
    ):
        self._client, self._body, self._options = client, body, options
        self._on_commit = on_commit
        self.usage = Usage()
        """Of the latest attempt, up to now."""
        self._limits = options.limits
        self._queue: asyncio.Queue[MindEvent | _Failed] = asyncio.Queue(QUEUED)
        self._pump: asyncio.Task[None] | None = None
        self._cancelled = False
        self._stopped = False
        self._late: MindError | None = None
        self._whole = False
        """The answer is complete; what is read now is nobody's."""
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0  # the event loop's time
        self._reader = DeltaReader()
        self._given = 0

    async def __aiter__(self) -> AsyncIterator[MindEvent]:
        if self._pump is not None:
            raise RuntimeError("a reply can be iterated once; ask the session for another one")
        if self._cancelled:
            return
        self._pump = asyncio.create_task(self._run(), name="vllm reply")
        try:
            while True:
                event = await self._queue.get()
                if self._cancelled:
                    return
                if isinstance(event, _Failed):
                    if event.error is not None:
                        raise event.error
                    return
                yield event
        finally:
            await self.aclose()

    def commit(self) -> None:
        if self._on_commit is not None:
            self._on_commit()

    def cancel(self) -> None:
        self._cancelled = True
        self._stop()
        if self._queue.empty():  # wakes whoever waits; with events there, nobody does
            self._queue.put_nowait(_Failed(None))

    async def aclose(self) -> None:
        self.cancel()
        if self._pump is not None:
            await asyncio.wait({self._pump})

    # --- deadlines ---

    def _stop(self) -> None:
        if self._pump is not None and not self._stopped:
            self._stopped = True
            self._pump.cancel()

    def _wait_until(self, deadline: float | None) -> None:
        """From now on the next content has to come by ``deadline``; None: no hurry."""
        self._deadline = NEVER if deadline is None else deadline
        # A timer that comes too early sets itself anew: cheaper than a new one for each word.
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadline < NEVER:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if asyncio.get_running_loop().time() < self._deadline:
            self._set_timer()
        elif not self._stopped:
            self._late = None if self._whole else self._too_late()
            self._stop()

    # --- the pump ---

    async def _run(self) -> None:
        failure: MindError | None = None
        try:
            await self._answer()
        except MindError as error:
            failure = error
        except asyncio.CancelledError:
            if self._cancelled or (self._late is None and not self._whole):
                raise
            failure = self._late
        except Exception as error:
            # A bug here must not leave the caller in silence.
            failure = MindError(f"reading the answer failed: {type(error).__name__}")
            failure.__cause__ = error
        finally:
            self._deadline = NEVER
            self._set_timer()
        if failure is not None:
            logger.warning("no answer from the language model: %s", failure)
        await self._queue.put(_Failed(failure))

    async def _answer(self) -> None:
        now = asyncio.get_running_loop().time
        self._wait_until(now() + self._limits.first_s)
        try:
            await self._attempt()
        except _Retryable as first:
            left = self._deadline - now()
            if self._given or first.after_s >= left:
                raise first.error from first.__cause__
            logger.info("asking the language model a second time: %s", first.error)
            await asyncio.sleep(first.after_s)
            try:
                await self._attempt()
            except _Retryable as second:
                raise second.error from second.__cause__

    async def _attempt(self) -> None:
        try:
            async with self._client.complete(self._body) as response:
                if response.status != 200:
                    raise _again(await refusal(self._options, response))
                await self._read(response)
        except NO_CONNECTION as error:
            raise _Retryable(unreachable(self._options, error)) from error
        except FAILURES as error:
            what = f"the connection broke ({type(error).__name__})"
            raise _Retryable(self._broken(what)) from error

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        kind = response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            what = f"answered with {kind or 'no content type'}; expected text/event-stream"
            raise self._broken(f"{what}: is this an OpenAI-compatible server that can stream?")
        # A message that is continued may go on with a space; only a new one has none to begin with.
        goes_on = bool(self._body.get("continue_final_message"))
        reader = DeltaReader()
        guard = TextGuard(self._limits.max_chars, goes_on=goes_on)
        leaks = LeakFilter(goes_on=goes_on)
        self._reader, self.usage = reader, reader.usage
        events = _Events(response.content)
        try:
            while not reader.finished and await events.more():
                seen = reader.progress
                for data in events:
                    await self._take(reader.feed(data), reader, guard, leaks)
                    if reader.finished:
                        break
                if reader.progress > seen:
                    self._wait_until(asyncio.get_running_loop().time() + self._limits.stall_s)
            if not guard.full:
                await self._give_rest(guard, leaks)
            self._check(reader, leaks)
            if not guard.full and not leaks.ended:
                await self._read_the_rest(events, reader)
        except (DeltaError, SseError) as error:
            raise _Retryable(self._broken(str(error))) from error
        except Repetition as error:
            raise MindError("the model repeats itself without end", spoken=CUT_OFF) from error

    def _check(self, reader: DeltaReader, leaks: LeakFilter) -> None:
        """Whether what was read is an answer."""
        if leaks.ended or leaks.blocks:
            logger.warning(LEAKED)
        if not reader.finished:
            raise _Retryable(self._broken("the stream ended before the answer did"))
        if not self._given:
            why = " but thoughts" if reader.reasoned else ""
            what = f"the model answered nothing{why}"
            raise _Retryable(MindError(what, spoken=SPEECHLESS, passing=True))

    async def _read_the_rest(self, events: _Events, reader: DeltaReader) -> None:
        """Whatever happens to it, the answer is complete. Its counts may come last."""
        self._whole = True
        self._wait_until(asyncio.get_running_loop().time() + REST_S)
        with contextlib.suppress(SseError, DeltaError, *FAILURES):
            while True:
                for data in events:
                    reader.feed(data)
                if not await events.more():
                    return

    async def _take(
        self, events: list[MindEvent], reader: DeltaReader, guard: TextGuard, leaks: LeakFilter
    ) -> None:
        """Gives them. The reply is over when it is as long as it may be, or ended by its
        template."""
        for event in events:
            if isinstance(event, TextDelta):
                await self._say(guard.take(leaks.take(event.text)))
            else:
                await self._put(event)
            if guard.full or leaks.ended:
                reader.finished = True
                return

    async def _give_rest(self, guard: TextGuard, leaks: LeakFilter) -> None:
        """What was held back in doubt, and calls that the server's parser did not see."""
        await self._say(guard.take(leaks.rest()))
        if self._body.get("tools") and self._body.get("tool_choice") != "none":
            for call in leaked_calls(leaks.blocks):
                await self._put(call)

    async def _say(self, text: str) -> None:
        if text:
            await self._put(TextDelta(text))

    async def _put(self, event: MindEvent) -> None:
        self._given += 1
        if self._queue.full():
            self._wait_until(None)  # the time that a slow listener takes is not the model's
            await self._queue.put(event)
        else:
            self._queue.put_nowait(event)

    # --- what went wrong ---

    def _too_late(self) -> MindError:
        if self._given:
            what = f"the answer stopped for {self._limits.stall_s:g} s"
            return MindError(what, spoken=CUT_OFF, passing=True)
        what = f"no answer within {self._limits.first_s:g} s"
        if self._reader.reasoned:
            what += (
                ", only thoughts; turn them off with extra_body="
                '{"chat_template_kwargs": {"enable_thinking": false}} or use another model'
            )
        return MindError(what, spoken=SLOW, passing=True)

    def _broken(self, what: str) -> MindError:
        return MindError(what, spoken=CUT_OFF if self._given else UNREACHABLE, passing=True)


class _Events:
    """The data of each event of a stream, by the piece in which it came."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content, self._parser = content, SseParser()
        self._here: deque[str] = deque()
        self._ended = False

    async def more(self) -> bool:
        """Waits for the next piece; False when there is none. Raises FAILURES, SseError."""
        if self._ended:
            return False
        chunk = await self._content.readany()
        self._ended = not chunk
        self._here.extend(self._parser.feed(chunk) if chunk else self._parser.finish())
        return True

    def __iter__(self) -> Iterator[str]:
        """Those that are here."""
        while self._here:
            yield self._here.popleft()
