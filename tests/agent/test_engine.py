"""The engine in virtual time: whole conversations, cuts to the word, faults on every side."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.fakes import (
    LOUD,
    QUIET,
    WORD_MS,
    CleanLine,
    DurationOverlap,
    LevelVad,
    Script,
    ScriptedMind,
    ScriptedRecognizer,
    ToneVoice,
)
from parley.dialogue import events as ev
from parley.dialogue.acts import Duck, Unduck
from parley.dialogue.ears import Ears
from parley.dialogue.engine import Engine
from parley.dialogue.floor import State
from parley.dialogue.policy import FloorPolicy
from parley.minds.base import Cause, Context, HangUp, MindError, Said, ToolCall, ToolResult
from parley_speech.types import SPEAKER_HZ, Hypothesis, OverlapEvidence, Pcm
from virtual_time import run as run_virtually

T = TypeVar("T")
LONG = " ".join(f"word{i}" for i in range(40))


class Call:
    """An engine, its events, and a user who can speak."""

    def __init__(
        self,
        words: list[str],
        answer: Callable[[Context], Script] = lambda _: Script(["fine thanks"]),
        *,
        voice: ToneVoice | None = None,
        policy: FloorPolicy | None = None,
        late: int = 0,
        doubted: frozenset[int] = frozenset(),
    ) -> None:
        self.mind = ScriptedMind(answer)
        self.voice = voice or ToneVoice()
        self.recognizer = ScriptedRecognizer(words, late, doubted)
        self.events: list[ev.EngineEvent] = []
        ears = Ears(LevelVad(), self.recognizer, CleanLine(), DurationOverlap())
        self.engine = Engine(
            ears,
            self.mind,
            self.voice,
            self.events.append,
            policy=policy or FloorPolicy(no_input_ms=None),
        )
        self.mic = QUIET
        self.mic_on = True

    async def __aenter__(self) -> Call:
        self._tasks = [
            asyncio.create_task(self.engine.run()),
            asyncio.create_task(self._microphone()),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _microphone(self) -> None:
        while True:
            if self.mic_on:
                self.engine.push_mic(self.mic)
            await asyncio.sleep(0.02)

    async def says(self, seconds: float) -> None:
        self.mic = LOUD
        await asyncio.sleep(seconds)
        self.mic = QUIET

    async def until(self, condition: Callable[[], object]) -> None:
        """Virtual time costs nothing, so looking every 10 ms is exact enough and bounded."""
        for _ in range(6000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it did not happen within a minute")

    def of(self, kind: type[T]) -> list[T]:
        return [e for e in self.events if isinstance(e, kind)]

    @property
    def turns(self) -> list[str]:
        return [e.text for e in self.of(ev.UserTurn)]

    @property
    def ended(self) -> list[ev.ReplyEnded]:
        return self.of(ev.ReplyEnded)


def virtually(scenario: Callable[[], Any]) -> None:
    run_virtually(asyncio.wait_for(scenario(), 3600))


def test_a_turn_is_heard_answered_and_remembered() -> None:
    async def scenario() -> None:
        async with Call(["where is my order"]) as call:
            await asyncio.sleep(0.5)
            await call.says(1.0)
            await asyncio.sleep(3)
        assert call.turns == ["where is my order"]
        assert call.engine.ledger.items() == (
            Said("user", "where is my order"),
            Said("agent", "fine thanks"),
        )
        [ended] = call.ended
        assert not ended.cut and ended.heard == "fine thanks"
        assert "".join(e.delta for e in call.of(ev.ReplyWords)) == "fine thanks"
        frames = call.of(ev.ReplyFrame)
        played = np.concatenate([f.pcm for f in frames])
        assert np.count_nonzero(played) >= 2 * WORD_MS * SPEAKER_HZ // 1000
        assert {b.t_ms - a.t_ms for a, b in pairwise(frames)} == {20}
        assert call.mind.closed and call.recognizer.closed and call.voice.open == 0

    virtually(scenario)


def test_a_ready_reply_sounds_in_the_tick_of_the_decision() -> None:
    async def scenario() -> None:
        async with Call(["hello"]) as call:
            await call.says(0.6)
            await asyncio.sleep(3)
        latencies = {m.name: m.ms for m in call.of(ev.Measured)}
        assert latencies["reply"] == latencies["reply_waited"]

    virtually(scenario)


@pytest.mark.parametrize("after_ms", [0, 100, 260, 700, 2010, 5555])
def test_a_cut_reply_is_remembered_to_the_word(after_ms: int) -> None:
    async def scenario() -> None:
        async with Call(["tell me", "stop it"], lambda _: Script([LONG])) as call:
            await call.says(0.5)
            await call.until(lambda: call.of(ev.ReplyFrame))
            await asyncio.sleep(after_ms / 1000)
            await call.says(1.0)
            await call.until(lambda: len(call.turns) == 2)
        cut = call.ended[0]
        pcm = np.concatenate([f.pcm for f in call.of(ev.ReplyFrame) if f.reply == cut.reply])
        audible = int(np.count_nonzero(np.abs(pcm.astype(int)) >= 0.05 * 8000))
        words = int((audible * 1000 / SPEAKER_HZ + WORD_MS / 2) // WORD_MS)
        expected = " ".join(LONG.split()[:words])
        assert cut.cut and cut.heard == expected
        said = [i for i in call.mind.contexts[-1].items if isinstance(i, Said)]
        assert said[-2:] == [Said("agent", expected, cut=True), Said("user", "stop it")]

    virtually(scenario)


def test_a_nod_is_an_aside_and_nothing_is_lost_or_repeated() -> None:
    async def scenario() -> None:
        async with Call(["tell me", "yes"], lambda _: Script([LONG])) as call:
            await call.says(0.5)
            await asyncio.sleep(3)
            await call.says(0.2)
            await asyncio.sleep(10)
        [ended] = call.ended
        assert ended.heard == LONG and not ended.cut
        assert [e.text for e in call.of(ev.UserAside)] == ["yes"]
        assert call.turns == ["tell me"]
        levels = [int(f.pcm.max()) for f in call.of(ev.ReplyFrame)]
        assert min(levels[:-1]) == pytest.approx(8000 * 0.178, rel=0.02), "ducked, never silent"
        total = sum(np.count_nonzero(f.pcm) for f in call.of(ev.ReplyFrame))
        assert total == pytest.approx(40 * WORD_MS * SPEAKER_HZ // 1000, abs=SPEAKER_HZ * 3 // 1000)

    virtually(scenario)


def test_words_below_trust_tell_a_little_about_the_end_of_the_turn_and_are_not_told() -> None:
    async def scenario() -> None:
        async with Call(["hours"], doubted=frozenset({0})) as call:
            call.mind.sure = 1.0
            call.recognizer.partials = False
            await call.says(0.5)
            await call.until(lambda: call.engine._percept().unclear)
            percept = call.engine._percept()
            assert (percept.text, percept.completeness) == ("", FloorPolicy().doubted_complete)
            call.mind.sure = 0.2
            assert call.engine._percept().completeness is None, "nor do they hold the answer up"
            await call.until(lambda: call.turns)
        assert call.turns == [""]

    virtually(scenario)


def test_a_soft_sound_lowers_the_agent_for_a_moment_and_means_nothing() -> None:
    """A rustle that the detector takes for no voice."""

    async def scenario() -> None:
        async with Call(["tell me"], lambda _: Script([LONG])) as call:
            await call.says(0.5)
            await asyncio.sleep(3)
            call.mic = (LOUD // 16).astype(LOUD.dtype)
            await asyncio.sleep(0.3)
            call.mic = QUIET
            await asyncio.sleep(10)
        [duck], [unduck] = (
            [e.t_ms for e in call.of(ev.FloorMoved) if act in e.acts]
            for act in (Duck(), Unduck("nothing"))
        )
        assert 0 < unduck - duck <= FloorPolicy().stir_ms
        [ended] = call.ended
        assert ended.heard == LONG and not ended.cut
        assert call.turns == ["tell me"]
        assert not call.of(ev.UserAside) and not call.of(ev.OverlapDecided)

    virtually(scenario)


class WordOverlap(DurationOverlap):
    """ "No" wants the floor, once it is sure that it was said; no sound does."""

    def step(self, frame: Pcm, p_voice: float, echo: float) -> OverlapEvidence:
        evidence = super().step(frame, p_voice, echo)
        p = 0.95 if "no" in self.words else 0.2
        return replace(evidence, p_interruption=p, words=self.words)

    def begin(self, t_ms: int) -> None:
        super().begin(t_ms)
        self.words: tuple[str, ...] = ()

    def hear(self, words: tuple[str, ...], confidence: float = 0.0) -> None:
        self.words = words


@pytest.mark.parametrize("late", [0, 4, 8, 12, 16])
def test_a_lone_no_stops_the_agent_however_late_its_final_comes(late: int) -> None:
    """The recogniser is unsure of its partial, and its final says the same word."""

    async def scenario() -> None:
        call = Call(["tell me", "no"], lambda _: Script([LONG]), late=late)
        call.engine._ears = Ears(LevelVad(), call.recognizer, CleanLine(), WordOverlap())
        call.recognizer.partial_confidence = 0.1
        async with call:
            await call.says(0.5)
            await asyncio.sleep(3)
            await call.says(0.2)
            await call.until(lambda: len(call.turns) == 2)
        assert call.ended[0].cut
        assert call.turns == ["tell me", "no"]

    virtually(scenario)


class TurnOverlap(DurationOverlap):
    """Counts what it is told of the user's own turns."""

    voiced = silent = 0

    def turn(self, frame: Pcm, voice: bool) -> None:
        self.voiced += voice
        self.silent += not voice


