"""Our own voice in the microphone. "Far" is what the agent plays, "near" what the user says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from parley_speech import audio
from parley_speech.echo import ECHO_THRESHOLD, IDLE_MS, EchoCanceller, EchoLikelihood
from parley_speech.echo_path import (
    MAX_DELAY_MS,
    DelayLine,
    DelayTracker,
    EchoPower,
    LinearEcho,
)
from parley_speech.types import Cleaned, EngineUnavailable, Pcm
from parley_speech.vad.silero import SileroVad

DATA = Path(__file__).parents[1] / "data" / "audio"
START_MS = 500  # where the agent begins


def voice(*names: str, seconds: float) -> Pcm:
    """Clips in a row at -22 dBFS after START_MS of silence, silence to the end."""
    out = np.zeros(int(16000 * seconds), np.int16)
    said = np.concatenate([audio.read(DATA / f"{name}.flac", 16000) for name in names])
    said = audio.scaled(said, -22.0 - audio.level_dbfs(said))[: out.size - 16 * START_MS]
    out[16 * START_MS : 16 * START_MS + said.size] = said
    return out


def agent(seconds: float = 5.0) -> Pcm:
    return voice("read_lj001_0006", "human_vm_intro", seconds=seconds)


def echo_of(far: Pcm, delay_ms: int, gain_db: float, *, room: bool = False) -> Pcm:
    """``far`` out of the loudspeaker and back, with a microphone's own faint noise."""
    rng = np.random.default_rng(delay_ms)
    response = np.zeros(16 * delay_ms + 6400)
    response[16 * delay_ms] = 1.0
    if room:  # 60 dB in 0.4 s, direct sound 2 dB over the rest
        tail = rng.standard_normal(6400) * 10.0 ** (-3 * np.arange(6400) / 6400)
        response[16 * delay_ms :] += tail * np.sqrt(10**-0.2 / np.square(tail).sum())
    response *= 10 ** (gain_db / 20) / np.sqrt(np.square(response).sum())
    size = far.size + response.size
    wet = np.fft.irfft(np.fft.rfft(far, size) * np.fft.rfft(response, size), size)[: far.size]
    return audio.to_pcm(wet + 5 * rng.standard_normal(far.size))


def user_over(mic: Pcm, name: str, at_ms: int, level_dbfs: float) -> Pcm:
    said = audio.read(DATA / f"{name}.flac", 16000)
    said = audio.scaled(said, level_dbfs - audio.level_dbfs(said))[: mic.size - 16 * at_ms]
    out = mic.astype(np.float64)
    out[16 * at_ms : 16 * at_ms + said.size] += said
    return audio.to_pcm(out)


def run(canceller: EchoCanceller, mic: Pcm, far: Pcm) -> list[Cleaned]:
    pairs = zip(audio.frames(mic, 320), audio.frames(far, 320), strict=True)
    return [canceller.process(m, f) for m, f in pairs]


def likelihoods(mic: Pcm, far: Pcm) -> list[float]:
    judge = EchoLikelihood()
    pairs = zip(audio.frames(mic, 320), audio.frames(far, 320), strict=True)
    return [judge.push(m, f) for m, f in pairs]


def joined(frames: list[Cleaned]) -> Pcm:
    return np.concatenate([frame.pcm for frame in frames])


def user_frames(frames: list[Cleaned]) -> list[int]:
    """Ends (ms) of the frames that look like a user: a voice, and not ours."""
    vad = SileroVad()
    voiced = [vad.push(frame.pcm) > 0.5 for frame in frames]
    return [
        20 * (i + 1) for i, frame in enumerate(frames) if voiced[i] and frame.echo < ECHO_THRESHOLD
    ]


# --- what matters ---------------------------------------------------------------------------


@pytest.mark.parametrize("room", [False, True])
@pytest.mark.parametrize("delay_ms", [40, 120, 250])
def test_the_agents_own_voice_at_minus_12_db_never_looks_like_a_user(
    delay_ms: int, room: bool
) -> None:
    far = agent()
    assert user_frames(run(EchoCanceller(), echo_of(far, delay_ms, -12, room=room), far)) == []


