"""FullDuplex in a real AgentSession (scripted parts, no room): the contract with LiveKit 1.8."""

from __future__ import annotations

import asyncio

import pytest
from livekit.agents import Agent, AgentSession, RunContext, function_tool
from livekit.agents.llm import Toolset
from livekit.plugins import parley

from agent.fakes import Script, ToneVoice
from parley.dialogue import events as ev
from parley.minds.base import Cause, Context, Said, ToolCall, ToolResult
from plugins.line import Line

LONG = " ".join(f"word{i}" for i in range(40))


async def test_a_turn_is_answered_and_kept_in_livekits_history() -> None:
    async with Line(lambda _: Script(["fine thanks"]), ["how are you"]) as line:
        states: list[str] = []
        line.session.on("user_state_changed", lambda e: states.append(e.new_state))
        await line.says(0.6)
        await line.until(lambda: len(line.history) == 2)
        assert line.history == [("user", "how are you"), ("assistant", "fine thanks")]
        assert states[:2] == ["speaking", "listening"]
        assert line.loudspeaker.pcm.max() == 8000


async def test_an_interruption_leaves_the_heard_words_marked_as_interrupted() -> None:
    async with Line(lambda _: Script([LONG]), ["tell me", "stop it"]) as line:
        handles = []
        line.session.on("speech_created", lambda e: handles.append(e.speech_handle))
        await line.says(0.5)
        await line.until(lambda: line.of(ev.ReplyFrame))
        await asyncio.sleep(1.3)
        await line.says(0.6)
        await line.until(lambda: len(line.history) >= 3)
        ended = line.of(ev.ReplyEnded)[0]
        assert ended.cut and 0 < len(ended.heard) < len(LONG)
        assert ("assistant", ended.heard) in line.history
        message = next(i for i in line.session.history.items if getattr(i, "interrupted", False))
        assert message.text_content == ended.heard
        assert handles[0].interrupted
        assert Said("agent", ended.heard, cut=True) in line.mind.one.contexts[-1].items


async def test_mark_up_for_a_pause_is_not_in_the_history() -> None:
    async with Line(lambda _: Script(["One moment. [pause:200ms] Here it is."]), ["hello"]) as line:
        await line.says(0.5)
        await line.until(lambda: len(line.history) == 2)
        assert line.history[1] == ("assistant", "One moment. Here it is.")


async def test_a_nod_changes_nothing_in_the_history() -> None:
    async with Line(lambda _: Script([LONG]), ["tell me", "mhm"]) as line:
        await line.says(0.5)
        await line.until(lambda: line.of(ev.ReplyFrame))
        await asyncio.sleep(0.8)
        await line.says(0.2)
        await line.until(lambda: len(line.history) == 2, 15)
        assert line.history == [("user", "tell me"), ("assistant", LONG)]
        assert [e.text for e in line.of(ev.UserAside)] == ["mhm"]


async def test_interrupt_by_the_application_cuts_to_the_word() -> None:
    async with Line(lambda _: Script([LONG])) as line:
        handle = line.session.generate_reply(instructions="tell a story")
        await line.until(lambda: len(line.of(ev.ReplyWords)) >= 4)
        await line.session.interrupt()
        await handle
        await line.until(lambda: line.of(ev.ReplyEnded))
        ended = line.of(ev.ReplyEnded)[0]
        assert handle.interrupted and ended.cut
        [(role, text)] = line.history
        assert role == "assistant" and LONG.startswith(text) and 3 <= len(text.split()) < 40
        assert line.model.newest is not None and line.model.newest.engine is not None
        [said] = line.model.newest.engine.ledger.items()
        assert isinstance(said, Said) and said.text == text, "engine and LiveKit agree"
        await line.until(lambda: line.session.agent_state == "listening")


async def test_say_waits_for_its_words_and_takes_streams() -> None:
    async def words():  # type: ignore[no-untyped-def]
        for word in ("one ", "two ", "three"):
            yield word

    async with Line(lambda _: Script(["never"])) as line:
        await line.session.say("good morning")
        await line.session.say(words())
        assert line.history == [("assistant", "good morning"), ("assistant", "one two three")]


async def test_generate_reply_carries_its_instructions_and_the_agents() -> None:
    async with Line(lambda c: Script([c.request or "hello"])) as line:
        await line.session.generate_reply(instructions="greet the caller")
        context: Context = line.mind.one.contexts[-1]
        assert context.cause is Cause.INSTRUCTED
        assert context.request == "greet the caller"
        assert "be kind" in context.instructions
        await line.session.generate_reply()


async def test_the_first_bare_generate_reply_is_the_opening() -> None:
    async with Line(lambda _: Script(["welcome"])) as line:
        await line.session.generate_reply()
        assert line.mind.one.contexts[-1].cause is Cause.OPENING


class Clerk(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="you are a clerk")
        self.asked: list[str] = []

    @function_tool
    async def find_order(self, context: RunContext, number: str) -> str:
        """Finds an order.

        Args:
            number: the order's number
        """
        self.asked.append(number)
        return f"order {number} has shipped"