def test_the_judge_of_overlaps_learns_the_voice_from_the_users_turns() -> None:
    async def scenario() -> None:
        overlap = TurnOverlap()
        call = Call(["tell me", "yes"], lambda _: Script([LONG]))
        call.engine._ears = Ears(LevelVad(), call.recognizer, CleanLine(), overlap)
        async with call:
            await call.says(0.5)
            await call.until(lambda: call.of(ev.ReplyFrame))
            assert overlap.voiced == pytest.approx(25, abs=1)
            assert overlap.silent > 0
            known = overlap.voiced, overlap.silent
            await call.says(0.2)
            assert (overlap.voiced, overlap.silent) == known, "the agent has the floor"

    virtually(scenario)


def test_a_late_final_does_not_count_words_twice() -> None:
    async def scenario() -> None:
        async with Call(["where is it", "bye"], late=60) as call:
            await call.says(0.6)
            await asyncio.sleep(4)
            await call.says(0.6)
            await asyncio.sleep(4)
        heard = " ".join([*call.turns, *(a.text for a in call.of(ev.UserAside))])
        assert sorted(heard.split()) == sorted(["where", "is", "it", "bye"])

    virtually(scenario)


def test_a_word_that_was_not_clear_is_a_turn_without_words() -> None:
    async def scenario() -> None:
        async with Call(["hours"], doubted=frozenset({0})) as call:
            await call.says(0.4)
            await asyncio.sleep(4)
        assert call.turns == [""], "the mind asks again; silence would lose what was said"
        assert call.ended[0].heard == "fine thanks"

    virtually(scenario)


