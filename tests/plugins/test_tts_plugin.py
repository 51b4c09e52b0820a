from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from livekit.agents import Agent, AgentSession, tts
from livekit.agents._exceptions import APIError
from livekit.agents.metrics import TTSMetrics
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT, TimedString
from livekit.agents.voice.transcription import TranscriptSynchronizer
from livekit.plugins.parley.assembly import Parts
from livekit.plugins.parley.settings import Settings
from livekit.plugins.parley.tts import TTS, Script
from livekit.plugins.parley.version import __version__
from roomless import Loudspeaker, Subtitles

from parley_speech.tts import espeak, espeak_ng
from parley_speech.tts.espeak import EspeakSynthesizer, speech_level_dbfs
from parley_speech.types import EngineUnavailable, WordMark

pytest.importorskip("espeakng_loader", reason="pip install parley[espeak]")

REPLY = "Your order 12345 was shipped on Thursday, and it will arrive tomorrow."


@pytest.fixture
async def voice() -> AsyncIterator[TTS]:
    async with TTS() as plugin:
        yield plugin


def words(events: list[tts.SynthesizedAudio]) -> list[TimedString]:
    return [word for e in events for word in e.frame.userdata.get(USERDATA_TIMED_TRANSCRIPT, [])]


def samples(events: list[tts.SynthesizedAudio]) -> np.ndarray:
    return np.concatenate([np.frombuffer(event.frame.data, np.int16) for event in events])


async def say(plugin: TTS, *deltas: str) -> list[tts.SynthesizedAudio]:
    async with plugin.stream() as stream:
        for delta in deltas:
            stream.push_text(delta)
        stream.end_input()
        return [event async for event in stream]


# --- the plugin by itself -------------------------------------------------------------------


def test_it_says_what_it_can(voice: TTS) -> None:
    assert voice.capabilities.streaming
    assert voice.capabilities.aligned_transcript
    assert (voice.sample_rate, voice.num_channels) == (24_000, 1)
    assert (voice.model, voice.provider) == ("espeak en-us", "parley")


async def test_words_come_timed_and_give_the_text_back(voice: TTS) -> None:
    events = await say(voice, "Your order ", "123", "45 was shi", "pped on Thursday,", REPLY[41:])
    spoken = words(events)

    assert "".join(spoken) == REPLY
    assert [str(word).strip() for word in spoken] == REPLY.split()
    assert all(a.start_time < a.end_time <= b.start_time for a, b in pairwise(spoken))
    assert spoken[-1].end_time <= len(samples(events)) / 24_000
    assert speech_level_dbfs(samples(events), 24_000) == pytest.approx(-20, abs=1.5)


async def test_a_word_is_given_no_later_than_it_sounds(voice: TTS) -> None:
    position = 0.0
    for event in await say(voice, REPLY):
        for word in words([event]):
            assert word.start_time >= position - 0.011  # LiveKit holds 10 ms back
        position += event.frame.duration
    assert position > 3


async def test_only_the_last_frame_is_final(voice: TTS) -> None:
    events = await say(voice, REPLY)
    assert [event.is_final for event in events] == [False] * (len(events) - 1) + [True]
    assert len({event.segment_id for event in events}) == 1


async def test_synthesize_gives_the_same_as_a_stream(voice: TTS) -> None:
    async with voice.synthesize(REPLY) as stream:
        events = [event async for event in stream]
    assert "".join(words(events)) == REPLY


async def test_the_first_frame_does_not_wait_for_the_end_of_the_text(voice: TTS) -> None:
    await say(voice, "Warm.")
    async with voice.stream() as stream:
        began = time.perf_counter()
        stream.push_text("Hello, I will look")
        first = await asyncio.wait_for(anext(stream), 5)
        took = time.perf_counter() - began
    assert first.frame.duration > 0
    assert took < 0.5


@pytest.mark.parametrize("text", ["…", "?!", " — "])
async def test_a_text_without_words_is_no_error(voice: TTS, text: str) -> None:
    events = await say(voice, text)
    assert not samples(events).any()
    assert sum(event.frame.duration for event in events) <= 0.021


async def test_a_stream_without_text_ends(voice: TTS) -> None:
    assert await asyncio.wait_for(say(voice), 5) == []


async def test_metrics_are_reported(voice: TTS) -> None:
    found: list[TTSMetrics] = []
    voice.on("metrics_collected", found.append)
    await say(voice, REPLY)

    assert found[0].characters_count == len(REPLY)
    assert found[0].audio_duration > 3
    assert 0 <= found[0].ttfb < 1
    assert found[0].metadata is not None
    assert found[0].metadata.model_provider == "parley"


async def test_closing_a_stream_stops_the_engine(voice: TTS) -> None:
    async with voice.stream() as stream:
        stream.push_text(REPLY * 50)
        await anext(stream)
    engine = voice._engine
    assert isinstance(engine, EspeakSynthesizer)
    assert all(s._cancelled and not s._scheduled for s in engine._streams)


async def test_an_engine_of_ones_own_is_used_and_left_open() -> None:
    engine = EspeakSynthesizer("de+f3", rate_wpm=250)
    async with TTS(engine) as plugin:
        assert "".join(words(await say(plugin, "Guten Tag."))) == "Guten Tag."
    await engine.start()
    assert engine.stream() is not None
    await engine.aclose()


async def test_an_unknown_voice_is_an_error_that_is_not_retried() -> None:
    errors: list[tts.TTSError] = []
    plugin = TTS(voice="en-gg")
    plugin.on("error", errors.append)
    with pytest.raises(APIError, match=r"no voice 'en-gg'.*near"):
        await say(plugin, "Hello.")
    assert [error.recoverable for error in errors] == [False]
    await plugin.aclose()


