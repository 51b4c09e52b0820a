"""The flow mind in conversation: the front desk, and flows made to be awkward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from parley.minds import flow_script
from parley.minds.base import (
    Cause,
    Context,
    HandOver,
    HangUp,
    MindError,
    MindEvent,
    MindLimits,
    Said,
    TextDelta,
    ToolResult,
)
from parley.minds.flow import FlowMind, FlowReply, FlowSession
from parley.minds.flow_plan import State

CLIPS = Path(__file__).resolve().parents[1] / "data" / "audio" / "manifest.json"


def asked(text: str | None, cause: Cause = Cause.USER, request: str = "") -> Context:
    items = () if text is None else (Said("user", text),)
    return Context(cause, items, request=request)


async def events_of(reply: FlowReply) -> list[MindEvent]:
    return [event async for event in reply]


class Call:
    """A call in which every reply is heard."""

    def __init__(self, session: FlowSession):
        self.session = session
        self.actions: list[MindEvent] = []

    async def open(self) -> str:
        return await self._step(asked(None, Cause.OPENING))

    async def say(self, text: str) -> str:
        return await self._step(asked(text))

    async def silence(self) -> str:
        return await self._step(asked(None, Cause.NO_INPUT))

    async def instructed(self, request: str) -> str:
        return await self._step(asked(None, Cause.INSTRUCTED, request))

    @property
    def node(self) -> str:
        return self.session.state.node

    async def _step(self, context: Context) -> str:
        reply = self.session.reply(context)
        events = await events_of(reply)
        reply.commit()
        self.actions = [event for event in events if not isinstance(event, TextDelta)]
        return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.fixture
async def desk() -> Call:
    call = Call(FlowMind().session())
    await call.open()
    return call


def flow(nodes: str, top: str = "") -> Call:
    """A small flow of one's own."""
    text = (
        "flow: small\nstart: a\n"
        "no_input: {times: 1, say: Hello, then: bye}\nno_match: {times: 1, say: Sorry, then: bye}\n"
        f"{top}\nnodes:\n  bye: {{say: [Bye., Bye again.], hang_up: true}}\n{nodes}"
    )
    return Call(FlowMind(flow_script.parse(text)).session())


# --- the front desk ---


async def test_the_demo_dialogue():
    desk = Call(FlowMind().session())
    assert "How can I help you?" in await desk.open()
    assert "order number" in await desk.say("I'd like to check my order status please")
    answer = await desk.say("one two three four five")
    assert "order 1 2 3 4 5 was shipped on Tuesday" in answer
    assert len(answer.split()) > 60  # 10 s and more, at 150 to 200 words a minute
    assert "look up the status" in await desk.say("Can you help me with something?")
    assert "Goodbye" in await desk.say("Thank you very much")
    assert desk.actions == [HangUp()]


async def test_the_number_may_come_with_the_question(desk: Call):
    answer = await desk.say("Can you check the status of my order number 12345?")
    assert "1 2 3 4 5 was shipped" in answer
    assert (desk.node, desk.session.state.slots["order"]) == ("more", "12345")


@pytest.mark.parametrize(
    ("clip", "node"),
    [
        ("caller_order_status", "ask_order"),
        ("caller_check_order_12345", "more"),
        ("caller_help_me", "help"),
        ("caller_thank_you", "thanks"),
        ("caller_hello", "welcome"),
        ("caller_hi_how_are_you", "welcome"),
        ("human_goodbye", "goodbye"),
        ("human_hours", "more"),
    ],
)
async def test_what_is_said_in_the_recordings_is_understood(desk: Call, clip: str, node: str):
    text = next(c["text"] for c in json.loads(CLIPS.read_text()) if clip in c["file"])
    answer = await desk.say(text)
    assert "Sorry" not in answer
    assert desk.node == node