def test_three_coughs_are_not_a_mumbled_turn() -> None:
    async def scenario() -> None:
        async with Call([]) as call:
            for _ in range(3):
                await call.says(0.4)
                await asyncio.sleep(3)
        assert call.turns == []

    virtually(scenario)


@pytest.mark.parametrize("late_ms", [200, 1500, 2500, 5000])
def test_a_slow_recogniser_loses_no_turn(late_ms: int) -> None:
    async def scenario() -> None:
        async with Call(["bye"], late=late_ms // 20) as call:
            call.recognizer.partials = False
            await call.says(0.4)
            await asyncio.sleep(8)
        assert call.turns == ["bye"]

    virtually(scenario)


def test_the_microphone_may_be_missing_for_a_minute_and_come_back() -> None:
    async def scenario() -> None:
        async with Call(["hello"]) as call:
            call.mic_on = False
            await asyncio.sleep(60)
            call.mic_on = True
            await call.says(0.6)
            await asyncio.sleep(3)
        assert call.turns == ["hello"]

    virtually(scenario)


def test_a_process_that_stood_still_says_so() -> None:
    async def scenario() -> None:
        async with Call([]) as call:
            await asyncio.sleep(0.1)
            for _ in range(400):
                call.engine.push_mic(QUIET)
            await asyncio.sleep(0.1)
        assert call.engine.stats.mic_overflow > 0
        assert any(f.where == "ears" for f in call.of(ev.Failed))

    virtually(scenario)


def test_microphone_blocks_of_any_length_are_the_same_audio() -> None:
    async def scenario() -> None:
        async with Call(["hello there"]) as call:
            call.mic_on = False
            for _ in range(60):
                call.engine.push_mic(np.full(331, 3000, np.int16))
                await asyncio.sleep(331 / 16000)
            call.mic_on = True
            await asyncio.sleep(3)
        assert call.turns == ["hello there"]

    virtually(scenario)


# --- minds and voices that fail -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "heard"),
    [
        (Script([]), "Sorry, I have no answer to that."),
        (Script([MindError("x", spoken="I am slow today.")]), "I am slow today."),
        (
            Script(["It is on", MindError("x", spoken="I lost my thread.")]),
            "It is on. I lost my thread.",
        ),
        (
            Script(["Fine.", ValueError("bug")]),
            "Fine. Sorry, I lost my thread. Could you say that again?",
        ),
    ],
)
def test_a_mind_that_fails_is_heard_to_fail(script: Script, heard: str) -> None:
    async def scenario() -> None:
        async with Call(["hello"], lambda _: script) as call:
            await call.says(0.6)
            await asyncio.sleep(8)
        assert call.ended[0].heard == heard
        assert call.turns == ["hello"]
        assert any(f.where == "mind" for f in call.of(ev.Failed))

    virtually(scenario)


