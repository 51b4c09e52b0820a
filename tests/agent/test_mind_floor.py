"""When the floor guesses, what it keeps of a guess, and what of a mind's opinions reaches it."""

from __future__ import annotations

import numpy as np
import pytest

from agent.fakes import CleanLine, DurationOverlap, LevelVad, Script, ScriptedMind, ToneVoice
from parley.dialogue import acts as A
from parley.dialogue.ears import Ears
from parley.dialogue.engine import Engine
from parley.dialogue.floor import Floor, State
from parley.dialogue.percepts import Percept, Sound
from parley.dialogue.policy import FloorPolicy
from parley.minds.base import Context, OverlapOpinion, Said
from parley_speech.types import FRAME_MS, Hypothesis

VOICE_MS = 1000
Said_ = tuple[int, str]
"""From this time on, these are the words."""


def heard(
    words: list[Said_],
    *,
    voice_until: int = VOICE_MS,
    final_at: int | None = None,
    sure: dict[str, float] | None = None,
    until: int = 3000,
    policy: FloorPolicy | None = None,
) -> list[tuple[int, A.Act]]:
    """The floor's acts on a turn that begins at once, voiced until ``voice_until``."""
    floor = Floor(policy or FloorPolicy(no_input_ms=None))
    acts: list[tuple[int, A.Act]] = []
    for t in range(FRAME_MS, until, FRAME_MS):
        text = next((text for at, text in reversed(words) if at <= t), "")
        done = floor.state in (State.THINK, State.AGENT)
        p = Percept(
            t,
            voice=t <= voice_until,
            text="" if done else text,
            final=t >= (final_at if final_at is not None else voice_until + 300),
            voiced_ms=0 if done else min(t, voice_until),
            completeness=(sure or {}).get(text),
        )
        acts += [(t, act) for act in floor.step(p)]
    return acts


def of(kind: type[A.Act], acts: list[tuple[int, A.Act]]) -> list[tuple[int, A.Act]]:
    return [(t, act) for t, act in acts if isinstance(act, kind)]


def test_words_that_stand_while_the_voice_sounds_are_a_guess():
    acts = heard([(300, "where is it")])
    [(t, guess)] = of(A.Speculate, acts)
    assert t == pytest.approx(300 + FloorPolicy().stable_voice_ms, abs=20)
    [(_, commit)] = of(A.Commit, acts)
    assert isinstance(guess, A.Speculate) and isinstance(commit, A.Commit)
    assert commit.reply == guess.reply and not of(A.Discard, acts)


def test_words_that_stand_in_a_silence_are_a_guess_before_they_are_final():
    acts = heard([(VOICE_MS + 60, "where is it")], final_at=VOICE_MS + 400)
    [(t, _)] = of(A.Speculate, acts)
    assert t == pytest.approx(VOICE_MS + 60 + FloorPolicy().stable_ms, abs=20)


def test_a_likely_end_is_a_guess_at_once():
    acts = heard([(300, "where is it")], sure={"where is it": 0.9})
    [(t, _)] = of(A.Speculate, acts)
    assert t == 300


def test_an_unlikely_end_waits_to_stand():
    acts = heard([(300, "where is")], sure={"where is": 0.1})
    assert of(A.Speculate, acts)[0][0] > 500


def test_changed_words_discard_at_once_and_are_guessed_anew():
    acts = heard([(200, "where is"), (600, "where is my order")])
    [(t, _)] = of(A.Discard, acts)
    assert t == 600
    guesses = [a for _, a in of(A.Speculate, acts)]
    assert [a.text for a in guesses if isinstance(a, A.Speculate)] == [
        "where is",
        "where is my order",
    ]


def test_a_guess_is_kept_when_the_final_words_only_look_different():
    acts = heard([(300, "where is it"), (VOICE_MS + 200, "Um, where is it, please?")])
    [(_, guess)], [(_, commit)] = of(A.Speculate, acts), of(A.Commit, acts)
    assert isinstance(guess, A.Speculate) and isinstance(commit, A.Commit)
    assert not of(A.Discard, acts)
    assert commit.reply == guess.reply
    assert commit.text == "Um, where is it, please?", "the ledger gets the final words"


def test_words_that_come_back_empty_discard_nothing_yet():
    acts = heard([(300, "where is it"), (700, ""), (800, "where is it")])
    assert len(of(A.Speculate, acts)) == 1 and not of(A.Discard, acts)


