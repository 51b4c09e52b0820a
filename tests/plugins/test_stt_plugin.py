from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import (
    Agent,
    AgentSession,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
    stt,
)
from livekit.agents._exceptions import APIConnectionError, APIError
from livekit.agents.metrics import STTMetrics
from livekit.agents.stt import SpeechEvent, SpeechEventType
from livekit.agents.types import APIConnectOptions
from livekit.plugins.parley import stt as plugin
from livekit.plugins.parley.stt import STT
from livekit.plugins.parley.vad import VAD
from roomless import Microphone, clip, silence, to_frames

from parley_speech.types import EngineUnavailable, Grammar, Hypothesis, Pcm, Word

START, INTERIM, PREFLIGHT, FINAL, END, USAGE = (
    SpeechEventType.START_OF_SPEECH,
    SpeechEventType.INTERIM_TRANSCRIPT,
    SpeechEventType.PREFLIGHT_TRANSCRIPT,
    SpeechEventType.FINAL_TRANSCRIPT,
    SpeechEventType.END_OF_SPEECH,
    SpeechEventType.RECOGNITION_USAGE,
)
ONCE = APIConnectOptions(max_retry=0)


class LoudnessVad:
    """Frames that are not silent are voice."""

    def push(self, frame: Pcm) -> float:
        return float(frame.any())

    def reset(self) -> None: ...


@dataclass
class ScriptedStream:
    """Utterance ``i`` is ``texts[i]``: its first word after 100 ms, all of it at its end."""

    texts: list[str]
    confidence: float = 0.9
    final_after_polls: int = 0
    dies: bool = False
    log: list[str] = field(default_factory=list)
    grammar: Grammar | None = None
    closed: bool = False
    _now_ms: int = 0
    _began_ms: int = 0
    _number: int = -1
    _open: bool = False
    _ready: list[tuple[int, Hypothesis]] = field(default_factory=list)

    def begin_utterance(self) -> None:
        assert not self._open
        self._open, self._number, self._began_ms = True, self._number + 1, self._now_ms
        self.log.append(f"begin {self._now_ms}")

    def push(self, frame: Pcm) -> None:
        assert frame.shape == (320,)
        assert frame.dtype == np.int16
        if self.dies:
            raise RuntimeError("its process died")
        self._now_ms += 20
        if self._open and self._now_ms - self._began_ms == 100:
            self._ready.append((0, self._hypothesis(1, final=False)))

    def end_utterance(self) -> None:
        assert self._open
        self._open = False
        self.log.append(f"end {self._now_ms}")
        self._ready.append((self.final_after_polls, self._hypothesis(None, final=True)))

    def _hypothesis(self, count: int | None, *, final: bool) -> Hypothesis:
        text = self.texts[self._number] if self._number < len(self.texts) else ""
        said = text.split()[:count]
        step = (self._now_ms - self._began_ms) // max(1, len(said))
        words = tuple(
            Word(word, self._began_ms + i * step, self._began_ms + (i + 1) * step, 0.8)
            for i, word in enumerate(said)
        )
        return Hypothesis(" ".join(said), self._number, final, words, self.confidence)

    def set_grammar(self, grammar: Grammar | None) -> None:
        self.grammar = grammar

    def poll(self) -> list[Hypothesis]:
        due = [h for polls, h in self._ready if polls <= 0]
        self._ready = [(polls - 1, h) for polls, h in self._ready if polls > 0]
        return due

    async def aclose(self) -> None:
        self.closed = True


class ScriptedRecognizer:
    def __init__(self, *texts: str, **options: object) -> None:
        self.texts, self.options = list(texts), options
        self.streams: list[ScriptedStream] = []
        self.started = self.closed = 0
        self.refusal: Exception | None = None

    async def start(self) -> None:
        self.started += 1
        if self.refusal:
            raise self.refusal

    def stream(self) -> ScriptedStream:
        self.streams.append(ScriptedStream(self.texts, **self.options))  # type: ignore[arg-type]
        return self.streams[-1]

    async def aclose(self) -> None:
        self.closed += 1


