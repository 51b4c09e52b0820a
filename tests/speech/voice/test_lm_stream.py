"""An utterance on an engine that is under the test's control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest

from parley_speech.lm.engine import Load
from parley_speech.lm.errors import EngineDied, LmBusy, UtteranceTooLong
from parley_speech.lm.interleave import InterleavedPlan, Utterance
from parley_speech.lm.segments import RAS, Dice, Rule, Segment
from parley_speech.lm.stream import PlannedStream
from parley_speech.lm.vocabulary import MergedVocabulary

IDS = MergedVocabulary(100, 50)


class FakeSession:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.closed = 0

    async def run(self, segment: Segment) -> AsyncGenerator[Sequence[int], None]:
        """Says the number of each text token fed, one per gate, then stops."""
        for token in segment.feed:
            if token < IDS.offset:
                await self._engine.gate.acquire()
                if self._engine.failure:
                    raise self._engine.failure
                self._engine.computed += 1
                yield (IDS.offset + token % 50,)
        yield (IDS.eos if segment.last else IDS.fill,)

    async def close(self) -> None:
        self.closed += 1
        self._engine.open_sessions -= 1


class FakeEngine:
    context = 200
    load = Load(1, 0, 0, 0.0, ready=True)

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(0)
        self.failure: Exception | None = None
        self.busy = False
        self.open_sessions = self.computed = 0
        self.sessions: list[FakeSession] = []

    async def start(self) -> None:
        """It is always started."""

    async def open(self, rule: Rule, dice: Dice) -> FakeSession:
        if self.busy:
            raise LmBusy("full: try again")
        self.open_sessions += 1
        self.sessions.append(FakeSession(self))
        return self.sessions[-1]

    async def aclose(self) -> None:
        """Nothing to close."""

    async def until(self, reached: Callable[[], object]) -> None:
        """Lets the loop turn until something has happened."""
        async with asyncio.timeout(30):
            while not reached():  # noqa: ASYNC110 - turns of the loop, not time
                await asyncio.sleep(0)

    def let(self, count: int) -> None:
        for _ in range(count):
            self.gate.release()


def stream_on(engine: FakeEngine, limit: int = 200) -> PlannedStream:
    return PlannedStream(engine, InterleavedPlan(Utterance(IDS, limit)), RAS, Dice(1), None)


async def everything(stream: PlannedStream) -> list[int]:
    return [token async for tokens in stream for token in tokens]


async def test_tokens_come_in_order_and_without_marks():
    engine = FakeEngine()
    engine.let(100)
    stream = stream_on(engine)
    for token in range(12):
        stream.push_ids([token])
    stream.end()
    assert await everything(stream) == list(range(12))
    assert engine.open_sessions == 0 and engine.sessions[0].closed == 1


async def test_no_place_is_taken_before_there_is_enough_text():
    engine = FakeEngine()
    stream = stream_on(engine)
    stream.push_ids([1, 2, 3, 4])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert engine.sessions == []
    stream.end()
    engine.let(4)
    assert await everything(stream) == [1, 2, 3, 4]


async def test_a_slow_listener_does_not_hold_up_the_model():
    engine = FakeEngine()
    stream = stream_on(engine)
    stream.push_ids(list(range(5)))
    stream.end()
    engine.let(5)
    await engine.until(lambda: engine.sessions and not engine.open_sessions)
    assert engine.computed == 5
    assert await everything(stream) == [0, 1, 2, 3, 4]


async def test_cancel_stops_at_once_and_closes_the_session():
    engine = FakeEngine()
    stream = stream_on(engine)
    stream.push_ids(list(range(5)))
    engine.let(2)
    tokens = aiter(stream)
    assert list(await anext(tokens)) == [0, 1]
    stream.cancel()
    stream.cancel()
    engine.let(10)
    assert await everything(stream) == []
    await stream.aclose()
    assert engine.computed <= 2
    assert engine.open_sessions == 0 and engine.sessions[0].closed == 1
    stream.push_ids([1])
    stream.end()
    assert await everything(stream) == []


async def test_cancel_while_waiting_for_text_ends_the_listener():
    engine = FakeEngine()
    stream = stream_on(engine)
    stream.push_ids(list(range(5)))
    engine.let(5)
    listener = asyncio.create_task(everything(stream))
    await engine.until(lambda: engine.computed == 5)
    stream.cancel()
    await asyncio.wait_for(listener, 10)
    await stream.aclose()
    assert engine.open_sessions == 0


async def test_cancel_before_anything():
    engine = FakeEngine()
    stream = stream_on(engine)
    stream.cancel()
    assert await everything(stream) == []
    await stream.aclose()
    assert engine.sessions == []


@pytest.mark.parametrize("failure", [EngineDied("it died"), UtteranceTooLong("too long")])
async def test_what_the_engine_says_reaches_the_listener_after_the_tokens(failure: Exception):
    engine = FakeEngine()
    stream = stream_on(engine)
    stream.push_ids(list(range(5)))
    engine.let(1)
    tokens = aiter(stream)
    assert list(await anext(tokens)) == [0]
    engine.failure = failure
    engine.let(1)
    with pytest.raises(type(failure), match=str(failure)):
        await anext(tokens)
    await stream.aclose()
    assert engine.open_sessions == 0


async def test_a_full_engine_is_told_to_the_listener():
    engine = FakeEngine()
    engine.busy = True
    stream = stream_on(engine)
    stream.push_ids(list(range(5)))
    with pytest.raises(LmBusy, match="try again"):
        await everything(stream)
    await stream.aclose()


async def test_too_much_text_is_told_to_the_listener_not_to_who_pushes():
    engine = FakeEngine()
    engine.let(100)
    stream = stream_on(engine, limit=40)
    stream.push_ids([1] * 41)
    stream.end()
    with pytest.raises(UtteranceTooLong):
        await everything(stream)
    await stream.aclose()
