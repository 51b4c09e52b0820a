"""One streamed answer: its bytes in, what may be said and done of it out. Waits for nothing."""

from __future__ import annotations

import contextlib
import logging
from collections import deque

from parley.minds.base import MindError, MindEvent, MindLimits, TextDelta
from parley.minds.vllm_deltas import DeltaError, DeltaReader
from parley.minds.vllm_guard import Repetition, TextGuard
from parley.minds.vllm_leaks import LeakFilter, leaked_calls
from parley.minds.vllm_sse import SseError, SseParser

logger = logging.getLogger(__name__)

CUT_OFF = "Sorry, I lost my thread there. Could you say that again?"
SPEECHLESS = "Sorry, I have no answer to that. Could you put it another way?"
LEAKED = (
    "the model wrote parts of its template, its thoughts or a tool call as text; they were left "
    "out. Does the server know its chat template, --reasoning-parser and --tool-call-parser?"
)


class BrokenAnswer(Exception):
    """The stream is not an answer, or ended before the answer did."""


class Answer:
    """``feed`` it; what can be given stands in ``events``, also when it raises."""

    def __init__(self, limits: MindLimits, *, goes_on: bool, may_call: bool) -> None:
        """``goes_on``: it continues words that were given already, so it may begin with a space.
        ``may_call``: calls that the server's parser did not see are taken out of the text."""
        self.events: deque[MindEvent] = deque()
        self.complete = False
        """What is still to come is nobody's: its counts, perhaps."""
        self._reader = DeltaReader()
        self.usage = self._reader.usage
        self._parser = SseParser()
        self._guard = TextGuard(limits.max_chars, goes_on=goes_on)
        self._leaks = LeakFilter(goes_on=goes_on)
        self._may_call = may_call
        self._given = False

    @property
    def progress(self) -> int:
        """Counts what carried content."""
        return self._reader.progress

    @property
    def reasoned(self) -> bool:
        """The model sent thoughts that nobody hears."""
        return self._reader.reasoned

    @property
    def cut(self) -> bool:
        """It is complete because we say so; the server does not know and goes on writing."""
        return self._guard.full or self._leaks.ended

    def feed(self, piece: bytes) -> None:
        """The next bytes; none: the stream has ended. Raises BrokenAnswer; MindError for one that
        is empty or goes round in a circle."""
        try:
            found = deque(self._parser.feed(piece) if piece else self._parser.finish())
            while found and not self.complete:
                self._take(found.popleft())
        except (DeltaError, SseError) as error:
            if self.complete:
                return
            raise BrokenAnswer(str(error)) from error
        except Repetition as error:
            raise MindError("the model repeats itself without end", spoken=CUT_OFF) from error
        with contextlib.suppress(DeltaError):
            while found:
                self._reader.feed(found.popleft())
        if not piece and not self.complete:
            raise BrokenAnswer("the stream ended before the answer did")

    def _take(self, data: str) -> None:
        for event in self._reader.feed(data):
            if isinstance(event, TextDelta):
                self._say(self._leaks.take(event.text))
            else:
                self._give(event)
            if self.cut:  # it is as long as it may be, or its template has ended it
                self._end()
                return
        if self._reader.finished:
            self._end()

    def _end(self) -> None:
        if not self._guard.full:
            self._give_what_was_held_back()
        if self._leaks.ended or self._leaks.blocks:
            logger.warning(LEAKED)
        self.complete = True
        if not self._given:
            why = " but thoughts" if self.reasoned else ""
            what = f"the model answered nothing{why}"
            raise MindError(what, spoken=SPEECHLESS, passing=True)

    def _give_what_was_held_back(self) -> None:
        """What was in doubt, and calls that the server's parser did not see."""
        self._say(self._leaks.rest())
        if self._may_call:
            for call in leaked_calls(self._leaks.blocks):
                self._give(call)

    def _say(self, text: str) -> None:
        if text := self._guard.take(text):
            self._give(TextDelta(text))

    def _give(self, event: MindEvent) -> None:
        self._given = True
        self.events.append(event)
