"""Function tools in a real AgentSession: slow, failing, several at once, talked over."""

from __future__ import annotations

import asyncio

from livekit.agents import Agent, RunContext, ToolError, function_tool

from agent.fakes import LOUD, QUIET, Script
from parley.dialogue import events as ev
from parley.minds.base import Cause, Context, Said, ToolCall, ToolResult
from parley.minds.filler import FillerPolicy
from parley.minds.vllm_messages import direction_of
from plugins.line import Line

NO_WORDS = FillerPolicy(lines=())
LONG = " ".join(["in one of our many books"] * 6)
"""Words for seconds, so that there is time to talk over them on a busy machine."""
FILLER = FillerPolicy(after_s=0.3, again_s=1.0, lines=("one moment", "still looking"))


class Desk(Agent):
    """Its tools end when the test lets them."""

    def __init__(self) -> None:
        super().__init__(instructions="a desk")
        self.begun: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def gate(self, number: str) -> asyncio.Event:
        return self.gates.setdefault(number, asyncio.Event())

    async def on_exit(self) -> None:
        """LiveKit closes no session before its tools have ended."""
        for gate in self.gates.values():
            gate.set()

    @function_tool
    async def find(self, context: RunContext, number: str) -> str:
        """Finds an order.

        Args:
            number: the order's number
        """
        self.begun.append(number)
        await self.gate(number).wait()
        if number == "9":
            raise ToolError("there is no order nine")
        if number == "8":
            raise OSError("the database is on fire")
        return f"order {number} has shipped"


def calls(*numbers: str) -> Script:
    return Script([ToolCall(f"c{n}", "find", f'{{"number": "{n}"}}') for n in numbers])


def results(context: Context) -> list[ToolResult]:
    return [item for item in context.items if isinstance(item, ToolResult)]


def tell(context: Context) -> Script:
    """Asks for the orders whose digits are in the user's words, then says the results."""
    if context.cause is Cause.TOOL:
        return Script([" and ".join(r.output for r in results(context))])
    numbers = [word for word in context.user_text.split() if word.isdigit()]
    return calls(*numbers) if numbers else Script(["yes I am here"])


def said(line: Line) -> list[str]:
    return [text for role, text in line.history if role == "assistant"]


async def test_a_quick_tool_is_not_announced() -> None:
    desk = Desk()
    desk.gate("5").set()
    patient = FillerPolicy(after_s=2.0)
    async with Line(tell, ["order 5"], agent=desk, filler=patient) as line:
        await line.says(0.6)
        await line.until(lambda: said(line))
        await asyncio.sleep(2.2)
        assert said(line) == ["order 5 has shipped"]


async def test_a_slow_tool_is_bridged_until_its_result_is_there() -> None:
    desk = Desk()
    async with Line(tell, ["order 5"], agent=desk, filler=FILLER) as line:
        await line.says(0.6)
        await line.until(lambda: len(said(line)) == 2)
        desk.gate("5").set()
        await line.until(lambda: len(said(line)) >= 3)
        await line.until(lambda: said(line)[-1] == "order 5 has shipped")
        assert said(line)[:2] == ["one moment", "still looking"]
        heard = [text for role, text in line.history]
        assert heard[0] == "order 5"
        before = len(said(line))
        await asyncio.sleep(1.2)
        assert len(said(line)) == before, "the wait is over"


async def test_the_default_filler_needs_no_setting() -> None:
    desk = Desk()
    async with Line(tell, ["order 5"], agent=desk) as line:
        await line.says(0.6)
        await line.until(lambda: said(line) == ["One moment."])
        desk.gate("5").set()
        await line.until(lambda: said(line)[-1] == "order 5 has shipped")


async def test_parallel_calls_run_at_once_and_are_answered_together_in_order() -> None:
    desk = Desk()
    async with Line(tell, ["order 1 and 2 please"], agent=desk, filler=FILLER) as line:
        await line.says(0.6)
        await line.until(lambda: len(desk.begun) == 2)
        desk.gate("2").set()
        await line.until(lambda: "one moment" in said(line))
        desk.gate("1").set()
        await line.until(lambda: "has shipped" in said(line)[-1])
        assert desk.begun == ["1", "2"]
        spoken = said(line)[-1]
        assert sorted(spoken.split(" and ")) == ["order 1 has shipped", "order 2 has shipped"]
        assert [r.id for r in results(line.mind.one.contexts[-1])].count("c1") == 1


async def test_a_user_who_speaks_during_a_tool_is_answered_and_then_told_the_result() -> None:
    desk = Desk()
    async with Line(tell, ["order 5", "hello"], agent=desk, filler=NO_WORDS) as line:
        await line.says(0.6)
        await line.until(lambda: desk.begun)
        await line.says(0.6)
        await line.until(lambda: said(line) == ["yes I am here"])
        desk.gate("5").set()
        await line.until(lambda: len(said(line)) == 2)
        assert [text for _, text in line.history] == [
            "order 5",
            "hello",
            "yes I am here",
            "order 5 has shipped",
        ]


