"""The user's own level, learnt as the call goes, against that of a voice in the room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parley_speech.audio import frames, read, scaled
from parley_speech.overlap import DECIDE_INTERRUPTION, OverlapClassifier
from parley_speech.second_talker import (
    LEAST_SD_DB,
    WINDOW_MS,
    Level,
    Loudness,
    Talkers,
    other_than,
)
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, Pcm
from parley_speech.vad.fusion import FusionVad

AUDIO = Path(__file__).parents[1] / "data" / "audio"
ASKS = "caller_order_status.flac"


def buzz(dbfs: float, seconds: float) -> list[Pcm]:
    t = np.arange(int(seconds * MIC_HZ)) / MIC_HZ
    wave = np.sin(2 * np.pi * 200 * t) * 32768 * np.sqrt(2) * 10 ** (dbfs / 20)
    return frames(wave.astype(np.int16), MIC_FRAME)


def spoken(talkers: Talkers, dbfs: float, seconds: float, *, over_agent: bool = False) -> float:
    """The user's level afterwards."""
    for frame in buzz(dbfs, seconds):
        (talkers.aside if over_agent else talkers.turn)(frame, True)
    return talkers.user.mean


# --- levels ---------------------------------------------------------------------------------


def test_loudness_is_that_of_the_loudest_part_of_each_half_second() -> None:
    loudness = Loudness()
    for frame in [*buzz(-30, 0.2), *buzz(-20, 0.2)]:
        loudness.push(frame)
    assert loudness.dbfs == pytest.approx(-20, abs=0.3)
    assert loudness.windows == 1
    for frame in [*buzz(-40, 0.1), *buzz(-30, 0.5)]:
        loudness.push(frame)
    assert loudness.dbfs == pytest.approx(-25, abs=0.3)
    assert loudness.windows == 2


def test_what_is_not_voice_does_not_fill_half_a_second() -> None:
    loudness = Loudness()
    assert not any(loudness.push(frame, voice=False) for frame in buzz(-20, 1))
    assert loudness.dbfs == pytest.approx(-20, abs=0.3)


def test_digital_silence_has_a_level() -> None:
    loudness = Loudness()
    loudness.push(np.zeros(MIC_FRAME, np.int16))
    assert loudness.dbfs == pytest.approx(-120, abs=1)


def level(dbfs: float) -> Loudness:
    loudness = Loudness()
    for frame in buzz(dbfs, 0.3):
        loudness.push(frame)
    return loudness


def test_the_longer_the_surer() -> None:
    known = Level(-19, 3)
    assert other_than(-35, known, 4) > other_than(-35, known)
    assert other_than(-19, known, 4) < other_than(-19, known)


def test_an_observation_moves_the_guess_by_what_each_is_worth() -> None:
    level = Level(-20.0, 6.0).observed(-30.0, 6.0)
    assert level.mean == pytest.approx(-25)
    assert level.sd == pytest.approx(6 / np.sqrt(2))


def test_the_users_level_is_never_known_for_good() -> None:
    talkers = Talkers()
    assert spoken(talkers, -25, 30) == pytest.approx(-25, abs=1)
    assert talkers.user.sd == LEAST_SD_DB
    assert spoken(talkers, -15, 10) == pytest.approx(-15, abs=1.5)


def test_only_voice_is_learnt_from_and_half_a_second_at_a_time() -> None:
    talkers = Talkers()
    for frame in buzz(-5, 10):
        talkers.turn(frame, False)
    for frame in buzz(-5, (WINDOW_MS - FRAME_MS) / 1000):
        talkers.turn(frame, True)
    assert talkers.user == Level()
    talkers.turn(buzz(-5, 0.02)[0], True)
    assert talkers.user.mean > Level().mean


@pytest.mark.parametrize("user", [Level(), Level(-12, 3), Level(-30, 3)])
def test_the_quieter_the_likelier_somebody_else(user: Level) -> None:
    odds = [other_than(user.mean + difference, user) for difference in range(5, -20, -1)]
    assert odds == sorted(odds)
    assert odds[0] < -1
    assert odds[-1] > 1


def test_what_is_known_makes_surer() -> None:
    """15 dB below a user of whom much is known, and of whom nothing is."""
    assert other_than(-34, Level(-19, 3)) > other_than(-34, Level(-19, 6)) + 1


def test_a_television_does_not_become_the_user_at_once_and_a_quiet_line_does_in_time() -> None:
    talkers = Talkers()
    assert talkers.other(level(-42), 500) > 2
    spoken(talkers, -42, 2)
    assert talkers.other(level(-42), 500) > 1
    spoken(talkers, -42, 20)
    assert talkers.other(level(-42), 500) < -1


def test_who_is_let_pass_over_the_agent_becomes_the_user_only_slowly() -> None:
    talkers = Talkers()
    assert spoken(talkers, -34, 2, over_agent=True) == pytest.approx(Level().mean, abs=2)
    assert spoken(talkers, -34, 40, over_agent=True) < -27


def test_a_soft_beginning_is_not_yet_a_distant_voice() -> None:
    talkers = Talkers()
    assert (
        talkers.other(level(-28), 40)
        < talkers.other(level(-28), 120)
        < talkers.other(level(-28), 200)
    )
    assert talkers.other(level(-28), 200) == talkers.other(level(-28), 2000)


# --- in the classifier ----------------------------------------------------------------------


def over_agent(classifier: OverlapClassifier, gain_db: float, words: tuple[str, ...] = ()) -> float:
    """A recorded question over the agent, so much quieter: the largest P(interruption)."""
    pcm = scaled(read(AUDIO / ASKS, MIC_HZ), gain_db)
    vad, begun, most = FusionVad(), False, 0.0
    lead = np.random.default_rng(1).normal(0, 10, MIC_HZ // 2).astype(np.int16)
    for number, frame in enumerate(frames(np.concatenate([lead, pcm]), MIC_FRAME)):
        p_voice = vad.push(frame)
        if not begun and p_voice >= 0.5:
            classifier.begin(number * FRAME_MS)
            begun = True
        if begun:
            classifier.hear(words)
        most = max(most, classifier.step(frame, p_voice, 0.0).p_interruption)
    classifier.end()
    return most


def test_a_quiet_voice_does_not_take_the_floor() -> None:
    assert over_agent(OverlapClassifier(), 0) >= DECIDE_INTERRUPTION
    assert over_agent(OverlapClassifier(), -28) < 0.5


def test_a_quiet_user_takes_it_who_has_spoken_before() -> None:
    classifier = OverlapClassifier()
    for _ in range(2):
        for frame in frames(scaled(read(AUDIO / "read_jfk.flac", MIC_HZ), -28), MIC_FRAME):
            classifier.turn(frame, True)
    assert over_agent(classifier, -28) >= DECIDE_INTERRUPTION


def test_a_quiet_voice_takes_it_with_words_that_ask_for_it() -> None:
    """... unless it is too quiet to be the user's at all."""
    assert over_agent(OverlapClassifier(), -20, ("stop",)) >= DECIDE_INTERRUPTION
    assert over_agent(OverlapClassifier(), -20) < DECIDE_INTERRUPTION
    assert over_agent(OverlapClassifier(), -35, ("stop",)) < 0.5