def sound(script: str, rate_hz: int = 16_000) -> list[rtc.AudioFrame]:
    """20 ms a character: "#" is a voice, anything else silence."""
    pcm = np.repeat(np.array([1000 * (c == "#") for c in script], np.int16), rate_hz // 50)
    return to_frames(pcm, rate_hz)


async def listen(
    recognizer: ScriptedRecognizer, frames: list[rtc.AudioFrame], **options: object
) -> list[SpeechEvent]:
    engine = STT(recognizer, vad=LoudnessVad, **options)  # type: ignore[arg-type]
    async with engine.stream(conn_options=ONCE) as stream:
        for frame in frames:
            stream.push_frame(frame)
        stream.end_input()
        found = [event async for event in stream]
    await engine.aclose()
    return found


def kinds(events: list[SpeechEvent]) -> list[SpeechEventType]:
    return [event.type for event in events]


def text(event: SpeechEvent) -> str:
    return event.alternatives[0].text


# --- the order and content of events --------------------------------------------------------


async def test_a_speech_gives_its_events_in_order() -> None:
    recognizer = ScriptedRecognizer("check order twelve")
    found = await listen(recognizer, sound("....." + "#" * 20 + "." * 20))

    assert kinds(found) == [START, INTERIM, PREFLIGHT, FINAL, END, USAGE]
    assert [text(event) for event in found[1:4]] == ["check", *["check order twelve"] * 2]
    assert recognizer.streams[0].log == ["begin 120", "end 620"]  # 140 ms after the voice
    assert recognizer.streams[0].closed


async def test_words_have_times_of_the_stream() -> None:
    found = await listen(ScriptedRecognizer("yes please"), sound("." * 10 + "#" * 20 + "." * 20))
    (final,) = [event for event in found if event.type is FINAL]
    (data,) = final.alternatives
    offset = data.words[0].start_time_offset if data.words else 0.0

    assert data.words is not None
    assert [str(word) for word in data.words] == ["yes", "please"]
    assert data.words[0].start_time - offset == pytest.approx(0.22, abs=0.001)
    assert data.start_time == data.words[0].start_time
    assert data.end_time == data.words[1].end_time
    assert data.words[0].confidence == 0.8
    assert (data.language, data.confidence) == ("en", pytest.approx(0.9))


async def test_a_short_pause_gives_preflight_and_the_transcript_goes_on() -> None:
    found = await listen(
        ScriptedRecognizer("I would like", "to talk"),
        sound("#" * 20 + "." * 10 + "#" * 20 + "." * 20),
    )
    assert kinds(found) == [START, INTERIM, PREFLIGHT, INTERIM, PREFLIGHT, FINAL, END, USAGE]
    assert [text(event) for event in found[1:6]] == [
        "I",
        "I would like",
        "I would like to",
        "I would like to talk",
        "I would like to talk",
    ]


async def test_a_long_pause_ends_the_speech() -> None:
    found = await listen(
        ScriptedRecognizer("hello", "goodbye"), sound("#" * 20 + "." * 30 + "#" * 20 + "." * 30)
    )
    assert [text(event) for event in found if event.type is FINAL] == ["hello", "goodbye"]
    assert kinds(found).count(START) == kinds(found).count(END) == 2


async def test_late_words_are_waited_for_while_the_next_speech_begins() -> None:
    recognizer = ScriptedRecognizer("hello", "goodbye", final_after_polls=30)
    found = await listen(recognizer, sound("#" * 20 + "." * 20 + "#" * 30 + "." * 20))

    assert [text(event) for event in found if event.type is FINAL] == ["hello", "goodbye"]
    assert kinds(found).index(FINAL) > kinds(found).index(START, 1)
    assert kinds(found)[-3:] == [FINAL, END, USAGE]


async def test_a_sound_without_words_gives_no_transcript() -> None:
    found = await listen(ScriptedRecognizer(""), sound("#" * 20 + "." * 30))
    assert kinds(found) == [START, END, USAGE]


async def test_a_click_is_not_speech() -> None:
    assert await listen(ScriptedRecognizer("x"), sound("..#...#....")) == []


async def test_times_on_the_wall_clock() -> None:
    before = time.time()
    found = await listen(ScriptedRecognizer("hello"), sound("#" * 20 + "." * 30))
    start, end = found[0], next(event for event in found if event.type is END)

    assert start.speech_start_time is not None
    assert end.speech_end_time is not None
    assert before - 1 < start.speech_start_time < time.time()
    assert before - 1 < end.speech_end_time < time.time()  # 300 ms of silence ago


async def test_what_a_grammar_cannot_be_sure_of_was_not_said() -> None:
    grammar = Grammar("yes or no", "(yes | no)")
    recognizer = ScriptedRecognizer("yes", confidence=0.3)
    found = await listen(recognizer, sound("#" * 20 + "." * 30), grammar=grammar)

    assert recognizer.streams[0].grammar is grammar
    assert FINAL not in kinds(found)
    assert kinds(found)[-2:] == [END, USAGE]


async def test_usage_is_the_length_of_the_speech() -> None:
    recognizer = ScriptedRecognizer("hello")
    engine = STT(recognizer, vad=LoudnessVad)
    found: list[STTMetrics] = []
    engine.on("metrics_collected", found.append)
    async with engine.stream() as stream:
        for frame in sound("." * 10 + "#" * 50 + "." * 30):
            stream.push_frame(frame)
        stream.end_input()
        async for _event in stream:
            pass
    assert [metrics.audio_duration for metrics in found] == pytest.approx([1.0])


@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (24_000, 1), (48_000, 2)])
async def test_any_rate_is_taken(rate_hz: int, channels: int) -> None:
    frames = [
        rtc.AudioFrame(
            np.repeat(np.frombuffer(frame.data, np.int16), channels).tobytes(),
            rate_hz,
            channels,
            frame.samples_per_channel,
        )
        for frame in sound("." * 10 + "#" * 25 + "." * 30, rate_hz)
    ]
    found = await listen(ScriptedRecognizer("hello"), frames)
    assert kinds(found) == [START, INTERIM, PREFLIGHT, FINAL, END, USAGE]


