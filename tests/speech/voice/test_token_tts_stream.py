"""A codec-token voice on fakes: what is heard, which word when, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from parley_speech.lm.errors import UtteranceTooLong
from parley_speech.text import TextFrontEnd
from parley_speech.tts.token_decoding import AHEAD_S
from parley_speech.tts.token_sound import EDGE
from parley_speech.tts.token_stream import CHUNK, TokenSpeechStream
from parley_speech.tts.token_tts import TokenSynthesizer
from parley_speech.types import SPEAKER_HZ, AudioChunk, Pcm, WordMark
from speech.voice.token_fakes import (
    PER_TOKEN,
    PROMPT,
    FakeDecoder,
    FakeLm,
    GuiltyError,
    sound_of,
    tokens_of,
)

pytest.importorskip("num2words")


class Voice:
    def __init__(self, *, close_anywhere: bool = False) -> None:
        self.lm, self.decoder = FakeLm(), FakeDecoder()
        self.engine = TokenSynthesizer(self.lm, self.decoder, PROMPT, close_anywhere=close_anywhere)

    def say(self, *deltas: str) -> TokenSpeechStream:
        stream = self.engine.stream()
        for delta in deltas:
            stream.push(delta)
        stream.end()
        return stream


@pytest.fixture
async def voice() -> AsyncIterator[Voice]:
    made = Voice()
    await made.engine.start()
    yield made
    made.lm.go.set()
    made.decoder.gate.set()
    await made.engine.aclose()


async def heard(stream: TokenSpeechStream) -> tuple[Pcm, list[WordMark]]:
    chunks = [chunk async for chunk in stream]
    check_chunks(chunks)
    return joined(chunks), [mark for chunk in chunks for mark in chunk.marks]


def joined(chunks: list[AudioChunk]) -> Pcm:
    return np.concatenate([np.zeros(0, np.int16), *(chunk.pcm for chunk in chunks)])


def check_chunks(chunks: list[AudioChunk]) -> None:
    """The contract of `AudioChunk`: words in order, each by the chunk of its last sample."""
    at, last = 0, 0
    for chunk in chunks:
        assert 0 < len(chunk.pcm) <= CHUNK
        for mark in chunk.marks:
            assert last <= mark.start <= mark.end
            silent = mark.start == mark.end  # it has no sound of its own
            assert mark.start < at + len(chunk.pcm) + silent
            assert mark.end > at or silent
            last = mark.end
        at += len(chunk.pcm)
    assert last <= at


def slices(text: str, marks: list[WordMark]) -> list[str]:
    """The marks' texts, after checking that they are the source, white space left out."""
    at = 0
    for mark in marks:
        assert text[mark.char_start : mark.char_end] == mark.text
        assert text[at : mark.char_start].strip() == ""
        at = mark.char_end
    assert text[at:].strip() == ""
    return [mark.text for mark in marks]


def as_pcm(text: str) -> Pcm:
    return np.rint(sound_of(text) * 32767).astype(np.int16)


async def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.002)


# --- what is heard --------------------------------------------------------------------------


async def test_the_sound_is_that_of_all_tokens_in_order(voice: Voice) -> None:
    text = "Hello there, this is said."
    pcm, marks = await heard(voice.say(text))
    expected = as_pcm(text)
    assert len(pcm) == len(expected)
    assert np.array_equal(pcm[EDGE:-EDGE], expected[EDGE:-EDGE])
    assert abs(int(pcm[0])) < 50  # its edges make no click
    assert abs(int(pcm[-1])) < 50
    assert slices(text, marks) == ["Hello", "there,", "this", "is", "said."]
    assert marks[-1].end == len(pcm)


async def test_deltas_of_any_size_sound_the_same(voice: Voice) -> None:
    text = "It costs $5 million, or 2.50 € today. Yes!"
    whole, _ = await heard(voice.say(text))
    by_char, marks = await heard(voice.say(*text))
    assert np.array_equal(whole, by_char)
    assert slices(text, marks) == text.split()
    said = "".join(voice.lm.streams[-1].texts)
    assert said == "It costs five million dollars, or two euros fifty cents today. Yes!"


