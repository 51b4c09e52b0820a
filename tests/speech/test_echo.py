"""Our own voice in the microphone. "Far" is what the agent plays, "near" what the user says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soxr

from parley_speech import audio
from parley_speech.echo import ECHO_THRESHOLD, GONE_FRAMES, IDLE_MS, EchoCanceller, EchoLikelihood
from parley_speech.types import Cleaned, Pcm
from parley_speech.vad.silero import SileroVad
from speech.echo_sounds import DATA, START_MS, agent, echo_of, user_over, voice

RECORDED = DATA.parent / "echo"


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


@pytest.mark.parametrize("delay_ms", [40, 280, 400])
def test_the_first_echo_of_a_call_is_found_in_a_noise_that_was_there_before(delay_ms: int) -> None:
    """Microphones hiss, here at -60 dBFS: until the echo comes that is a sound without one."""
    far = agent()
    hiss = np.random.default_rng(1).normal(0, 33, far.size)
    mic = audio.to_pcm(echo_of(far, delay_ms, -12, room=True) + hiss)
    assert len(user_frames(run(EchoCanceller(), mic, far))) <= 2


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


# --- what networks do -----------------------------------------------------------------------


def in_steps(canceller: EchoCanceller, mic: Pcm, far: Pcm, counts: list[int]) -> list[Cleaned]:
    """One loudspeaker frame a tick and as many microphone frames as ``counts`` has for it; a
    microphone frame meets what was played up to the tick before."""
    cleaned, waiting, heard = [], np.empty(0, np.int16), iter(audio.frames(mic, 320))
    for played, count in zip(audio.frames(far, 320), counts, strict=True):
        for _ in range(count):
            cleaned.append(canceller.process(next(heard), waiting))
            waiting = np.empty(0, np.int16)
        waiting = np.concatenate((waiting, played))
    return cleaned


def test_an_echo_recorded_through_stalls_never_looks_like_a_user_for_long() -> None:
    """See the folder's README. What is left opens for a frame or two, and stops nobody."""
    mic = audio.read(RECORDED / "stalls_microphone.flac", 16000)
    far = audio.read(RECORDED / "stalls_loudspeaker.flac", 16000)
    counts = json.loads((RECORDED / "stalls_frames.json").read_text())
    assert len(user_frames(in_steps(EchoCanceller(), mic, far, counts))) <= 2


def test_in_what_steps_the_sides_come_is_nothing_to_the_delay() -> None:
    far = agent(4.0)
    mic = echo_of(far, 120, -12)
    rng = np.random.default_rng(3)
    counts: list[int] = []
    while len(counts) < 200:  # stalls of up to 0.2 s of either side, caught up at once
        still = int(rng.integers(1, 10))
        counts += [0] * still + [still + 1] if rng.random() < 0.5 else [1] * still
    counts = counts[:200]
    counts[-1] += 200 - sum(counts)
    assert user_frames(in_steps(EchoCanceller(), mic, far, counts)) == []


@pytest.mark.parametrize("ppm", [-100, 100])
def test_clocks_may_drift(ppm: int) -> None:
    far = agent(6.0)
    mic = echo_of(far, 120, -12, room=True)
    drifted = audio.to_pcm(soxr.resample(mic.astype(np.float64), 1.0, 1.0 + ppm * 1e-6))
    drifted = np.resize(drifted, mic.size)
    assert user_frames(run(EchoCanceller(), drifted, far)) == []


@pytest.mark.parametrize("delay_ms", [80, 200])
@pytest.mark.parametrize("gain_db", [-6, -12, -24])
def test_a_jitter_buffer_that_moves_the_echo_every_half_second(delay_ms: int, gain_db: int) -> None:
    """By up to 60 ms, either way; whatever is lost or said twice by it."""
    far = agent(5.0)
    rng = np.random.default_rng(delay_ms - gain_db)
    pieces = [
        echo_of(far, delay_ms + int(rng.integers(-60, 61)), gain_db)[at : at + 8000]
        for at in range(0, far.size, 8000)
    ]
    assert user_frames(run(EchoCanceller(), np.concatenate(pieces), far)) == []


def test_a_stall_that_moves_the_echo_by_half_a_second_and_back() -> None:
    far = agent(6.0)
    near, late = echo_of(far, 100, -12), echo_of(far, 620, -12)
    mic = np.concatenate((near[:40_000], late[40_000:64_000], near[64_000:]))
    assert user_frames(run(EchoCanceller(), mic, far)) == []


def test_a_user_over_an_echo_that_moves_is_heard() -> None:
    far, at_ms = agent(6.0), 3000
    near, late = echo_of(far, 100, -12), echo_of(far, 180, -12)
    mic = np.concatenate((near[: 16 * at_ms], late[16 * at_ms :]))
    heard = user_frames(
        run(EchoCanceller(), user_over(mic, "caller_check_order_12345", at_ms, -22.0), far)
    )
    assert at_ms < heard[0] < at_ms + 500


