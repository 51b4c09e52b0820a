from __future__ import annotations

import asyncio
from itertools import pairwise

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession, UserStateChangedEvent
from livekit.agents.metrics import VADMetrics
from livekit.agents.vad import VADEvent, VADEventType
from livekit.plugins.parley import vad as plugin
from livekit.plugins.parley.vad import VAD
from roomless import Microphone, clip, silence, to_frames

from parley_speech.types import EngineUnavailable, Pcm
from parley_speech.vad.fusion import FusionVad
from parley_speech.vad.webrtc import WebRtcVad

START, END, INFERENCE = (
    VADEventType.START_OF_SPEECH,
    VADEventType.END_OF_SPEECH,
    VADEventType.INFERENCE_DONE,
)


class Scripted:
    """An engine that says what it was told to; 1 character a frame, "#" is a voice."""

    def __init__(self, script: str) -> None:
        self.script, self.at, self.resets = script, 0, 0

    def push(self, frame: Pcm) -> float:
        assert frame.shape == (320,)
        assert frame.dtype == np.int16
        self.at += 1
        return float(self.at <= len(self.script) and self.script[self.at - 1] == "#")

    def reset(self) -> None:
        self.resets += 1


async def events(vad: VAD, frames: list[rtc.AudioFrame]) -> list[VADEvent]:
    stream = vad.stream()
    for frame in frames:
        stream.push_frame(frame)
    stream.end_input()
    found = [event async for event in stream]
    await stream.aclose()
    return found


def only(found: list[VADEvent], kind: VADEventType) -> list[VADEvent]:
    return [event for event in found if event.type is kind]


def counting(frames: int, rate_hz: int = 16_000) -> list[rtc.AudioFrame]:
    """Frames whose samples all hold the frame's number, from 1."""
    size = rate_hz // 50
    numbers = np.repeat(np.arange(1, frames + 1, dtype=np.int16), size)
    return to_frames(numbers, rate_hz)


def numbers(event: VADEvent) -> list[int]:
    (frame,) = event.frames
    return sorted(set(np.frombuffer(frame.data, np.int16).tolist()))


# --- every field, against a script ----------------------------------------------------------


async def scripted(script: str, **options: float) -> list[VADEvent]:
    vad = VAD(lambda: Scripted(script), **options)
    return await events(vad, counting(len(script)))


async def test_each_frame_gives_an_inference() -> None:
    found = only(await scripted("..#"), INFERENCE)

    assert [event.probability for event in found] == [0.0, 0.0, 1.0]
    assert [event.samples_index for event in found] == [320, 640, 960]
    assert [event.timestamp for event in found] == pytest.approx([0.02, 0.04, 0.06])
    assert [numbers(event) for event in found] == [[1], [2], [3]]
    assert all(0 <= event.inference_duration < 1 for event in found)


async def test_raw_times_count_voice_and_silence_in_a_row() -> None:
    found = only(await scripted("##.##...", min_silence_duration=0.06), INFERENCE)
    voiced = [round(event.raw_accumulated_speech, 2) for event in found]
    silent = [round(event.raw_accumulated_silence, 2) for event in found]

    assert voiced == [0.02, 0.04, 0, 0.02, 0.04, 0, 0, 0]
    assert silent == [0, 0, 0.02, 0, 0, 0.02, 0.04, 0.06]


async def test_speech_starts_after_the_least_duration_and_carries_it() -> None:
    found = await scripted("....#.####", min_speech_duration=0.06, prefix_padding_duration=0.04)
    (start,) = only(found, START)

    assert start.timestamp == pytest.approx(0.18)
    assert start.speech_duration == pytest.approx(0.06)
    assert start.silence_duration == 0
    assert start.speaking
    assert numbers(start) == [5, 6, 7, 8, 9]  # two of padding, three of voice


async def test_speech_ends_after_the_silence_and_carries_all_of_it() -> None:
    found = await scripted(
        "...####.###....",
        min_speech_duration=0.04,
        min_silence_duration=0.06,
        prefix_padding_duration=0.02,
    )
    (end,) = only(found, END)

    assert end.timestamp == pytest.approx(0.28)
    assert end.speech_duration == pytest.approx(0.16)  # without the hang-over
    assert end.silence_duration == pytest.approx(0.06)
    assert not end.speaking
    assert numbers(end) == list(range(3, 15))


