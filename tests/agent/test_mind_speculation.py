"""A reply on a guess: promoted, sent again, continued, thrown away, and what each has cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from parley.minds.base import MindError, MindEvent, TextDelta, Urgent
from parley.minds.speculation import (
    LEAST_TOKENS,
    Ask,
    SpeculationStats,
    SpeculativeReply,
    TurnBudget,
)
from parley.minds.vllm_deltas import DeltaReader
from parley.minds.vllm_usage import Usage
from virtual_time import run as run_virtually

Step = str | float | Exception
"""A token's text, seconds that pass, a failure."""


class FakeLeg:
    def __init__(self, steps: list[Step], reason: str = "stop") -> None:
        self.usage = Usage()
        self.steps, self.reason = steps, reason
        self.cancelled = self.closed = False

    async def __aiter__(self) -> AsyncIterator[MindEvent]:
        for step in self.steps:
            if self.cancelled:
                return
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, Exception):
                raise step
            else:
                self.usage.completion_tokens += 1
                yield TextDelta(step)
        self.usage.finish_reason = self.reason

    def cancel(self) -> None:
        self.cancelled = True

    async def aclose(self) -> None:
        self.closed = True
        self.cancel()


class Guess:
    """A reply whose n-th request is answered by the n-th leg."""

    def __init__(self, *legs: FakeLeg, budget: TurnBudget | None = None) -> None:
        self.legs, self.asked = list(legs), []
        self.budget = budget or TurnBudget(100, 40)
        self.stats = SpeculationStats()
        self.heard = 0
        self.reply = SpeculativeReply(self.ask, self.budget, self.stats, self.on_commit)
        self.texts: list[str] = []

    def on_commit(self) -> None:
        self.heard += 1

    def ask(self, ask: Ask) -> FakeLeg:
        self.asked.append(ask)
        return self.legs[len(self.asked) - 1]

    async def collect(self) -> str:
        async for event in self.reply:
            assert isinstance(event, TextDelta)
            self.texts.append(event.text)
        return "".join(self.texts)


def test_a_wanted_reply_is_asked_for_at_once_and_urgently():
    async def call() -> None:
        guess = Guess(FakeLeg(["a", "b"]))
        guess.reply.wanted()
        assert await guess.collect() == "ab"
        await guess.reply.aclose()
        assert guess.asked == [Ask(urgent=True)]
        assert (guess.stats.started, guess.stats.tokens_used) == (0, 2)

    run_virtually(call())


def test_a_guess_is_asked_for_with_little_right_and_few_tokens_and_kept():
    async def call() -> None:
        guess = Guess(FakeLeg(["a", "b"]))
        assert await guess.collect() == "ab"
        guess.reply.commit()
        guess.reply.commit()
        await guess.reply.aclose()
        assert guess.asked == [Ask(urgent=False, max_tokens=40)]
        s = guess.stats
        assert (s.started, s.kept, s.discarded, s.tokens_used, s.tokens_discarded) == (
            1,
            1,
            0,
            2,
            0,
        )
        assert guess.heard == 2, "told as often as the conversation says it"

    run_virtually(call())


def test_a_guess_thrown_away_costs_its_tokens_and_is_aborted():
    async def call() -> None:
        guess = Guess(FakeLeg(["a", "b", 10.0, "c"]))
        task = asyncio.create_task(guess.collect())
        await asyncio.sleep(1)
        guess.reply.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await guess.reply.aclose()
        guess.reply.wanted()  # too late: nothing comes back to life
        assert guess.legs[0].cancelled and guess.legs[0].closed
        assert (guess.stats.discarded, guess.stats.kept) == (1, 0)
        assert (guess.stats.tokens_discarded, guess.stats.tokens_used) == (2, 0)
        assert guess.budget.next() == 40 and guess.budget.most_tokens - 2 == 98

    run_virtually(call())


def test_a_guess_that_waits_in_the_queue_is_sent_again_when_it_is_wanted():
    async def call() -> None:
        guess = Guess(FakeLeg([60.0, "late"]), FakeLeg([0.2, "soon"]))
        task = asyncio.create_task(guess.collect())
        await asyncio.sleep(1)
        guess.reply.wanted()
        began = asyncio.get_running_loop().time()
        assert await task == "soon"
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.2, abs=0.01)
        await guess.reply.aclose()
        assert guess.asked == [Ask(urgent=False, max_tokens=40), Ask(urgent=True)]
        assert guess.legs[0].cancelled
        assert (guess.stats.resent, guess.stats.kept) == (1, 1)

    run_virtually(call())


def test_a_guess_just_sent_is_given_a_moment_before_it_is_sent_again():
    async def call() -> None:
        guess = Guess(FakeLeg([0.04, "first"]), FakeLeg(["second"]))
        task = asyncio.create_task(guess.collect())
        await asyncio.sleep(0.01)
        guess.reply.wanted()
        assert await task == "first"
        await guess.reply.aclose()
        assert guess.stats.resent == 0

    run_virtually(call())


