"""Moonshine in virtual time: real decoding at a modelled pace, the same every time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from parley.bench.floor import lockstep
from parley.bench.floor.lockstep import LockstepRecognizer, Pace
from parley_speech import audio
from parley_speech.asr.moonshine.recognizer import HELP, find_model
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, EngineUnavailable, Grammar, Hypothesis

AUDIO = Path(__file__).parents[1] / "data/audio"
DESK = Grammar(
    "desk", "i'd like to check my order status [please] | thank you [very much] | goodbye | yes"
)
PAUSE_MS = 300
needs_moonshine = pytest.mark.skipif(find_model() is None, reason=HELP)


def recognise(
    recognizer: LockstepRecognizer,
    *clips: str,
    grammar: Grammar | None = DESK,
    tail_s: float = 1.5,
) -> list[tuple[int, Hypothesis]]:
    """What was found in utterances of one call, and when, in ms of its time."""
    stream = recognizer.stream()
    stream.set_grammar(grammar)
    found: list[tuple[int, Hypothesis]] = []
    now_ms = 0
    for clip in clips:
        sound = audio.read(AUDIO / f"{clip}.flac", MIC_HZ)
        room = np.random.default_rng(1).normal(0, 8, len(sound) + round((0.5 + tail_s) * MIC_HZ))
        room[MIC_HZ // 2 : MIC_HZ // 2 + len(sound)] += sound
        end = (500 + PAUSE_MS) // FRAME_MS + len(sound) // MIC_FRAME
        for number, frame in enumerate(audio.frames(audio.to_pcm(room), MIC_FRAME)):
            if number == 500 // FRAME_MS:
                stream.begin_utterance()
            stream.push(frame)
            if number == end:
                stream.end_utterance()
            now_ms += FRAME_MS
            found += [(now_ms, hypothesis) for hypothesis in stream.poll()]
    return found


async def started(pace: Pace | None = None) -> LockstepRecognizer:
    recognizer = LockstepRecognizer(pace, "moonshine")
    await recognizer.start()
    return recognizer


@needs_moonshine
async def test_two_runs_are_the_same() -> None:
    """The same hypotheses at the same times, by another recogniser as well as by this one, which
    has read the grammar already."""
    one, other = await started(), await started()
    clips = ("caller_thank_you", "human_goodbye")
    runs = [recognise(recognizer, *clips) for recognizer in (one, one, other)]
    assert runs[0] == runs[1] == runs[2]
    finals = [h.text for _, h in runs[0] if h.final]
    assert finals == ["thank you very much", "goodbye"]
    assert [h.utterance for _, h in runs[0] if h.final] == [0, 1]
    assert sum(not h.final for _, h in runs[0]) >= 2


@needs_moonshine
async def test_a_slower_machine_is_later() -> None:
    """Words and finals of a machine that is ten times as slow: the same at the end, later, and
    fewer in between."""
    quick, slow = Pace(), dataclasses.replace(Pace(), encode=0.18, step_ms=55.0, row_ms=18.0)
    early = recognise(await started(quick), "caller_order_status")
    late = recognise(await started(slow), "caller_order_status", tail_s=6.0)
    assert early[-1][1].final and late[-1][1].final
    assert early[-1][1].text == late[-1][1].text
    assert late[0][0] > early[0][0]
    assert late[-1][0] > early[-1][0] + 100
    assert len(late) < len(early)


@needs_moonshine
async def test_every_price_counts() -> None:
    """A first word comes later if only one of them is raised."""
    usual = Pace()
    first_ms = recognise(await started(usual), "caller_yes")[0][0]
    for part in ("encode", "step_ms", "row_ms", "way_ms"):
        dear = dataclasses.replace(usual, **{part: 12 * getattr(usual, part)})
        assert recognise(await started(dear), "caller_yes")[0][0] > first_ms, part


@needs_moonshine
async def test_open_english_in_virtual_time() -> None:
    found = recognise(await started(), "human_transfer", grammar=None)
    said = found[-1][1].text.lower().rstrip(".")
    assert found[-1][1].final and said == "please hold while i try that extension"


async def test_an_engine_that_it_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="pocketsphinx, moonshine, not 'whisper'"):
        LockstepRecognizer(asr="whisper")
    with pytest.raises(RuntimeError, match="before start"):
        LockstepRecognizer(asr="moonshine").stream()


async def test_without_the_model_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockstep, "find_model", lambda: None)
    with pytest.raises(EngineUnavailable) as error:
        await LockstepRecognizer(asr="moonshine").start()
    assert str(error.value) == HELP
