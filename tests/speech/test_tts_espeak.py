from __future__ import annotations

import asyncio
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley_speech.text import shown
from parley_speech.tts import espeak_ng
from parley_speech.tts.clause_audio import CHUNK
from parley_speech.tts.espeak import (
    AHEAD,
    JOINED,
    MAX_WAITING_CHARS,
    EspeakStream,
    EspeakSynthesizer,
    speech_level_dbfs,
)
from parley_speech.tts.words import ClauseCutter
from parley_speech.types import (
    SPEAKER_FRAME,
    SPEAKER_HZ,
    AudioChunk,
    EngineUnavailable,
    Pcm,
    SpeechStream,
    Synthesizer,
    WordMark,
)

pytest.importorskip("espeakng_loader", reason="pip install parley[espeak]")

REPLY = "Your order one two three was shipped on Thursday, and it will arrive tomorrow. "
LONG = REPLY * 40  # about three minutes


@dataclass
class Said:
    pcm: Pcm
    marks: list[WordMark]
    chunks: list[AudioChunk]

    @property
    def words(self) -> list[str]:
        return [mark.text for mark in self.marks]


@pytest.fixture
async def voice() -> AsyncIterator[EspeakSynthesizer]:
    engine = EspeakSynthesizer()
    await engine.start()
    yield engine
    await engine.aclose()


async def listen(stream: EspeakStream) -> Said:
    chunks = [chunk async for chunk in stream]
    pcm = [chunk.pcm for chunk in chunks]
    return Said(
        np.concatenate([np.zeros(0, np.int16), *pcm]),
        [mark for chunk in chunks for mark in chunk.marks],
        chunks,
    )


async def say(engine: EspeakSynthesizer, *deltas: str) -> Said:
    stream = engine.stream()
    for delta in deltas:
        stream.push(delta)
    stream.end()
    return await listen(stream)


def level(pcm: Pcm) -> float:
    return float(np.abs(pcm.astype(int)).mean())


# --- what is said ---------------------------------------------------------------------------


async def test_it_meets_the_contracts(voice: EspeakSynthesizer) -> None:
    engine: Synthesizer = voice
    stream: SpeechStream = engine.stream()
    await stream.aclose()


async def test_marks_tie_each_word_to_its_sound(voice: EspeakSynthesizer) -> None:
    said = await say(voice, "Hello, wonderful world.")

    assert said.words == ["Hello,", "wonderful", "world."]
    hello, wonderful, world = said.marks
    assert hello.start == 0
    assert world.end <= len(said.pcm) < world.end + 480
    assert level(said.pcm[hello.end : wonderful.start]) < 5  # the pause at the comma
    for mark in said.marks:
        assert level(said.pcm[mark.start : mark.end]) > 500
    assert 0.1 < (wonderful.start - hello.end) / SPEAKER_HZ < 0.2


async def test_mark_up_for_a_pause_is_silence_and_not_read_out(voice: EspeakSynthesizer) -> None:
    plain = await say(voice, "Hello. Are you there?")
    paused = await say(voice, "Hello. [pause 700ms]", " Are you there? [pause 1s]")
    assert "".join(plain.words) == shown("".join(paused.words)).replace(" ", "")
    longer = len(paused.pcm) - len(plain.pcm)
    assert abs(longer - 0.7 * SPEAKER_HZ) <= 2 * SPEAKER_FRAME  # the last one ends the text
    begins = paused.marks[1].start - SPEAKER_HZ * 7 // 10
    assert level(paused.pcm[begins : paused.marks[1].start]) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("order 12345 is $3.50, ok", ["order", "12345", "is", "$3.50,", "ok"]),
        ("I am out of the box", ["I", "am", "out", "of", "the", "box"]),
        ("e.g. Mr. Smith's 3rd", ["e.g.", "Mr.", "Smith's", "3rd"]),
        ('"Well," she said — (twice)', ['"Well,"', "she", "said —", "(twice)"]),
        ("<b>bold</b> [[foo]] {x} \\n", ["<b>bold</b>", "[[foo]]", "{x}", "\\n"]),
        ("😀 naïve Ünïcode 你好，世界", ["😀", "naïve", "Ünïcode", "你好，", "世界"]),
        ("... Hello. …", ["... Hello.", "…"]),
        ("one\x00two \x01 three \ud800", ["one\x00two \x01", "three \ud800"]),
        ("- one\n- two", ["- one", "- two"]),
    ],
)
async def test_every_written_word_is_one_mark(
    voice: EspeakSynthesizer, text: str, words: list[str]
) -> None:
    said = await say(voice, text)
    assert said.words == words
    assert all(text[mark.char_start : mark.char_end] == mark.text for mark in said.marks)