async def test_an_order_that_is_not_there_is_asked_for_again_and_then_handed_over(desk: Call):
    await desk.say("where is my order")
    first = await desk.say("five four three two one")
    assert "5 4 3 2 1" in first and "cannot find" in first and desk.node == "ask_order"
    await desk.say("99999")
    last = await desk.say("double zero one two three")
    assert "0 0 1 2 3" in last
    assert desk.actions == [HandOver("front_desk")]


async def test_a_number_too_short_is_asked_for_three_times_and_then_a_person_takes_over(desk: Call):
    await desk.say("my order")
    assert "five digits" in await desk.say("one two three")
    assert "slowly" in await desk.say("four five")
    last = await desk.say("six")
    assert "find somebody" in last and "connecting" in last
    assert desk.actions == [HandOver("front_desk")]


async def test_silence_is_asked_about_and_then_ends_the_call(desk: Call):
    assert "still there" in await desk.silence()
    assert desk.actions == []
    assert "Goodbye" in await desk.silence()
    assert desk.actions == [HangUp()]


async def test_a_word_in_between_forgives_the_silence(desk: Call):
    await desk.silence()
    await desk.say("hello")
    await desk.silence()
    assert desk.actions == []


async def test_repeat_says_the_long_answer_again(desk: Call):
    answer = await desk.say("order 20517")
    assert await desk.say("sorry, could you repeat that please?") == answer
    assert desk.node == "more"


async def test_yes_after_the_answer_offers_more_and_no_ends(desk: Call):
    await desk.say("what are your opening hours")
    assert "happy to help" in await desk.say("yes please")
    await desk.say("opening")
    assert "Thank you for calling" in await desk.say("no thanks")
    assert desk.actions == [HangUp()]


@pytest.mark.parametrize(
    ("heard", "cut", "ends"),
    [
        ("We open at nine in the", True, False),  # the question was still to come
        ("We open at nine. Is there any", True, True),
        ("We open at nine. Is there anything else that I can do for you?", False, True),
    ],
)
async def test_a_no_to_a_question_that_nobody_heard_does_not_hang_up(
    desk: Call, heard: str, cut: bool, ends: bool
):
    await desk.say("what are your opening hours")

    def over(said: str) -> Context:
        asked = (Said("user", "hours"), Said("agent", heard, cut=cut), Said("user", said))
        return Context(Cause.USER, asked)

    assert (HangUp() in await events_of(desk.session.reply(over("nope")))) == ends
    assert HangUp() in await events_of(desk.session.reply(over("goodbye")))


async def test_a_no_over_the_apology_for_a_question_heard_before_is_an_answer(desk: Call):
    question = Said("agent", "Is there anything else that I can do for you?")
    await desk.say("what are your opening hours")
    await desk.say("mumble mumble")
    items = (question, Said("user", "mumble"), Said("agent", "Sorry, I", cut=True))
    reply = desk.session.reply(Context(Cause.USER, (*items, Said("user", "no"))))
    assert HangUp() in await events_of(reply)


async def test_a_caller_who_speaks_over_the_goodbye_is_heard(desk: Call):
    await desk.say("goodbye")
    assert "nine in the morning" in await desk.say("wait, what are your opening hours?")
    assert desk.actions == []
    await desk.say("bye")
    assert (await desk.say("mumble mumble")).endswith("Goodbye!")
    assert desk.actions == [HangUp()]
    assert await desk.silence() == ""
    assert desk.actions == [HangUp()]


async def test_not_wanting_a_person_gets_none(desk: Call):
    await desk.say("I do not want to talk to a person")
    assert desk.actions == []


async def test_one_who_speaks_first_is_understood_or_greeted():
    early = Call(FlowMind().session())
    assert "nine in the morning" in await early.say("opening hours")
    other = Call(FlowMind().session())
    assert "Harbour Lane" in await other.say("mumble")
    assert other.node == "welcome"


# --- flows of one's own ---


async def test_variants_take_turns_and_retries_advance():
    call = flow(
        "  a:\n    say: [One., Two.]\n    expect: [{phrases: again, go: a}]\n"
        "    no_match: {times: 2, say: [First., Second., Last.], then: bye}\n"
    )
    assert await call.open() == "One."
    assert [await call.say("again") for _ in range(3)] == ["Two.", "One.", "Two."]
    assert [await call.say("xyz") for _ in range(3)] == ["First.", "Second.", "Last. Bye."]


