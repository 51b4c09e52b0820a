from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path

import numpy as np
import pytest
import soundfile
from livekit import api
from livekit.plugins.parley.caller import Caller, CallerError
from livekit.plugins.parley.caller_ears import SoundGate
from livekit.plugins.parley.caller_microphone import ClipMixer, Microphone
from livekit.plugins.parley.room_trip import click, room_trip
from livekit.plugins.parley.server import LiveKitServer

from parley.report.levels import align, level_dbfs, sounds
from parley.report.recording import Recorder
from parley_speech.types import SPEAKER_HZ, Pcm

QUESTION = Path(__file__).parents[1] / "data" / "audio" / "caller_order_status.flac"
SAMPLE_S = 1 / SPEAKER_HZ


def tone(hz: float, seconds: float, rate_hz: int = SPEAKER_HZ, amplitude: int = 8000) -> Pcm:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def pitch_hz(pcm: Pcm, rate_hz: int) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size)))
    return float(np.argmax(spectrum) * rate_hz / pcm.size)


# --- the mixer: pure --------------------------------------------------------------------------


def ramp(n: int, first: int = 1) -> np.ndarray:
    return np.arange(first, first + n, dtype=np.float32)


def frames(mixer: ClipMixer, count: int, size: int = 10, zero_at: float = 0.0) -> Pcm:
    return np.concatenate([mixer.frame(i * size, size, zero_at) for i in range(count)])


async def test_clips_without_a_time_follow_each_other_to_the_sample() -> None:
    mixer = ClipMixer(1000)
    first, second = mixer.add(ramp(13), None), mixer.add(ramp(5, 100), None)
    line = frames(mixer, 3, zero_at=50.0)
    np.testing.assert_array_equal(line[:18], [*range(1, 14), *range(100, 105)])
    assert not line[18:].any()
    assert await first == pytest.approx(50.0)
    assert await second == pytest.approx(50.013)
    assert await second.done() == pytest.approx(50.018)


async def test_a_clip_with_a_time_begins_at_its_sample_and_is_mixed() -> None:
    mixer = ClipMixer(1000)
    mixer.add(np.full(30, 1000, np.float32), None)
    timed = mixer.add(np.full(5, 50, np.float32), 7.017)
    line = frames(mixer, 3, zero_at=7.0)
    np.testing.assert_array_equal(np.flatnonzero(line == 1050), range(17, 22))
    assert await timed == pytest.approx(7.017)


async def test_a_clip_whose_time_is_past_begins_at_once_and_says_so() -> None:
    mixer = ClipMixer(1000)
    frames(mixer, 2)
    late = mixer.add(ramp(4), 0.001)
    mixer.frame(20, 10, 0.0)
    assert await late == pytest.approx(0.020)


async def test_a_clip_waits_for_a_frame_that_is_still_to_come() -> None:
    mixer = ClipMixer(1000)
    early = mixer.add(ramp(4), 1.0)
    assert not frames(mixer, 5).any()
    assert early.started_at is None


def test_the_sum_of_clips_is_limited_not_wrapped() -> None:
    mixer = ClipMixer(1000)
    mixer.add_at(np.full(10, 30_000, np.float32), 0)
    mixer.add_at(np.full(10, 30_000, np.float32), 0)
    assert (mixer.frame(0, 10, 0.0) == 32767).all()


def test_what_should_have_been_mixed_in_before_now_is_lost_the_rest_is_not() -> None:
    mixer = ClipMixer(1000)
    mixer.add_at(ramp(15), -5)
    np.testing.assert_array_equal(mixer.frame(0, 10, 0.0), range(6, 16))
    assert not mixer.frame(10, 10, 0.0).any()


async def test_clips_that_are_dropped_raise_for_those_who_wait() -> None:
    mixer = ClipMixer(1000)
    running, waiting = mixer.add(ramp(100), None), mixer.add(ramp(1), None)
    mixer.frame(0, 10, 3.0)
    mixer.drop_all()
    assert await running.started() == 3.0
    for utterance in (running, waiting):
        with pytest.raises(CallerError, match="left the room before"):
            await utterance
    assert not mixer.frame(10, 10, 3.0).any()