async def test_sound_comes_while_text_is_still_written(voice: Voice) -> None:
    stream = voice.engine.stream()
    stream.push("The first words are said ")
    first = await anext(aiter(stream))
    assert len(first.pcm)
    stream.push("before the last.")
    stream.end()
    rest = [chunk async for chunk in stream]
    expected = as_pcm("The first words are said before the last.")
    assert sum(len(chunk.pcm) for chunk in [first, *rest]) == len(expected)


async def test_words_take_time_by_their_length(voice: Voice) -> None:
    _, marks = await heard(voice.say("a extraordinarily b extraordinarily"))
    short, long = marks[0].end - marks[0].start, marks[1].end - marks[1].start
    assert long > 5 * short


async def test_a_pause_is_exact_silence_with_its_own_mark(voice: Voice) -> None:
    text = "One [pause 250ms] two."
    pcm, marks = await heard(voice.say(text))
    silence = SPEAKER_HZ // 4
    one, two = as_pcm("One"), as_pcm("two.")
    assert len(pcm) == len(one) + silence + len(two)
    assert not pcm[len(one) : len(one) + silence].any()
    assert slices(text, marks) == ["One", "[pause 250ms]", "two."]
    assert (marks[1].start, marks[1].end) == (len(one), len(one) + silence)
    assert marks[2].start == len(one) + silence
    assert [stream.texts for stream in voice.lm.streams] == [["One "], ["two."]]


async def test_pauses_at_either_end_and_in_a_row(voice: Voice) -> None:
    text = "[pause 100ms] a <break time='50ms'/><break/>"
    pcm, marks = await heard(voice.say(text))
    assert len(pcm) == len(as_pcm("a")) + SPEAKER_HZ * 450 // 1000
    assert slices(text, marks) == ["[pause 100ms]", "a", "<break time='50ms'/>", "<break/>"]
    assert len(voice.lm.streams) == 1


async def test_a_long_text_is_spoken_in_pieces_without_a_gap(voice: Voice) -> None:
    text = "This sentence has words enough to be spoken for a while. " * 12
    pcm, marks = await heard(voice.say(text))
    assert len(pcm) == len(as_pcm(text))
    assert slices(text, marks) == text.split()
    assert len(voice.lm.streams) == 3


@pytest.mark.parametrize(
    "text",
    [
        "and so it goes on " * 30,  # no sentence ever ends
        "One clause, then another, and a third; it goes on, as they do. " * 8,
    ],
)
async def test_a_piece_never_outgrows_the_models_context(voice: Voice, text: str) -> None:
    """All text is spoken, in as many sessions as it takes, and none is cut."""
    voice.lm.context = 900
    pcm, marks = await heard(voice.say(text))
    assert len(pcm) == len(as_pcm(text))
    assert slices(text, marks) == text.split()
    assert len(voice.lm.streams) > 1
    assert all(len(tokens_of("".join(s.texts))) <= 900 for s in voice.lm.streams)


async def test_pieces_that_must_be_short_end_with_a_clause(voice: Voice) -> None:
    voice.lm.context = 500
    await heard(voice.say("One clause, then another, and a third; it goes on, as they do. " * 4))
    said = ["".join(stream.texts).rstrip() for stream in voice.lm.streams]
    assert len(said) > 2 and all(text[-1] in ",;." for text in said)


async def test_a_model_that_never_ends_is_heard_as_far_as_it_came_and_then_told(
    voice: Voice,
) -> None:
    """It has said more than any voice takes for the text: what was not surely said has no mark, so
    that whoever goes on elsewhere begins there."""
    voice.lm.context = 40
    voice.lm.room = lambda prompt: 10**6  # type: ignore[method-assign]
    text = "Seven words are in this long sentence, and some more."
    stream, chunks = voice.say(text), []
    with pytest.raises(UtteranceTooLong, match="context is full"):
        async for chunk in stream:
            chunks.append(chunk)  # those before the error count
    assert sum(len(chunk.pcm) for chunk in chunks) == 40 * PER_TOKEN
    marks = [mark for chunk in chunks for mark in chunk.marks]
    assert 0 < len(marks) < len(text.split())
    with pytest.raises(UtteranceTooLong):
        await anext(stream)
    await stream.aclose()
    await until(lambda: voice.decoder.open_calls == 0, "the call is closed")
    assert voice.lm.streams[0].closed


