"""Asks the language model for one reply, and knows what to do when it does not come.

Whoever iterates waits for the connection himself: no task stands between a token and its hearer,
which where eight callers are answered at once would cost each of them a turn of the event loop.
Cancelling closes the connection, whether anybody waits or not; that is how the server learns to
stop generating. A deadline does the same.

Every failure is a ``MindError`` with words for the caller. When nothing was given yet, one second
attempt is made for what may be different the second time (connection, 429, 5xx, a broken or empty
stream); both attempts share the time of ``MindLimits.first_s``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TypeVar

import aiohttp

from parley.minds.base import MindError, MindEvent
from parley.minds.vllm_answer import CUT_OFF, Answer, BrokenAnswer
from parley.minds.vllm_http import FAILURES, NO_CONNECTION, Connections
from parley.minds.vllm_options import VllmOptions
from parley.minds.vllm_refusal import UNREACHABLE, refusal, unreachable
from parley.minds.vllm_usage import Usage

logger = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 2
RETRY_AFTER_S = 0.1  # where the server names no time
REST_S = 0.1
"""Longest wait for what follows a complete answer (its counts, ``[DONE]``): only a connection that
was read to its end serves the next request, and a new one costs the server a millisecond."""

SLOW = "Sorry, that is taking me too long. Could you say it again?"


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
        self._begun = self._cancelled = False
        self._waiting = asyncio.Lock()
        """Held while somebody waits for the server."""
        self._asking: asyncio.Timeout | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._answer: Answer | None = None
        self._attempts = self._given = self._progress = 0
        self._over = self._resting = False
        self._late: MindError | None = None
        self._deadline = 0.0  # the event loop's time; what is waited for has to come by then
        self._timer: asyncio.TimerHandle | None = None

    async def __aiter__(self) -> AsyncGenerator[MindEvent, None]:
        if self._begun:
            raise RuntimeError("a reply can be iterated once; ask the session for another one")
        self._begun = True
        self._wait_at_most(self._limits.first_s)
        try:
            while not (self._over or self._cancelled):
                failure = await self._proceed()
                while self._answer is not None and self._answer.events and not self._cancelled:
                    self._given += 1
                    yield self._answer.events.popleft()
                if failure is not None and not self._cancelled:
                    logger.warning("no answer from the language model: %s", failure)
                    raise failure
                self._note_progress()
        finally:
            self._release()

    def commit(self) -> None:
        if self._on_commit is not None:
            self._on_commit()

    def cancel(self) -> None:
        self._cancelled = True
        self._release()

    async def aclose(self) -> None:
        self.cancel()
        async with self._waiting:  # whoever waited has seen it
            pass

    # --- deadlines ---

    def _wait_at_most(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + seconds
        # A timer that comes too early sets itself anew: cheaper than a new one for each word.
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(self._deadline, self._expire)

    def _note_progress(self) -> None:
        """What came earns the server more time, from now on: what a slow listener took is not the
        model's."""
        answer = self._answer
        if answer is None or (answer.progress == self._progress and not answer.complete):
            return
        if not self._resting:
            self._progress, self._resting = answer.progress, answer.complete
            self._wait_at_most(REST_S if answer.complete else self._limits.stall_s)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._expire)
        elif self._waiting.locked():
            self._late = self._too_late()
            self._wake()

    def _wake(self) -> None:
        """Ends the connection, and with it the wait of whoever waits for it."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.reschedule(asyncio.get_running_loop().time())
        if self._response is not None:
            self._response.close()

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    # --- what comes from the server ---

    async def _proceed(self) -> MindError | None:
        """Waits for what comes next. Returns what went wrong for good."""
        async with self._waiting:
            try:
                if self._response is None:
                    await self._ask()
                elif self._answer is not None:
                    await self._read(self._response, self._answer)
                return None
            except MindError as error:
                failure = error
            except BrokenAnswer as error:
                failure = self._broken(str(error))
                failure.__cause__ = error
            except NO_CONNECTION as error:
                failure = unreachable(self._options, error)
                failure.__cause__ = error
            except FAILURES as error:
                failure = self._broken(f"the connection broke ({type(error).__name__})")
                failure.__cause__ = error
            except Exception as error:
                # A bug here must not leave the caller in silence.
                failure = MindError(f"reading the answer failed: {type(error).__name__}")
                failure.__cause__ = error
            return await self._after(failure)

    async def _ask(self) -> None:
        self._attempts += 1
        self._response = await self._unless_woken(self._client.complete(self._body))
        if self._late is not None:
            raise self._late  # it came in the very moment
        if self._response.status != 200:
            raise await refusal(self._options, self._response)
        kind = self._response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            self._attempts = ATTEMPTS  # it will say the same again
            what = f"answered with {kind or 'no content type'}; expected text/event-stream"
            raise self._broken(f"{what}: is this an OpenAI-compatible server that can stream?")
        may_call = bool(self._body.get("tools")) and self._body.get("tool_choice") != "none"
        goes_on = bool(self._body.get("continue_final_message"))
        self._answer = Answer(self._limits, goes_on=goes_on, may_call=may_call)
        self.usage = self._answer.usage
        self._progress = 0  # of this attempt: nothing of the one before buys it time

    async def _read(self, response: aiohttp.ClientResponse, answer: Answer) -> None:
        """The next piece of it."""
        piece = await response.content.readany()
        answer.feed(piece)
        self._over = answer.cut or not piece

    async def _unless_woken(self, waiting: Awaitable[T]) -> T:
        """Before there is a connection to close. Raises TimeoutError when woken."""
        try:
            async with asyncio.timeout(None) as self._asking:
                return await waiting
        finally:
            self._asking = None

    # --- what went wrong ---

    async def _after(self, failure: MindError) -> MindError | None:
        """What is left of a failure: nothing when it was our own doing, when the answer is complete
        without what failed, and when another attempt may do better."""
        if self._cancelled or (self._answer is not None and self._answer.complete and self._given):
            self._over = True
            return None
        if self._late is not None:
            return self._late
        after_s = RETRY_AFTER_S if failure.retry_after_s is None else failure.retry_after_s
        left_s = self._deadline - asyncio.get_running_loop().time()
        if not failure.passing or self._spoke or self._attempts == ATTEMPTS or after_s >= left_s:
            return failure
        logger.info("asking the language model a second time: %s", failure)
        self._wake()
        self._response = self._answer = None
        try:
            await self._unless_woken(asyncio.sleep(after_s))
        except TimeoutError:
            return self._late
        return None

    def _too_late(self) -> MindError:
        if self._given:
            what = f"the answer stopped for {self._limits.stall_s:g} s"
            return MindError(what, spoken=CUT_OFF, passing=True)
        what = f"no answer within {self._limits.first_s:g} s"
        if self._answer is not None and self._answer.reasoned:
            what += (
                ", only thoughts; turn them off with extra_body="
                '{"chat_template_kwargs": {"enable_thinking": false}} or use another model'
            )
        return MindError(what, spoken=SLOW, passing=True)

    def _broken(self, what: str) -> MindError:
        return MindError(what, spoken=CUT_OFF if self._spoke else UNREACHABLE, passing=True)

    @property
    def _spoke(self) -> bool:
        return self._given > 0 or (self._answer is not None and bool(self._answer.events))