@pytest.mark.parametrize("gain_db", [-6.0, -30.0])
def test_nor_does_a_louder_or_softer_echo(gain_db: float) -> None:
    far = agent()
    assert user_frames(run(EchoCanceller(), echo_of(far, 400, gain_db, room=True), far)) == []


@pytest.mark.parametrize("room", [False, True])
@pytest.mark.parametrize("after_ms", [400, 2000])  # while learning, and when learnt
@pytest.mark.parametrize(("over_db", "later_ms"), [(0.0, 300), (6.0, 100), (12.0, 60)])
def test_a_user_over_the_echo_is_heard_almost_as_soon_as_without_it(
    room: bool, after_ms: int, over_db: float, later_ms: int
) -> None:
    far = agent()
    at_ms = START_MS + 120 + after_ms
    speech = ("caller_check_order_12345", at_ms, -34.0 + over_db)
    mic = user_over(echo_of(far, 120, -12, room=room), *speech)
    quiet = user_over(np.zeros_like(mic), *speech)

    heard = user_frames(run(EchoCanceller(), mic, far))
    alone = user_frames(run(EchoCanceller(), quiet, np.zeros_like(far)))

    assert heard[0] > at_ms
    assert heard[0] - alone[0] <= later_ms


def test_with_a_headset_the_user_is_passed_untouched_while_the_agent_speaks() -> None:
    far = agent()
    mic = user_over(np.zeros_like(far), "caller_check_order_12345", 800, -30.0)

    cleaned = run(EchoCanceller(), mic, far)

    np.testing.assert_array_equal(joined(cleaned), mic)
    assert max(frame.echo for frame in cleaned) < ECHO_THRESHOLD


def test_while_the_agent_is_silent_nothing_is_changed_and_nothing_is_echo() -> None:
    mic = audio.read(DATA / "caller_order_status.flac", 16000)[:32_000]
    cleaned = run(EchoCanceller(), mic, np.zeros_like(mic))
    np.testing.assert_array_equal(joined(cleaned), mic)
    assert {frame.echo for frame in cleaned} == {0.0}