@pytest.mark.parametrize("text", ["", "   ", "...", " — \n…", "\x00\x01", "?!"])
async def test_a_text_without_words_ends_without_audio(voice: EspeakSynthesizer, text: str) -> None:
    said = await asyncio.wait_for(say(voice, text), 2)
    assert (len(said.pcm), said.marks) == (0, [])


async def test_a_mark_is_given_with_the_chunk_in_which_its_word_begins(
    voice: EspeakSynthesizer,
) -> None:
    said = await say(voice, REPLY)
    position = 0
    for chunk in said.chunks:
        assert 0 < len(chunk.pcm) <= JOINED
        assert chunk.pcm.dtype == np.int16
        assert all(position <= m.start < position + len(chunk.pcm) for m in chunk.marks)
        position += len(chunk.pcm)


async def test_what_waits_is_given_in_large_chunks(voice: EspeakSynthesizer) -> None:
    text = "Your order was shipped"
    stream = voice.stream()
    stream.push(text)
    stream.end()
    while not stream._finished():  # its clauses are rendered one after the other
        rendered = asyncio.wrap_future(espeak_ng.ESPEAK_THREAD.submit(lambda: None))
        await asyncio.wait_for(rendered, 60)
    chunks = [chunk async for chunk in stream]
    assert len(chunks) <= 1 + sum(len(chunk.pcm) for chunk in chunks) // (JOINED - CHUNK)
    marks = [mark for chunk in chunks for mark in chunk.marks]
    assert [mark.text for mark in marks] == text.split()


