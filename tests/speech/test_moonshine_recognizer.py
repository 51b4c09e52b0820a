"""Moonshine in a real child process: words, deaths, what is refused, where the model is."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from parley_speech.asr.grammar import GrammarError
from parley_speech.asr.moonshine import recognizer as module
from parley_speech.asr.moonshine.model import DECODER, ENCODER, PIECES
from parley_speech.asr.moonshine.recognizer import (
    HELP,
    LICENCE,
    VARIABLE,
    MoonshineRecognizer,
    find_model,
    usual_workers,
)
from parley_speech.types import MIC_FRAME, EngineUnavailable, Grammar, Hypothesis
from speech.asr_speaker import FRONT_DESK, LEAD_MS, clip, final_of, in_a_room, push, say
from speech.moonshine_ears import FOLDER, needs_moonshine, words_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDER = "i'd like to check my order status please"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def recognizer() -> AsyncIterator[MoonshineRecognizer]:
    recognizer = MoonshineRecognizer(workers=1)
    await recognizer.start()
    yield recognizer
    await recognizer.aclose()


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """For what no event tells: another process's state."""
    due = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < due, "it never happened"
        await asyncio.sleep(0.005)


# --- words ------------------------------------------------------------------------------------


@needs_moonshine
async def test_a_call_from_the_question_to_goodbye(recognizer: MoonshineRecognizer) -> None:
    """Utterances of one stream: numbers count up, times go on."""
    stream = recognizer.stream(FRONT_DESK)
    names = ["caller_check_order_12345", "caller_order_status", "caller_thank_you", "human_goodbye"]
    finals = [await say(stream, clip(name)) for name in names]
    await stream.aclose()
    assert [f.text for f in finals] == [
        "can you check the status of my order number one two three four five",
        ORDER,
        "thank you very much",
        "goodbye",
    ]
    assert [f.utterance for f in finals] == [0, 1, 2, 3]
    assert all(f.final and f.confidence >= 0.5 for f in finals)
    edges = [edge for f in finals for word in f.words for edge in (word.start_ms, word.end_ms)]
    assert edges == sorted(edges)
    assert finals[0].words[0].start_ms == pytest.approx(LEAD_MS + 40, abs=150)


@needs_moonshine
async def test_words_come_before_the_utterance_ends(recognizer: MoonshineRecognizer) -> None:
    """What is told in between is not final and grows into what was said."""
    stream = recognizer.stream()
    push(stream, in_a_room(clip("human_pls_hold_while_try")))
    partials: list[Hypothesis] = []
    async with asyncio.timeout(60):
        while not (partials and "hold while" in words_of(partials[-1].text)):
            await asyncio.sleep(0.005)
            partials += stream.poll()
    stream.end_utterance()
    more, final = await final_of(stream)
    await stream.aclose()
    assert words_of(final.text) == "please hold while we try to connect you"
    assert all(not p.final and p.utterance == 0 for p in [*partials, *more])
    assert final.confidence >= 0.5 and [w.text for w in final.words] == final.text.split()


@needs_moonshine
async def test_a_grammar_holds_from_the_next_utterance_on(recognizer: MoonshineRecognizer) -> None:
    stream = recognizer.stream(Grammar("digits", "<digits>"))
    push(stream, in_a_room(clip("human_digits_7")))
    stream.set_grammar(Grammar("farewell", "goodbye | hello"))
    stream.end_utterance()
    _, first = await final_of(stream)
    second = await say(stream, clip("human_goodbye"))
    stream.set_grammar(None)
    third = await say(stream, clip("human_please_try_again"))
    await stream.aclose()
    texts = [first.text, second.text, words_of(third.text)]
    assert texts == ["seven", "goodbye", "please try again"]


@needs_moonshine
async def test_two_calls_share_a_child(recognizer: MoonshineRecognizer) -> None:
    streams = [recognizer.stream(FRONT_DESK), recognizer.stream()]
    for stream, name in zip(streams, ["caller_order_status", "human_transfer"], strict=True):
        push(stream, in_a_room(clip(name)))
        stream.end_utterance()
    texts = [words_of((await final_of(stream))[1].text) for stream in streams]
    for stream in streams:
        await stream.aclose()
    assert texts == [ORDER, "please hold while i try that extension"]
    assert len(recognizer.pids) == 1 and recognizer.restarts == 0


@needs_moonshine
async def test_an_utterance_without_a_frame_and_one_of_silence_have_finals(
    recognizer: MoonshineRecognizer,
) -> None:
    stream = recognizer.stream()
    stream.begin_utterance()
    stream.end_utterance()
    _, nothing = await final_of(stream)
    silence = await say(stream, np.zeros(8000, np.int16))
    await stream.aclose()
    assert [(f.text, f.words, f.utterance) for f in (nothing, silence)] == [
        ("", (), 0),
        ("", (), 1),
    ]


@needs_moonshine
async def test_a_grammar_that_the_child_cannot_read_costs_nobody_the_child(
    recognizer: MoonshineRecognizer, caplog: pytest.LogCaptureFixture
) -> None:
    """A lone "+" passes for a rule body; the call goes on in open English, and says so."""
    stream = recognizer.stream(Grammar("odd", "yes | + no"))
    final = await say(stream, clip("human_please_try_again"))
    with pytest.raises(GrammarError, match="'broken'"):
        stream.set_grammar(Grammar("broken", "(yes | no"))
    await stream.aclose()
    assert words_of(final.text) == "please try again"
    assert "a grammar could not be read" in caplog.text
    assert recognizer.restarts == 0


