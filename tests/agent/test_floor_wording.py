"""Open English words that no mind judges: what the guess about them is worth for a turn's end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.fakes import (
    LOUD,
    CleanLine,
    DurationOverlap,
    LevelVad,
    Script,
    ScriptedMind,
    ScriptedRecognizer,
    ToneVoice,
)
from parley.dialogue import acts as A
from parley.dialogue import events as ev
from parley.dialogue.ears import Ears
from parley.dialogue.engine import Engine
from parley.dialogue.floor import Floor
from parley.dialogue.percepts import Percept
from parley.dialogue.policy import LEAST_WORDING, MOST_WORDING, FloorPolicy
from parley_speech.types import Grammar, Hypothesis

POLICY = FloorPolicy()
CHANCES = st.one_of(st.none(), st.floats(0.0, 1.0))


def test_words_that_ask_for_more_are_waited_for_and_whole_ones_answered_sooner() -> None:
    unknown = POLICY.wait_ms(None, unjudged=True)
    assert POLICY.wait_ms(None, wording=0.3, unjudged=True) > unknown
    assert POLICY.wait_ms(None, wording=0.5, unjudged=True) == unknown
    assert POLICY.wait_ms(None, wording=0.95, unjudged=True) < unknown


@pytest.mark.parametrize("finality", [None, 0.15, 0.5, 0.7])
def test_words_that_may_be_whole_or_not_shorten_nothing(finality: float | None) -> None:
    """One pauses behind "is there a train to the airport", too, and goes on."""
    silent = POLICY.wait_ms(None, finality, unjudged=True)
    assert POLICY.wait_ms(None, finality, wording=0.75, unjudged=True) == silent


@given(words=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2).map(sorted), finality=CHANCES)
def test_more_whole_words_never_lengthen_the_wait(
    words: list[float], finality: float | None
) -> None:
    less, more = (POLICY.wait_ms(None, finality, wording=p, unjudged=True) for p in words)
    assert more <= less


@given(completeness=st.floats(0.0, 1.0), finality=CHANCES, wording=CHANCES)
def test_a_mind_that_judges_the_words_is_alone_believed(
    completeness: float, finality: float | None, wording: float | None
) -> None:
    with_guess = POLICY.evidence(completeness, finality, wording=wording)
    assert with_guess == POLICY.evidence(completeness, finality)


@given(wording=CHANCES, finality=CHANCES)
def test_the_guess_counts_no_more_than_it_is_proven(
    wording: float | None, finality: float | None
) -> None:
    nats = POLICY.evidence(None, finality, wording=wording) - POLICY.evidence(None, finality)
    least, most = (math.log(p / (1 - p)) for p in (LEAST_WORDING, MOST_WORDING))
    weight = POLICY.wording_weight
    assert weight * least - 1e-9 <= nats <= weight * (most - POLICY.wording_doubt) + 1e-9


@pytest.mark.parametrize(("wording", "longer"), [(0.1, True), (0.95, False)])
def test_the_floor_waits_by_the_guess(wording: float, longer: bool) -> None:
    def ended_ms(p: float | None) -> int:
        floor = Floor()
        for t_ms in range(20, 6000, 20):
            heard = Percept(
                t_ms=t_ms,
                voice=t_ms <= 800,
                text="some words",
                wording=p,
                finality=None if t_ms <= 800 else 0.6,
                unjudged=True,
            )
            if any(isinstance(act, A.Commit) for act in floor.step(heard)):
                return t_ms - 800
        raise AssertionError("the turn did not end")

    assert ended_ms(wording) != ended_ms(None)
    assert (ended_ms(wording) > ended_ms(None)) is longer


class _Heard(ScriptedRecognizer):
    def poll(self) -> list[Hypothesis]:
        return [Hypothesis("could you tell me", 0, False, (), 0.9)]


def _ears() -> Ears:
    return Ears(
        LevelVad(),
        _Heard([]),
        CleanLine(),
        DurationOverlap(),
        wording=lambda text: 0.2 if text.endswith("me") else None,
    )


def test_the_ears_ask_about_words_in_a_grammar_too() -> None:
    ears = _ears()
    assert ears.wording is None, "there are no words yet"
    ears.hear(LOUD, np.zeros(320, np.int16), 20, over_agent=False)
    assert ears.wording == 0.2
    ears.expect(Grammar("yes", "yes | no"))
    assert ears.wording == 0.2


@pytest.mark.parametrize("judged", [None, 0.8])
def test_the_engine_tells_the_guess_only_where_the_mind_is_silent(judged: float | None) -> None:
    class Mind(ScriptedMind):
        def completeness(self, text: str) -> float | None:
            return judged

    events: list[ev.EngineEvent] = []
    engine = Engine(_ears(), Mind(lambda _: Script(["fine"])), ToneVoice(), events.append)
    engine._ears.hear(LOUD, np.zeros(320, np.int16), 20, over_agent=False)
    percept = engine._percept()
    assert percept.text == "could you tell me"
    assert percept.completeness == judged
    assert percept.wording == (0.2 if judged is None else None)
