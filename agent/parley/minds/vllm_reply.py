"""One streamed answer of the language model, and all that can go wrong with it.

A pump task reads the connection and fills a small queue; whoever iterates empties it. Cancelling
ends the pump, which closes the connection; that is how the server learns to stop generating. The
pump is cancelled at most once, be it by a deadline, by ``cancel`` or by both: a second cancellation
would hit httpx while it closes the connection, and leave it open (httpcore 1.0).

Every failure is a ``MindError`` with words for the caller. When nothing was given yet, one second
attempt is made for what may be different the second time (connection, 429, 5xx, a broken or empty
stream); both attempts share the time of ``MindLimits.first_s``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

from parley.minds.base import MindError, MindEvent, TextDelta
from parley.minds.vllm_deltas import DeltaError, DeltaReader, error_kind
from parley.minds.vllm_guard import Repetition, TextGuard
from parley.minds.vllm_leaks import LeakFilter, leaked_calls
from parley.minds.vllm_options import VllmOptions
from parley.minds.vllm_sse import SseError, SseParser
from parley.minds.vllm_usage import Usage

logger = logging.getLogger(__name__)

QUEUED = 64  # events; more than that, and the connection is read no further
RETRY_AFTER_S = 0.1  # where the server names no time
MOST_ERROR_BYTES = 4096
REST_S = 0.1
"""Longest wait for what follows a complete answer (its counts, ``[DONE]``): only a connection that
was read to its end serves the next request, and a new one costs the server a millisecond."""

UNREACHABLE = "Sorry, I cannot think right now. Please try again in a moment."
BUSY = "Sorry, I have a lot to do at the moment. Please ask me again in a little while."
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


class VllmReply:
    """Asks when it is first iterated. It changes nothing outside itself; ``on_commit`` is told
    when it is going to be heard."""

    def __init__(
        self,
        client: httpx.AsyncClient,
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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._deadline = deadline
            self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        if not self._stopped:
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
            self._wait_until(None)
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
            request = self._client.stream("POST", "chat/completions", json=self._body)
            async with request as response:
                if response.status_code != 200:
                    raise await self._refusal(response)
                await self._read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _Retryable(unreachable(self._options, error)) from error
        except httpx.RequestError as error:
            what = f"the connection broke ({type(error).__name__})"
            raise _Retryable(self._broken(what)) from error

    async def _read(self, response: httpx.Response) -> None:
        kind = response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            what = f"answered with {kind or 'no content type'}; expected text/event-stream"
            raise self._broken(f"{what}: is this an OpenAI-compatible server that can stream?")
        # A message that is continued may go on with a space; only a new one has none to begin with.
        goes_on = bool(self._body.get("continue_final_message"))
        reader = DeltaReader()
        guard = TextGuard(self._limits.max_chars, goes_on=goes_on)
        leaks = LeakFilter(goes_on=goes_on)
        self._reader, self.usage = reader, Usage()
        try:
            async with aclosing(self._events(response, reader)) as events:
                async for data in events:
                    self.usage.note(data)
                    for event in reader.feed(data):
                        if not await self._give(event, guard, leaks):
                            reader.finished = True
                            break
                    if reader.finished:
                        break
                if not guard.full:
                    await self._give_rest(guard, leaks)
                self._check(reader, leaks)
                if not guard.full and not leaks.ended:
                    await self._read_the_rest(events)
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

    async def _read_the_rest(self, events: AsyncGenerator[str, None]) -> None:
        """Whatever happens to it, the answer is complete."""
        self._whole = True
        self._wait_until(asyncio.get_running_loop().time() + REST_S)
        with contextlib.suppress(SseError, httpx.RequestError):
            async for data in events:
                self.usage.note(data)

    async def _events(
        self, response: httpx.Response, reader: DeltaReader
    ) -> AsyncGenerator[str, None]:
        """Data of each event. Only content moves the deadline: keep-alives and thoughts do not."""
        parser = SseParser()
        chunks = response.aiter_bytes()
        seen = reader.progress
        while True:
            chunk = await anext(chunks, None)
            for data in parser.finish() if chunk is None else parser.feed(chunk):
                yield data
            if reader.progress > seen and not self._whole:
                seen = reader.progress
                self._wait_until(asyncio.get_running_loop().time() + self._limits.stall_s)
            if chunk is None:
                return

    async def _give(self, event: MindEvent, guard: TextGuard, leaks: LeakFilter) -> bool:
        """False when the reply is over: as long as it may be, or ended by its template."""
        if isinstance(event, TextDelta):
            await self._say(guard.take(leaks.take(event.text)))
        else:
            await self._put(event)
        return not guard.full and not leaks.ended

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

    # --- what went wrong ---

    async def _refusal(self, response: httpx.Response) -> Exception:
        status = response.status_code
        what = f"{self._options.base_url} answered {status}: {await _reason(response)}"
        if status != 429 and status < 500:
            return MindError(f"{what}; {_advice(status)}", spoken=UNREACHABLE)
        after_s = retry_after_s(response.headers.get("retry-after"))
        spoken = BUSY if status in (429, 503) else UNREACHABLE
        error = MindError(what, spoken=spoken, passing=True, retry_after_s=after_s)
        return _Retryable(error, RETRY_AFTER_S if after_s is None else after_s)

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


def unreachable(options: VllmOptions, error: Exception) -> MindError:
    return MindError(
        f"cannot reach a language model at {options.base_url} ({type(error).__name__}); "
        f"start one with: vllm serve MODEL --port {httpx.URL(options.base_url).port or 80}, "
        "or set PARLEY_LLM_URL to where it is",
        spoken=UNREACHABLE,
        passing=True,
    )


async def _reason(response: httpx.Response) -> str:
    """Type and code of the error. Its message is left out: it may quote the conversation."""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MOST_ERROR_BYTES:
            break
    try:
        return error_kind(json.loads(body))
    except ValueError:
        return f"{len(body)} bytes that are no OpenAI error"


def retry_after_s(header: str | None) -> float | None:
    """Seconds, from seconds or a date (RFC 9110, section 10.2.3); None where neither is named."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(header or "")
        return max(0.0, when.timestamp() - time.time())
    except ValueError:
        return None


def _advice(status: int) -> str:
    match status:
        case 401 | 403:
            return "set PARLEY_LLM_API_KEY to a key that the server takes"
        case 404:
            return "check base_url (it ends in /v1) and the model's name"
        case 400 | 413 | 422:
            return (
                "the server does not take this request: the conversation may be longer than its "
                "--max-model-len, or it was started without --enable-auto-tool-choice"
            )
        case _:
            return "check base_url"