def test_a_sound_after_the_words_does_not_discard_their_reply():
    """The user breathes in; the words stay the same."""
    floor, acts = Floor(FloorPolicy(no_input_ms=None)), []
    for t in range(FRAME_MS, 4000, FRAME_MS):
        voice = t <= 1000 or 1300 <= t <= 1400
        done = floor.state is State.THINK
        p = Percept(t, voice=voice, text="" if done else "where is it", final=not voice)
        acts += floor.step(p)
    assert not [a for a in acts if isinstance(a, A.Discard)]
    assert len([a for a in acts if isinstance(a, A.Commit)]) == 1


def test_a_turn_has_so_many_guesses_and_some_are_kept_for_its_end():
    policy = FloorPolicy(no_input_ms=None, most_starts=4)
    changing: list[Said_] = [(300 * n, f"word{n}") for n in range(1, 12)]
    acts = heard(changing, voice_until=3300, until=6000, policy=policy)
    while_voiced = [t for t, _ in of(A.Speculate, acts) if t <= 3300]
    assert len(while_voiced) == 2
    flapping: list[Said_] = [(VOICE_MS + 60 * n, f"word{n}") for n in range(1, 9)]
    acts = heard(flapping, policy=policy)
    commit_at = of(A.Commit, acts)[0][0]
    assert len([t for t, _ in of(A.Speculate, acts) if t < commit_at]) <= 4


def test_each_turn_has_its_own_guesses():
    floor = Floor(FloorPolicy(no_input_ms=None, most_starts=1))
    guesses: list[int] = []
    committed, turns = 0, 0
    for t in range(FRAME_MS, 9000, FRAME_MS):
        beat = t % 3000
        if floor.state is State.THINK:
            p = Percept(t, reply=committed, sound=Sound.ENDED)
        else:
            words = f"turn {turns}" if turns == t // 3000 else ""  # a commit takes them
            p = Percept(t, voice=beat <= 800, text=words)
        for act in floor.step(p):
            if isinstance(act, A.Speculate):
                guesses.append(t)
            if isinstance(act, A.Commit):
                committed, turns = act.reply, turns + 1
    assert len(guesses) == 3


def test_without_guesses_the_reply_is_asked_for_at_the_end():
    acts = heard([(300, "where is it")], policy=FloorPolicy(no_input_ms=None, most_starts=0))
    [(asked, _)], [(ended, _)] = of(A.Speculate, acts), of(A.Commit, acts)
    assert asked == ended


# --- through the engine -------------------------------------------------------------------------


class Words:
    """A recogniser that says what it is told to."""

    def __init__(self) -> None:
        self.out: list[Hypothesis] = []

    def begin_utterance(self) -> None: ...
    def push(self, frame: object) -> None: ...
    def end_utterance(self) -> None: ...
    def set_grammar(self, grammar: object) -> None: ...
    async def aclose(self) -> None: ...

    def poll(self) -> list[Hypothesis]:
        out, self.out = self.out, []
        return out


class ThinkingMind(ScriptedMind):
    """Has an opinion about all it was asked to attend to."""

    def __init__(self) -> None:
        super().__init__(lambda _: Script(["well"]))
        self.attended: list[tuple[Context, bool]] = []

    def attend(self, context: Context, *, over_agent: bool) -> None:
        self.attended.append((context, over_agent))

    def overlap(self, text: str) -> OverlapOpinion | None:
        return OverlapOpinion(0.99, 0.005, 0.005, weight=1.0) if text == "wait" else None


async def test_the_mind_attends_to_words_and_its_opinion_weighs():
    mind, words = ThinkingMind(), Words()
    ears = Ears(LevelVad(), words, CleanLine(), DurationOverlap())
    engine = Engine(ears, mind, ToneVoice(), lambda _: None)
    words.out = [Hypothesis("hello", 0, final=False)]
    engine.tick()
    engine.tick()
    [(context, over)] = mind.attended
    assert context.items == (Said("user", "hello"),) and not over and context.speculative
    engine.floor.state = State.AGENT
    words.out = [Hypothesis("wait", 0, final=False)]
    engine.push_mic(np.full(320, 3000, np.int16))
    engine.tick()
    assert mind.attended[-1][1], "said over the agent"
    sound = engine._overlap("other words")
    judged = engine._overlap("wait")
    assert sound is not None and judged is not None
    assert judged.p_interruption == pytest.approx(0.99, abs=0.01)
    assert sound.p_interruption == engine._heard.overlap.p_interruption  # type: ignore[union-attr]
    await engine.replies.aclose()
