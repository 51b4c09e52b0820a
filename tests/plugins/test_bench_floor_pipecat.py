"""Pipecat on the floor bench's line. Needs the extra ``bench-pipecat``, which no lock holds: it
wants older versions of what the locks have, so these tests run in an environment of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "pipecat", reason="Pipecat is not installed: pip install 'parley[bench-pipecat,espeak]'"
)

from livekit.plugins.parley.bench.floor_pipecat import (
    InstantAnswer,
    Loudspeaker,
    PipecatStage,
    RenderedVoice,
    ToldWords,
)
from pipecat.frames.frames import (
    LLMContextFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.tests.utils import run_test

from parley.bench.floor import families
from parley.bench.floor.line import SILENCE, Line
from parley.bench.floor.run import renderings
from parley.bench.floor.scene import Cue, Scene, Speaker
from parley.bench.floor.texts import TEXTS
from parley.bench.floor.utterances import Studio, Utterance, Voiced
from parley.bench.instant import Rendering
from parley_speech.types import MIC_FRAME, SPEAKER_FRAME, SPEAKER_HZ, AudioChunk, Pcm

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT / "tests" / "data" / "audio"


def a_scene(*cues: Cue) -> Scene:
    return Scene("s", "f", "test", 1, "desk", "answers", "short", cues)


def a_line() -> Line:
    kinds = ("turn", "noise")
    cues = tuple(Cue(kind, "start", 0.0, "x", Speaker("clip")) for kind in kinds)  # type: ignore[arg-type]
    sound = Utterance(np.full(800, 5000, np.int16), (Voiced(0, 800, "hello"),), "hello there")
    return Line(a_scene(*cues), [sound, sound], 1.0)


def speech(frames: int) -> Pcm:
    return np.arange(1, frames * SPEAKER_FRAME + 1, dtype=np.int16)


async def given(loudspeaker: Loudspeaker, pcm: Pcm) -> None:
    """In pieces of two frames, as Pipecat's output gives them."""
    for at in range(0, len(pcm), 2 * SPEAKER_FRAME):
        await loudspeaker.give(pcm[at : at + 2 * SPEAKER_FRAME])


async def taken(loudspeaker: Loudspeaker, frames: int) -> Pcm:
    """What is played in so many ticks; others run in between."""
    out = []
    for _ in range(frames):
        out.append(loudspeaker.take())
        for _ in range(5):
            await asyncio.sleep(0)
    return np.concatenate(out)


async def test_a_speech_is_played_without_a_gap_to_its_end() -> None:
    loudspeaker = Loudspeaker(a_line())
    pcm = speech(6)
    giving = asyncio.create_task(given(loudspeaker, pcm))
    await asyncio.sleep(0)
    assert np.array_equal(await taken(loudspeaker, 6), pcm)
    await giving
    loudspeaker.end()
    assert not (await taken(loudspeaker, 2)).any()
    (reply,) = loudspeaker.replies
    assert (reply.cause, reply.cut) == ("user", False)
    assert np.array_equal(reply.pcm, pcm)


async def test_an_interruption_is_silent_at_once_and_the_next_speech_begins_anew() -> None:
    loudspeaker = Loudspeaker(a_line())
    loudspeaker.asked = True
    giving = asyncio.create_task(given(loudspeaker, speech(2)))
    await asyncio.sleep(0)
    assert (await taken(loudspeaker, 1)).any()
    loudspeaker.clear()
    await giving  # who waits to give more is let go
    loudspeaker.end()
    assert not (await taken(loudspeaker, 2)).any()
    again = asyncio.create_task(given(loudspeaker, speech(2)))
    await asyncio.sleep(0)
    assert (await taken(loudspeaker, 2)).any()
    await again
    loudspeaker.end()
    loudspeaker.clear()  # nothing is left to be interrupted
    assert [(r.number, r.cause, r.cut) for r in loudspeaker.replies] == [
        (0, "instructed", True),
        (1, "user", False),
    ]


async def test_a_speech_of_which_nothing_was_heard_is_none() -> None:
    loudspeaker = Loudspeaker(a_line())
    giving = asyncio.create_task(given(loudspeaker, speech(2)))
    await asyncio.sleep(0)
    loudspeaker.clear()
    await giving
    assert loudspeaker.replies == []


async def test_the_told_recogniser_knows_words_and_of_noise_none() -> None:
    line = a_line()
    for words in (["hello there"], []):
        before = len(line.placed)
        while len(line.placed) == before:
            line.step(SILENCE)
        frames, _ = await run_test(ToldWords(line), frames_to_send=[VADUserStoppedSpeakingFrame()])
        heard = [f for f in frames if isinstance(f, TranscriptionFrame)]
        assert [f.text for f in heard] == words
        assert all(f.finalized for f in heard)


async def test_the_mind_has_one_answer() -> None:
    frames, _ = await run_test(InstantAnswer("yes"), frames_to_send=[LLMContextFrame(LLMContext())])
    assert [f.text for f in frames if isinstance(f, LLMTextFrame)] == ["yes"]


async def test_the_voice_is_the_rendering() -> None:
    pcm = speech(3)
    chunks = (AudioChunk(pcm[:700], ()), AudioChunk(pcm[700:], ()))
    voice = RenderedVoice({"yes": Rendering("yes", chunks)})
    frames = [frame async for frame in voice.run_tts("yes", "c")]
    audio = [f for f in frames if isinstance(f, TTSAudioRawFrame)]
    assert b"".join(f.audio for f in audio) == pcm.tobytes()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Rendering]]:
    pytest.importorskip("espeakng_loader")
    cache = tmp_path_factory.mktemp("cache")
    return cache, dict(renderings(cache))


@pytest.mark.slow
async def test_a_real_pipeline_answers_turns_and_is_cut_by_an_interruption(
    rendered: tuple[Path, dict[str, Rendering]],
) -> None:
    """In real time. Only the order of things is looked at: a busy machine is late."""
    cache, voice = rendered
    stage = PipecatStage("pipecat", Studio(cache, CLIPS), voice)
    scene = next(
        s
        for s in families.scenes("test", 1, ("interruptions_middle",))
        if [c.kind for c in s.cues].count("interruption") > 1
    )
    played = await stage.play(scene)
    asked = [r for r in played.replies if r.cause == "instructed"]
    assert asked and asked[0].cut, "it was talked over in its middle"
    assert len(asked[0].pcm) < len(voice[TEXTS[scene.reply]].pcm)
    same = min(len(asked[0].pcm), SPEAKER_HZ)
    sounded, rendering = asked[0].pcm[:same], voice[TEXTS[scene.reply]].pcm[:same]
    assert np.array_equal(sounded, rendering), "its voice is the bench's, to the sample"
    answered = [r for r in played.replies if r.cause == "user"]
    assert answered and answered[0].at_ms > asked[0].at_ms
    assert len(played.mic) // MIC_FRAME == len(played.agent) // SPEAKER_FRAME, "in step"
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left behind"