def test_the_first_of_two_that_speaks_is_heard():
    async def call() -> None:
        guess = Guess(FakeLeg([1.1, "old", "er"]), FakeLeg([5.0, "new"]))
        task = asyncio.create_task(guess.collect())
        await asyncio.sleep(1)
        guess.reply.wanted()
        assert await task == "older"
        await guess.reply.aclose()
        assert guess.legs[1].cancelled
        assert guess.stats.tokens_used == 2

    run_virtually(call())


def test_one_that_runs_goes_on_when_it_is_wanted():
    async def call() -> None:
        guess = Guess(FakeLeg(["a", 1.0, "b"]))
        task = asyncio.create_task(guess.collect())
        await asyncio.sleep(0.5)
        guess.reply.wanted()
        assert await task == "ab"
        assert len(guess.asked) == 1
        await guess.reply.aclose()

    run_virtually(call())


def test_a_guess_at_its_bound_waits_and_is_continued_from_its_last_word():
    async def call() -> None:
        guess = Guess(FakeLeg(["one", " two"], "length"), FakeLeg([" three"]))
        task = asyncio.create_task(guess.collect())
        await asyncio.sleep(3)
        assert guess.texts == ["one", " two"] and not task.done()
        guess.reply.wanted()
        assert await task == "one two three"
        await guess.reply.aclose()
        assert guess.asked[1] == Ask(urgent=True, said="one two")
        assert (guess.stats.continued, guess.stats.tokens_used) == (1, 3)

    run_virtually(call())


def test_a_guess_that_fails_in_silence_is_asked_again_when_it_is_wanted():
    async def call() -> None:
        guess = Guess(FakeLeg([MindError("full")]), FakeLeg(["well"]))
        task = asyncio.create_task(guess.collect())
        await asyncio.sleep(1)
        assert not task.done(), "nobody has to hear of it yet"
        guess.reply.wanted()
        assert await task == "well"
        await guess.reply.aclose()

    run_virtually(call())


def test_when_both_fail_the_second_failure_is_told():
    async def call() -> None:
        guess = Guess(FakeLeg([MindError("one")]), FakeLeg([0.1, MindError("two")]))
        guess_task = asyncio.create_task(guess.collect())
        await asyncio.sleep(1)
        guess.reply.wanted()
        with pytest.raises(MindError, match="two"):
            await guess_task
        await guess.reply.aclose()

    run_virtually(call())


def test_a_turn_may_cost_so_many_tokens_and_then_waits():
    async def call() -> None:
        budget = TurnBudget(20, 15)
        first = Guess(FakeLeg(["x"] * 15), budget=budget)
        await first.collect()
        first.reply.cancel()
        assert budget.next() == 5 < LEAST_TOKENS
        second = Guess(FakeLeg(["y"]), budget=budget)
        task = asyncio.create_task(second.collect())
        await asyncio.sleep(5)
        assert second.asked == []
        second.reply.wanted()
        assert await task == "y"
        await second.reply.aclose()
        assert second.asked == [Ask(urgent=True)]
        assert budget.next() == 15, "the next turn has its own"
        first.budget.spend(15, turn=0)
        assert budget.next() == 15, "what is told late of an old turn does not count"

    run_virtually(call())


def test_cancelled_while_it_waits_to_be_wanted_it_ends():
    async def call() -> None:
        guess = Guess(FakeLeg(["a"], "length"))
        task = asyncio.create_task(guess.collect())
        await asyncio.sleep(1)
        guess.reply.cancel()
        task.cancel()
        await asyncio.wait({task})
        await guess.reply.aclose()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    run_virtually(call())


def test_it_says_that_it_is_urgent_and_can_be_iterated_once():
    async def call() -> None:
        guess = Guess(FakeLeg(["a"]))
        assert isinstance(guess.reply, Urgent)
        await guess.collect()
        with pytest.raises(RuntimeError, match="once"):
            await guess.collect()

    run_virtually(call())


def test_waste_is_told_for_each_token_used():
    assert SpeculationStats(tokens_used=10, tokens_discarded=15).waste == 1.5
    assert SpeculationStats().waste == 0


def test_usage_reads_counts_but_not_the_models_words():
    reader = DeltaReader()
    reader.feed(r'{"choices":[{"delta":{"content":"\"completion_tokens\": 9, \"usage\""}}]}')
    assert reader.usage == Usage()
    reader.feed(
        '{"choices":[{"finish_reason":null}],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
    )
    assert reader.usage == Usage(7, 3)
    reader.feed('{"choices":[{"finish_reason":"length"}],"usage":{"completion_tokens": 4}}')
    assert reader.usage == Usage(7, 4, "length")
    reader.feed('{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":"many"}}')
    assert reader.usage == Usage(8, 4, "length"), "the last chunk has no choice"


@pytest.mark.parametrize("usage", ["null", "7", "[]", '{"completion_tokens": null}'])
def test_counts_that_are_none_are_left_out(usage: str):
    reader = DeltaReader()
    assert reader.feed(f'{{"choices":[{{"delta":{{"content":"a"}}}}],"usage":{usage}}}')
    assert reader.usage == Usage()