async def test_durations_run_while_their_state_lasts() -> None:
    found = only(
        await scripted("..###...", min_speech_duration=0.04, min_silence_duration=0.06), INFERENCE
    )
    assert [event.speaking for event in found] == [False] * 4 + [True] * 4
    assert [round(event.speech_duration, 2) for event in found[4:]] == [0.06, 0.08, 0.10, 0.12]
    assert [round(event.silence_duration, 2) for event in found[:4]] == [0.02, 0.04, 0.06, 0.08]


async def test_the_next_speech_carries_only_its_own_padding() -> None:
    found = await scripted(
        "###.....###.....",
        min_speech_duration=0.02,
        min_silence_duration=0.04,
        prefix_padding_duration=0.04,
    )
    assert [numbers(event) for event in only(found, END)] == [[1, 2, 3, 4, 5], list(range(7, 14))]


async def test_a_speech_beyond_the_buffer_keeps_its_beginning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("WARNING", logger="livekit.plugins.parley"):
        found = await scripted(
            "#" * 50 + "." * 5,
            max_buffered_speech=0.2,
            prefix_padding_duration=0.0,
            min_silence_duration=0.06,
        )
    (end,) = only(found, END)
    assert numbers(end) == list(range(1, 11))
    assert end.speech_duration == pytest.approx(1.0)
    assert len([r for r in caplog.records if "max_buffered_speech" in r.message]) == 1


async def test_a_flush_is_a_hard_boundary() -> None:
    engine = Scripted("#" * 40)
    stream = VAD(lambda: engine, min_speech_duration=0.06).stream()
    for frame in counting(10):
        stream.push_frame(frame)
    stream.flush()
    for frame in counting(10):
        stream.push_frame(frame)
    stream.end_input()
    found = [event async for event in stream]
    await stream.aclose()

    assert [event.timestamp for event in only(found, START)] == pytest.approx([0.06, 0.06])
    assert numbers(only(found, START)[1]) == [1, 2, 3]
    assert only(found, END) == []
    assert engine.resets == 2


async def test_streams_do_not_share_an_engine() -> None:
    made: list[Scripted] = []

    def make() -> Scripted:
        made.append(Scripted(""))
        return made[-1]

    vad = VAD(make)
    first, second = vad.stream(), vad.stream()
    await first.aclose()
    await second.aclose()
    assert len({id(engine) for engine in made}) == 3  # one was a trial


@pytest.mark.parametrize(
    "options",
    [
        {"activation_threshold": 0.3, "deactivation_threshold": 0.4},
        {"activation_threshold": 1.5},
        {"min_speech_duration": -1},
        {"prefix_padding_duration": -0.1},
        {"max_buffered_speech": -1},
    ],
)
def test_options_out_of_range_are_refused_at_once(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        VAD(**options)


def test_an_engine_that_is_not_installed_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="no vad engine 'nobody'"):
        VAD("nobody")


def test_an_engine_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin.registry, "load", lambda kind, name: WebRtcVad)
    vad = VAD("webrtc")
    assert (vad.model, vad.provider) == ("webrtc", "parley")


def test_it_says_what_it_can() -> None:
    vad = VAD(min_silence_duration=0.3)
    assert (vad.model, vad.capabilities.update_interval) == ("SileroVad", 0.02)
    assert vad.min_silence_duration == 0.3


# --- real speech ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [None, FusionVad])
async def test_recorded_speech_is_found_where_it_is(engine: type[FusionVad] | None) -> None:
    speech = clip("caller_order_status")
    pcm = np.concatenate((silence(1000), speech, silence(1000)))
    vad = VAD(engine) if engine else VAD()
    found = await events(vad, to_frames(pcm, 16_000))

    starts, ends = only(found, START), only(found, END)
    assert len(starts) == len(ends) >= 1
    assert 1.0 <= starts[0].timestamp <= 1.5
    assert 1.0 < ends[-1].timestamp <= 1 + len(speech) / 16_000 + 0.5
    assert sum(event.speech_duration for event in ends) > 0.4 * len(speech) / 16_000
    assert all(a.timestamp < b.timestamp for a, b in pairwise(starts))


