"""How a call is written down: only ever at the end, within its budget; nobody is made to wait."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.minds.base import Cause, Context, Item, MindError, Said, ToolCall, ToolResult
from parley.minds.budget import Budget, TokenMeter, size
from parley.minds.context import DROPPED, Fold, Transcript
from parley.minds.context_summary import REQUEST, Folding
from parley.minds.vllm_messages import Message, direction_of, messages


def user(text: str) -> Said:
    return Said("user", text)


def agent(text: str, cut: bool = False) -> Said:
    return Said("agent", text, cut)


def begins(shorter: list[Message], longer: list[Message]) -> bool:
    """Whether a prompt goes on where another one ended: all its messages, the last one perhaps
    with more text."""
    *before, last = shorter
    if longer[: len(before)] != before or len(longer) < len(shorter):
        return False
    there = longer[len(before)]
    return there["role"] == last["role"] and str(there["content"]).startswith(str(last["content"]))


# --- only at the end ----------------------------------------------------------------------------

TURNS = st.lists(
    st.sampled_from(["user", "silence", "cut", "tool", "asked", "unclear", "unheard"]),
    min_size=1,
    max_size=14,
)


@given(TURNS)
def test_each_prompt_begins_as_the_one_before_it(turns: list[str]):
    transcript = Transcript()
    items: tuple[Item, ...] = ()
    last: list[Message] = []
    for number, turn in enumerate(turns):
        cause, request = Cause.USER, ""
        if turn == "silence":
            cause = Cause.NO_INPUT
        elif turn == "asked":
            cause, request = Cause.INSTRUCTED, f"say {number}"
        elif turn == "unclear":
            pass  # the user said something without words
        else:
            items = (*items, user(f"question {number}"))
        context = Context(cause, items, instructions="Be brief.", request=request)
        prompt = messages(transcript.written(context))
        if last:
            assert begins(last, prompt)
        if turn == "unheard" or (direction_of(context) and number % 3 == 2):
            # Thrown away before its first sample: its direction led to nothing.
            last = messages(transcript.written(replace(context, cause=Cause.TOOL)))
            continue
        last = prompt
        transcript.heard(context)
        if turn == "tool":
            call = ToolCall(str(number), "find", "{}")
            items = (*items, call, ToolResult(call.id, "find", "there"))
        items = (*items, agent(f"answer {number}", cut=turn == "cut"))


def test_a_direction_that_led_to_a_reply_stays_where_it_stood():
    transcript = Transcript()
    opening = Context(Cause.OPENING)
    transcript.heard(opening)
    later = Context(Cause.USER, (agent("Hello."), user("hi")))
    assert [m["content"] for m in messages(transcript.written(later))] == [
        "(The call begins. Greet the caller.)",
        "Hello.",
        "hi",
    ]


def test_a_turn_that_nobody_understood_stays_where_it_was_asked_for():
    transcript = Transcript()
    greeted = (agent("Hello."),)
    unclear = Context(Cause.USER, greeted)
    before = messages(transcript.written(unclear))
    transcript.heard(unclear)
    asked = (*greeted, agent("Could you say that again?"))
    after = messages(transcript.written(Context(Cause.USER, (*asked, user("my order")))))
    assert after[: len(before)] == before, "the prompt has only grown"
    assert [m["content"] for m in after[len(before) :]] == ["Could you say that again?", "my order"]


def test_a_direction_is_forgotten_where_the_history_was_replaced():
    transcript = Transcript()
    transcript.heard(Context(Cause.NO_INPUT, (user("a"), agent("b"))))
    other = (user("x"), agent("y"), agent("z"))
    assert transcript.written(Context(Cause.USER, other)).items == other


def test_a_direction_that_nobody_answered_is_left_out():
    transcript = Transcript()
    transcript.heard(Context(Cause.NO_INPUT, (user("a"), agent("b"))))
    items = (user("a"), agent("b"), user("c"))
    assert transcript.written(Context(Cause.USER, items)).items == items


def test_a_fold_stands_for_its_items_until_the_history_is_another_one():
    transcript = Transcript()
    transcript.fold = Fold((user("a"), agent("b")), "they greeted")
    folded = transcript.written(Context(Cause.USER, (user("a"), agent("b"), user("c"))))
    assert [m["content"] for m in messages(folded)] == [
        "(What was said before, in short: they greeted) c"
    ]
    other = (user("z"), agent("b"), user("c"))
    assert transcript.written(Context(Cause.USER, other)).items == other
    assert transcript.fold is None


# --- the budget ---------------------------------------------------------------------------------


def test_the_meter_learns_from_the_server():
    meter = TokenMeter()
    before = meter.tokens(1000)
    meter.note(1000, 250)
    assert meter.tokens(1000) == pytest.approx(262, abs=2)
    assert meter.tokens(1000) < before
    meter.note(0, 5)
    meter.note(10, 0)
    assert meter.tokens(1000) == pytest.approx(262, abs=2)


def test_size_counts_tools_and_calls():
    plain: list[Message] = [{"role": "user", "content": "abc"}]
    call: list[Message] = [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    assert size(plain) < size(plain, [{"a": 1}]) and size(call) > size([{"role": "x"}])


@given(st.lists(st.sampled_from("uat"), max_size=30), st.integers(1, 400))
def test_what_stays_begins_with_a_user_and_keeps_calls_with_results(kinds: list[str], most: int):
    items: list[Item] = []
    for n, kind in enumerate(kinds):
        if kind == "t":
            items += [ToolCall(str(n), "f", "{}"), ToolResult(str(n), "f", "x")]
        else:
            items.append(user(f"u{n}") if kind == "u" else agent(f"a{n}"))
    tokens_of = {i: 10 * (len(items) - i) for i in range(len(items))}
    n = Budget(most).old(tuple(items), 5, tokens_of)
    assert 0 <= n < max(1, len(items))
    if n:
        first = items[n]
        assert isinstance(first, Said) and first.role == "user"
        kept, gone = items[n:], items[:n]
        calls = {i.id for i in gone if isinstance(i, ToolCall)}
        assert not calls & {i.id for i in kept if isinstance(i, ToolResult)}


@pytest.mark.parametrize("wrong", [{"most": 0}, {"most": 9, "begin": 0.2}, {"most": 9, "keep": 0}])
def test_a_budget_that_cannot_work(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="keep < begin"):
        Budget(**wrong)  # type: ignore[arg-type]


# --- summaries ----------------------------------------------------------------------------------


MOST = 2000
"""Tokens; 38 turns of ``talk`` want a summary, 54 are too long."""


class Model:
    """Sums up in the background as a test tells it."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[list[Message], int]] = []
        self.release = asyncio.Event()

    async def complete(self, asked: list[Message], context: Context, most: int) -> str:
        self.asked.append((asked, most))
        if most == 1:
            return ""
        await self.release.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def talk(turns: int) -> tuple[Item, ...]:
    items: list[Item] = []
    for n in range(turns):
        items += [user(f"question number {n} about the shop"), agent(f"answer number {n} to that")]
    return (*items, user(f"question number {turns} about the shop"))


