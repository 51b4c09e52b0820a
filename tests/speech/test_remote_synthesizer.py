"""The remote voice against real servers on loopback: in this event loop, and killed processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest
from speech_servers import LONG_S, TOKEN, InLoop, Process, serving, until
from tone_voice import WORD, ToneVoice, read, text_of

from parley_speech.remote import RemoteSynthesizer, is_url, voice_of
from parley_speech.remote import synthesizer as remote
from parley_speech.remote.errors import SpeechServersLost
from parley_speech.tts.espeak import EspeakSynthesizer
from parley_speech.types import EngineUnavailable, Pcm, SpeechStream, Synthesizer, WordMark


@pytest.fixture
async def tone() -> ToneVoice:
    return ToneVoice()


@pytest.fixture
async def server(tone: ToneVoice) -> AsyncIterator[InLoop]:
    async with serving({"tone": tone, "other": ToneVoice()}, max_calls=8) as running:
        yield running


class Voice:
    """A started remote voice that is closed at the end."""

    def __init__(self, *urls: str, **options: object) -> None:
        options.setdefault("fallback", None)
        self.voice = RemoteSynthesizer(list(urls), **options)  # type: ignore[arg-type]

    async def __aenter__(self) -> RemoteSynthesizer:
        await self.voice.start()
        return self.voice

    async def __aexit__(self, *_: object) -> None:
        await self.voice.aclose()


async def hear(stream: SpeechStream) -> tuple[Pcm, list[WordMark]]:
    async with asyncio.timeout(LONG_S):
        chunks = [chunk async for chunk in stream]
    marks = [mark for chunk in chunks for mark in chunk.marks]
    return np.concatenate([np.zeros(0, np.int16), *(chunk.pcm for chunk in chunks)]), marks


async def say(voice: Synthesizer, *deltas: str) -> tuple[Pcm, list[WordMark]]:
    stream = voice.stream()
    for delta in deltas:
        stream.push(delta)
    stream.end()
    try:
        return await hear(stream)
    finally:
        await stream.aclose()


# --- a server that is well ------------------------------------------------------------------------


async def test_it_meets_the_contracts(server: InLoop) -> None:
    async with Voice(server.url) as voice:
        engine: Synthesizer = voice
        stream: SpeechStream = engine.stream()
        await stream.aclose()


async def test_it_says_what_the_voice_would_say_here(server: InLoop, tone: ToneVoice) -> None:
    async with Voice(server.url) as voice:
        there = await say(voice, "w1 w", "2 w3")
        here = await say(tone, "w1 w", "2 w3")
    assert np.array_equal(there[0], here[0])
    assert there[1] == here[1]
    assert tone.open == 0


async def test_many_utterances_share_a_connection(server: InLoop) -> None:
    async with Voice(server.url) as voice:
        said = await asyncio.gather(
            *(say(voice, text_of(*range(10 * n, 10 * n + 8))) for n in range(8))
        )
    for n, (pcm, _) in enumerate(said):
        assert [number for number, _ in read(pcm)] == list(range(10 * n, 10 * n + 8))
    page = server.service.metrics.page().decode()
    assert 'parley_speech_utterances_total{outcome="done",voice="tone"} 8.0' in page


async def test_a_listener_who_waits_makes_the_server_wait(server: InLoop, tone: ToneVoice) -> None:
    async with Voice(server.url) as voice:
        stream = voice.stream()
        stream.push(text_of(*range(500)))  # a minute
        stream.end()
        await anext(aiter(stream))
        await say(voice, "w1")  # whatever the first may send is sent by then
        assert tone.made * tone.chunk < 3 * 24_000
        pcm, marks = await hear(stream)
        assert len(marks) == 499
        assert len(pcm) > 55 * 24_000
        await stream.aclose()


async def test_a_cancel_stops_it_here_at_once_and_there_soon(
    server: InLoop, tone: ToneVoice
) -> None:
    async with Voice(server.url) as voice:
        stream = voice.stream()
        stream.push(text_of(*range(500)))
        await anext(aiter(stream))
        stream.cancel()
        assert [chunk async for chunk in stream] == []
        await stream.aclose()
        assert tone.open == 0
        assert server.service.admission.speaking == 0


async def test_a_cancel_before_anything_was_sent_costs_the_server_nothing(
    server: InLoop, tone: ToneVoice
) -> None:
    async with Voice(server.url) as voice:
        stream = voice.stream()
        stream.push("w1 ")
        stream.cancel()
        await stream.aclose()
        await say(voice, "w2")
        assert [s.text for s in tone.streams] == ["w2"]


async def test_any_text_arrives_as_it_was(server: InLoop, tone: ToneVoice) -> None:
    text = 'é "😀" \x00 \\ \ud800 line\nbreak ' + "w" * 20_000
    async with Voice(server.url) as voice:
        await say(voice, text)
    assert tone.streams[0].text == text.replace("\ud800", "?")


async def test_the_voice_that_is_asked_for_speaks(server: InLoop, tone: ToneVoice) -> None:
    async with Voice(server.url, voice="other", speed=1.5, instructions="softly") as voice:
        await say(voice, "w1")
    other = server.service.catalogue._engines["other"]
    assert isinstance(other, ToneVoice)
    assert (other.streams[0].speed, other.streams[0].instructions) == (1.5, "softly")
    assert tone.streams == []


async def test_closing_the_voice_ends_what_it_says(server: InLoop) -> None:
    async with Voice(server.url) as voice:
        stream = voice.stream()
        stream.push(text_of(*range(500)))
        await anext(aiter(stream))
        listening = asyncio.create_task(hear(stream))
    await asyncio.wait_for(listening, LONG_S)
    await until(lambda: server.service.admission.speaking == 0)


async def test_it_may_be_started_again(server: InLoop) -> None:
    voice = RemoteSynthesizer(server.url, fallback=None)
    for _ in range(2):
        await voice.start()
        await voice.start()
        assert len((await say(voice, "w1"))[1]) == 1
        await voice.aclose()


# --- servers that cannot be used ------------------------------------------------------------------


async def test_without_any_server_it_does_not_start() -> None:
    voice = RemoteSynthesizer("http://127.0.0.1:9", fallback=None)
    with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:9.*cannot be reached"):
        await voice.start()


async def test_a_server_that_refuses_us_is_an_error_whatever_stands_behind(
    tone: ToneVoice,
) -> None:
    async with serving({"tone": tone}, TOKEN) as server:
        voice = RemoteSynthesizer(server.url, token="wrong", fallback=ToneVoice())
        with pytest.raises(EngineUnavailable, match="PARLEY_SPEECH_TOKEN"):
            await voice.start()
        async with Voice(server.url, token=TOKEN) as voice:
            assert len((await say(voice, "w1"))[1]) == 1


async def test_a_voice_that_the_server_lacks_is_an_error(server: InLoop) -> None:
    voice = RemoteSynthesizer(server.url, voice="nobody", fallback=ToneVoice())
    with pytest.raises(EngineUnavailable, match="no voice 'nobody'; it has: tone, other"):
        await voice.start()


async def test_what_is_no_speech_server_is_said(server: InLoop) -> None:
    voice = RemoteSynthesizer(server.url + "/elsewhere", fallback=None)
    with pytest.raises(EngineUnavailable, match="HTTP status 4"):
        await voice.start()


async def test_the_embedded_voice_speaks_until_a_server_comes(tone: ToneVoice) -> None:
    embedded = ToneVoice()
    async with serving({"tone": tone}) as server:
        url = server.url
    async with Voice(url, fallback=embedded) as voice:
        assert [mark.text for mark in (await say(voice, "w1 w2"))[1]] == ["w1", "w2"]
        assert len(embedded.streams) == 1
    assert not embedded.closed  # it is the caller's


# --- servers that are lost ------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 5, 17])
async def test_a_replica_goes_on_where_a_server_is_lost(after: int) -> None:
    voices = [ToneVoice(chunk=480), ToneVoice(chunk=480)]
    numbers = list(range(1, 60))
    async with serving({"tone": voices[0]}) as one, serving({"tone": voices[1]}) as two:
        servers = {voices[0]: one, voices[1]: two}
        async with Voice(one.url, two.url) as voice:
            stream = voice.stream()
            stream.push(text_of(*numbers))
            stream.end()
            await until(lambda: any(v.streams for v in voices))
            first = next(v for v in voices if v.streams)
            chunks = [await anext(aiter(stream)) for _ in range(after)]
            servers[first].break_connections()
            rest, marks = await hear(stream)
            await stream.aclose()
    pcm = np.concatenate([np.zeros(0, np.int16), *(c.pcm for c in chunks), rest])
    words = [m.text for c in chunks for m in c.marks] + [m.text for m in marks]
    assert words == text_of(*numbers).split()
    assert [number for number, _ in read(pcm)] == numbers
    assert all(abs(samples - WORD) <= 1 for _, samples in read(pcm))
    assert all(v.streams for v in voices)


async def test_the_embedded_voice_finishes_the_sentence(tone: ToneVoice) -> None:
    embedded = ToneVoice()
    async with serving({"tone": tone}) as server:
        voice = RemoteSynthesizer(server.url, fallback=embedded)
        await voice.start()
        stream = voice.stream()
        stream.push(text_of(*range(100)))
        chunk = await anext(aiter(stream))
        stream.end()
    pcm, marks = await hear(stream)  # the server is gone
    assert [m.text for m in (*chunk.marks, *marks)] == text_of(*range(100)).split()
    assert [n for n, _ in read(np.concatenate([chunk.pcm, pcm]))] == list(range(100))
    assert len(embedded.streams) == 1
    await stream.aclose()
    await voice.aclose()


async def test_it_comes_back_to_a_server_that_comes_back(server: InLoop) -> None:
    async with Voice(server.url) as voice:
        await say(voice, "w1")
        for _ in range(3):
            server.break_connections()
            assert [m.text for m in (await say(voice, "w1 w2"))[1]] == ["w1", "w2"]


async def test_a_voice_that_fails_there_is_taken_over() -> None:
    embedded = ToneVoice()
    async with (
        serving({"tone": ToneVoice(fail_after=4)}) as server,
        Voice(server.url, fallback=embedded) as voice,
    ):
        pcm, marks = await say(voice, "w1 w2 w3")
    assert [mark.text for mark in marks] == ["w1", "w2", "w3"]
    assert [number for number, _ in read(pcm)] == [1, 2, 3]


async def test_a_server_that_gives_nothing_is_taken_for_dead(tone: ToneVoice) -> None:
    embedded = ToneVoice()
    tone.gate.clear()
    async with (
        serving({"tone": tone}) as server,
        Voice(server.url, fallback=embedded, stall_s=0.1) as voice,
    ):
        _, marks = await say(voice, "w1 w2")
        assert [mark.text for mark in marks] == ["w1", "w2"]
        await until(lambda: server.service.admission.speaking == 0)
    assert tone.open == 0


async def test_a_busy_server_is_left_for_another_one() -> None:
    voices = [ToneVoice(), ToneVoice()]
    limits = {"max_calls": 1, "max_waiting": 0}
    async with (
        serving({"tone": voices[0]}, **limits) as one,
        serving({"tone": voices[1]}, **limits) as two,
        Voice(one.url, two.url, fallback=ToneVoice()) as voice,
        Voice(one.url) as other,
    ):
        held = other.stream()
        held.push("w1 ")
        await anext(aiter(held))
        for _ in range(2):  # the one that is full is tried at most once
            assert len((await say(voice, "w1"))[1]) == 1
        assert len(voices[1].streams) == 2
        await held.aclose()


async def test_when_all_are_busy_the_embedded_voice_speaks_or_the_listener_is_told(
    tone: ToneVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LONG_PATIENCE_S", 0.2)  # less than the hint to come again
    embedded = ToneVoice()
    async with (
        serving({"tone": tone}, max_calls=1, max_waiting=0) as server,
        Voice(server.url) as voice,
        Voice(server.url, fallback=embedded) as second,
    ):
        held = voice.stream()
        held.push("w1 ")
        await anext(aiter(held))
        assert len((await say(second, "w1 w2"))[1]) == 2
        assert len(embedded.streams) == 1
        with pytest.raises(SpeechServersLost, match="busy"):
            await say(voice, "w3")
        await held.aclose()
        assert len((await say(voice, "w3"))[1]) == 1


async def test_a_draining_server_gets_nothing_new() -> None:
    voices = [ToneVoice(), ToneVoice()]
    async with (
        serving({"tone": voices[0]}) as one,
        serving({"tone": voices[1]}) as two,
        Voice(one.url, two.url) as voice,
    ):
        await asyncio.wait_for(one.service.drain(), LONG_S)
        await until(lambda: not voice.replicas[0].ready)
        for _ in range(3):
            await say(voice, "w1")
    assert (len(voices[0].streams), len(voices[1].streams)) == (0, 3)


async def test_calls_are_spread_over_the_servers() -> None:
    voices = [ToneVoice(), ToneVoice()]
    async with (
        serving({"tone": voices[0]}) as one,
        serving({"tone": voices[1]}) as two,
        Voice(one.url, two.url) as voice,
    ):
        await until(lambda: all(replica.ready for replica in voice.replicas))
        await asyncio.gather(*(say(voice, "w1 w2") for _ in range(6)))
    assert (len(voices[0].streams), len(voices[1].streams)) == (3, 3)


# --- real processes, killed -----------------------------------------------------------------------

SENTENCE = (
    "Your order one two three was shipped on Thursday, and it will arrive tomorrow before noon; "
    "somebody has to be at home, because the parcel is heavy and needs a signature. "
) * 3


@pytest.mark.parametrize("replica", [True, False])
async def test_a_server_killed_in_the_middle_of_a_sentence_loses_no_word(replica: bool) -> None:
    pytest.importorskip("espeakng_loader", reason="pip install parley[espeak]")
    async with Process() as first, Process() as second:
        urls = [first.url, second.url] if replica else [first.url]
        voice = RemoteSynthesizer(urls, token=TOKEN, fallback=None if replica else "espeak")
        await voice.start()
        await until(lambda: all(r.ready for r in voice.replicas))
        stream = voice.stream()  # at the first: both have as much to do
        stream.push(SENTENCE[:100])
        chunks = [await anext(aiter(stream)) for _ in range(12)]
        stream.push(SENTENCE[100:])
        stream.end()
        began = time.monotonic()
        first.kill()
        async with asyncio.timeout(LONG_S):
            chunks += [chunk async for chunk in stream]
        assert time.monotonic() - began < LONG_S
        await stream.aclose()
        await voice.aclose()
    marks = [mark for chunk in chunks for mark in chunk.marks]
    samples = sum(len(chunk.pcm) for chunk in chunks)
    assert "".join("".join(m.text for m in marks).split()) == "".join(SENTENCE.split())
    assert all(a.char_end <= b.char_start and a.start <= b.start for a, b in pairwise(marks))
    assert marks[-1].end <= samples
    whole = EspeakSynthesizer()
    await whole.start()
    expected = sum(len(pcm) for pcm in [(await say(whole, SENTENCE))[0]])
    await whole.aclose()
    assert samples == pytest.approx(expected, rel=0.05)  # one pause may be missing


# --- names and addresses --------------------------------------------------------------------------


def test_an_address_is_told_from_a_name() -> None:
    assert [is_url(v) for v in ("espeak", "http://a:1", "wss://a", "cosyvoice2")] == [
        False,
        True,
        True,
        False,
    ]
    assert isinstance(voice_of("espeak"), EspeakSynthesizer)
    with pytest.raises(EngineUnavailable, match="nobody"):
        voice_of("nobody")


def test_an_address_says_servers_voice_and_speed() -> None:
    voice = voice_of("http://a:1/, https://b/tts?voice=anna&speed=1.1")
    assert isinstance(voice, RemoteSynthesizer)
    assert [r.url for r in voice.replicas] == ["ws://a:1/v1/speech", "wss://b/tts/v1/speech"]
    manner = voice.replicas[0]._manner
    assert (manner.voice, manner.speed) == ("anna", 1.1)


@pytest.mark.parametrize("url", ["ftp://a", "http://", "http://a?colour=red", "http://a?speed=x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|could not convert"):
        voice_of(url)