def test_who_puts_a_headset_on_is_heard_again_however_softly_they_speak() -> None:
    far = voice("read_lj001_0006", "human_vm_intro", "read_lj001_0013", seconds=9.0)
    echo = echo_of(far, 120, -12)
    echo[16 * 2500 :] = 0
    mic = user_over(echo, "read_jfk", 4500, -38.0)
    canceller = EchoCanceller()
    before = run(canceller, mic[: 16 * 2500], far[: 16 * 2500])
    assert canceller.delay_ms is not None and user_frames(before) == []
    after = run(canceller, mic[16 * 2500 :], far[16 * 2500 :])
    alone = user_frames(run(EchoCanceller(), mic[16 * 2500 :], np.zeros_like(far[16 * 2500 :])))
    assert GONE_FRAMES * 20 < 4500 - 2500  # it was silent for long enough to notice
    assert len(user_frames(after)) >= 0.95 * len(alone)


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


@pytest.mark.parametrize(("name", "shape"), [("mic", r"\(320,\)"), ("far", r"\(320·k,\)")])
@pytest.mark.parametrize("bad", [np.zeros(500, np.int16), np.zeros(320, np.float32)])
def test_wrong_frames_are_refused_by_name(name: str, shape: str, bad: Pcm) -> None:
    frames = {"mic": np.zeros(320, np.int16), "far": np.zeros(320, np.int16), name: bad}
    with pytest.raises(ValueError, match=f"{name}: expected int16 of shape {shape}"):
        EchoCanceller().process(**frames)
    with pytest.raises(ValueError, match=f"{name}: expected int16 of shape {shape}"):
        EchoLikelihood().push(**frames)


@pytest.mark.parametrize("hint", [-1.0, 2001.0])
def test_a_hint_out_of_reach_is_refused(hint: float) -> None:
    with pytest.raises(ValueError, match="delay_hint_ms must be between 0 and 2000"):
        EchoCanceller(hint)


# --- likelihood -----------------------------------------------------------------------------


@pytest.mark.parametrize("delay_ms", [20, 40, 120, 250, 400, 1400])
@pytest.mark.parametrize("gain_db", [-6, -30])
def test_an_echo_is_recognised_in_the_first_second_of_the_first_reply(
    delay_ms: int, gain_db: int
) -> None:
    far = agent(2.2 + delay_ms / 1000)
    mic = echo_of(far, delay_ms, gain_db)
    scores = likelihoods(mic, far)
    loud = [i for i, f in enumerate(audio.frames(mic, 320)) if audio.level_dbfs(f) > -55]
    assert loud and min(scores[i] for i in loud) > 0.6


@pytest.mark.parametrize("name", ["caller_check_order_12345", "read_jfk", "human_hours"])
def test_a_user_without_echo_is_never_taken_for_one(name: str) -> None:
    far = agent()
    mic = user_over(np.zeros_like(far), name, 300, -25.0)
    assert max(likelihoods(mic, far)) < ECHO_THRESHOLD


def test_after_two_seconds_without_an_echo_no_first_sound_is_doubted() -> None:
    """A hummed "no" resembles whatever we play more than speech does."""
    hum = np.zeros(len(agent()), np.int16)
    t = np.arange(8000) / 16_000
    hum[4 * 16_000 :][:8000] = (
        4000 * np.sin(2 * np.pi * 130 * t) * (1 + np.sin(2 * np.pi * 260 * t))
    )
    far = agent()
    early = likelihoods(hum[3 * 16_000 :], far[: len(far) - 3 * 16_000])
    assert max(likelihoods(hum, far)) == 0.0
    assert max(early) > 0.0
    again = EchoLikelihood()
    for m, f in zip(audio.frames(hum, 320), audio.frames(far, 320), strict=True):
        again.push(m, f)
    again.forget_sound()
    late = zip(audio.frames(hum[3 * 16_000 :], 320), audio.frames(far, 320), strict=False)
    assert max(again.push(m, f) for m, f in late) == 0.0


def test_the_louder_the_user_over_the_echo_the_lower() -> None:
    far, at_ms = agent(), 2000
    echo = echo_of(far, 120, -12)
    means = []
    for over_db in (-12.0, 0.0, 12.0):
        mic = user_over(echo, "caller_check_order_12345", at_ms, -34.0 + over_db)
        means.append(float(np.mean(likelihoods(mic, far)[at_ms // 20 + 5 : at_ms // 20 + 60])))
    assert means[0] > means[1] > means[2]
    assert means[2] < 0.3


def test_the_hint_does_not_hold_where_it_is_wrong() -> None:
    far = agent(2.0)
    canceller = EchoCanceller(delay_hint_ms=400)
    run(canceller, echo_of(far, 120, -12), far)
    assert canceller.delay_ms == pytest.approx(120, abs=2)