async def test_branches_by_value_by_number_and_by_visits():
    call = flow(
        "  a:\n    say: How many?\n    expect:\n"
        "      - {phrases: '{count:number} {thing}', go: b}\n"
        "  b:\n    branch:\n"
        "      - {when: {visits: b, at_least: 4}, go: bye}\n"
        "      - {when: {slot: thing, is: tea}, go: tea}\n"
        "      - {when: {slot: count, at_least: 3, at_most: 9}, go: several}\n"
        "      - {go: few}\n"
        "  tea: {say: Tea., go: a}\n  several: {say: Several., go: a}\n  few: {say: Few., go: a}\n",
        "slots: {thing: {type: choice, values: {tea: [tea], cup: [coffee, cup of coffee]}}}",
    )
    await call.open()
    assert await call.say("seven tea") == "Tea. How many?"
    assert await call.say("seven cup of coffee") == "Several. How many?"
    assert await call.say("ten coffee") == "Few. How many?"
    assert await call.say("ten coffee") == "Bye."


async def test_known_and_unknown():
    call = flow(
        "  a:\n    say: Well.\n    expect:\n      - {phrases: 'i am {name}', say: 'Hi {name}.'}\n"
        "      - {phrases: who, go: who}\n"
        "  who:\n    branch:\n      - {when: {slot: name, known: false}, go: nobody}\n"
        "      - {when: {slot: name, known: true}, go: you}\n      - {go: nobody}\n"
        "  nobody: {say: Nobody., go: a}\n  you: {say: 'You are {name} {{sic}}.', go: a}\n",
        "slots: {name: {type: any}}",
    )
    await call.open()
    assert await call.say("who") == "Nobody. Well."
    assert await call.say("I am Ada") == "Hi ada."
    assert await call.say("who") == "You are ada {sic}. Well."


async def test_an_application_can_send_the_call_to_a_node():
    call = Call(FlowMind().session())
    assert "Harbour Lane" in await call.instructed("greet the caller")
    assert "How can I help" in await call.instructed("be nice")
    assert "order number" in await call.instructed("ask_order")
    assert call.node == "ask_order"
    with pytest.raises(MindError, match=r"order_known.*has not told"):
        await call.instructed("order_known")
    assert call.node == "ask_order"


async def test_results_of_tools_make_it_ask_again(desk: Call):
    context = Context(Cause.TOOL, (ToolResult("1", "x", "y"),))
    reply = desk.session.reply(context)
    assert "help you" in "".join(e.text for e in await events_of(reply))


async def test_two_turns_without_an_answer_are_one(desk: Call):
    items = (Said("agent", "number?"), Said("user", "one two three"), Said("user", "four five"))
    await desk.say("my order")
    desk.session.reply(Context(Cause.USER, items)).commit()
    assert desk.session.state.slots["order"] == "12345"


async def test_a_reply_is_bounded_and_comes_in_sentences():
    session = FlowMind(limits=MindLimits(max_chars=30)).session()
    events = await events_of(session.reply(asked(None, Cause.OPENING)))
    assert "".join(e.text for e in events) == "Hello, this is Harbour Lane Bo"
    whole = await events_of(FlowMind().session().reply(asked(None, Cause.OPENING)))
    assert whole == [
        TextDelta("Hello, this is Harbour Lane Books. "),
        TextDelta("How can I help you?"),
    ]


# --- nothing happens before it is heard ---


async def test_only_commit_moves():
    session = FlowMind().session()
    before = session.state
    reply = session.reply(asked("opening hours"))
    await events_of(reply)
    assert session.state == before
    reply.commit()
    assert session.state.node == "more"
    reply.cancel()
    await reply.aclose()
    assert session.state.node == "more"


