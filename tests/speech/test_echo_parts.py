"""What the echo canceller is made of: tape, delay, powers, gate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_speech import audio
from parley_speech.echo_delay import LOCK, MAX_DELAY_MS, SURE, DelayTracker
from parley_speech.echo_gate import BandGate
from parley_speech.echo_power import BANDS, EchoPower
from parley_speech.echo_tape import Samples, Tape
from parley_speech.types import Pcm
from speech.echo_sounds import START_MS, agent, echo_of, user_over


def as_float(pcm: Pcm) -> list[Samples]:
    return [frame.astype(np.float32) for frame in audio.frames(pcm, 320)]


# --- tape -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 50), max_size=40), data=st.data())
def test_a_tape_gives_back_what_was_written_at_its_place(
    lengths: list[int], data: st.DataObject
) -> None:
    keep = 30
    tape, everything = Tape(keep), np.zeros(keep, np.float32)  # before the beginning: zeros
    for length in lengths:
        new = np.arange(everything.size, everything.size + length, dtype=np.float32)
        everything = np.concatenate((everything, new))
        tape.write(new)
    assert tape.end == sum(lengths)
    start = data.draw(st.integers(tape.end - keep, tape.end))
    stop = data.draw(st.integers(start, tape.end))
    np.testing.assert_array_equal(tape.read(start, stop), everything[keep + start : keep + stop])


def test_a_cleared_tape_keeps_its_places() -> None:
    tape = Tape(8)
    tape.write(np.ones(5, np.float32))
    tape.clear()
    tape.write(np.full(2, 7, np.float32))
    np.testing.assert_array_equal(tape.read(0, 7), [0, 0, 0, 0, 0, 7, 7])


# --- delay ----------------------------------------------------------------------------------


def track(tracker: DelayTracker, mic: Pcm, far: Pcm) -> list[float]:
    shares = []
    for m, f in zip(as_float(mic), as_float(far), strict=True):
        tracker.play(f)
        shares.append(tracker.push(m))
    return shares


@pytest.mark.parametrize("delay_ms", [0, 33, 200, 600, MAX_DELAY_MS])
def test_the_tracker_finds_the_delay(delay_ms: int) -> None:
    far = agent(1.5 + delay_ms / 1000)
    tracker = DelayTracker()
    track(tracker, echo_of(far, delay_ms, -12), far)
    assert tracker.delay_ms == pytest.approx(delay_ms, abs=0.3)


def test_the_tracker_finds_nothing_where_there_is_nothing() -> None:
    far = agent()
    mic = user_over(np.zeros_like(far), "read_jfk", 300, -25.0)
    tracker = DelayTracker()
    assert max(track(tracker, mic, far)) < SURE
    assert tracker.delay_ms is None
    assert tracker._evidence.max() < LOCK


def test_the_delay_counts_from_the_newest_that_was_played() -> None:
    """Five loudspeaker frames before their time make the echo of what comes later 100 ms older;
    the lag of the two counts stays."""
    far = agent(3.0)
    mic = echo_of(far, 120, -12)
    tracker = DelayTracker()
    track(tracker, mic[:32_000], far[:32_000])
    lag = tracker.lag
    tracker.play(far[32_000:33_600].astype(np.float32))
    assert tracker.lag == lag
    assert tracker.delay_ms == pytest.approx(220, abs=0.3)
    share = 0.0
    for frame in as_float(mic[32_000:33_600]):
        share = tracker.push(frame)
    assert share > 0.9
    assert tracker.delay_ms == pytest.approx(120, abs=0.3)


def test_looking_around_the_known_delay_gives_the_same_as_looking_everywhere() -> None:
    far = agent(2.0)
    tracker = DelayTracker()
    track(tracker, echo_of(far, 100, -6), far)
    energy = float(tracker._mic @ tracker._mic)
    everywhere = tracker._correlate(energy)
    share, lag = tracker._best_around(800, 16, energy)
    assert share == pytest.approx(float(everywhere[784:817].max()), abs=1e-3)
    assert lag == 784 + int(np.argmax(everywhere[784:817]))


def test_an_echo_that_moves_by_a_pitch_period_is_followed_at_once() -> None:
    far = agent(3.0)
    early, late = echo_of(far, 120, -12), echo_of(far, 131, -12)
    tracker = DelayTracker()
    track(tracker, early[:32_000], far[:32_000])
    track(tracker, late[32_000:33_600], far[32_000:33_600])  # 100 ms
    assert tracker.delay_ms == pytest.approx(131, abs=0.3)


# --- power ----------------------------------------------------------------------------------


def noise(rng: np.random.Generator, level: float) -> Samples:
    return (level * rng.standard_normal(320)).astype(np.float32)


def learnt(rng: np.random.Generator, delay_frames: int = 0) -> EchoPower:
    """A path of -10.5 dB, for noise of another waveform."""
    power = EchoPower()
    for _ in range(40):
        power.play(noise(rng, 1000))
        power.push(noise(rng, 300), 20.0 * delay_frames)
        power.learn()
    return power


def test_power_learns_the_level_of_an_echo_it_cannot_predict_sample_by_sample() -> None:
    rng = np.random.default_rng(0)
    power = learnt(rng)
    power.play(noise(rng, 1000))
    then, lately = power.push(noise(rng, 300), 0.0)
    assert then > 0.8 and lately > 0.9
    assert power.expects
    power.push(noise(rng, 1200), 0.0)
    power.play(noise(rng, 1000))
    then, lately = power.push(noise(rng, 1200), 0.0)
    assert then < 0.15 and lately < 0.25


def test_what_was_played_lately_explains_a_late_echo_that_then_does_not() -> None:
    rng = np.random.default_rng(1)
    power = learnt(rng)
    for _ in range(20):
        power.play(np.zeros(320, np.float32))
        power.push(np.zeros(320, np.float32), 0.0)
    power.play(np.zeros(320, np.float32))
    power.push(noise(rng, 300), 0.0)
    then, lately = power.push(noise(rng, 300), 0.0)
    assert then < 0.1 and lately > 0.9
    assert power.push(noise(rng, 300), 440.0)[0] > 0.7  # there it was


def test_nothing_is_explained_before_something_is_learnt_and_after_it_is_forgotten() -> None:
    rng = np.random.default_rng(2)
    power = EchoPower()
    power.play(noise(rng, 1000))
    assert power.push(noise(rng, 300), 0.0) == (0.0, 0.0)
    power = learnt(rng)
    power.forget_echo()
    power.play(noise(rng, 1000))
    assert power.push(noise(rng, 300), 0.0) == (0.0, 0.0)
    assert not power.expects


# --- gate -----------------------------------------------------------------------------------

ONES = np.ones(BANDS, np.float32)


def test_without_an_echo_the_gate_gives_the_frame_itself() -> None:
    gate, frame = BandGate(), agent(1.0)[8000:8320]
    assert gate.process(frame, 1e6 * ONES, 0 * ONES) is frame
    assert gate.open


def test_a_band_that_is_all_echo_goes_and_the_others_stay() -> None:
    t = np.arange(3200) / 16_000
    low, high = (3000 * np.sin(2 * np.pi * hz * t) for hz in (400, 3000))
    heard, echo = 1e8 * ONES, 0 * ONES
    echo[:7] = 1e8  # up to 1250 Hz
    gate = BandGate()
    out = np.concatenate(
        [gate.process(f, heard, echo) for f in audio.frames(audio.to_pcm(low + high), 320)]
    )
    spectrum = np.abs(np.fft.rfft(out[-1600:] * np.hanning(1600)))
    wanted = np.abs(np.fft.rfft((low + high)[-1600:] * np.hanning(1600)))
    assert spectrum[300] > 0.85 * wanted[300]  # 3000 Hz
    assert spectrum[40] < 0.1 * wanted[40]  # 400 Hz


def test_the_gate_fades_and_never_clicks() -> None:
    """A pure low tone has no steps; what a change of gain adds to it must have none either."""
    t = np.arange(320 * 40) / 16_000
    tone = audio.to_pcm(8000 * np.sin(2 * np.pi * 200 * t))
    rng = np.random.default_rng(0)
    gate, out = BandGate(), []
    for i, frame in enumerate(audio.frames(tone, 320)):
        echo = (1e8 if (i // 5) % 2 else 0.0) * rng.random(BANDS).astype(np.float32)
        out.append(gate.process(frame, 1e8 * ONES, echo))
    steps = np.abs(np.diff(np.concatenate(out).astype(np.int32), 2))
    assert steps.max() < 3 * np.abs(np.diff(tone.astype(np.int32), 2)).max()


def test_after_the_echo_the_gate_opens_within_a_frame() -> None:
    gate, frames = BandGate(), audio.frames(agent(1.5)[16 * START_MS :], 320)
    gate.process(frames[0], 1e6 * ONES, 1e6 * ONES)
    assert not gate.open
    gate.process(frames[1], 1e6 * ONES, 0 * ONES)
    assert gate.process(frames[2], 1e6 * ONES, 0 * ONES) is frames[2]