def using_a_tool(context: Context) -> Script:
    if context.cause is Cause.TOOL:
        result = context.items[-1]
        assert isinstance(result, ToolResult)
        return Script([result.output])
    return Script([ToolCall("call_1", "find_order", '{"number": "5"}')])


async def test_a_function_tool_runs_and_its_result_is_spoken() -> None:
    clerk = Clerk()
    async with Line(using_a_tool, ["where is order five"], agent=clerk) as line:
        await line.says(0.6)
        await line.until(lambda: ("assistant", "order 5 has shipped") in line.history)
        assert clerk.asked == ["5"]
        [spec] = line.mind.one.contexts[0].tools
        assert spec.name == "find_order" and "number" in str(spec.parameters)


async def test_tools_and_instructions_can_change_in_mid_call() -> None:
    async with Line(lambda _: Script(["ok"]), agent=Clerk()) as line:
        await line.session.say("hello")
        await line.agent.update_instructions("be brief")
        await line.agent.update_tools([])
        await line.session.generate_reply(instructions="go on")
        context = line.mind.one.contexts[-1]
        assert "be brief" in context.instructions and context.tools == ()


class Greeter(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="greet")

    @function_tool
    async def hand_over(self, context: RunContext) -> tuple[Agent, str]:
        """Hands over to the clerk."""
        return Clerk(), "handing over"


def as_told(context: Context) -> Script:
    """The greeter hands over when it is asked for the clerk; both say who they are."""
    if "clerk" in context.user_text and context.tool_choice != "none":
        return Script([ToolCall("h1", "hand_over", "{}")])
    return Script([f"as {context.instructions.split()[-1]}"])


async def test_a_hand_off_goes_on_with_the_same_engine() -> None:
    async with Line(as_told, ["clerk please", "hello"], agent=Greeter()) as line:
        await line.says(0.6)
        engine = line.engine
        await line.until(lambda: isinstance(line.session.current_agent, Clerk))
        await line.says(0.6)
        await line.until(lambda: ("assistant", "as clerk") in line.history)
        assert line.history.count(("user", "hello")) == 1
        assert line.engine is engine


class SlowToLeave(Greeter):
    """While ``on_exit`` runs, LiveKit takes no turns."""

    def __init__(self) -> None:
        super().__init__()
        self.leaving, self.may_leave = asyncio.Event(), asyncio.Event()

    async def on_exit(self) -> None:
        self.leaving.set()
        await self.may_leave.wait()


async def test_a_turn_that_ends_during_a_hand_off_is_answered_by_the_new_agent() -> None:
    agent = SlowToLeave()
    async with Line(as_told, ["clerk please", "hello"], agent=agent) as line:
        await line.says(0.6)
        await asyncio.wait_for(agent.leaving.wait(), 10)
        await line.until(lambda: ("assistant", "as greet") in line.history)  # the tool's reply
        await line.says(0.6)
        await line.until(lambda: len(line.of(ev.UserTurn)) == 2)
        assert ("user", "hello") not in line.history, "it is not the greeter's to answer"
        agent.may_leave.set()
        await line.until(lambda: ("assistant", "as clerk") in line.history)
        assert line.history[-2:] == [("user", "hello"), ("assistant", "as clerk")]
        assert [text for role, text in line.history if role == "user"] == ["clerk please", "hello"]
        assert line.engine.ledger.items()[-2:] == (Said("user", "hello"), Said("agent", "as clerk"))


async def test_two_turns_during_a_hand_off_get_one_answer_to_both() -> None:
    agent = SlowToLeave()
    words = ["clerk please", "hello", "are you there"]
    async with Line(as_told, words, agent=agent) as line:
        await line.says(0.6)
        await asyncio.wait_for(agent.leaving.wait(), 10)
        await line.until(lambda: ("assistant", "as greet") in line.history)
        for turns in (2, 3):
            await line.says(0.6)
            await line.until(lambda n=turns: len(line.of(ev.UserTurn)) == n)
        agent.may_leave.set()
        await line.until(lambda: ("assistant", "as clerk") in line.history)
        assert line.history[-3:] == [
            ("user", "hello"),
            ("user", "are you there"),
            ("assistant", "as clerk"),
        ]
        assert line.mind.one.contexts[-1].user_text == "hello are you there"


class SlowToStart(Toolset):
    """Between two agents, while the new one's tools are set up, nobody listens to the model."""

    def __init__(self) -> None:
        super().__init__(id="slow")
        self.starting, self.may_start = asyncio.Event(), asyncio.Event()

    async def setup(self) -> SlowToStart:
        self.starting.set()
        await self.may_start.wait()
        return self


class Bistro(Agent):
    """Speaks first."""

    def __init__(self, tools: list[Toolset] | None = None) -> None:
        super().__init__(instructions="you are the bistro", tools=tools)

    async def on_enter(self) -> None:
        self.session.say("welcome")