def context(turns: int) -> Context:
    return Context(Cause.USER, talk(turns), instructions="Be brief.")


def folding(model: Model, most: int) -> Folding:
    return Folding(Transcript(), Budget(most), model.complete, "")


async def test_a_long_call_is_summed_up_in_the_background_and_grows_at_its_end_again():
    model = Model("They asked many things.")
    fold = folding(model, MOST)
    assert len(fold.fit(context(20)).items) == 41 and not model.asked, "short enough"
    long = fold.fit(context(40))
    assert len(long.items) == 81, "the reply that is asked for now is not made to wait"
    await asyncio.sleep(0)
    assert len(fold.fit(context(40)).items) == 81
    model.release.set()
    await fold.settled()
    short = fold.fit(context(40))
    assert len(short.items) < 40 and fold.summaries == 1
    first = short.items[0]
    assert isinstance(first, Said) and "They asked many things." in first.text
    assert begins(messages(short), messages(fold.fit(context(41))))
    summary, warming = model.asked
    assert summary[0][-1]["content"].endswith(f"({REQUEST})")  # type: ignore[union-attr]
    assert begins(summary[0][:-1], messages(long)), "its prompt is in the cache already"
    assert warming[1] == 1 and begins(warming[0], messages(short))
    await fold.aclose()


async def test_without_a_summary_the_oldest_turns_are_dropped(caplog: pytest.LogCaptureFixture):
    model = Model(MindError("full"))
    model.release.set()
    fold = folding(model, MOST)
    fold.fit(context(40))
    await fold.settled()
    with caplog.at_level(logging.WARNING):
        short = fold.fit(context(60))
    first = short.items[0]
    assert first == user(f"({DROPPED})")
    assert fold.dropped == 1 and "left out" in caplog.text
    assert "question" not in caplog.text and "answer number" not in caplog.text, "no words in logs"
    assert begins(messages(short), messages(fold.fit(context(61))))
    await fold.aclose()


async def test_a_failed_summary_is_not_tried_again_at_once():
    model = Model(MindError("no"), "later")
    model.release.set()
    fold = folding(model, MOST)
    for turns in (40, 40, 41):
        fold.fit(context(turns))
        await fold.settled()
    assert len(model.asked) == 1
    fold.fit(context(44))
    await fold.settled()
    assert fold.summaries == 1
    await fold.aclose()


async def test_a_summary_without_words_changes_nothing():
    model = Model("  ")
    model.release.set()
    fold = folding(model, MOST)
    fold.fit(context(40))
    await fold.settled()
    assert len(fold.fit(context(40)).items) == 81
    await fold.aclose()


async def test_one_turn_that_is_too_long_is_sent_as_it_is():
    fold = folding(Model(), 20)
    only = Context(Cause.USER, (user("word " * 100),))
    assert fold.fit(only) == only
    await fold.aclose()


async def test_the_end_of_a_call_ends_its_summary():
    model = Model("never")
    fold = folding(model, MOST)
    fold.fit(context(40))
    await asyncio.sleep(0)
    await fold.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