async def test_text_without_sound_is_given_on_a_silent_frame(voice: Voice) -> None:
    pcm, marks = await heard(voice.say("… 😀"))
    assert len(pcm) == SPEAKER_HZ // 50
    assert not pcm.any()
    assert slices("… 😀", marks) == ["…", "😀"]
    assert voice.lm.streams == []


async def test_nothing_is_nothing(voice: Voice) -> None:
    assert [chunk async for chunk in voice.say()] == []
    assert [chunk async for chunk in voice.say("  ", "\n")] == []


async def test_another_voice_and_another_front_end(voice: Voice) -> None:
    from dataclasses import replace

    other = replace(PROMPT, name="other")
    stream = voice.engine.stream(prompt=other, front_end=TextFrontEnd("de"))
    stream.push("2,50 €")
    stream.end()
    await heard(stream)
    assert voice.lm.streams[0].prompt is other
    assert voice.decoder.calls[0].prompt is other
    assert "".join(voice.lm.streams[0].texts).strip() == "zwei Euro fünfzig Cent"


# --- many at once ---------------------------------------------------------------------------


async def test_many_calls_share_steps_and_keep_their_own_sound(voice: Voice) -> None:
    texts = [f"Caller {name} is answered now." for name in ("Ann", "Bob", "Cy", "Dee", "Eve")]
    voice.decoder.gate.clear()
    listening = [asyncio.create_task(heard(voice.say(text))) for text in texts]
    await until(lambda: voice.lm.given > 0 and voice.engine.decoding.calls == 5, "five calls")
    voice.decoder.gate.set()
    for text, (pcm, marks) in zip(texts, await asyncio.gather(*listening), strict=True):
        assert np.array_equal(pcm[EDGE:-EDGE], as_pcm(text)[EDGE:-EDGE])
        assert slices(text, marks) == text.split()
    assert max(voice.decoder.batches) > 1
    assert len(voice.decoder.threads) == 1
    await until(lambda: voice.decoder.open_calls == 0, "all calls closed")


async def test_the_voice_is_prepared_once_at_the_start(voice: Voice) -> None:
    await voice.engine.start()
    assert voice.lm.started
    assert voice.decoder.prepared == ["fake"]


# --- nobody listens -------------------------------------------------------------------------


async def test_what_nobody_hears_is_not_decoded_on(voice: Voice) -> None:
    text = "word " * 100
    stream = voice.say(text)
    await until(lambda: voice.lm.streams and voice.lm.streams[0].closed, "the LM is through")  # type: ignore[arg-type,return-value]
    await until(lambda: voice.decoder.calls[0].sounded >= AHEAD_S * 25, "enough decoded")
    steps = len(voice.decoder.batches)
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert len(voice.decoder.batches) == steps
    assert voice.decoder.calls[0].sounded <= AHEAD_S * 25 + 10
    pcm, _ = await heard(stream)
    assert len(pcm) == len(as_pcm(text))


async def test_the_model_does_not_run_far_ahead_of_a_slow_listener(voice: Voice) -> None:
    sentence = "This sentence has words enough to be spoken for a while. "
    stream = voice.say(sentence * 40)
    await until(lambda: voice.lm.streams and voice.lm.streams[0].closed, "first piece")  # type: ignore[arg-type,return-value]
    for _ in range(50):
        await asyncio.sleep(0.002)
    assert len(voice.lm.streams) <= 2
    pcm, _ = await heard(stream)
    assert len(pcm) == len(as_pcm(sentence * 40))


# --- ends -----------------------------------------------------------------------------------


async def test_cancel_stops_model_and_decoder(voice: Voice) -> None:
    stream = voice.say("word " * 200)
    await anext(aiter(stream))
    stream.cancel()
    steps, given = len(voice.decoder.batches), voice.lm.given
    assert voice.lm.streams[0].cancelled or voice.lm.streams[0].closed
    assert [chunk async for chunk in stream] == []
    stream.cancel()
    stream.push("more")  # is ignored, as its listener has gone
    await stream.aclose()
    assert voice.lm.streams[0].closed
    await until(lambda: voice.decoder.open_calls == 0, "the call is closed")
    assert len(voice.decoder.batches) <= steps + 1
    assert voice.lm.given <= given + voice.lm.piece