async def test_a_missing_engine_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(espeak, "library", espeak_ng.library.__wrapped__)
    plugin = TTS()
    with pytest.raises(APIError, match=r"pip install parley\[espeak\]"):
        await say(plugin, "Hello.")
    await plugin.aclose()


def test_an_engine_that_is_not_installed_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="no tts engine 'nobody'"):
        TTS("nobody")


def test_white_space_goes_with_the_word_behind_it() -> None:
    script = Script()
    script.text = "  one\ttwo "
    timed = [script.timed(WordMark("", 0, end, 0, 24_000)) for end in (5, 9)]
    assert [str(text) for text in timed] == ["  one", "\ttwo"]
    assert timed[0].end_time == 1.0


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert __version__ == project["project"]["version"]


# --- in a stock session ---------------------------------------------------------------------


class Line:
    """A stock session that speaks: no room, no model."""

    def __init__(self, plugin: TTS) -> None:
        self.loudspeaker, self.subtitles = Loudspeaker(24_000), Subtitles()
        self._sync = TranscriptSynchronizer(
            next_in_chain_audio=self.loudspeaker, next_in_chain_text=self.subtitles
        )
        self.session = AgentSession[None](
            tts=plugin,
            vad=None,
            turn_handling={"turn_detection": "manual"},
            use_tts_aligned_transcript=True,
        )
        self.session.output.audio = self._sync.audio_output
        self.session.output.transcription = self._sync.text_output

    async def __aenter__(self) -> Line:
        await self.session.start(Agent(instructions=""))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.aclose()
        await self._sync.aclose()


async def test_a_stock_session_speaks(voice: TTS) -> None:
    async with Line(voice) as line:
        began = time.perf_counter()
        await asyncio.wait_for(line.session.say("Hello, how can I help?"), 10)

        assert line.loudspeaker.first_at - began < 0.5
        assert speech_level_dbfs(line.loudspeaker.pcm, 24_000) == pytest.approx(-20, abs=2)
        assert 1 < len(line.loudspeaker.pcm) / 24_000 < 3
        assert line.subtitles.text.strip() == "Hello, how can I help?"


async def test_an_interrupted_reply_keeps_what_was_heard(voice: TTS) -> None:
    async with Line(voice) as line:
        speech = line.session.say(REPLY)
        await asyncio.wait_for(line.loudspeaker.began.wait(), 5)
        await asyncio.sleep(1.5)
        await line.session.interrupt()
        await asyncio.wait_for(speech, 5)

        (item,) = line.session.history.messages()
        heard = item.text_content or ""
        assert item.interrupted
        assert REPLY.startswith(heard.strip().removesuffix("…"))
        assert 2 <= len(heard.split()) <= 6  # "order 12345" alone takes two seconds


# --- on a speech server ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def speech_server() -> Iterator[str]:
    """The embedded voice in a server process; gives its address."""
    pytest.importorskip("uvicorn", reason="pip install parley[speech-server]")
    command = [sys.executable, "-m", "parley_speech.server.main", "serve", "--port", "0"]
    with subprocess.Popen([*command, "--no-token"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "ready on" in line
            yield line.split()[-1]
        finally:
            process.terminate()


async def test_words_come_timed_from_a_server_too(speech_server: str) -> None:
    async with TTS(url=speech_server) as remote, TTS() as here:
        assert (remote.model, remote.provider) == ("speech server", "parley")
        assert remote.capabilities.aligned_transcript
        there = await say(remote, "Your order 123", "45 was shipped on Thursday,", REPLY[41:])
        spoken = words(there)
        assert "".join(spoken) == REPLY
        assert len(samples(there)) == pytest.approx(len(samples(await say(here, REPLY))), abs=960)
        for a, b in zip(spoken, words(await say(here, REPLY)), strict=True):
            assert a.start_time == pytest.approx(b.start_time, abs=0.02)


async def test_a_stock_session_speaks_from_a_server(speech_server: str) -> None:
    async with TTS(f"{speech_server}?voice=espeak") as remote, Line(remote) as line:
        await asyncio.wait_for(line.session.say("Hello, how can I help?"), 20)
        assert speech_level_dbfs(line.loudspeaker.pcm, 24_000) == pytest.approx(-20, abs=2)
        assert line.subtitles.text.strip() == "Hello, how can I help?"


async def test_a_server_without_the_voice_is_an_error_that_is_not_retried(
    speech_server: str,
) -> None:
    plugin = TTS(url=speech_server, voice="nobody")
    with pytest.raises(APIError, match=r"no voice 'nobody'; it has: espeak") as refused:
        await say(plugin, "Hello.")
    assert not refused.value.retryable
    await plugin.aclose()


def test_one_voice_speaks() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        TTS("espeak", url="http://127.0.0.1:8880")
    with pytest.raises(ValueError, match="no address of a speech server"):
        TTS(url="127.0.0.1:8880")


async def test_a_whole_agent_takes_its_voice_by_name_or_address(speech_server: str) -> None:
    for voice in ("espeak", speech_server, Settings(voice=f"{speech_server}?speed=1.1").voice):
        engines = Parts(voice=voice).engines()
        await engines._voice.start()
        stream = engines._voice.stream()
        stream.push("Hello.")
        stream.end()
        assert [mark.text async for chunk in stream for mark in chunk.marks] == ["Hello."]
        await engines._voice.aclose()


def test_a_pause_that_is_asked_for_is_not_in_the_transcript() -> None:
    script = Script()
    script.text = "One [pause 250ms] two."
    ends = (3, 17, 22)
    timed = [script.timed(WordMark("", 0, end, 0, 24_000)) for end in ends]
    assert [str(text) for text in timed] == ["One", "", " two."]