@pytest.mark.parametrize(("rate_hz", "channels"), [(11_025, 1), (48_000, 3)])
def test_a_microphone_that_no_machine_has_is_refused(rate_hz: int, channels: int) -> None:
    with pytest.raises(ValueError, match=f"not {rate_hz} Hz and {channels}"):
        Microphone(rate_hz, channels, Recorder(), lambda: 0.0)


def test_the_gate_joins_short_pauses_and_knows_since_when_it_is_silent() -> None:
    gate = SoundGate()
    assert gate.silent_since() is None
    loud, silent = tone(500, 0.01), np.zeros(240, np.int16)
    for i in range(100):
        gate.push(loud if 10 <= i < 20 or 25 <= i < 30 or 60 <= i < 70 else silent, i / 100)
    spans = [(round(s.start, 2), round(s.end, 2)) for s in gate.sounds]
    assert spans == [(0.10, 0.30), (0.60, 0.70)]
    assert gate.sound_since(0.0) == pytest.approx(0.10)
    assert gate.sound_since(0.15) == pytest.approx(0.15)
    assert gate.sound_since(0.40) == pytest.approx(0.60)
    assert gate.sound_since(0.80) is None
    assert gate.silent_since() == pytest.approx(0.70)


# --- misuse -----------------------------------------------------------------------------------


async def test_errors_say_what_to_do() -> None:
    caller = Caller("ws://127.0.0.1:9", "token")
    with pytest.raises(CallerError, match=r"join\(\) before say"):
        caller.say(tone(440, 0.1))
    with pytest.raises(CallerError, match="join"):
        await caller.wait_speech(timeout_s=0.1)
    with pytest.raises(ValueError, match="Nothing was recorded"):
        caller.recording()
    with pytest.raises(ValueError, match="at least 30 ms here, not 5"):
        caller.echo(5, -6)
    await caller.leave()


@pytest.mark.room
async def test_no_server_and_a_wrong_key_are_told(livekit_server: LiveKitServer) -> None:
    with pytest.raises(CallerError, match=r"Cannot join the room at .*key and secret"):
        async with Caller(livekit_server.url, "no.token.this"):
            pass


# --- in a room --------------------------------------------------------------------------------


def pair(
    server: LiveKitServer, *, rate_hz: int = 48_000, channels: int = 1
) -> tuple[Caller, Caller]:
    """A caller, and another one in the place of an agent, in a room of their own."""
    room = f"room-{uuid.uuid4().hex[:8]}"
    caller = Caller(server.url, server.token("caller", room), rate_hz=rate_hz, channels=channels)
    agent = Caller(server.url, server.token("robot", room, kind="agent"), agent="caller")
    return caller, agent


@pytest.mark.room
async def test_both_hear_each_other_and_the_recording_tells_when(
    livekit_server: LiveKitServer,
) -> None:
    caller, agent = pair(livekit_server)
    question, _ = soundfile.read(QUESTION, dtype="int16")
    async with agent, caller:
        assert await caller.wait_agent() == "robot"
        assert await agent.wait_agent() == "caller"
        spoken = caller.say(QUESTION)
        spoken_at = await spoken.started()
        heard_at = await agent.wait_speech(after=spoken_at)
        await spoken.done()
        answers = [
            agent.say(click(), at=agent.now() + 0.3 * i, rate_hz=48_000) for i in range(1, 6)
        ]
        answered_at = [await answer for answer in answers]
        first_at = await caller.wait_speech(after=answered_at[0])
        silent_since = await caller.wait_silence(400)
        with pytest.raises(TimeoutError, match=r"In 0\.2 s the agent was not heard\."):
            await caller.wait_speech(timeout_s=0.2)
        assert caller.lateness_ms[0] < 10
    recording = caller.recording()

    # What was sent is in the recording to the sample, at the time that say() gave.
    sent = recording.between(spoken_at, spoken_at + question.size / 16_000)
    own = align(_to_24k(question), sent.caller, SPEAKER_HZ)
    assert abs(own.delay_s) <= 2 * SAMPLE_S
    assert own.score > 0.99
    # The other side heard it, later by what the room takes, and whole.
    theirs = agent.recording()
    through = align(_to_24k(question), theirs.agent, SPEAKER_HZ)
    trip_s = theirs.started_at + through.delay_s - spoken_at
    assert 0.015 < trip_s < 0.5
    assert through.score > 0.7
    assert through.cut_s() is None
    assert heard_at - spoken_at == pytest.approx(trip_s, abs=0.25)  # a clip begins softly
    # Answers arrive in the recording when they were heard, each after about the same time.
    heard = sounds(recording.agent, SPEAKER_HZ, threshold_dbfs=-30)
    assert len(heard) == len(answers)
    delays = [
        recording.started_at + s.start_s - at for s, at in zip(heard, answered_at, strict=True)
    ]
    assert 0.015 < min(delays) <= max(delays) < 0.5
    assert recording.started_at + heard[0].start_s == pytest.approx(first_at, abs=0.04)
    assert recording.started_at + heard[-1].end_s == pytest.approx(silent_since, abs=0.06)