@pytest.mark.parametrize(
    ("rate_hz", "channels", "ms"),
    [(8_000, 1, 20), (16_000, 1, 7), (24_000, 1, 50), (44_100, 2, 10), (48_000, 2, 20)],
)
async def test_any_rate_and_any_frame_gives_the_same(rate_hz: int, channels: int, ms: int) -> None:
    mono = np.concatenate(
        (silence(500, rate_hz), clip("caller_hello", rate_hz), silence(1000, rate_hz))
    )
    size = rate_hz * ms // 1000 * channels
    interleaved = np.repeat(mono, channels)
    frames = [
        rtc.AudioFrame(piece.tobytes(), rate_hz, channels, len(piece) // channels)
        for piece in (interleaved[at : at + size] for at in range(0, len(interleaved), size))
    ]
    found = await events(VAD(), frames)
    (start, *_), (end, *_) = only(found, START), only(found, END)
    reference = await events(VAD(), to_frames(_at_16k(), 16_000))

    assert start.timestamp == pytest.approx(only(reference, START)[0].timestamp, abs=0.1)
    (given,) = end.frames
    assert (given.sample_rate, given.num_channels) == (rate_hz, 1)
    assert np.array_equal(_slice_of(mono, given), np.frombuffer(given.data, np.int16))
    assert given.duration == pytest.approx(
        end.speech_duration + end.silence_duration + 0.5, abs=0.08
    )


def _at_16k() -> Pcm:
    return np.concatenate((silence(500), clip("caller_hello"), silence(1000)))


def _slice_of(mono: Pcm, frame: rtc.AudioFrame) -> Pcm:
    """The part of what was pushed that an event's audio must be: found by its loudest samples."""
    given = np.frombuffer(frame.data, np.int16)
    key = int(np.abs(given.astype(int)).argmax())
    for at in np.flatnonzero(mono == given[key]) - key:
        if at >= 0 and np.array_equal(mono[at : at + len(given)], given):
            return mono[at : at + len(given)]
    return np.zeros(0, np.int16)


async def test_a_change_of_rate_does_not_stop_it() -> None:
    hello = [
        np.concatenate((silence(500, rate), clip("caller_hello", rate), silence(700, rate)))
        for rate in (48_000, 16_000)
    ]
    found = await events(VAD(), to_frames(hello[0], 48_000) + to_frames(hello[1], 16_000))
    assert [event.frames[0].sample_rate for event in only(found, END)] == [48_000, 16_000]


async def test_noise_is_not_speech() -> None:
    for name in ("noise_dog_bark", "noise_car_horn", "noise_engine_idling"):
        assert only(await events(VAD(), to_frames(clip(name), 16_000)), START) == []


async def test_metrics_are_reported() -> None:
    vad, found = VAD(), list[VADMetrics]()
    vad.on("metrics_collected", found.append)
    await events(vad, to_frames(silence(2500), 16_000))

    assert [metrics.inference_count for metrics in found] == [50, 50]
    assert all(0 < metrics.inference_duration_total < 1 for metrics in found)


async def test_a_failing_engine_is_heard_of() -> None:
    class Broken(Scripted):
        def push(self, frame: Pcm) -> float:
            raise RuntimeError("the model is broken")

    with pytest.raises(RuntimeError, match="the model is broken"):
        await events(VAD(lambda: Broken("")), counting(3))


# --- in a stock session ---------------------------------------------------------------------


async def test_a_stock_session_follows_the_user() -> None:
    rate_hz = 48_000
    speech = np.concatenate((silence(500, rate_hz), clip("caller_hello", rate_hz)))
    session = AgentSession[None](vad=VAD(), turn_handling={"turn_detection": "vad"})
    session.input.audio = Microphone(speech, rate_hz)
    states: list[str] = []
    heard = asyncio.Event()

    @session.on("user_state_changed")
    def _(event: UserStateChangedEvent) -> None:
        states.append(event.new_state)
        if states[-2:] == ["speaking", "listening"]:
            heard.set()

    await session.start(Agent(instructions=""))
    await asyncio.wait_for(heard.wait(), 10)
    await session.aclose()
    assert states[:2] == ["speaking", "listening"]