def test_after_a_reply_the_microphone_is_untouched_again() -> None:
    far = agent(seconds=3.0)
    far[-16_000:] = 0
    mic = echo_of(far, 120, -12)
    canceller = EchoCanceller()
    run(canceller, mic, far)
    after = audio.scaled(audio.read(DATA / "caller_hello.flac", 16000), -3.0)
    cleaned = run(canceller, after, np.zeros_like(after))
    settled = 320 * (IDLE_MS // 20)  # at most
    whole = np.resize(after, settled * 2)
    np.testing.assert_array_equal(
        joined(run(canceller, whole, np.zeros_like(whole)))[-320:], whole[-320:]
    )
    assert cleaned[-1].pcm.shape == (320,)


def test_the_echo_is_taken_out() -> None:
    far = agent()
    mic = echo_of(far, 120, -12, room=True)
    out = joined(run(EchoCanceller(), mic, far))
    later = slice(16_000, None)
    assert audio.level_dbfs(out[later]) < audio.level_dbfs(mic[later]) - 15


def test_what_was_learnt_serves_the_next_reply_at_once() -> None:
    far = np.concatenate([agent(3.0), agent(3.0)])
    mic = echo_of(far, 250, -12, room=True)
    canceller = EchoCanceller()
    first = run(canceller, mic[: 16_000 * 3], far[: 16_000 * 3])
    second = run(canceller, mic[16_000 * 3 :], far[16_000 * 3 :])
    begin = slice((START_MS + 250) // 20, (START_MS + 250) // 20 + 5)
    assert min(frame.echo for frame in second[begin]) >= min(f.echo for f in first[begin])
    assert user_frames(first) == [] == user_frames(second)


def test_an_echo_whose_delay_jumps_is_found_again() -> None:
    far = agent(seconds=6.0)
    early, late = echo_of(far, 80, -12), echo_of(far, 320, -12)
    mic = np.concatenate([early[: 16_000 * 3], late[16_000 * 3 :]])
    canceller = EchoCanceller()
    cleaned = run(canceller, mic, far)
    assert canceller.delay_ms == pytest.approx(320, abs=2)
    assert user_frames(cleaned) == []


# --- the contract ---------------------------------------------------------------------------


def test_the_same_sound_gives_the_same_result() -> None:
    far = agent(2.0)
    mic = user_over(echo_of(far, 120, -12), "caller_hello", 1200, -25.0)
    once, twice = run(EchoCanceller(), mic, far), run(EchoCanceller(), mic, far)
    np.testing.assert_array_equal(joined(once), joined(twice))
    assert [f.echo for f in once] == [f.echo for f in twice]


def test_reset_begins_a_new_call() -> None:
    far = agent(2.0)
    mic = echo_of(far, 120, -12)
    canceller = EchoCanceller()
    first = run(canceller, mic, far)
    canceller.reset()
    assert canceller.delay_ms is None
    again = run(canceller, mic, far)
    np.testing.assert_array_equal(joined(first), joined(again))
    assert [f.echo for f in first] == [f.echo for f in again]


def test_full_scale_and_clipped_sound_stay_in_range() -> None:
    far = audio.scaled(agent(2.0), 40.0)
    cleaned = run(EchoCanceller(), np.roll(far, 1600), far)
    assert all(0.0 <= frame.echo <= 1.0 for frame in cleaned)
    assert all(frame.pcm.dtype == np.int16 for frame in cleaned)
    assert user_frames(cleaned) == []


def test_silence_on_both_sides_is_silence() -> None:
    quiet = np.zeros(16_000, np.int16)
    assert not joined(run(EchoCanceller(), quiet, quiet)).any()


def test_a_silent_microphone_while_the_agent_speaks_is_no_echo() -> None:
    far = agent(2.0)
    cleaned = run(EchoCanceller(), np.zeros_like(far), far)
    assert max(frame.echo for frame in cleaned) == 0.0
    assert not joined(cleaned).any()


@pytest.mark.parametrize("name", ["mic", "far"])
@pytest.mark.parametrize(
    "bad", [np.zeros(0, np.int16), np.zeros(480, np.int16), np.zeros(320, np.float32)]
)
def test_wrong_frames_are_refused_by_name(name: str, bad: Pcm) -> None:
    frames = {"mic": np.zeros(320, np.int16), "far": np.zeros(320, np.int16), name: bad}
    with pytest.raises(ValueError, match=rf"{name}: expected int16 of shape \(320,\)"):
        EchoCanceller().process(**frames)
    with pytest.raises(ValueError, match=rf"{name}: expected int16 of shape \(320,\)"):
        EchoLikelihood().push(**frames)


@pytest.mark.parametrize("hint", [-1.0, 601.0])
def test_a_hint_out_of_reach_is_refused(hint: float) -> None:
    with pytest.raises(ValueError, match="delay_hint_ms must be between 0 and 600"):
        EchoCanceller(hint)


def test_without_livekit_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "livekit", None)
    with pytest.raises(EngineUnavailable, match="pip install livekit"):
        EchoCanceller()


# --- likelihood -----------------------------------------------------------------------------


@pytest.mark.parametrize("delay_ms", [20, 40, 120, 250, 400, 590])
@pytest.mark.parametrize("gain_db", [-6, -30])
def test_an_echo_is_recognised_in_the_first_second_of_the_first_reply(
    delay_ms: int, gain_db: int
) -> None:
    far = agent(2.2)
    mic = echo_of(far, delay_ms, gain_db)
    scores = likelihoods(mic, far)
    loud = [i for i, f in enumerate(audio.frames(mic, 320)) if audio.level_dbfs(f) > -55]
    assert loud and min(scores[i] for i in loud) > 0.6


@pytest.mark.parametrize("name", ["caller_check_order_12345", "read_jfk", "human_hours"])
def test_a_user_without_echo_is_never_taken_for_one(name: str) -> None:
    far = agent()
    mic = user_over(np.zeros_like(far), name, 300, -25.0)
    assert max(likelihoods(mic, far)) < ECHO_THRESHOLD


def test_the_louder_the_user_over_the_echo_the_lower() -> None:
    far, at_ms = agent(), 2000
    echo = echo_of(far, 120, -12)
    means = []
    for over_db in (-12.0, 0.0, 12.0):
        mic = user_over(echo, "caller_check_order_12345", at_ms, -34.0 + over_db)
        means.append(float(np.mean(likelihoods(mic, far)[at_ms // 20 + 5 : at_ms // 20 + 60])))
    assert means[0] > means[1] > means[2]
    assert means[2] < 0.25


def test_the_hint_does_not_hold_where_it_is_wrong() -> None:
    far = agent(2.0)
    canceller = EchoCanceller(delay_hint_ms=400)
    run(canceller, echo_of(far, 120, -12), far)
    assert canceller.delay_ms == pytest.approx(120, abs=2)


# --- parts ----------------------------------------------------------------------------------


def as_float(pcm: Pcm) -> list[np.ndarray]:
    return [frame.astype(np.float32) for frame in audio.frames(pcm, 320)]


@pytest.mark.parametrize("delay_ms", [0, 33, 200, MAX_DELAY_MS])
def test_the_tracker_finds_the_delay(delay_ms: int) -> None:
    far = agent(2.5)
    tracker = DelayTracker()
    for m, f in zip(as_float(echo_of(far, delay_ms, -12)), as_float(far), strict=True):
        tracker.push(m, f)
    assert tracker.delay_ms == pytest.approx(delay_ms, abs=0.3)


def test_the_tracker_finds_nothing_where_there_is_nothing() -> None:
    far = agent()
    mic = user_over(np.zeros_like(far), "read_jfk", 300, -25.0)
    tracker = DelayTracker()
    for m, f in zip(as_float(mic), as_float(far), strict=True):
        tracker.push(m, f)
    assert tracker.delay_ms is None


def test_looking_only_near_the_known_delay_gives_the_same_shares() -> None:
    far = agent(2.0)
    tracker = DelayTracker()
    for m, f in zip(as_float(echo_of(far, 100, -6)), as_float(far), strict=True):
        tracker.push(m, f)
    energy = float(tracker._mic @ tracker._mic)
    near = tracker._near(100.0)
    np.testing.assert_allclose(
        tracker._correlate_near(near, energy), tracker._correlate(energy)[near], atol=1e-3
    )


def test_the_filter_learns_a_room_to_15_db_in_two_seconds() -> None:
    far = agent()
    mic = echo_of(far, 10, -12, room=True)
    path = LinearEcho()
    pairs = zip(as_float(mic), as_float(far), strict=True)
    left = np.concatenate([path.push(m, f) for m, f in pairs])
    later = slice(16 * (START_MS + 2000), 16 * (START_MS + 4000))
    assert audio.level_dbfs(audio.to_pcm(left[later])) < audio.level_dbfs(mic[later]) - 13


def test_the_filter_without_an_echo_leaves_the_user_alone() -> None:
    far = agent()
    mic = user_over(np.zeros_like(far), "read_jfk", 300, -25.0)
    path = LinearEcho()
    pairs = zip(as_float(mic), as_float(far), strict=True)
    out = audio.to_pcm(np.concatenate([path.push(m, f) for m, f in pairs]))
    change = audio.to_pcm(out.astype(np.float64) - mic)
    assert audio.level_dbfs(change) < audio.level_dbfs(mic) - 12


def test_power_learns_the_level_of_an_echo_it_cannot_predict_sample_by_sample() -> None:
    """Noise of the same power as what was played, with another waveform."""
    rng = np.random.default_rng(0)

    def noise(level: float) -> np.ndarray:
        return (level * rng.standard_normal(320)).astype(np.float32)

    def spectrum(last: np.ndarray, now: np.ndarray) -> np.ndarray:
        return (np.abs(np.fft.rfft(np.concatenate((last, now)))) ** 2).astype(np.float32)

    power, last = EchoPower(), noise(0)
    for _ in range(30):
        now = noise(1000)
        share = power.push(noise(300), spectrum(last, now))
        power.learn()
        last = now
    assert share > 0.8
    louder = [power.push(noise(1200), spectrum(last, last)) for _ in range(5)]
    assert max(louder[2:]) < 0.15


def test_the_delay_line_gives_what_was_played_that_long_ago() -> None:
    line, sound = DelayLine(), np.arange(6400, dtype=np.float32)
    for at in range(0, 6400, 320):
        line.push(sound[at : at + 320])
    np.testing.assert_array_equal(line.read(0.0), sound[-320:])
    np.testing.assert_array_equal(line.read(100.0), sound[-320 - 1600 : -1600])
    assert not line.read(10_000.0).any()  # before the beginning: silence
