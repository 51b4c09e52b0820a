from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_speech import audio

DATA = Path(__file__).parents[1] / "data" / "audio"
RATES = (8000, 11025, 16000, 22050, 24000, 44100, 48000)


def sine(
    rate_hz: int, hz: float = 440.0, seconds: float = 0.5, peak: float = 10_000.0
) -> audio.Pcm:
    t = np.arange(int(rate_hz * seconds)) / rate_hz
    return audio.to_pcm(peak * np.sin(2 * np.pi * hz * t))


# --- levels and shapes ----------------------------------------------------------------------


def test_level_of_a_full_scale_square_is_zero_and_of_a_sine_three_less() -> None:
    square = np.tile(np.array([32767, -32768], np.int16), 800)
    assert audio.level_dbfs(square) == pytest.approx(0.0, abs=0.01)
    assert audio.level_dbfs(sine(16000, peak=32767)) == pytest.approx(-3.01, abs=0.05)


def test_level_of_silence_and_of_nothing_is_the_floor() -> None:
    assert audio.level_dbfs(np.zeros(320, np.int16)) == audio.SILENCE_DBFS
    assert audio.level_dbfs(np.zeros(0, np.int16)) == audio.SILENCE_DBFS


def test_to_pcm_clips_instead_of_wrapping() -> None:
    assert audio.to_pcm(np.array([40_000.0, -40_000.0, 0.6])).tolist() == [32767, -32768, 1]


def test_scaled_by_a_huge_gain_clips() -> None:
    assert int(audio.scaled(sine(16000), 60.0).max()) == 32767


@pytest.mark.parametrize(
    "bad", [np.zeros(3, np.float32), np.zeros((2, 2), np.int16), [1, 2], np.zeros(319, np.int16)]
)
def test_check_pcm_says_the_shape_it_expected(bad: object) -> None:
    with pytest.raises(ValueError, match=r"mic: expected int16 of shape \(320,\), got"):
        audio.check_pcm(bad, "mic", 320)  # type: ignore[arg-type]


def test_to_mono_averages_channels_without_overflow() -> None:
    stereo = np.array([[30_000, 30_000], [100, -100]], np.int16)
    assert audio.to_mono(stereo).tolist() == [30_000, 0]
    with pytest.raises(ValueError, match="channels"):
        audio.to_mono(np.zeros((2, 2, 2), np.int16))


@pytest.mark.parametrize("snr_db", [20.0, 0.0, -6.0])
def test_mix_at_snr_adds_noise_of_that_level(snr_db: float) -> None:
    signal = sine(16000, peak=3000)
    noise = audio.to_pcm(np.random.default_rng(0).standard_normal(1000) * 500)
    added = audio.mix_at_snr(signal, noise, snr_db).astype(int) - signal
    got = audio.level_dbfs(signal) - audio.level_dbfs(added.astype(np.int16))
    assert got == pytest.approx(snr_db, abs=0.2)


def test_mix_at_snr_refuses_silence() -> None:
    quiet = np.zeros(100, np.int16)
    with pytest.raises(ValueError, match="noise: expected some sound"):
        audio.mix_at_snr(sine(16000), quiet, 10)
    with pytest.raises(ValueError, match="signal: expected some sound"):
        audio.mix_at_snr(quiet, sine(16000), 10)


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_file_comes_back_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    audio.write(tmp_path / f"a{suffix}", sine(16000), 16000)
    np.testing.assert_array_equal(audio.read(tmp_path / f"a{suffix}", 16000), sine(16000))


@pytest.mark.parametrize("rate_hz", RATES)
def test_stereo_files_of_any_rate_are_read_as_mono_at_the_wanted_rate(
    tmp_path: Path, rate_hz: int
) -> None:
    left = sine(rate_hz)
    audio.write(tmp_path / "a.wav", np.stack([left, left], axis=1), rate_hz)
    got = audio.read(tmp_path / "a.wav", 16000)
    want = sine(16000)
    assert abs(got.size - want.size) <= 1
    middle = slice(1000, -1000)
    assert np.abs(got[: want.size][middle].astype(int) - want[: got.size][middle]).max() < 30


def test_reading_what_is_not_there_or_not_audio_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no audio file"):
        audio.read(tmp_path / "none.wav", 16000)
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(ValueError, match="not audio that can be read"):
        audio.read(tmp_path / "text.wav", 16000)


def test_an_empty_file_is_read_as_nothing(tmp_path: Path) -> None:
    audio.write(tmp_path / "empty.wav", np.zeros(0, np.int16), 8000)
    assert audio.read(tmp_path / "empty.wav", 16000).size == 0


# --- streaming resampler --------------------------------------------------------------------


@pytest.mark.parametrize("from_hz", RATES)
@pytest.mark.parametrize("to_hz", [8000, 16000, 24000, 48000])
def test_a_tone_keeps_its_pitch_and_level_and_comes_exactly_delay_ms_late(
    from_hz: int, to_hz: int
) -> None:
    resampler = audio.StreamResampler(from_hz, to_hz)
    got = np.concatenate([resampler.push(sine(from_hz)), resampler.flush()])
    t = np.arange(got.size) / to_hz - resampler.delay_ms / 1000
    want = 10_000 * np.sin(2 * np.pi * 440 * t)
    inside = (t > 0.05) & (t < 0.45)
    assert np.abs(got[inside] - want[inside]).max() < 20  # -54 dB of the tone


def test_the_delay_is_below_ten_milliseconds_for_every_pair_of_common_rates() -> None:
    delays = [audio.StreamResampler(a, b).delay_ms for a in RATES for b in RATES]
    assert max(delays) < 10.0
    assert audio.StreamResampler(16000, 16000).delay_ms == 0.0