def test_a_mind_that_never_ends_is_ended() -> None:
    async def scenario() -> None:
        endless = Script(["and so on "] * 5000)
        async with Call(["hello"], lambda _: endless) as call:
            await call.says(0.6)
            await asyncio.sleep(600)
        assert len(call.ended[0].text) < 4100
        assert call.engine.floor.state is State.IDLE

    virtually(scenario)


def test_a_voice_that_breaks_keeps_what_was_heard() -> None:
    async def scenario() -> None:
        voice = ToneVoice(fail_after=3)
        async with Call(["hello"], lambda _: Script([LONG]), voice=voice) as call:
            await call.says(0.6)
            await asyncio.sleep(5)
        assert call.ended[0].heard == "word0 word1 word2"
        assert any(f.where == "voice" for f in call.of(ev.Failed))
        assert call.engine.floor.state is State.IDLE

    virtually(scenario)


def test_a_discarded_reply_is_cancelled_and_commits_nothing() -> None:
    async def scenario() -> None:
        async with Call(["where is", "my order"]) as call:
            await call.says(0.5)
            await asyncio.sleep(0.4)
            await call.says(0.5)
            await asyncio.sleep(3)
        first, *_, last = call.mind.replies
        assert first.cancelled and not first.committed
        assert last.committed and call.mind.committed == 1
        assert call.turns == ["where is my order"]
        assert call.voice.open == 0

    virtually(scenario)