# --- flush, mute, end -----------------------------------------------------------------------


async def test_a_flush_gives_the_final_words_at_once() -> None:
    engine = STT(ScriptedRecognizer("hello"), vad=LoudnessVad)
    async with engine.stream() as stream:
        for frame in sound("#" * 20):
            stream.push_frame(frame)
        stream.flush()
        found = [await asyncio.wait_for(anext(stream), 2) for _ in range(4)]
    assert kinds(found) == [START, INTERIM, FINAL, END]
    assert engine.capabilities.manual_flush


async def test_a_microphone_muted_in_mid_word_does_not_hold_the_words_back() -> None:
    engine = STT(ScriptedRecognizer("hello"), vad=LoudnessVad)
    async with engine.stream() as stream:
        for frame in sound("#" * 20):
            stream.push_frame(frame)
        found = [await asyncio.wait_for(anext(stream), 3) for _ in range(5)]
    assert kinds(found) == [START, INTERIM, PREFLIGHT, FINAL, END]


async def test_a_stream_closed_in_mid_speech_leaves_nothing() -> None:
    recognizer = ScriptedRecognizer("hello")
    engine = STT(recognizer, vad=LoudnessVad)
    async with engine.stream() as stream:
        for frame in sound("#" * 20):
            stream.push_frame(frame)
        await anext(stream)
    assert recognizer.streams[0].closed
    await engine.aclose()
    assert recognizer.closed == 0  # it is the caller's


async def test_a_whole_recording_can_be_recognised() -> None:
    recognizer = ScriptedRecognizer("hello there")
    event = await STT(recognizer).recognize(sound("#" * 50, 48_000))

    assert (event.type, text(event)) == (FINAL, "hello there")
    assert recognizer.streams[0].log[0] == "begin 0"
    assert recognizer.streams[0].closed


# --- failures -------------------------------------------------------------------------------


async def test_a_recogniser_that_dies_is_asked_again() -> None:
    class DiesOnce(ScriptedRecognizer):
        def stream(self) -> ScriptedStream:
            stream = super().stream()
            stream.dies = len(self.streams) == 1
            return stream

    recognizer = DiesOnce("hello")
    engine = STT(recognizer, vad=LoudnessVad)
    errors: list[stt.STTError] = []
    engine.on("error", errors.append)
    async with engine.stream() as stream:
        for frame in sound("#.") + sound("#" * 20 + "." * 30):
            stream.push_frame(frame)
        found = [await asyncio.wait_for(anext(stream), 5) for _ in range(5)]

    assert kinds(found)[-2:] == [FINAL, END]
    assert [error.recoverable for error in errors] == [True]
    assert all(stream.closed for stream in recognizer.streams)


async def test_words_that_never_come_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "OVERDUE_S", 0.1)
    with pytest.raises(APIConnectionError, match="no final words"):
        await listen(
            ScriptedRecognizer("hello", final_after_polls=10_000), sound("#" * 20 + "." * 30)
        )


async def test_an_engine_that_cannot_start_is_an_error_that_is_not_retried() -> None:
    recognizer = ScriptedRecognizer()
    recognizer.refusal = EngineUnavailable("pip install pocketsphinx")
    engine = STT(recognizer)
    with pytest.raises(APIError, match="pip install pocketsphinx"):
        async with engine.stream() as stream:
            await anext(stream)
    await engine.aclose()
    assert recognizer.started == 1