async def test_cancel_before_the_first_sound(voice: Voice) -> None:
    voice.lm.go.clear()
    stream = voice.say("word " * 20)
    await until(lambda: bool(voice.lm.streams), "the model is asked")
    await stream.aclose()
    assert voice.lm.streams[0].closed
    assert [chunk async for chunk in stream] == []
    await until(lambda: voice.engine.decoding.calls == 0, "no call is left")
    assert voice.decoder.batches == []


async def test_cancel_ends_a_listener_that_waits(voice: Voice) -> None:
    voice.lm.go.clear()
    stream = voice.say("word")
    waiting = asyncio.create_task(heard(stream))
    await asyncio.sleep(0)
    stream.cancel()
    pcm, _ = await asyncio.wait_for(waiting, 30)
    assert len(pcm) == 0


async def test_cancel_interrupts_a_step_where_the_decoder_can() -> None:
    voice = Voice(close_anywhere=True)
    await voice.engine.start()
    voice.decoder.gate.clear()
    stream = voice.say("word " * 20)
    await asyncio.to_thread(voice.decoder.entered.acquire)
    stream.cancel()
    assert voice.decoder.calls[0].closed  # while its step runs
    voice.decoder._one = lambda part: np.zeros(0, np.float32)  # type: ignore[method-assign]
    voice.decoder.gate.set()
    await voice.engine.aclose()


async def test_hundreds_of_cancelled_streams_leave_nothing(voice: Voice) -> None:
    for number in range(300):
        stream = voice.say("some words to be said " * (number % 4 + 1))
        if number % 3:
            await anext(aiter(stream))
        await stream.aclose()
    await until(lambda: voice.engine.decoding.calls == 0, "no call is left")
    assert voice.decoder.open_calls == 0
    assert all(stream.closed for stream in voice.lm.streams)


async def test_closing_the_engine_ends_its_streams_and_it_starts_again(voice: Voice) -> None:
    stream = voice.say("word " * 50)
    await anext(aiter(stream))
    await voice.engine.aclose()
    assert voice.lm.stopped
    assert [chunk async for chunk in stream] == []
    with pytest.raises(RuntimeError, match="await start"):
        voice.engine.stream()
    await voice.engine.start()
    pcm, _ = await heard(voice.say("again"))
    assert len(pcm) == len(as_pcm("again"))


async def test_wrong_use_is_said(voice: Voice) -> None:
    stream = voice.say("word")
    with pytest.raises(RuntimeError, match="after end"):
        stream.push("more")
    stream.end()
    other = voice.engine.stream()
    with pytest.raises(OverflowError, match="at most 100000 may wait"):
        other.push("x" * 100_001)
    await other.aclose()
    with pytest.raises(RuntimeError, match="is not started"):
        TokenSynthesizer(FakeLm(), FakeDecoder(), PROMPT).stream()


# --- faults ---------------------------------------------------------------------------------


async def test_a_fault_of_the_model_is_raised_where_it_is_heard(voice: Voice) -> None:
    voice.lm.error = RuntimeError("the model is gone")
    with pytest.raises(RuntimeError, match="the model is gone"):
        await heard(voice.say("word"))
    voice.lm.error = None
    pcm, _ = await heard(voice.say("again"))
    assert len(pcm)


async def test_a_call_at_fault_does_not_take_others_with_it(voice: Voice) -> None:
    voice.decoder.bad_token = ord("X")
    voice.decoder.gate.clear()
    good = asyncio.create_task(heard(voice.say("this one is well")))
    bad = asyncio.create_task(heard(voice.say("XXXXXXXX XXXX")))
    await until(lambda: voice.engine.decoding.calls == 2, "two calls")
    voice.decoder.gate.set()
    with pytest.raises(GuiltyError):
        await bad
    pcm, _ = await good
    assert np.array_equal(pcm[EDGE:-EDGE], as_pcm("this one is well")[EDGE:-EDGE])


async def test_a_fault_of_the_decoder_ends_its_calls_and_not_the_engine(voice: Voice) -> None:
    voice.decoder.error = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        await heard(voice.say("word"))
    voice.decoder.error = None
    pcm, _ = await heard(voice.say("again"))
    assert len(pcm) == len(as_pcm("again"))
    await until(lambda: voice.decoder.open_calls == 0, "all calls closed")
