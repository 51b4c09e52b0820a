"""The model itself: what it writes of recorded speech, and that a guess changes nothing.

Its weights are quantised, so that a guess may change its numbers a little. The clips are such that
the words are far from any other.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_speech.asr.moonshine.model import Moonshine, Work, Written
from parley_speech.types import MIC_HZ, EngineUnavailable, Pcm
from speech.asr_speaker import clip, in_a_room
from speech.moonshine_ears import moonshine, needs_moonshine, words_of
from speech.moonshine_script import Script, small_spelling

CLEAR = {
    "caller_thank_you": "thank you very much",
    "caller_help_me": "can you help me with something",
    "human_pls_hold_while_try": "please hold while we try to connect you",
    "human_queue_thankyou": "thank you for your patience",
    "read_lj001_0008": "has never been surpassed",
}


def model() -> Moonshine:
    return moonshine().model


def said(written: Written) -> str:
    return words_of(model().spelling.text(written.tokens))


# --- recorded speech --------------------------------------------------------------------------


@needs_moonshine
@pytest.mark.parametrize("name", list(CLEAR))
def test_a_guess_changes_no_word_and_saves_steps(name: str) -> None:
    speech = model().listen(in_a_room(clip(name)))
    work = model().work
    before = work.steps
    alone = speech.follow()
    steps_alone, before = work.steps - before, work.steps
    guided = speech.follow(alone.tokens)
    assert said(alone) == said(guided) == CLEAR[name]
    assert work.steps - before < steps_alone
    assert guided.mean_log_p == pytest.approx(alone.mean_log_p, abs=0.1)


@needs_moonshine
@pytest.mark.parametrize(
    "guess",
    [
        "Thank you for calling the front desk",
        "Can you help me",
        "Can you help me with something? Or not, or something else?",
        "x" * 400,
        "Yes",
    ],
)
def test_a_wrong_guess_does_no_harm(guess: str) -> None:
    """Wrong from the beginning, too short, too long, far too long."""
    speech = model().listen(in_a_room(clip("caller_help_me")))
    tokens = model().spelling.tokens(f" {guess}")
    assert said(speech.follow(tokens)) == CLEAR["caller_help_me"]


@needs_moonshine
def test_half_a_sound_is_a_guess_for_the_whole() -> None:
    """As it is used: the sound grows."""
    pcm = in_a_room(clip("human_pls_hold_while_try"))
    guess: tuple[int, ...] = ()
    for ms in (1000, 1500, 2000, 2500, 3000):
        guess = model().listen(pcm[: ms * 16]).follow(guess).tokens
    assert words_of(model().spelling.text(guess)) == CLEAR["human_pls_hold_while_try"]


@needs_moonshine
def test_a_sound_of_twelve_seconds() -> None:
    written = model().listen(clip("human_dir_intro")).follow()
    text = said(written)
    assert text.startswith("welcome to the directory please enter the first three letters of your")
    assert text.endswith("key for z")


@needs_moonshine
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_a_sound_that_is_hardly_there(count: int) -> None:
    written = model().listen(np.full(count, 5, np.int16)).follow()
    assert len(written.logs) == len(written.tokens) + 1
    assert all(math.isfinite(log) and log <= 0 for log in written.logs)


@needs_moonshine
@pytest.mark.parametrize("level", [0, 40, 4000, 32767])
def test_noise_of_any_level_comes_to_an_end(level: int) -> None:
    rng = np.random.default_rng(level)
    pcm: Pcm = rng.integers(-level, level + 1, 2 * MIC_HZ).astype(np.int16)
    speech = model().listen(pcm)
    written = speech.follow()
    assert len(written.tokens) <= speech.most
    assert math.isfinite(written.log_p)


@needs_moonshine
def test_its_work_is_counted() -> None:
    pcm = in_a_room(clip("caller_thank_you"))
    model().work = Work()
    speech = model().listen(pcm)
    assert model().work == Work(samples=len(pcm))
    written = speech.follow()
    steps = len(written.tokens) + 1
    assert model().work == Work(len(pcm), steps, steps)
    speech.follow(written.tokens)
    assert model().work.steps < 2 * steps
    assert model().work.rows >= 2 * steps, "what is checked is computed as well"
    assert model().work.samples == len(pcm), "encoded once"


@needs_moonshine
def test_the_same_sound_is_the_same_text() -> None:
    pcm = in_a_room(clip("human_queue_thankyou"))
    assert model().listen(pcm).follow() == model().listen(pcm).follow()


def test_a_folder_without_the_model_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.bin").write_bytes(b"")
    with pytest.raises(EngineUnavailable, match=r"encoder_model\.ort, decoder_model_merged\.ort"):
        Moonshine(tmp_path)


# --- a guess, in numbers that are exact -------------------------------------------------------

SPELLING = small_spelling()
TEXTS = {"thank you": 0.5, "thank you so much": 0.3, "tango": 0.2}
GUESSES = st.one_of(
    st.sampled_from(["thank you", "thank", "tango", "thank you so much", "thank you again"]),
    st.text("thank youmcg", max_size=12),
)


@settings(deadline=None)
@given(GUESSES)
def test_with_exact_weights_a_guess_changes_nothing_at_all(guess: str) -> None:
    alone = Script(SPELLING, TEXTS).speech().follow()
    assert SPELLING.text(alone.tokens) == "thank you"
    guided = Script(SPELLING, TEXTS).speech().follow(SPELLING.tokens(f" {guess}"))
    assert guided.tokens == alone.tokens
    assert guided.logs == pytest.approx(alone.logs)


def test_only_what_differs_from_a_guess_costs_steps() -> None:
    def steps(guess: str) -> int:
        script = Script(SPELLING, TEXTS)
        script.speech().follow(SPELLING.tokens(guess))
        return script.work.steps

    assert steps("") == len(" thank you") + 1
    assert steps(" thank you") == 2
    assert steps(" thank") == 2 + len(" you")
    assert steps(" thunk you") == 2 + len("ank you")


@pytest.mark.parametrize("guess", ["", "la la", "la la la la la la la la la la la la", "lo"])
def test_what_never_ends_is_ended(guess: str) -> None:
    speech = Script(SPELLING, {"la " * 40: 1.0}).speech(most=10)
    written = speech.follow(SPELLING.tokens(f" {guess}"))
    assert SPELLING.text(written.tokens) == "la la la"
    assert len(written.tokens) == 10
    assert len(written.logs) == 11