# --- the application ----------------------------------------------------------------------------


def test_say_generate_reply_and_interrupt() -> None:
    async def scenario() -> None:
        async with Call([], lambda c: Script([f"asked: {c.request}"])) as call:
            said = call.engine.request(Cause.INSTRUCTED, text="Good morning.")
            asked = call.engine.request(Cause.INSTRUCTED, instructions="greet")
            await asyncio.sleep(4)
            assert [c.request for c in call.of(ev.ReplyCommitted)] == [said, asked]
            assert [e.heard for e in call.ended] == ["Good morning.", "asked: greet"]
            call.engine.request(Cause.INSTRUCTED, text=LONG)
            await asyncio.sleep(1)
            call.engine.interrupt()
            call.engine.interrupt()
            await asyncio.sleep(0.1)
            assert call.ended[-1].cut
            call.engine.interrupt()
            await asyncio.sleep(1)
        assert len(call.ended) == 3

    virtually(scenario)


def test_a_withdrawn_request_is_never_served() -> None:
    async def scenario() -> None:
        async with Call(["hello"]) as call:
            call.mic = LOUD
            await asyncio.sleep(0.1)
            call.engine.withdraw(call.engine.request(Cause.INSTRUCTED, text="no"))
            call.mic = QUIET
            await asyncio.sleep(4)
        assert "no" not in [e.heard for e in call.ended]

    virtually(scenario)


def test_a_tool_call_is_announced_and_its_result_is_answered() -> None:
    call_ = ToolCall("1", "find", '{"order": 5}')

    def answer(c: Context) -> Script:
        return Script(["It has shipped."]) if c.cause is Cause.TOOL else Script([call_])

    async def scenario() -> None:
        async with Call(["where is it"], answer) as call:
            await call.says(0.6)
            await asyncio.sleep(2)
            [called] = call.of(ev.ToolCalled)
            assert called.call == call_
            result = ToolResult("1", "find", "shipped")
            call.engine.tool_result(result)
            call.engine.request(Cause.TOOL)
            await asyncio.sleep(2)
            assert call.mind.contexts[-1].items[-2:] == (call_, result)
        assert call.ended[-1].heard == "It has shipped."

    virtually(scenario)


def test_a_goodbye_hangs_up_only_when_it_was_heard() -> None:
    async def scenario() -> None:
        async with Call(["bye", "no wait"], lambda _: Script([LONG, HangUp()])) as call:
            await call.says(0.6)
            await asyncio.sleep(2)
            await call.says(1.0)
            await asyncio.sleep(0.3)
            assert not call.of(ev.HungUp)
            await asyncio.sleep(15)
            assert len(call.of(ev.HungUp)) == 1

    virtually(scenario)


# --- length -------------------------------------------------------------------------------------


def test_ten_minutes_run_in_seconds() -> None:
    async def scenario() -> None:
        words = [f"question {i}" for i in range(80)]
        async with Call(words, lambda _: Script(["one two three four five"])) as call:
            for _ in range(60):
                await call.says(1.0)
                await asyncio.sleep(9)
        assert call.engine.t_ms >= 590_000
        assert call.turns == words[:60]
        assert call.engine.stats.late_ticks == 0

    start = time.process_time()
    virtually(scenario)
    assert time.process_time() - start < 30


