"""One thread that decodes the tokens of many calls, the most urgent first.

Every call is a buffer that its listener empties in real time: the one that runs dry first is served
first. A call that has given nothing yet, or was starved of tokens, has a moment of its own by which
it should sound, so that neither new calls nor running ones are kept waiting by the other. While
somebody is in a hurry, calls with a comfortable buffer stay out of the batch: the step is quicker
without them. A step takes as many tokens of a call as it needs to give sound, so that no call makes
a step long.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from parley_speech.token_voice import (
    DecoderCall,
    DecoderWork,
    Floats,
    TokenDecoder,
    TokenPrompt,
)

FIRST_S = 0.05
"""A call that is silent should sound so long after it could."""
COMFORT_S = 0.5
"""Of sound in hand: such a call can wait while another is in a hurry."""
AHEAD_S = 3.0
"""Of sound in hand: such a call is not decoded on."""
MAX_BATCH = 32

Emit = Callable[[Floats, bool], None]


class Playout:
    """What one listener has in hand; shared by the pieces of its stream. Not thread-safe."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._given = 0
        self._taken = 0
        self.dry_at_s = float("-inf")
        """When the listener, playing all along, will have nothing left."""

    def give(self, samples: int, now_s: float) -> None:
        self._given += samples
        self.dry_at_s = max(self.dry_at_s, now_s) + samples / self._rate_hz

    def take(self, samples: int) -> None:
        self._taken += samples

    @property
    def in_hand_s(self) -> float:
        return (self._given - self._taken) / self._rate_hz


class Decoding:
    """One call on the decoding thread. Its methods may be called from any thread."""

    def __init__(
        self, owner: DecodingThread, prompt: TokenPrompt, playout: Playout, emit: Emit
    ) -> None:
        self._owner = owner
        self.prompt = prompt
        self.playout = playout
        self.emit = emit
        self.call: DecoderCall | None = None
        self.pending: deque[int] = deque()
        self.ended = False
        self.closed = False
        self.ready_at_s: float | None = None
        """Since when there are tokens enough for a step."""
        self.error: Callable[[BaseException], None] | None = None
        self.after: Decoding | None = None
        """Is decoded to its end first: what its listener hears before this."""

    def feed(self, tokens: Sequence[int]) -> None:
        with self._owner.changed:
            self.pending.extend(tokens)
            self._owner.changed.notify()

    def finish(self) -> None:
        """No more tokens: the rest comes out, and `emit` is told that it was the last."""
        with self._owner.changed:
            self.ended = True
            self._owner.changed.notify()

    def taken(self, samples: int) -> None:
        """The listener took so much."""
        with self._owner.changed:
            self.playout.take(samples)
            self._owner.changed.notify()

    def cancel(self) -> None:
        """No step is begun for it after this returns. Idempotent."""
        with self._owner.changed:
            self.closed = True
            self.pending.clear()
            self._owner.changed.notify()
        self._owner.close_now(self)

    # --- for the thread, which holds the lock ---

    @property
    def needs(self) -> int:
        return max(1, self.call.needed) if self.call is not None else 1

    def is_ready(self) -> bool:
        if self.closed or self.playout.in_hand_s >= AHEAD_S:
            return False
        if self.after is not None and not self.after.closed:
            return False
        self.after = None
        return self.ended or len(self.pending) >= self.needs

    def deadline_s(self, now_s: float) -> float:
        ready_s = now_s if self.ready_at_s is None else self.ready_at_s
        dry_s = self.playout.dry_at_s
        return dry_s if dry_s > ready_s else ready_s + FIRST_S

    def work(self) -> DecoderWork:
        """The next step's tokens, taken from those that wait."""
        assert self.call is not None
        needs = self.needs
        last = self.ended and len(self.pending) <= needs
        count = len(self.pending) if last else needs
        self.ready_at_s = None
        return DecoderWork(self.call, [self.pending.popleft() for _ in range(count)], last)


def pick(ready: Sequence[Decoding], now_s: float, max_batch: int) -> list[Decoding]:
    """The calls of the next step, the most urgent first."""
    by_deadline = sorted(ready, key=lambda call: call.deadline_s(now_s))[:max_batch]
    if not by_deadline:
        return []
    hurry = now_s + COMFORT_S
    if by_deadline[0].deadline_s(now_s) >= hurry:
        return by_deadline
    return [call for call in by_deadline if call.deadline_s(now_s) < hurry]