@pytest.mark.room
@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(8_000, 1), (16_000, 2), (24_000, 1), (44_100, 2), (48_000, 2)]
)
async def test_a_microphone_of_any_rate_sounds_the_same_to_the_others(
    rate_hz: int, channels: int, livekit_server: LiveKitServer
) -> None:
    caller, agent = pair(livekit_server, rate_hz=rate_hz, channels=channels)
    async with agent, caller:
        await agent.wait_agent()
        said_at = await caller.say(tone(440, 0.5), rate_hz=SPEAKER_HZ)
        await agent.wait_silence(150)
    heard = sounds(agent.recording().agent, SPEAKER_HZ, threshold_dbfs=-35)
    assert heard[-1].end_s - heard[0].start_s == pytest.approx(0.5, abs=0.08)
    middle = agent.recording().agent[
        round((heard[0].start_s + 0.1) * SPEAKER_HZ) : round((heard[0].start_s + 0.4) * SPEAKER_HZ)
    ]
    assert pitch_hz(middle, SPEAKER_HZ) == pytest.approx(440, abs=6)
    own = caller.recording()
    start = sounds(own.caller, SPEAKER_HZ, threshold_dbfs=-40)[0].start_s
    assert own.started_at + start == pytest.approx(said_at, abs=0.001)


@pytest.mark.room
async def test_the_echo_has_the_delay_and_the_level_that_were_asked_for(
    livekit_server: LiveKitServer,
) -> None:
    caller, agent = pair(livekit_server)
    delays_ms, gain_db = (40, 250), -12.0
    async with agent, caller:
        await caller.wait_agent()
        for delay_ms in delays_ms:
            caller.echo(delay_ms, gain_db)
            await agent.say(tone(600, 0.3), rate_hz=SPEAKER_HZ)
            await caller.wait_silence(400)
        caller.echo_off()
        await agent.say(tone(600, 0.3), rate_hz=SPEAKER_HZ)
        await caller.wait_silence(400)
    recording = caller.recording()
    heard = sounds(recording.agent, SPEAKER_HZ, threshold_dbfs=-45)
    returned = sounds(recording.caller, SPEAKER_HZ, threshold_dbfs=-45 + gain_db)
    assert (len(heard), len(returned)) == (3, 2)
    for delay_ms, source, echo in zip(delays_ms, heard, returned, strict=False):
        assert (echo.start_s - source.start_s) * 1000 == pytest.approx(delay_ms, abs=12)
        levels = [
            level_dbfs(
                side[round((s.start_s + 0.1) * SPEAKER_HZ) : round((s.start_s + 0.2) * SPEAKER_HZ)]
            )
            for side, s in ((recording.agent, source), (recording.caller, echo))
        ]
        assert levels[1] - levels[0] == pytest.approx(gain_db, abs=1.0)


async def heard_again(caller: Caller, agent: Caller) -> float:
    """Says a tone until the other side hears it: it subscribes to the new track in its own time."""
    for _ in range(8):
        said_at = await caller.say(tone(700, 0.3), rate_hz=SPEAKER_HZ)
        with contextlib.suppress(TimeoutError):
            await agent.wait_speech(after=said_at, timeout_s=2)
            return said_at
    raise AssertionError("the one who returned was never heard")