def unanswered(context: Context) -> list[str]:
    """Ids of the calls that this context has no result of."""
    answered = {result.id for result in results(context)}
    made = [item.id for item in context.items if isinstance(item, ToolCall)]
    return [call_id for call_id in made if call_id not in answered]


async def test_a_user_who_speaks_during_a_tool_is_answered_by_a_mind_that_knows_it_runs() -> None:
    desk = Desk()
    turns = ["order 5", "hello", "order 6", "thank you"]
    async with Line(tell, turns, agent=desk, filler=NO_WORDS) as line:
        await line.says(0.6)
        await line.until(lambda: desk.begun == ["5"])
        await line.says(0.6)
        await line.until(lambda: said(line) == ["yes I am here"])
        assert unanswered(line.mind.one.contexts[-1]) == ["c5"]
        await line.says(0.6)  # another tool, whose result comes first
        await line.until(lambda: desk.begun == ["5", "6"])
        assert unanswered(line.mind.one.contexts[-1]) == ["c5"]
        desk.gate("6").set()
        await line.until(lambda: "order 6 has shipped" in said(line))
        assert unanswered(line.mind.one.contexts[-1]) == ["c5"]
        await line.says(0.6)
        await line.until(lambda: said(line)[-1] == "yes I am here")
        assert unanswered(line.mind.one.contexts[-1]) == ["c5"]
        desk.gate("5").set()
        await line.until(lambda: "order 5 has shipped" in said(line)[-1])
        assert unanswered(line.mind.one.contexts[-1]) == []
        running = [ctx for ctx in line.mind.one.contexts if unanswered(ctx)]
        assert all("find is still running" in direction_of(ctx) for ctx in running)


async def test_a_result_that_comes_while_the_user_speaks_waits_for_the_turns_end() -> None:
    desk = Desk()
    async with Line(tell, ["order 5", "thank you"], agent=desk, filler=NO_WORDS) as line:
        await line.says(0.6)
        await line.until(lambda: desk.begun)
        speaking = asyncio.create_task(line.says(0.8))
        await line.until(lambda: [e for e in line.of(ev.UserText) if "thank" in e.text])
        desk.gate("5").set()
        await speaking
        await line.until(lambda: "order 5 has shipped" in said(line))
        await line.until(lambda: ("user", "thank you") in line.history)
        await line.until(lambda: "yes I am here" in said(line))
        assert len(line.of(ev.UserTurn)) == 2, "nothing the user said is lost"


async def test_two_requests_after_each_other_are_each_answered() -> None:
    desk = Desk()

    def newest(context: Context) -> Script:
        if context.cause is Cause.TOOL:
            return Script([results(context)[-1].output])
        return tell(context)

    async with Line(newest, ["order 1", "order 2"], agent=desk, filler=NO_WORDS) as line:
        await line.says(0.6)
        await line.until(lambda: desk.begun == ["1"])
        await line.says(0.6)
        await line.until(lambda: desk.begun == ["1", "2"])
        desk.gate("1").set()
        await line.until(lambda: said(line) == ["order 1 has shipped"])
        desk.gate("2").set()
        await line.until(lambda: said(line)[1:] == ["order 2 has shipped"])


async def test_errors_of_a_tool_are_told_to_the_mind_and_spoken() -> None:
    desk = Desk()
    desk.gate("9").set()
    desk.gate("8").set()
    async with Line(tell, ["order 9", "order 8"], agent=desk, filler=NO_WORDS) as line:
        await line.says(0.6)
        await line.until(lambda: said(line))
        assert said(line) == ["there is no order nine"]
        assert results(line.mind.one.contexts[-1])[0].error
        await line.says(0.6)
        await line.until(lambda: len(said(line)) == 2)
        failed = results(line.mind.one.contexts[-1])[-1]
        assert failed.error and "fire" not in failed.output, "no internals reach the caller"


async def test_a_call_where_none_may_be_is_dropped_and_the_user_still_hears_something() -> None:
    desk = Desk()
    desk.gate("5").set()

    def stubborn(context: Context) -> Script:
        return calls("5")  # always, whatever it is told

    async with Line(stubborn, ["order 5"], agent=desk, filler=NO_WORDS) as line:
        await line.says(0.6)
        await line.until(lambda: said(line))
        assert said(line) == ["Sorry, I have no answer to that."]
        assert any("where no tool may be called" in e.error for e in line.of(ev.Failed))
        assert len(desk.begun) == 4, "LiveKit lets a model call three more times"