# --- life and death ---------------------------------------------------------------------------


@needs_moonshine
async def test_nothing_is_lost_with_a_child_and_nothing_said_is_in_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Killed in the middle of an utterance, and of a call whose earlier words are told already."""
    caplog.set_level(logging.DEBUG)
    recognizer = MoonshineRecognizer(workers=1)
    await recognizer.start()
    (pid,) = recognizer.pids
    await recognizer.start()
    assert recognizer.pids == [pid], "started once"
    stream, other = recognizer.stream(FRONT_DESK), recognizer.stream()
    first = await say(stream, clip("human_goodbye"))
    pcm = in_a_room(clip("caller_order_status"))
    half = 80 * MIC_FRAME
    push(stream, pcm[:half])
    heard: list[Hypothesis] = []
    async with asyncio.timeout(60):
        while not heard:  # the child is in the midst of it
            await asyncio.sleep(0.005)
            heard = stream.poll()
    os.kill(pid, signal.SIGKILL)
    push(stream, pcm[half:], begin=False)
    stream.end_utterance()
    await until(lambda: recognizer.pids not in ([], [pid]))
    _, second = await final_of(stream)
    third = await say(stream, clip("human_hours"))
    fourth = await say(other, clip("human_queue_thankyou"))
    await recognizer.aclose()
    await recognizer.aclose()
    assert recognizer.pids == []
    assert [h.text for h in (first, second, third)] == ["goodbye", ORDER, "hours"]
    assert [h.utterance for h in (first, second, third)] == [0, 1, 2]
    assert words_of(fourth.text) == "thank you for your patience"
    assert recognizer.restarts == 1 and stream.lost_ms == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    log = words_of(caplog.text + " ".join(capfd.readouterr()))
    assert "has to be replaced" in log
    assert not [said for said in ("goodbye", "my order", "hours", "patience") if said in log]


async def test_a_stream_before_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="before start"):
        MoonshineRecognizer().stream()


async def test_no_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="workers: expected 1 or more"):
        MoonshineRecognizer(workers=0)


# --- where the model is -----------------------------------------------------------------------


@pytest.fixture
def forgetful() -> Iterator[None]:
    """The model is looked for anew, here and by whoever comes next."""
    find_model.cache_clear()
    yield
    find_model.cache_clear()


async def refused(recognizer: MoonshineRecognizer) -> str:
    with pytest.raises(EngineUnavailable) as error:
        await recognizer.start()
    assert recognizer.pids == []
    return str(error.value)


async def test_a_wrong_variable_says_what_to_do(
    forgetful: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert await refused(MoonshineRecognizer()) == HELP
    assert VARIABLE in HELP and "pip install" in HELP


async def test_without_the_package_it_says_what_to_do(
    forgetful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(module, "PACKAGE", "no_such_package_anywhere")
    assert find_model() is None
    assert await refused(MoonshineRecognizer()) == HELP


@needs_moonshine
async def test_the_variable_goes_before_the_package(
    forgetful: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert FOLDER is not None
    for name in (ENCODER, DECODER, PIECES):
        (tmp_path / name).symlink_to(FOLDER / name)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert find_model() == tmp_path
    recognizer = MoonshineRecognizer(workers=1)
    await recognizer.start()
    stream = recognizer.stream(FRONT_DESK)
    assert (await say(stream, clip("human_goodbye"))).text == "goodbye"
    await recognizer.aclose()


@needs_moonshine
async def test_half_a_model_says_what_is_missing(tmp_path: Path) -> None:
    assert FOLDER is not None
    shutil.copy(FOLDER / DECODER, tmp_path)
    told = await refused(MoonshineRecognizer(folder=tmp_path))
    assert f"no {ENCODER}, {PIECES} in {tmp_path}" in told


@needs_moonshine
async def test_a_tokeniser_that_is_none_is_named(tmp_path: Path) -> None:
    assert FOLDER is not None
    for name in (ENCODER, DECODER):
        (tmp_path / name).symlink_to(FOLDER / name)
    (tmp_path / PIECES).write_bytes(b"a page that says: not found")
    assert f"{tmp_path / PIECES} is not a tokeniser's file" in await refused(
        MoonshineRecognizer(folder=tmp_path)
    )


async def test_another_model_needs_a_licence_that_permits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Past the check it fails for what it is, no model."""
    monkeypatch.delenv(LICENCE, raising=False)
    (tmp_path / DECODER).write_bytes(b"a decoder of another language")
    told = await refused(MoonshineRecognizer(folder=tmp_path))
    assert "no licence is stated" in told and LICENCE in told
    told = await refused(MoonshineRecognizer(folder=tmp_path, licence="CC-BY-NC-4.0"))
    assert "excludes commercial use" in told
    assert ENCODER in await refused(MoonshineRecognizer(folder=tmp_path, licence="MIT"))
    monkeypatch.setenv(LICENCE, "MIT")
    assert ENCODER in await refused(MoonshineRecognizer(folder=tmp_path))


@pytest.mark.parametrize(("cores", "workers"), [(None, 1), (1, 1), (2, 1), (8, 2), (64, 4)])
async def test_there_is_a_worker_for_every_four_cores(
    cores: int | None, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert usual_workers() == workers
    assert len(MoonshineRecognizer()._workers) == workers
    assert len(MoonshineRecognizer(workers=3)._workers) == 3