@pytest.mark.room
async def test_a_muted_caller_is_not_heard_and_one_who_returns_is(
    livekit_server: LiveKitServer,
) -> None:
    caller, agent = pair(livekit_server)
    async with agent:
        async with caller:
            await agent.wait_agent()
            caller.mute()
            muted_at = await caller.say(tone(700, 0.3), rate_hz=SPEAKER_HZ)
            with pytest.raises(TimeoutError):
                await agent.wait_speech(after=muted_at, timeout_s=0.3)
            caller.unmute()
            said_at = await caller.say(tone(700, 0.3), rate_hz=SPEAKER_HZ)
            await agent.wait_speech(after=said_at)
            unsaid = caller.say(tone(700, 5.0), rate_hz=SPEAKER_HZ)
            left_at = caller.now()
        with pytest.raises(CallerError, match="left the room"):
            await unsaid
        with pytest.raises(CallerError, match="in no room"):
            await caller.wait_speech()
        await caller.join()
        back_at = await heard_again(caller, agent)
        await caller.leave()
    recording = caller.recording()
    assert level_dbfs(recording.between(muted_at, muted_at + 0.3).caller) == -100
    assert level_dbfs(recording.between(said_at, said_at + 0.3).caller) > -20
    assert level_dbfs(recording.between(left_at + 0.5, back_at).caller) == -100
    assert level_dbfs(recording.between(back_at, back_at + 0.3).caller) > -20


@pytest.mark.room
async def test_transcriptions_of_both_sides_come_with_their_times(
    livekit_server: LiveKitServer,
) -> None:
    caller, agent = pair(livekit_server)
    async with agent, caller:
        await caller.wait_agent()
        before = caller.now()
        robot = agent.room.local_participant
        writer = await robot.stream_text(
            topic="lk.transcription", attributes={"lk.segment_id": "S1"}
        )
        await writer.write("Hello ")
        await caller.wait_transcript(lambda t: t.text == "Hello ")
        await writer.write("world")
        await writer.aclose(attributes={"lk.transcription_final": "true"})
        said = await caller.wait_transcript(lambda t: t.final)
        for text, final in (("what", "false"), ("what time", "true")):
            echo = await robot.stream_text(
                topic="lk.transcription", sender_identity="caller",
                attributes={"lk.segment_id": "S2", "lk.transcription_final": final},
            )  # fmt: skip
            await echo.write(text)
            await echo.aclose()
        mine = await caller.wait_transcript(lambda t: t.speaker == "caller" and t.final)
    assert (said.speaker, said.segment, said.text) == ("agent", "S1", "Hello world")
    assert (mine.segment, mine.text) == ("S2", "what time")
    assert not any(t.final for t in caller.transcripts if t.text == "what")
    times = [t.at for t in caller.transcripts]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= caller.now()


@pytest.mark.room
async def test_a_room_that_disappears_ends_the_wait_with_an_error(
    livekit_server: LiveKitServer,
) -> None:
    room = f"room-{uuid.uuid4().hex[:8]}"
    caller = Caller(livekit_server.url, livekit_server.token("caller", room))
    await caller.join()
    waiting = asyncio.create_task(caller.wait_speech(timeout_s=10))
    async with api.LiveKitAPI(
        livekit_server.http_url, livekit_server.api_key, livekit_server.api_secret
    ) as lk:
        await lk.room.delete_room(api.DeleteRoomRequest(room=room))
    with pytest.raises(CallerError, match="closed or lost"):
        await waiting
    await caller.leave()


@pytest.mark.room
async def test_the_rooms_own_trip_is_measured_with_clicks(livekit_server: LiveKitServer) -> None:
    trip = await room_trip(livekit_server.url, livekit_server.token, clicks=6, every_s=0.3)
    assert trip.lost == 0
    assert len(trip.clicks_ms) == 6
    assert 20 < trip.p50_ms <= trip.p95_ms < 290
    print(f"room trip P50 {trip.p50_ms:.0f} ms, P95 {trip.p95_ms:.0f} ms")


def _to_24k(pcm: Pcm) -> Pcm:
    import soxr

    resampled: Pcm = soxr.resample(pcm, 16_000, SPEAKER_HZ)
    return resampled