class DecodingThread:
    """Owns a decoder: nobody else may use it.

    ``close_anywhere``: the decoder's ``close`` may be called while it steps, from another thread,
    and ends what it computes for that call; else a cancelled call is closed after the step.
    """

    def __init__(
        self,
        decoder: TokenDecoder,
        *,
        max_batch: int = MAX_BATCH,
        close_anywhere: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decoder = decoder
        self._max_batch = max_batch
        self._close_anywhere = close_anywhere
        self._clock = clock
        self.changed = threading.Condition()
        self._calls: list[Decoding] = []
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="token-decoder", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Closes all calls and waits for the step that runs. The thread may be started again."""
        with self.changed:
            self._stopping = True
            for call in self._calls:
                call.closed = True
            self.changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def open(self, prompt: TokenPrompt, playout: Playout, emit: Emit) -> Decoding:
        """``emit(samples, last)`` is called on the thread."""
        call = Decoding(self, prompt, playout, emit)
        with self.changed:
            if self._stopping or self._thread is None:
                raise RuntimeError("the decoder has stopped: start it before opening a call")
            self._calls.append(call)
            self.changed.notify()
        return call

    def do(self, job: Callable[[], Any]) -> Future[Any]:
        """Runs something else that uses the decoder, between two steps."""
        future: Future[Any] = Future()
        with self.changed:
            if self._stopping or self._thread is None:
                raise RuntimeError("the decoder has stopped: start it before using it")
            self._jobs.append((job, future))
            self.changed.notify()
        return future

    def close_now(self, call: Decoding) -> None:
        if self._close_anywhere and call.call is not None:
            self._decoder.close(call.call)

    @property
    def calls(self) -> int:
        with self.changed:
            return len(self._calls)

    # --- the thread ---

    def _run(self) -> None:
        while True:
            with self.changed:
                while not self._has_work() and not self._stopping:
                    self.changed.wait()
                gone = self._sweep()
                if self._stopping:
                    break
                job = self._jobs.popleft() if self._jobs else None
                batch = [] if job else self._batch()
            self._close(gone)
            if job is not None:
                _do(*job)
            elif batch:
                self._step(batch)
        self._close(gone)
        for _, future in self._jobs:
            future.cancel()

    def _has_work(self) -> bool:
        if self._jobs:
            return True
        return any(c.closed or (c.call is None and c.pending) or c.is_ready() for c in self._calls)

    def _sweep(self) -> list[Decoding]:
        gone = [call for call in self._calls if call.closed]
        self._calls = [call for call in self._calls if not call.closed]
        return gone

    def _batch(self) -> list[Decoding]:
        now_s = self._clock()
        for call in self._calls:
            if call.call is None and (call.pending or call.ended):
                self._open(call)
            if call.ready_at_s is None and call.is_ready():
                call.ready_at_s = now_s
        return pick([call for call in self._calls if call.is_ready()], now_s, self._max_batch)

    def _open(self, call: Decoding) -> None:
        try:
            call.call = self._decoder.open(call.prompt)
        except Exception as error:
            _fail(call, error)

    def _close(self, gone: Sequence[Decoding]) -> None:
        for call in gone:
            if call.call is not None:
                self._decoder.close(call.call)
                call.call = None

    def _step(self, batch: Sequence[Decoding]) -> None:
        with self.changed:
            live = [call for call in batch if not call.closed]
            work = [call.work() for call in live]
        if not work:
            return
        try:
            sounds = self._decoder.step(work)
        except Exception as error:
            self._fail_step(live, work, error)
            return
        now_s = self._clock()
        for call, given, sound in zip(live, work, sounds, strict=True):
            with self.changed:
                if call.closed:
                    continue
                call.closed = given.last
                call.playout.give(len(sound), now_s)
            call.emit(sound, given.last)

    def _fail_step(
        self, calls: Sequence[Decoding], work: Sequence[DecoderWork], error: Exception
    ) -> None:
        """A decoder that names the call at fault has done nothing for the others: they go on."""
        guilty = getattr(error, "call", None)
        named = [call for call in calls if guilty is not None and call.call is guilty]
        with self.changed:
            for call, given in zip(calls, work, strict=True):
                if named and call not in named:
                    call.pending.extendleft(reversed(given.tokens))
        for call in named or calls:
            _fail(call, error)


def _fail(call: Decoding, error: Exception) -> None:
    call.closed = True
    call.pending.clear()
    if call.error is not None:
        call.error(error)


def _do(job: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except BaseException as error:
        future.set_exception(error)