async def test_a_turn_that_ends_between_two_agents_follows_the_new_ones_welcome() -> None:
    tools = SlowToStart()

    class Transfer(Agent):
        @function_tool
        async def transfer(self, context: RunContext) -> Agent:
            """Hands over without a word."""
            return Bistro([tools])

    def answer(context: Context) -> Script:
        if "transfer" in context.user_text:
            return Script([ToolCall("h1", "transfer", "{}")])
        return Script([f"as {context.instructions.split()[-1]}"])

    words = ["transfer me", "hello"]
    async with Line(answer, words, agent=Transfer(instructions="transfer")) as line:
        await line.says(0.6)
        await asyncio.wait_for(tools.starting.wait(), 10)
        line.says_directly(0.6)  # LiveKit passes on no audio just now
        await line.until(lambda: len(line.of(ev.UserTurn)) == 2)
        tools.may_start.set()
        await line.until(lambda: ("assistant", "as bistro") in line.history)
        spoken = [text for role, text in line.history]
        assert spoken == ["transfer me", "welcome", "hello", "as bistro"]


async def test_a_turn_beside_a_reply_that_the_application_asked_for_comes_after_it() -> None:
    """LiveKit plays speeches in the order in which it made them. A turn answered first would play
    unheard behind the speech that waits for it."""
    async with Line(lambda c: Script([f"you said {c.user_text}"]), ["hello"]) as line:
        speaking = asyncio.create_task(line.says(0.8))
        await line.until(lambda: line.of(ev.UserText))
        handle = line.session.say("your taxi is here")
        await speaking
        await line.until(lambda: ("assistant", "you said hello") in line.history)
        assert handle.done()
        spoken = [text for role, text in line.history if role == "assistant"]
        assert spoken == ["your taxi is here", "you said hello"]
        assert len(line.of(ev.ReplyFrame)) * 480 <= len(line.loudspeaker.pcm), "nothing unheard"


async def test_text_runs_work_for_tests_of_an_application() -> None:
    async with Line(lambda c: Script([f"you said {c.user_text}"])) as line:
        result = await asyncio.wait_for(line.session.run(user_input="ping"), 10)
        result.expect.next_event().is_message(role="assistant")
        assert ("assistant", "you said ping") in line.history


async def test_an_error_of_the_mind_reaches_the_application() -> None:
    async with Line(lambda _: Script([ValueError("broken")]), ["hello"]) as line:
        errors = []
        line.session.on("error", lambda e: errors.append(e.error))
        await line.says(0.6)
        await line.until(lambda: errors)
        assert errors[0].recoverable


async def test_metrics_are_reported_for_every_reply() -> None:
    async with Line(lambda _: Script(["fine"]), ["hello"]) as line:
        seen = []
        line.session.on("metrics_collected", lambda e: seen.append(e.metrics))
        await line.says(0.6)
        await line.until(lambda: seen)
        assert seen[0].ttft >= 0 and not seen[0].cancelled


async def test_any_microphone_rate_and_stereo_are_heard() -> None:
    import numpy as np
    from livekit import rtc

    async with Line(lambda _: Script(["yes"]), ["hello"]) as line:
        for rate, channels in ((8000, 1), (44100, 2), (48000, 1)):
            n = rate // 50
            pcm = np.full(n * channels, 3000, np.int16).tobytes()
            duplex = line.model.newest
            assert duplex is not None
            before = line.of(ev.UserStarted)
            line.microphone.pcm = np.zeros(320, np.int16)
            for _ in range(30):
                duplex.push_audio(rtc.AudioFrame(pcm, rate, channels, n))
                await asyncio.sleep(0.02)
            await line.until(lambda b=before: len(line.of(ev.UserStarted)) > len(b))
            await asyncio.sleep(0.5)


# --- sessions that would fight ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "aec_warmup_duration"),
        ({"aec_warmup_duration": None}, "vad="),
        ({"aec_warmup_duration": None, "vad": None}, "turn_detection"),
    ],
)
async def test_a_session_that_would_fight_is_refused_with_the_right_call(
    options: dict[str, None], reason: str
) -> None:
    line = Line(lambda _: Script([]))
    session: AgentSession = AgentSession(llm=line.model, **options)  # type: ignore[arg-type]
    line.model.bind(session)
    with pytest.raises(parley.SessionWouldFight) as refused:
        await session.start(Agent(instructions=""))
    assert reason in str(refused.value)
    assert "parley.session_options()" in str(refused.value)
    await session.aclose()


@pytest.mark.parametrize("name", ["vad", "stt", "tts", "turn_handling", "llm"])
def test_the_helper_refuses_what_would_fight(name: str) -> None:
    with pytest.raises(parley.SessionWouldFight, match=name):
        parley.full_duplex_session(parley.FullDuplex(), **{name: object()})


async def test_a_slow_voice_is_not_a_lost_reply() -> None:
    voice = ToneVoice(first_s=0.5)
    async with Line(lambda _: Script(["late but here"]), ["hello"], voice=voice) as line:
        await line.says(0.6)
        await line.until(lambda: ("assistant", "late but here") in line.history)