async def test_a_listener_is_woken_once_for_all_that_came_meanwhile(
    voice: EspeakSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, calls = asyncio.get_running_loop(), 0
    call_soon = loop.call_soon_threadsafe

    def counted(callback, *args, **options):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += callback == stream._woken
        return call_soon(callback, *args, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    stream = voice.stream()
    stream._loop = loop
    for turn in range(2):
        stream._listening = True
        stream._changed.clear()
        many = espeak_ng.ESPEAK_THREAD.submit(lambda: [stream._wake() for _ in range(50)])
        many.result(60)  # the loop stands still meanwhile
        assert calls == turn + 1
        await asyncio.wait_for(stream._changed.wait(), 60)
    await stream.aclose()


async def test_who_does_not_listen_is_not_woken_and_misses_nothing(
    voice: EspeakSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Your order was shipped"  # shorter than what is rendered ahead of the listener
    stream = voice.stream()
    stream.push(text)
    stream.end()
    chunks = [await anext(stream)]
    woken = 0

    def counted() -> None:
        nonlocal woken
        woken += 1

    monkeypatch.setattr(stream, "_woken", counted)
    while not stream._finished():
        rendered = asyncio.wrap_future(espeak_ng.ESPEAK_THREAD.submit(lambda: None))
        await asyncio.wait_for(rendered, 60)
    assert woken == 0
    chunks += [chunk async for chunk in stream]
    assert [mark.text for chunk in chunks for mark in chunk.marks] == text.split()


async def test_splitting_the_text_changes_nothing(voice: EspeakSynthesizer) -> None:
    text = "Hello, it is 12 o'clock. Well: yes, no!"
    whole, by_letter = await say(voice, text), await say(voice, *text)

    assert whole.words == by_letter.words
    for a, b in zip(whole.marks, by_letter.marks, strict=True):
        assert abs(a.start - b.start) < 0.003 * SPEAKER_HZ  # espeak's own length varies by samples


WORDS = st.sampled_from(
    [
        "hello",
        "12345",
        "Dr.",
        "yes,",
        "no.",
        "it's",
        "$3",
        "—",
        "x",
        "😀",
        "(so)",
        "42%",
        "the",
        "of",
    ]
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(WORDS, min_size=1, max_size=12), st.data())
async def test_any_split_of_any_text_gives_the_same_words(
    voice: EspeakSynthesizer, words: list[str], data: st.DataObject
) -> None:
    text = " ".join(words)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    deltas = [text[a:b] for a, b in pairwise(sorted({0, len(text), *cuts}))]

    whole, split = await say(voice, text), await say(voice, *deltas)

    if clauses(text) == clauses(*deltas):
        assert whole.words == split.words
    for said in (whole, split):
        assert "".join("".join(said.words).split()) == "".join(text.split()) or not said.marks
        assert all(a.end <= b.start and a.char_end <= b.char_start for a, b in pairwise(said.marks))
        assert all(0 <= m.start <= m.end <= len(said.pcm) for m in said.marks)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=60))
async def test_no_text_breaks_it_or_loses_a_mark(voice: EspeakSynthesizer, text: str) -> None:
    said = await say(voice, text)

    assert not said.marks or "".join("".join(said.words).split()) == "".join(text.split())
    assert all(text[m.char_start : m.char_end] == m.text for m in said.marks)
    assert all(0 <= m.start <= m.end <= len(said.pcm) for m in said.marks)


def clauses(*deltas: str) -> list[str]:
    cutter = ClauseCutter()
    return [c.text for d in deltas for c in cutter.push(d)] + [c.text for c in cutter.end()]


# --- how it sounds --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["en-us", "en-us+f3", "en-us+m7", "en-gb", "de"])
async def test_level_is_minus_20_dbfs_without_clipping(name: str) -> None:
    engine = EspeakSynthesizer(name)
    await engine.start()
    said = await say(engine, REPLY)

    assert speech_level_dbfs(said.pcm, SPEAKER_HZ) == pytest.approx(-20, abs=1.5)
    assert np.abs(said.pcm.astype(int)).max() < 32767 * 0.99
    await engine.aclose()


async def test_speech_begins_within_10_ms_of_audio_and_ends_with_it(
    voice: EspeakSynthesizer,
) -> None:
    for text in ("Hello there.", "I am fine.", "Yes", "please hold"):
        loud = np.flatnonzero(np.abs((await say(voice, text)).pcm.astype(int)) > 60)
        assert loud[0] <= SPEAKER_HZ // 100
        assert loud[-1] > 0


async def test_no_click_where_clauses_meet(voice: EspeakSynthesizer) -> None:
    said = await say(voice, "Oh no, oh no, oh no, oh no, oh no.")  # no sound of it is sharp
    within = np.abs(np.diff(said.pcm.astype(int))).max()
    for mark in said.marks[1::2]:  # those before a pause
        seam = said.pcm[mark.end - 24 : mark.end + 240].astype(int)
        assert np.abs(np.diff(seam)).max() < min(200, within / 4)


async def test_rate_and_pitch_are_heard() -> None:
    async def spoken(**options: int) -> Pcm:
        engine = EspeakSynthesizer(**options)  # type: ignore[arg-type]
        await engine.start()
        said = await say(engine, REPLY)
        await engine.aclose()
        return said.pcm

    slow, fast = await spoken(rate_wpm=100), await spoken(rate_wpm=300)
    low, high = await spoken(pitch=10), await spoken(pitch=90)

    assert len(slow) > 2 * len(fast)
    assert fundamental_hz(high) > 1.3 * fundamental_hz(low)


def fundamental_hz(pcm: Pcm) -> float:
    """Median over voiced frames of the lag at which 40 ms resemble themselves most."""
    found = []
    lags = np.arange(SPEAKER_HZ // 350, SPEAKER_HZ // 60)
    for start in range(0, len(pcm) - 1920, 960):
        frame = pcm[start : start + 960].astype(float)
        if np.sqrt((frame**2).mean()) < 1500:
            continue
        rows = np.stack([pcm[start + lag : start + lag + 960].astype(float) for lag in lags])
        likeness = rows @ frame / (np.linalg.norm(rows, axis=1) * np.linalg.norm(frame) + 1)
        found.append(SPEAKER_HZ / lags[likeness.argmax()])
    return statistics.median(found)


# --- when -----------------------------------------------------------------------------------


async def test_the_first_chunk_takes_less_than_10_ms(voice: EspeakSynthesizer) -> None:
    took = []
    for _ in range(15):
        stream = voice.stream()
        began = time.perf_counter()
        stream.push("Hello, I will look up your order")  # its first clause is closed
        await anext(stream)
        took.append(time.perf_counter() - began)
        await stream.aclose()
    assert min(took) < 0.010  # the others measure what else this machine does


async def test_words_are_spoken_before_the_sentence_is_complete(voice: EspeakSynthesizer) -> None:
    stream = voice.stream()
    stream.push("I will look that up for you ")
    chunk = await asyncio.wait_for(anext(stream), 2)
    assert chunk.marks[0].text == "I"
    await stream.aclose()


async def test_cancel_stops_within_5_ms(voice: EspeakSynthesizer) -> None:
    took = []
    for _ in range(15):
        stream = voice.stream()
        stream.push(LONG)
        await anext(stream)
        began = time.perf_counter()
        stream.cancel()
        stream.cancel()
        await stream.aclose()  # returns when nothing is rendered any more
        took.append(time.perf_counter() - began)
        assert [chunk async for chunk in stream] == []
        stream.push("ignored")
        stream.end()
    assert min(took) < 0.005  # the others measure what else this machine does


async def test_cancel_wakes_a_listener_that_waits(voice: EspeakSynthesizer) -> None:
    stream = voice.stream()
    waiting = asyncio.ensure_future(listen(stream))
    await asyncio.sleep(0)
    stream.cancel()
    assert (await asyncio.wait_for(waiting, 2)).marks == []


async def test_cancelled_streams_leave_nothing_behind(voice: EspeakSynthesizer) -> None:
    await say(voice, "Hello.")
    threads = threading.active_count()
    for _ in range(20):
        stream = voice.stream()
        stream.push(LONG)
        stream.cancel()
    said = await say(voice, "Still here.")

    assert said.words == ["Still", "here."]
    assert threading.active_count() == threads


async def test_two_streams_interleave_without_mixing(voice: EspeakSynthesizer) -> None:
    alone = [await say(voice, LONG[:600]), await say(voice, "One, two, three, four.")]
    first, second = voice.stream(), voice.stream()
    first.push(LONG[:600])
    second.push("One, two, three, four.")
    first.end()
    second.end()
    together = await asyncio.gather(listen(first), listen(second))

    for one, other in zip(alone, together, strict=True):
        assert one.words == other.words
        for a, b in zip(one.marks, other.marks, strict=True):
            assert abs((a.end - a.start) - (b.end - b.start)) < 0.005 * SPEAKER_HZ


async def test_a_stream_does_not_wait_for_a_long_one(voice: EspeakSynthesizer) -> None:
    long, short = voice.stream(), voice.stream()
    long.push(LONG)
    long.end()
    short.push("Yes.")
    short.end()
    listener = asyncio.ensure_future(listen(long))
    await asyncio.wait_for(listen(short), 2)
    assert not listener.done()
    long.cancel()
    await listener


async def test_a_slow_listener_holds_rendering_back(voice: EspeakSynthesizer) -> None:
    stream = voice.stream()
    stream.push(LONG)
    stream.end()
    first = await anext(stream)
    await say(voice, "Meanwhile, others are served. " * 3)  # each takes a turn of the thread

    assert AHEAD <= stream._waiting_samples < AHEAD + 10 * SPEAKER_HZ
    rest = await listen(stream)
    assert len(first.marks) + len(rest.marks) >= len(LONG.split())


async def test_pushing_without_end_is_refused_at_a_bound(voice: EspeakSynthesizer) -> None:
    stream = voice.stream()
    with pytest.raises(OverflowError, match="wait to be spoken"):
        for _ in range(3):
            stream.push("word " * (MAX_WAITING_CHARS // 10))
    await stream.aclose()


# --- errors ---------------------------------------------------------------------------------


async def test_push_after_end_is_an_error(voice: EspeakSynthesizer) -> None:
    stream = voice.stream()
    stream.end()
    stream.end()
    with pytest.raises(RuntimeError, match="open a new stream"):
        stream.push("too late")
    assert await listen(stream)


def test_stream_before_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="await start"):
        EspeakSynthesizer().stream()


async def test_closing_the_engine_ends_its_streams(voice: EspeakSynthesizer) -> None:
    stream = voice.stream()
    stream.push(LONG)
    listener = asyncio.ensure_future(listen(stream))
    await voice.aclose()
    await asyncio.wait_for(listener, 2)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("en-gg", "near: .*en-gb"), ("xx-yy", "voices()"), ("en-us+f33", "variant 'f33'.*f3")],
)
async def test_an_unknown_voice_is_refused_with_what_is_near(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        await EspeakSynthesizer(name).start()


@pytest.mark.parametrize(
    "options", [{"rate_wpm": 20}, {"rate_wpm": 500}, {"pitch": 100}, {"level_dbfs": 0.0}]
)
def test_settings_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} is .*, expected"):
        EspeakSynthesizer(**options)  # type: ignore[arg-type]


def test_voices_lists_what_can_be_used() -> None:
    assert {"en-us", "en-gb", "en", "de", "fr-fr"} <= set(EspeakSynthesizer.voices())
    assert {"f3", "m7", "whisper"} <= set(EspeakSynthesizer.variants())


async def test_a_failure_of_the_library_reaches_the_listener(
    voice: EspeakSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("espeak_Synth failed with status 1")

    monkeypatch.setattr(espeak_ng.Library, "synthesize", refuse)
    with pytest.raises(RuntimeError, match="status 1"):
        await say(voice, "Hello.")


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(EngineUnavailable, match=r"pip install parley\[espeak\]"):
        espeak_ng.library.__wrapped__()