@pytest.mark.parametrize("from_hz", RATES)
def test_every_20_ms_frame_in_gives_20_ms_out(from_hz: int) -> None:
    resampler = audio.StreamResampler(from_hz, 16000)
    sizes = [resampler.push(np.zeros(from_hz // 50, np.int16)).size for _ in range(50)]
    assert all(abs(size - 320 * (from_hz // 50) * 50 / from_hz) <= 1 for size in sizes)


def test_what_lies_above_the_new_band_is_gone_before_it_can_fold_back() -> None:
    resampler = audio.StreamResampler(48000, 16000)
    got = resampler.push(sine(48000, hz=11_000))
    assert audio.level_dbfs(got[1000:-1000]) < audio.level_dbfs(sine(48000, hz=11_000)) - 60


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(44100, 16000), (8000, 16000), (16000, 24000), (48000, 16000)]),
    st.lists(st.integers(0, 1500), min_size=1, max_size=12),
)
def test_resampled_in_pieces_is_resampled_whole(rates: tuple[int, int], cuts: list[int]) -> None:
    sound = audio.to_pcm(np.random.default_rng(3).standard_normal(sum(cuts)) * 12_000)
    whole = audio.StreamResampler(*rates).push(sound)
    pieces = audio.StreamResampler(*rates)
    ends = np.cumsum(cuts)
    got = [pieces.push(sound[end - cut : end]) for cut, end in zip(cuts, ends, strict=True)]
    np.testing.assert_array_equal(np.concatenate(got), whole)


def test_reset_forgets_the_sound_before() -> None:
    resampler = audio.StreamResampler(8000, 16000)
    first = resampler.push(sine(8000))
    resampler.reset()
    np.testing.assert_array_equal(resampler.push(sine(8000)), first)


def test_loud_sound_clips_when_resampled() -> None:
    square = np.repeat(np.tile(np.array([32767, -32768], np.int16), 50), 40)
    got = audio.StreamResampler(8000, 16000).push(square)
    assert got.max() == 32767 and got.min() == -32768  # the overshoot did not wrap round


def test_rates_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0 Hz"):
        audio.StreamResampler(0, 16000)
    with pytest.raises(ValueError, match="use a common rate"):
        audio.StreamResampler(44_101, 47_999)


# --- frames ---------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=20))
def test_frames_are_exact_in_order_and_nothing_is_lost(sizes: list[int]) -> None:
    sound = np.arange(sum(sizes), dtype=np.int64).astype(np.int16)
    framer, got = audio.Framer(16000), []
    at = 0
    for size in sizes:
        got += framer.push(sound[at : at + size])
        at += size
        assert framer.pending < framer.frame
    rest = framer.flush()
    got += [] if rest is None else [rest]
    assert all(frame.shape == (320,) for frame in got)
    joined = np.concatenate([*got, np.zeros(0, np.int16)])
    np.testing.assert_array_equal(joined[: sound.size], sound)
    assert not joined[sound.size :].any()
    assert framer.pending == 0


def test_a_framer_keeps_no_reference_to_the_callers_buffer() -> None:
    framer, block = audio.Framer(16000), np.ones(100, np.int16)
    framer.push(block)
    block[:] = 7
    rest = framer.flush()
    assert rest is not None and rest[:100].tolist() == [1] * 100


def test_a_frame_must_be_whole_samples() -> None:
    with pytest.raises(ValueError, match="whole number of samples"):
        audio.Framer(22050, 15)


def test_reset_drops_the_rest() -> None:
    framer = audio.Framer(8000)
    framer.push(np.ones(10, np.int16))
    framer.reset()
    assert framer.flush() is None


def test_frames_of_a_recording_fill_up_the_last() -> None:
    cut = audio.frames(np.ones(330, np.int16), 320)
    assert [int(frame.sum()) for frame in cut] == [320, 10]
    assert audio.frames(np.zeros(0, np.int16), 320) == []


# --- telephone ------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [audio.mu_law, audio.a_law])
def test_g711_keeps_speech_to_within_35_db(law: object) -> None:
    speech = audio.read(DATA / "caller_hello.flac", 8000)
    error = law(speech).astype(int) - speech  # type: ignore[operator]
    snr_db = audio.level_dbfs(speech) - audio.level_dbfs(error.astype(np.int16))
    assert 30.0 < snr_db < 45.0


@pytest.mark.parametrize("law", [audio.mu_law, audio.a_law])
def test_g711_has_at_most_256_levels_and_keeps_sign_and_extremes(law: object) -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    coded = law(every)  # type: ignore[operator]
    assert 200 < np.unique(coded).size <= 256
    assert (np.diff(coded.astype(int)) >= 0).all()
    assert coded[-1] > 31_000 and coded[0] < -31_000


def test_a_telephone_passes_speech_and_cuts_hum_and_hiss() -> None:
    kept, hum, hiss = (audio.telephone(sine(16000, hz=hz), 16000) for hz in (1000, 60, 5000))
    level = audio.level_dbfs(sine(16000))
    assert audio.level_dbfs(kept) == pytest.approx(level, abs=0.5)
    assert audio.level_dbfs(hum) < level - 30
    assert audio.level_dbfs(hiss) < level - 30


def test_a_telephone_keeps_length_and_takes_nothing() -> None:
    assert audio.telephone(sine(16000), 16000).size == sine(16000).size
    assert audio.telephone(np.zeros(0, np.int16), 16000).size == 0
