"""The mixer: exact samples, exact levels, no clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parley.dialogue.mixer import Fade, Mixer
from parley_speech.types import SPEAKER_FRAME, SPEAKER_HZ, Pcm


def sine(ms: int, hz: float = 200.0, level: float = 10_000) -> Pcm:
    t = np.arange(SPEAKER_HZ * ms // 1000) / SPEAKER_HZ
    wave: Pcm = (level * np.sin(2 * np.pi * hz * t)).astype(np.int16)
    return wave


def worst_jump(pcm: NDArray[np.int16]) -> int:
    return int(np.abs(np.diff(pcm.astype(np.int32))).max(initial=0))


SMOOTH = worst_jump(sine(100)) * 1.5 + 150
"""A step a 200 Hz tone may make inside a ramp; a click is many times that."""


def opened(pcm: Pcm, *, finish: bool = True) -> Mixer:
    mixer = Mixer()
    mixer.open()
    mixer.feed(pcm)
    if finish:
        mixer.finish()
    return mixer


def frames(mixer: Mixer, n: int) -> Pcm:
    return np.concatenate([mixer.frame().pcm for _ in range(n)])


def test_at_full_level_nothing_is_changed() -> None:
    pcm = sine(200)
    mixer = opened(pcm)
    assert np.array_equal(frames(mixer, 10), pcm)
    assert mixer.done


@settings(max_examples=50)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_however_it_is_fed_the_samples_are_the_same(lengths: list[int]) -> None:
    pcm = np.arange(sum(lengths), dtype=np.int16)
    pcm[-1] = 0
    mixer, at = Mixer(), 0
    mixer.open()
    for n in lengths:
        mixer.feed(pcm[at : at + n])
        at += n
    mixer.finish()
    out = frames(mixer, len(pcm) // SPEAKER_FRAME + 1)
    assert np.array_equal(out[: len(pcm)], pcm)


def test_silence_when_there_is_nothing() -> None:
    mixed = Mixer().frame()
    assert not mixed.pcm.any() and mixed.audible == 0 and not mixed.dry


def test_duck_and_back_are_smooth_and_reach_their_levels() -> None:
    mixer = opened(sine(1000))
    before = frames(mixer, 5)
    mixer.to(Fade.DUCK)
    down = frames(mixer, 10)
    mixer.to(Fade.FULL)
    up = frames(mixer, 15)
    assert worst_jump(np.concatenate([before, down, up])) < SMOOTH
    peak = float(np.abs(down[-SPEAKER_FRAME:]).max())
    assert 20 * np.log10(peak / 10_000) == pytest.approx(-15.0, abs=0.3)
    assert np.abs(up[-SPEAKER_FRAME:]).max() > 9_900


def test_stop_is_silent_within_two_frames_and_ends_the_reply() -> None:
    mixer = opened(sine(1000), finish=False)
    before = frames(mixer, 3)
    mixer.to(Fade.STOP)
    fade = [mixer.frame(), mixer.frame()]
    assert worst_jump(np.concatenate([before, *(f.pcm for f in fade)])) < SMOOTH
    assert not fade[1].pcm[SPEAKER_FRAME // 2 :].any()
    assert mixer.done
    assert sum(f.audible for f in fade) < SPEAKER_HZ * 30 // 1000
    assert not mixer.frame().pcm.any()


def test_a_stop_while_ducked_starts_from_the_ducked_level() -> None:
    mixer = opened(sine(1000))
    mixer.to(Fade.DUCK)
    ducked = frames(mixer, 6)
    mixer.to(Fade.STOP)
    out = np.concatenate([ducked, frames(mixer, 2)])
    assert worst_jump(out) < SMOOTH
    assert np.abs(out[-2 * SPEAKER_FRAME :]).max() <= 1_900


def test_after_a_stop_nothing_brings_the_reply_back() -> None:
    mixer = opened(sine(1000))
    mixer.to(Fade.STOP)
    mixer.to(Fade.FULL)
    mixer.feed(sine(100))
    frames(mixer, 2)
    assert not frames(mixer, 5).any()


def test_a_voice_that_is_too_slow_glides_and_returns_without_a_click() -> None:
    mixer = opened(sine(50, level=8000), finish=False)
    out = [mixer.frame() for _ in range(4)]
    assert [m.dry for m in out] == [False, False, True, True]
    mixer.feed(sine(60, level=8000))
    out += [mixer.frame() for _ in range(3)]
    assert worst_jump(np.concatenate([m.pcm for m in out])) < 2 * SMOOTH


def test_the_next_reply_starts_at_full_level() -> None:
    mixer = opened(sine(200))
    mixer.to(Fade.STOP)
    frames(mixer, 3)
    mixer.open()
    pcm = sine(40)
    mixer.feed(pcm)
    assert np.array_equal(frames(mixer, 2), pcm)


def test_a_nod_sounds_over_silence_and_over_a_reply() -> None:
    mixer = Mixer()
    mixer.overlay(sine(30, level=1000))
    assert np.abs(frames(mixer, 2)).max() >= 990
    loud = opened(np.full(4800, 32_000, np.int16))
    loud.overlay(np.full(960, 32_000, np.int16))
    assert frames(loud, 2).max() == 32767, "sums are limited, not wrapped"


@settings(max_examples=50)
@given(st.data())
def test_the_quick_way_of_a_plain_frame_is_the_long_one(data: st.DataObject) -> None:
    def play(mixer: Mixer) -> list[tuple[bytes, int, bool]]:
        mixer.open()
        out = []
        for length, fade, nod in script:
            mixer.feed(sine(length))
            if fade is not None:
                mixer.to(fade)
            if nod:
                mixer.overlay(sine(30, level=3000))
            frame = mixer.frame()
            out.append((frame.pcm.tobytes(), frame.audible, frame.dry))
        return out

    class Long(Mixer):
        _plain = False

    fades = st.sampled_from([None, None, None, None, *Fade])
    steps = st.tuples(st.sampled_from([0, 7, 20, 45]), fades, st.sampled_from([0, 0, 0, 1]))
    script = data.draw(st.lists(steps, max_size=40))
    assert play(Mixer()) == play(Long())