async def test_a_cancelled_reply_stops_and_cannot_be_committed():
    session = FlowMind().session()
    reply = session.reply(asked("opening hours"))
    events = aiter(reply)
    await anext(events)
    reply.cancel()
    assert [event async for event in events] == []
    with pytest.raises(RuntimeError, match="discarded"):
        reply.commit()
    assert session.state == State()


async def test_committed_early_and_cut_still_counts():
    session = FlowMind().session()
    reply = session.reply(asked("opening hours"))
    reply.commit()
    reply.commit()
    reply.cancel()
    assert await events_of(reply) == []
    assert session.state.node == "more"


async def test_iterating_twice_is_an_error():
    reply = FlowMind().session().reply(asked("hello"))
    await events_of(reply)
    with pytest.raises(RuntimeError, match="once"):
        await events_of(reply)


async def test_calls_do_not_share_state():
    mind = FlowMind()
    await mind.start()
    one, two = Call(mind.session()), Call(mind.session())
    await one.say("order 12345")
    assert two.session.state == State()
    await one.session.aclose()
    await mind.aclose()


# --- any conversation at all ---

PHRASES = ["yes", "no", "help", "goodbye", "thanks", "order 12345", "order 11111", "my order"]
PHRASES += ["one two three", "12345", "hours", "repeat that", "a person", "um", "wait", "no idea"]
PHRASES += ["never mind", "i do not know", "status", "oh one", "{order}", ""]
PIECES = ["my", "order", "number", "one", "two", "is", "not", "twenty", "the", "yes", "person", "{"]
SPOKEN = st.one_of(
    st.text(max_size=40),
    st.sampled_from(PHRASES),
    st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join),
)


class AnyCall(RuleBasedStateMachine):
    """Random walks with speculations, cuts, silence and jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.session = FlowMind(FRONT_DESK).session()
        self.expected = self.session.state

    @rule(text=SPOKEN, commit=st.booleans())
    def speaks(self, text: str, commit: bool) -> None:
        self._try(asked(text), commit)

    @rule(cause=st.sampled_from([Cause.OPENING, Cause.NO_INPUT, Cause.TOOL]), commit=st.booleans())
    def happens(self, cause: Cause, commit: bool) -> None:
        self._try(asked(None, cause), commit)

    @rule(request=st.sampled_from([*flow_script.shipped("front_desk").flow.nodes, "be kind", ""]))
    def is_told(self, request: str) -> None:
        try:
            self._try(asked(None, Cause.INSTRUCTED, request), True)
        except MindError:
            assert request in ("order", "order_known", "order_unknown", "order_lost")

    @rule(text=SPOKEN)
    def wonders(self, text: str) -> None:
        likely = self.session.completeness(text)
        assert likely is None or 0 <= likely <= 1

    @invariant()
    def state_moves_on_commit_only(self) -> None:
        assert self.session.state == self.expected
        node = self.session.state.node
        assert not node or FRONT_DESK.node(node).expect or FRONT_DESK.node(node).ends

    @invariant()
    def the_recogniser_has_a_grammar(self) -> None:
        grammar = self.session.grammar()
        assert grammar is not None and "{" not in grammar.jsgf

    def _try(self, context: Context, commit: bool) -> None:
        one, other = self.session.reply(context), self.session.reply(context)
        assert list(one._events()) == list(other._events())  # the same from the same state
        assert any(list(one._events())), "an answer without a word or an action"
        other.cancel()
        if commit:
            one.commit()
            self.expected = one._plan.state
        else:
            one.cancel()


FRONT_DESK = flow_script.shipped("front_desk")
AnyCall.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestAnyCall = AnyCall.TestCase


@given(st.text(max_size=300))
@settings(max_examples=50, deadline=None)
def test_any_words_get_an_answer_in_every_node(text: str):
    for name in FRONT_DESK.flow.nodes:
        node = FRONT_DESK.node(name)
        if node.expect or node.ends:
            session = FlowMind(FRONT_DESK).session()
            session._move(State(node=name))
            reply = session.reply(asked(text))
            assert any(list(reply._events()))
