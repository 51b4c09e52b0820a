"""Recognition in supervised child processes, whichever engine decodes there.

A ``ChildRecognizer`` meets `parley_speech.types.Recognizer`; ``asr.pocketsphinx`` and
``asr.moonshine`` are two. ``stream`` is a call's:

    stream.push(frame)            # every frame, always: kept as pre-roll while nobody speaks
    stream.begin_utterance()      # a voice began: decoding starts, 300 ms before this
    stream.end_utterance()        # it paused: a final hypothesis follows
    for hypothesis in stream.poll(): ...

Nothing said is lost with a child: it is started again and gets the unfinished utterances once
more, from the parent's copy. A child that does not keep up is logged and counted
(``late``); sound is given up only after three minutes of lag, or when two children died over it,
which is an error in the log, an empty final hypothesis, and ``lost_ms``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from parley_speech.asr import wire
from parley_speech.asr.backlog import Backlog
from parley_speech.asr.grammar import jsgf_source
from parley_speech.asr.supervisor import Client, Worker
from parley_speech.asr.wire import Kind
from parley_speech.types import Grammar, Hypothesis, Pcm

logger = logging.getLogger(__name__)

LATE_MS = 2000
"""Undecoded sound from which on a stream counts as late."""


class ChildRecognizer:
    """Recognises any number of streams, in ``workers`` child processes."""

    def __init__(self, engine: str, options: Mapping[str, Any], workers: int) -> None:
        """``engine``: its name in ``child.ENGINES``, which makes its models of ``options``."""
        if workers < 1:
            raise ValueError(f"workers: expected 1 or more, got {workers}")
        told = {"engine": engine, **options}
        self._workers = [Worker(told) for _ in range(workers)]
        self._started = False

    @property
    def restarts(self) -> int:
        """Children that had to be replaced."""
        return sum(worker.restarts for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """Of the children that run."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    async def start(self) -> None:
        """Loads the models, a second of CPU time per worker at most. Raises EngineUnavailable."""
        if self._started:
            return
        self._check()
        try:
            await asyncio.gather(*(worker.start() for worker in self._workers))
        except BaseException:
            await self.aclose()
            raise
        self._started = True

    def _check(self) -> None:
        """Raises EngineUnavailable, and says what to do, where something is not installed."""

    def stream(self, grammar: Grammar | None = None) -> ChildStream:
        """A stream for one call, on the worker that has the fewest."""
        if not self._started:
            raise RuntimeError("stream() before start(): await recognizer.start() first")
        worker = min(self._workers, key=lambda w: len(w.clients))
        stream = ChildStream(worker)
        if grammar is not None:
            stream.set_grammar(grammar)
        return stream

    async def aclose(self) -> None:
        self._started = False
        await asyncio.gather(*(worker.aclose() for worker in self._workers))


class ChildStream(Client):
    """One call's recognition: the ``RecognizerStream`` contract and ``begin_utterance``.

    ``push`` takes every frame and costs next to nothing outside an utterance: it keeps the last
    300 ms. Only between ``begin_utterance`` and ``end_utterance`` is anything decoded; if
    ``begin_utterance`` is never called, nothing ever is.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._backlog = Backlog()
        self._found: list[Hypothesis] = []
        self._grammar: Grammar | None = None
        self._closed = False
        self._is_late = False
        self.late = 0
        """Times that decoding fell more than two seconds behind."""
        self._number = worker.join(self)
        if worker.ready:
            self.attach()

    # --- the contract --------------------------------------------------------------------------

    def push(self, frame: Pcm) -> None:
        """One microphone frame (320,)."""
        self._check_open()
        self._take(self._backlog.push(frame))
        self._flush()
        self._watch_lag()

    def begin_utterance(self) -> None:
        """A voice began. Does nothing within an utterance."""
        self._check_open()
        self._backlog.begin()
        self._flush()

    def end_utterance(self) -> None:
        """The speaker paused: a final will follow. Does nothing outside an utterance."""
        self._check_open()
        self._backlog.end()
        self._flush()

    def set_grammar(self, grammar: Grammar | None) -> None:
        """From the next utterance on. Compiled at once, so that it is ready by then. Raises
        GrammarError (a ValueError) for a body that is no grammar."""
        self._check_open()
        if grammar == self._grammar:
            return
        if grammar is not None:
            self._prepare(grammar)
        self._grammar = grammar
        self._backlog.set_grammar(grammar)

    def poll(self) -> list[Hypothesis]:
        """Everything new since the last poll, oldest first."""
        found, self._found = self._found, []
        return found

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._worker.leave(self._number)

    # --- for who watches -----------------------------------------------------------------------

    @property
    def lag_ms(self) -> int:
        """Sound of utterances that is not decoded yet."""
        return self._backlog.pending_ms

    @property
    def lost_ms(self) -> int:
        """Sound that was given up undecoded."""
        return self._backlog.lost_ms

    # --- for the worker ------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        return self._backlog.waiting

    def attach(self) -> None:
        """A child is ready, a new one after a crash too: tell it everything from the start."""
        self._worker.send(wire.encode(Kind.OPEN, self._number))
        if self._grammar is not None:
            self._prepare(self._grammar)
        self._flush()

    def detach(self) -> None:
        """The child died."""
        self._take(self._backlog.rewind())

    def receive(self, message: wire.Message) -> None:
        fields = message.fields
        match message.kind:
            case Kind.TAKEN:
                self._backlog.taken(fields["utterance"], fields["bytes"])
                self._flush()
            case Kind.HEARD:
                self._take(self._backlog.heard(fields))
            case Kind.PROBLEM:
                logger.warning("recogniser stream %d: %s", self._number, fields["message"])
            case other:
                raise wire.WireError(f"{other.name} is not for a stream")

    # --- inside --------------------------------------------------------------------------------

    def _prepare(self, grammar: Grammar) -> None:
        source = jsgf_source(grammar)
        self._worker.send(
            wire.encode(Kind.PREPARE, self._number, grammar=grammar.name, source=source)
        )

    def _flush(self) -> None:
        if self._worker.ready:
            for data in self._backlog.outgoing(self._number):
                self._worker.send(data)

    def _take(self, found: list[Hypothesis]) -> None:
        """Keeps the newest partial of an utterance and every final, so that a stream that nobody
        polls stays small."""
        for hypothesis in found:
            if self._found and not self._found[-1].final:
                self._found.pop()
            self._found.append(hypothesis)

    def _watch_lag(self) -> None:
        late = self._backlog.pending_ms > LATE_MS
        if late and not self._is_late:
            self.late += 1
            logger.warning(
                "recogniser stream %d is %d ms behind; more workers or fewer calls would help",
                self._number,
                self._backlog.pending_ms,
            )
        self._is_late = late

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this recogniser stream is closed")