def test_ten_minutes_of_speech_without_a_pause() -> None:
    async def scenario() -> None:
        async with Call(["everything"]) as call:
            await call.says(600)
            await asyncio.sleep(3)
        assert call.turns == ["everything"]

    virtually(scenario)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_conversation_keeps_every_word_and_leaks_nothing(data: st.DataObject) -> None:
    """Random talk, nods, tool-like requests and stops: words are neither lost nor doubled, the
    context holds what was played, and at the end nothing is left open."""
    moves = data.draw(
        st.lists(
            st.tuples(st.integers(5, 150), st.integers(5, 80), st.booleans(), st.booleans()),
            min_size=1,
            max_size=8,
        )
    )
    late = data.draw(st.integers(0, 10))
    make = data.draw(st.sampled_from([0.0, 0.05, 0.3]))
    words = [f"a{i} b{i}" for i in range(20)]

    async def scenario() -> None:
        voice = ToneVoice(first_s=make)
        reply = "r0 r1 r2 r3 r4 r5 r6 r7"
        call = Call(words, lambda _: Script([make, reply]), voice=voice, late=late)
        async with call:
            for gap, length, stop, ask in moves:
                await asyncio.sleep(gap * 0.02)
                if ask:
                    call.engine.request(Cause.INSTRUCTED, text="asked for")
                if stop:
                    call.engine.interrupt()
                await call.says(length * 0.02)
            await asyncio.sleep(30)
            assert call.engine.floor.state is State.IDLE
        heard = " ".join([*call.turns, *(a.text for a in call.of(ev.UserAside))]).split()
        spoken = " ".join(words[: call.recognizer._n + 1]).split()
        assert sorted(heard) == sorted(spoken)
        for ended in call.ended:
            deltas = "".join(w.delta for w in call.of(ev.ReplyWords) if w.reply == ended.reply)
            assert deltas.strip() == ended.heard
            assert ended.text.startswith(ended.heard)
        committed = [c.reply for c in call.of(ev.ReplyCommitted)]
        assert sorted(e.reply for e in call.ended) == sorted(committed)
        assert call.voice.open == 0

    virtually(scenario)


@pytest.mark.parametrize("late_ms", range(-60, 80, 20))
def test_a_stop_around_the_last_sample_ends_the_reply_once(late_ms: int) -> None:
    async def scenario() -> None:
        async with Call([]) as call:
            call.engine.request(Cause.INSTRUCTED, text="one two three")
            await call.until(lambda: call.of(ev.ReplyFrame))
            await asyncio.sleep(3 * WORD_MS / 1000 + late_ms / 1000)
            call.engine.interrupt()
            await asyncio.sleep(1)
        assert len(call.ended) == 1

    virtually(scenario)


@pytest.mark.parametrize(("ask_ms", "after_ms"), [(None, 220), (100, 100), (1500, 1500)])
def test_the_beginning_of_a_phrase_is_recognised_together_with_its_end(
    ask_ms: int | None, after_ms: int
) -> None:
    """A grammar's "my order number is" means nothing without the digits that follow a pause."""
    recognizer = ScriptedRecognizer(["my order number is one"])
    ears = Ears(LevelVad(), recognizer, CleanLine(), DurationOverlap())
    far = np.zeros(320, np.int16)
    t_ms, ended_ms = 0, None
    while ended_ms is None:
        t_ms += 20
        mic = LOUD if t_ms <= 500 else QUIET
        ears.hear(mic, far, t_ms, over_agent=False, ask_ms=ask_ms)
        ears.listen()
        ended_ms = t_ms - 500 if t_ms > 500 and ears.final else None
        assert t_ms < 3000
    assert ended_ms == pytest.approx(after_ms, abs=20)
    assert ears.text == "my order number is one"


@pytest.mark.parametrize(("confidence", "believed"), [(0.07, False), (0.3, True), (0.9, True)])
def test_a_wrong_match_says_nothing_about_the_end_of_a_turn(
    confidence: float, believed: bool
) -> None:
    class Recognizer(ScriptedRecognizer):
        def poll(self) -> list[Hypothesis]:
            return [Hypothesis("what are your opening", 0, False, (), confidence)]

    ears = Ears(LevelVad(), Recognizer([]), CleanLine(), DurationOverlap())
    assert ears.believed, "nothing was heard yet"
    ears.hear(LOUD, np.zeros(320, np.int16), 20, over_agent=False)
    ears.listen()
    assert ears.text == "what are your opening"
    assert ears.believed is believed
