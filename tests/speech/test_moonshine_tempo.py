"""Whether a sentence fits the time for which somebody spoke, and when that was."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_speech.asr.moonshine import tempo
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, Pcm
from speech.asr_speaker import clip
from speech.moonshine_ears import words_of

FRAMES_PER_S = 1000 // FRAME_MS
SAID = {
    "caller_yes": ("yes", 0.13, 0.5),
    "caller_thank_you": ("thank you very much", 0.0, 1.12),
    "caller_order_status": ("i'd like to check my order status please", 0.1, 2.0),
    "human_digits_8": ("eight", 0.13, 0.58),
    "human_is": ("is", 0.04, 0.52),
    "human_transfer": ("please hold while i try that extension", 0.07, 2.25),
    "read_lj001_0002": ("in being comparatively modern", 0.01, 1.82),
}
"""Recorded, with the time of the sound."""


def tone(seconds: float, amplitude: float) -> Pcm:
    at = np.arange(round(seconds * MIC_HZ)) / MIC_HZ
    return (amplitude * np.sin(2 * np.pi * 440 * at)).astype(np.int16)


def noise(seconds: float, rms: float, seed: int = 1) -> Pcm:
    drawn = np.random.default_rng(seed).normal(0, rms, round(seconds * MIC_HZ))
    return drawn.astype(np.int16)


# --- the fit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SAID))
def test_ordinary_speech_loses_nothing(name: str) -> None:
    text, start, end = SAID[name]
    letters = len(text.replace(" ", ""))
    assert tempo.log_fit(letters, 1000 * (end - start)) == 0
    heard_ms = tempo.sounding_ms(tempo.sounding(tempo.levels_db(clip(name))))
    assert tempo.log_fit(letters, heard_ms) == 0


@settings(deadline=None)
@given(st.integers(1, 200))
def test_at_ten_to_twenty_letters_a_second_nothing_is_lost(letters: int) -> None:
    assert all(tempo.log_fit(letters, ms * letters) == 0 for ms in (50, 65, 80, 100))


@settings(deadline=None)
@given(st.integers(1, 100), st.lists(st.floats(0, 60_000), min_size=2, max_size=20))
def test_the_longer_it_sounds_the_less_a_text_fits(letters: int, times_ms: list[float]) -> None:
    """Up from what is too quick, level, and down from there on."""
    fits = [tempo.log_fit(letters, ms) for ms in sorted(times_ms)]
    assert all(fit <= 0 for fit in fits)
    top = int(np.argmax(fits))
    assert fits[: top + 1] == sorted(fits[: top + 1])
    assert fits[top:] == sorted(fits[top:], reverse=True)


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, 20_000))
def test_a_sound_has_room_for_so_many_letters(letters: int, ms: int) -> None:
    """A text that is too short for a sound fits worse than one with a letter more, one that is too
    long better."""
    fit, longer = tempo.log_fit(letters, ms), tempo.log_fit(letters + 1, ms)
    assert fit == 0 or (longer > fit) == (tempo.log_fit(letters, ms + 1) < fit)


def test_hello_is_no_whole_question_and_a_question_no_hello() -> None:
    assert tempo.log_fit(len("hello"), 4000) < -5
    assert tempo.log_fit(len("canyoucheckthestatusofmyorder"), 300) < -1


# --- where the voice is -----------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    st.integers(5, 100),
    st.integers(15, 100),
    st.integers(5, 60),
    st.floats(20, 600),
    st.floats(14, 40),
)
def test_a_tone_in_noise_is_found(
    before: int, frames: int, after: int, rms: float, above_db: float
) -> None:
    """Its frames and no others, wherever it is and however loud the noise, as long as it is more
    than a twentieth of the sound."""
    loud = np.sqrt(2) * rms * 10 ** (above_db / 20)
    length = (before + frames + after) / FRAMES_PER_S
    pcm = noise(length, rms).astype(np.int32)
    first, last = before * MIC_FRAME, (before + frames) * MIC_FRAME
    pcm[first:last] += tone(frames / FRAMES_PER_S, min(loud, 30_000))
    found = tempo.sounding(tempo.levels_db(pcm.clip(-32768, 32767).astype(np.int16)))
    assert list(np.flatnonzero(found)) == list(range(before, before + frames))
    assert tempo.sounding_ms(found) == frames * FRAME_MS


def test_pauses_between_words_are_not_the_voice() -> None:
    quiet, voice = noise(0.4, 10), tone(0.6, 6000)
    found = tempo.sounding(tempo.levels_db(np.concatenate([quiet, voice, quiet, voice, quiet])))
    runs = [(on, len(list(group))) for on, group in itertools.groupby(found.tolist())]
    assert runs == [(False, 20), (True, 30), (False, 20), (True, 30), (False, 20)]


def test_levels_are_in_db_below_full_scale() -> None:
    levels = tempo.levels_db(np.concatenate([tone(0.02, 32767), np.zeros(500, np.int16)]))
    assert levels.shape == (2,), "half a frame is none"
    assert levels[0] == pytest.approx(-3.0, abs=0.1)
    assert levels[1] < -85


def test_without_a_frame_there_is_no_voice() -> None:
    nothing = tempo.sounding(tempo.levels_db(np.zeros(MIC_FRAME - 1, np.int16)))
    assert nothing.shape == (0,) and tempo.sounding_ms(nothing) == 0


@pytest.mark.parametrize("name", list(SAID))
def test_a_recorded_voice_is_found_where_it_is(name: str) -> None:
    """In a room, with half a second of quiet around it."""
    text, start, end = SAID[name]
    assert words_of(text) == text
    pcm = clip(name)
    room = noise(len(pcm) / MIC_HZ + 1.0, 8).astype(np.int32)
    room[MIC_HZ // 2 : MIC_HZ // 2 + len(pcm)] += pcm
    found = np.flatnonzero(tempo.sounding(tempo.levels_db(room.clip(-32768, 32767).astype("i2"))))
    assert found[0] * FRAME_MS == pytest.approx(500 + 1000 * start, abs=120)
    assert (found[-1] + 1) * FRAME_MS == pytest.approx(500 + 1000 * end, abs=220)
