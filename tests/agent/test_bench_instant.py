"""The bench's mind and voice: at once, whole, and the same every time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from parley.bench.instant import InstantMind, InstantVoice, Rendering, load, render, save
from parley.bench.scenarios import TEXTS, Plan
from parley.minds.base import Cause, Context, TextDelta
from parley_speech.types import AudioChunk, WordMark

TEXT = "one two"
MARKS = (WordMark("one", 0, 3, 0, 400), WordMark("two", 4, 7, 400, 900))
RENDERING = Rendering(
    TEXT,
    (
        AudioChunk(np.arange(500, dtype=np.int16), MARKS[:1]),
        AudioChunk(np.arange(400, dtype=np.int16), MARKS[1:]),
    ),
)


async def test_the_mind_gives_its_whole_text_in_one_piece() -> None:
    reply = InstantMind(TEXT).session().reply(Context(Cause.USER))
    assert [event async for event in reply] == [TextDelta(TEXT)]


async def test_a_cancelled_reply_gives_nothing() -> None:
    reply = InstantMind(TEXT).reply(Context(Cause.USER))
    reply.cancel()
    assert [event async for event in reply] == []


async def test_speech_comes_before_the_text_is_closed_and_never_waits() -> None:
    stream = InstantVoice({TEXT: RENDERING}).stream()
    stream.push("one ")
    stream.push("two")
    async with asyncio.timeout(0.05):
        chunks = [chunk async for chunk in stream]
    assert [len(chunk.pcm) for chunk in chunks] == [500, 400]
    assert tuple(mark for chunk in chunks for mark in chunk.marks) == MARKS


async def test_cancelling_ends_speech_in_its_middle() -> None:
    stream = InstantVoice({TEXT: RENDERING}).stream()
    stream.push(TEXT)
    heard = []
    async for chunk in stream:
        heard.append(chunk)
        stream.cancel()
    assert len(heard) == 1


async def test_nothing_pushed_is_no_speech_and_no_wait() -> None:
    stream = InstantVoice({}).stream()
    stream.end()
    assert [chunk async for chunk in stream] == []


async def test_an_unknown_text_is_an_error_that_names_it() -> None:
    stream = InstantVoice({TEXT: RENDERING}).stream()
    stream.push("three")
    stream.end()
    with pytest.raises(ValueError, match=r"'three'.*knows 1 texts"):
        _ = [chunk async for chunk in stream]


async def test_renderings_survive_their_file(tmp_path: Path) -> None:
    kept = load(save(tmp_path / "voice.npz", {TEXT: RENDERING}))
    assert list(kept) == [TEXT]
    np.testing.assert_array_equal(kept[TEXT].pcm, RENDERING.pcm)
    assert kept[TEXT].marks == MARKS
    assert [len(chunk.pcm) for chunk in kept[TEXT].chunks] == [500, 400]


async def test_render_takes_every_text_from_the_voice_it_is_given() -> None:
    rendered = await render([TEXT], InstantVoice({TEXT: RENDERING}))
    np.testing.assert_array_equal(rendered[TEXT].pcm, RENDERING.pcm)
    assert rendered[TEXT].text == TEXT


@pytest.mark.parametrize(
    "plan", [Plan("answer", "garden"), Plan("monologue", "notice", 6), Plan("stock", "everything")]
)
def test_a_plan_travels_in_the_name_of_a_room(plan: Plan) -> None:
    assert Plan.of(plan.room()) == plan
    assert plan.room() != plan.room()


@pytest.mark.parametrize("room", ["lobby", "bench-dance-garden-0-1", "bench-answer-garden-x-1"])
def test_a_room_without_a_plan_is_refused(room: str) -> None:
    with pytest.raises(ValueError, match="plan"):
        Plan.of(room)


def test_texts_have_no_pause_in_which_a_duck_could_hide() -> None:
    assert all(not set(text) & set(",.;:?!-") for name, text in TEXTS.items() if name != "notice")
    assert all(len(text) < 4000 for text in TEXTS.values())  # the engine ends longer ones