async def test_a_recogniser_without_utterances_is_refused() -> None:
    class Whole:
        def push(self, frame: Pcm) -> None: ...
        def end_utterance(self) -> None: ...
        def set_grammar(self, grammar: Grammar | None) -> None: ...
        def poll(self) -> list[Hypothesis]:
            return []

        async def aclose(self) -> None: ...

    recognizer = ScriptedRecognizer()
    recognizer.stream = Whole  # type: ignore[assignment,method-assign]
    with pytest.raises(APIError, match="begin_utterance"):
        async with STT(recognizer).stream() as stream:
            await anext(stream)


@pytest.mark.parametrize("pauses", [(0.0, 0.3), (0.4, 0.3), (-1.0, 0.3)])
def test_pauses_that_contradict_each_other_are_refused(pauses: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="preflight_silence"):
        STT(ScriptedRecognizer(), preflight_silence=pauses[0], min_silence_duration=pauses[1])


def test_an_engine_that_is_not_installed_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="no asr engine 'nobody'"):
        STT("nobody")


def test_it_says_what_it_can() -> None:
    engine = STT(ScriptedRecognizer())
    assert engine.capabilities.streaming
    assert engine.capabilities.interim_results
    assert engine.capabilities.aligned_transcript == "word"
    assert (engine.model, engine.provider) == ("ScriptedRecognizer", "parley")


# --- real speech, and a stock session -------------------------------------------------------


def spoken_words(text: str) -> list[str]:
    """As they are spoken: one engine writes capitals and punctuation, another none."""
    return re.findall(r"[a-z']+", text.lower())


async def warmed(engine: STT) -> None:
    """Loaded before anybody speaks: what is said until then comes late, in one piece."""
    engine.prewarm()
    assert engine._starting is not None
    await engine._starting


@pytest.mark.parametrize("name", ["auto", "pocketsphinx"])
async def test_real_speech_becomes_text(name: str) -> None:
    engine = STT(name)
    assert engine.model in ("moonshine", "pocketsphinx")
    await warmed(engine)
    spoken = np.concatenate((silence(400), clip("human_conf_getpin"), silence(800)))
    async with engine.stream() as stream:
        for frame in to_frames(spoken, 16_000):
            stream.push_frame(frame)
            await asyncio.sleep(frame.duration)  # interim words come while the speech goes on
        stream.end_input()
        found = [event async for event in stream]
    await engine.aclose()

    (final,) = [event for event in found if event.type is FINAL]
    (data,) = final.alternatives
    assert spoken_words(data.text) == ["please", "enter", "the", "conference", "pin", "number"]
    assert [str(word) for word in data.words or []] == data.text.split()
    assert 0.3 < data.start_time < data.end_time < len(spoken) / 16_000 + 1
    assert kinds(found)[0] is START
    assert INTERIM in kinds(found)
    assert kinds(found)[-3:] == [FINAL, END, USAGE]


@pytest.mark.parametrize("turns", ["stt", "vad"])
async def test_a_stock_session_hears_real_speech(turns: Literal["stt", "vad"]) -> None:
    rate_hz = 48_000
    speech = np.concatenate((silence(500, rate_hz), clip("human_one_moment_please", rate_hz)))
    engine = STT()
    await warmed(engine)
    session = AgentSession[None](
        stt=engine,
        vad=VAD() if turns == "vad" else None,
        turn_handling={"turn_detection": turns, "endpointing": {"min_delay": 0}},
    )
    session.input.audio = Microphone(speech, rate_hz)
    transcripts: list[UserInputTranscribedEvent] = []
    states: list[str] = []
    heard, listening = asyncio.Event(), asyncio.Event()

    @session.on("user_input_transcribed")
    def _(event: UserInputTranscribedEvent) -> None:
        transcripts.append(event)
        if event.is_final:
            heard.set()

    @session.on("user_state_changed")
    def _(event: UserStateChangedEvent) -> None:
        states.append(event.new_state)
        if event.new_state == "listening":
            listening.set()

    await session.start(Agent(instructions=""))
    await asyncio.wait_for(heard.wait(), 20)
    await asyncio.wait_for(listening.wait(), 5)
    await session.aclose()
    await engine.aclose()

    assert spoken_words(transcripts[-1].transcript) == ["one", "moment", "please"]
    assert any(not event.is_final for event in transcripts)
    assert states[:2] == ["speaking", "listening"]
