"""Where one sound over the agent ends and another begins, as the ears tell their classifier."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from agent.fakes import (
    LOUD,
    QUIET,
    CleanLine,
    DurationOverlap,
    LevelVad,
    ScriptedRecognizer,
)
from parley.dialogue.ears import EarPolicy, Ears
from parley.dialogue.policy import FloorPolicy
from parley_speech.types import FRAME_MS, OverlapEvidence, Pcm

FAR = np.zeros(320, np.int16)


class Classifier(DurationOverlap):
    """Length decides; remembers its words, and when its sounds began."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.words: tuple[str, ...] = ()

    def begin(self, t_ms: int) -> None:
        super().begin(t_ms)
        self.began.append(t_ms)
        self.words = ()

    def hear(self, words: tuple[str, ...], confidence: float = 0.0) -> None:
        self.words = words


def over_the_agent(ears: Ears, spans_ms: Iterable[int]) -> list[OverlapEvidence]:
    """Sound and silence in turns, each so long, while the agent speaks."""
    out, t_ms, frame = [], 0, LOUD
    for span_ms in spans_ms:
        for _ in range(span_ms // FRAME_MS):
            t_ms += FRAME_MS
            heard = ears.hear(frame, FAR, t_ms, over_agent=True)
            if heard.overlap is not None:
                out.append(heard.overlap)
        frame = _other(frame)
    return out


def _other(frame: Pcm) -> Pcm:
    return QUIET if frame is LOUD else LOUD


@pytest.mark.parametrize(("gap_ms", "times"), [(60, 1), (120, 1), (160, 1), (180, 4), (300, 4)])
def test_a_dog_that_barks_four_times_has_not_been_sounding_all_along(
    gap_ms: int, times: int
) -> None:
    classifier = Classifier()
    ears = Ears(LevelVad(), ScriptedRecognizer([]), CleanLine(), classifier)
    evidence = over_the_agent(ears, [200, gap_ms] * 4)
    assert len(classifier.began) == times
    longest = max(e.voiced_ms for e in evidence)
    assert longest == 200 * 4 // times
    assert any(e.p_interruption >= FloorPolicy().cut_in for e in evidence) is (times == 1)


def test_a_sound_begins_anew_where_the_floor_has_given_up_the_one_before() -> None:
    assert EarPolicy().anew_ms == FloorPolicy().release_ms


def test_words_that_nobody_has_taken_count_for_the_sound_that_follows() -> None:
    """They may be told while it sounds already, and it is not known which of them said them."""
    classifier = Classifier()
    ears = Ears(LevelVad(), ScriptedRecognizer(["hold on", ""]), CleanLine(), classifier)
    over_the_agent(ears, [200, 240, 60])
    assert len(classifier.began) == 2
    assert classifier.words == ("hold", "on")


def test_words_that_were_put_aside_do_not() -> None:
    classifier = Classifier()
    ears = Ears(LevelVad(), ScriptedRecognizer(["hold on", ""]), CleanLine(), classifier)
    over_the_agent(ears, [200, 240])
    assert ears.take() == "hold on"
    over_the_agent(ears, [60])
    assert len(classifier.began) == 2
    assert classifier.words == ()