async def test_a_filler_that_is_talked_over_does_not_end_the_tool() -> None:
    desk = Desk()
    long = "one moment please while I look for that order of yours " + LONG
    filler = FillerPolicy(after_s=0.3, again_s=60.0, lines=(long,))
    async with Line(tell, ["order 5", "hello"], agent=desk, filler=filler) as line:
        await line.says(0.6)
        await line.until(lambda: [e for e in line.of(ev.ReplyWords) if "moment" in e.delta])
        await line.says(0.8)
        await line.until(lambda: "yes I am here" in said(line))
        assert any(e.cut for e in line.of(ev.ReplyEnded)), "it was talked over"
        assert unanswered(line.mind.one.contexts[-1]) == ["c5"], "the mind knows that it runs"
        desk.gate("5").set()
        await line.until(lambda: said(line)[-1] == "order 5 has shipped")
        cut = [i for i in line.session.history.items if i.type == "message" and i.interrupted]
        assert [i.text_content for i in cut] == [said(line)[0]]
        assert long.startswith(said(line)[0]) and said(line)[0] != long


async def test_words_that_announce_a_tool_may_be_talked_over_and_the_tool_goes_on() -> None:
    desk = Desk()
    announced = "let me have a look at that order " + LONG
    call = ToolCall("c5", "find", '{"number": "5"}')

    def announce(context: Context) -> Script:
        if "order" in context.user_text:
            return Script([announced, call])
        return tell(context)

    async with Line(announce, ["order 5", "hello"], agent=desk, filler=NO_WORDS) as line:
        await line.says(0.6)
        await line.until(lambda: [e for e in line.of(ev.ReplyWords) if "look" in e.delta])
        await line.says(0.8)
        await line.until(lambda: "yes I am here" in said(line))
        assert unanswered(line.mind.one.contexts[-1]) == ["c5"], "the mind knows that it runs"
        desk.gate("5").set()
        await line.until(lambda: said(line)[-1] == "order 5 has shipped")
        cut = [i for i in line.session.history.items if i.type == "message" and i.interrupted]
        assert [i.text_content for i in cut] == [said(line)[0]] != [announced]
        heard = line.mind.one.contexts[-1].items
        assert any(isinstance(i, Said) and i.text == said(line)[0] and i.cut for i in heard)


def spoken_results(context: Context) -> Script:
    """Says the newest result, or that it takes too long."""
    if context.cause is Cause.TOOL:
        return Script([results(context)[-1].output])
    if context.cause is Cause.INSTRUCTED:
        assert "find takes too long" in context.request
        return Script(["that takes too long"])
    return tell(context)


async def test_a_tool_that_never_answers_is_given_up_and_its_late_result_is_told() -> None:
    desk = Desk()
    policy = FillerPolicy(lines=(), give_up_s=1.5)
    async with Line(spoken_results, ["order 5", "hello"], agent=desk, filler=policy) as line:
        await line.says(0.6)
        await line.until(lambda: said(line) == ["that takes too long"])
        failed = results(line.mind.one.contexts[-1])[-1]
        assert failed.error and failed.id == "c5" and "1.5 seconds" in failed.output
        await line.says(0.6)
        await line.until(lambda: said(line)[-1] == "yes I am here")
        desk.gate("5").set()
        await line.until(lambda: said(line)[-1] == "order 5 has shipped")
        both = results(line.mind.one.contexts[-1])
        assert [(r.id, r.error) for r in both] == [("c5", True), ("c5", False)]
        assert desk.begun == ["5"]


async def test_what_is_given_up_is_told_after_the_user_has_spoken() -> None:
    desk = Desk()
    policy = FillerPolicy(lines=(), give_up_s=3.0)
    async with Line(spoken_results, ["order 5", "hello"], agent=desk, filler=policy) as line:
        await line.says(0.6)
        await line.until(lambda: desk.begun)
        session = line.model.newest
        assert session is not None
        line.microphone.pcm = LOUD
        await line.until(lambda: not session._tools_run.running)  # while the user speaks
        assert not said(line)
        line.microphone.pcm = QUIET
        await line.until(lambda: "that takes too long" in said(line))
        heard = [text for role, text in line.history if role == "user"]
        assert heard == ["order 5", "hello"], "nothing the user said is lost"
        turns = line.of(ev.UserTurn)
        told = [e for e in line.of(ev.ReplyEnded) if e.heard == "that takes too long"]
        assert told[0].t_ms > turns[-1].t_ms


async def test_a_tool_that_the_application_interrupts_is_not_waited_for() -> None:
    desk = Desk()
    policy = FillerPolicy(after_s=0.3, again_s=0.5, lines=("one moment",))
    async with Line(tell, ["order 5", "hello"], agent=desk, filler=policy) as line:
        await line.says(0.6)
        await line.until(lambda: "one moment" in said(line))
        await line.until(lambda: not line.engine.floor.has_agent)
        line.session.interrupt(force=True)
        session = line.model.newest
        assert session is not None
        await line.until(lambda: not session._tools_run.running)
        await line.says(0.6)
        await line.until(lambda: said(line)[-1] == "yes I am here")
        context = line.mind.one.contexts[-1]
        assert not [i for i in context.items if isinstance(i, ToolCall)], "it has no result"
