"""The vocoder against the original's numbers, whole and with its cross-faded chunks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from decoder_tiny import golden_hift, relative, tiny_networks  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from parley_speech.codec.cosyvoice2 import vocoder  # noqa: E402
from parley_speech.codec.cosyvoice2.config import HiftConfig  # noqa: E402
from parley_speech.codec.cosyvoice2.hift import Hift, margins  # noqa: E402
from parley_speech.codec.cosyvoice2.reference import CrossFaded, published_source  # noqa: E402
from parley_speech.codec.cosyvoice2.source import frame_noise, sines  # noqa: E402
from parley_speech.codec.cosyvoice2.vocoder import Piece, VocoderCall  # noqa: E402

HIFT, CASES = golden_hift()
MEL = CASES["hift/in/mel"]
NOISE = CASES["hift/whole/sine_noise"].float()
CHUNKS = (16, 18, 12)


@pytest.fixture(autouse=True)
def no_gradients():  # type: ignore[no-untyped-def]
    with torch.inference_mode():
        yield


def one_pass(hift: Hift, mel: torch.Tensor, seed: int) -> torch.Tensor:
    """The waveform of mel (bins, t) in one pass."""
    noise = frame_noise(seed, 0, mel.shape[1], hift.config)[None]
    waves, _ = sines(hift.f0(mel[None]), noise, hift.config, None)
    return hift.decode(mel[None], hift.m_source(waves))[0]


# --- the original's numbers -------------------------------------------------------------------


def test_f0() -> None:
    assert relative(HIFT.f0(MEL), CASES["hift/whole/f0"]) < 1e-4


def test_the_networks_last_layer() -> None:
    spectrum = HIFT.spectrum(MEL, CASES["hift/whole/source"][:, 0])
    assert relative(spectrum[:, :, :400], CASES["hift/whole/conv_post"]) < 1e-4


def test_waveform_without_a_source() -> None:
    silence = torch.zeros(1, MEL.shape[2] * 480)
    assert relative(HIFT.decode(MEL, silence), CASES["hift/decode_zero_source/wav"]) < 1e-4


def test_waveform_with_a_source() -> None:
    f0 = CASES["hift/whole/f0"]
    source = published_source(f0, NOISE, HIFT)
    assert float((source - CASES["hift/whole/source"][:, 0]).abs().max()) < 2e-3
    assert relative(HIFT.decode(MEL, source), CASES["hift/whole/wav"]) < 5e-3


def test_the_exact_phase_agrees_with_the_published_one() -> None:
    """Ours in float64 and theirs in float32 differ by what float32 loses in 46 frames."""
    noise = NOISE.view(1, MEL.shape[2], 480, -1)
    waves, _ = sines(CASES["hift/whole/f0"], noise, HIFT.config, None)
    difference = HIFT.m_source(waves) - CASES["hift/whole/source"][:, 0]
    assert float(difference.abs().max()) < 2e-3


def test_f0_of_the_originals_chunks() -> None:
    ends, before = (16, 34, 46), 8
    for n, end in enumerate(ends):
        mel = MEL[:, :, max(0, end - CHUNKS[n] - (before if n else 0)) : end]
        assert relative(HIFT.f0(mel), CASES[f"hift/chunk{n}/f0"]) < 1e-4


def test_the_originals_cross_faded_chunks() -> None:
    """With the original's f0: the golden weights magnify its last digit beyond any tolerance."""
    stream = CrossFaded(HIFT)
    pieces = MEL[0].split(CHUNKS, dim=1)
    for n, piece in enumerate(pieces):
        noise = CASES[f"hift/chunk{n}/sine_noise"][0].float()
        f0 = CASES[f"hift/chunk{n}/f0"][0]
        wave = stream.push(piece, noise, last=n == len(pieces) - 1, f0=f0)
        assert wave.shape == CASES[f"hift/chunk{n}/wav"][0].shape
        assert relative(wave, CASES[f"hift/chunk{n}/wav"][0]) < 5e-3
        if n < len(pieces) - 1:
            assert stream.source is not None and stream.speech is not None
            wanted = CASES[f"hift/chunk{n}/cache_source"][0, 0]
            assert float((stream.source - wanted).abs().max()) < 2e-3
            assert relative(stream.speech, CASES[f"hift/chunk{n}/cache_speech"][0]) < 5e-3


@pytest.mark.parametrize("wanted", [(0, 9), (9, 20), (16, 46), (22, 23), (0, 46)])
def test_a_part_of_the_samples_is_that_of_all(wanted: tuple[int, int]) -> None:
    source = CASES["hift/whole/source"][:, 0]
    whole = HIFT.decode(MEL, source)[:, wanted[0] * 480 : wanted[1] * 480]
    assert relative(HIFT.decode(MEL, source, wanted), whole) < 1e-4


def test_the_finer_a_stage_the_less_it_computes_around_what_is_wanted() -> None:
    """By the published kernels; 16 frames are what the window has to the left anyway."""
    coarse, middle, fine = margins(HiftConfig())
    assert coarse >= 14 and (middle, fine) == (4, 2)


# --- our own chunks ---------------------------------------------------------------------------


def in_chunks(hift: Hift, mel: torch.Tensor, sizes: list[int], seed: int) -> list[torch.Tensor]:
    call, out = VocoderCall(hift, seed), []
    for n, piece in enumerate(mel.split(sizes, dim=1)):
        out += vocoder.advance(hift, [Piece(call, piece, n == len(sizes) - 1)])
    return out


def test_golden_mel_in_chunks_is_one_pass() -> None:
    """These weights magnify an error in the source a thousandfold, so nothing hides here."""
    got = torch.cat(in_chunks(HIFT, MEL[0], list(CHUNKS), seed=3))
    assert relative(got, one_pass(HIFT, MEL[0], seed=3)) < 1e-3


@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5), seed=st.integers(0, 5))
def test_any_chunks_are_one_pass(sizes: list[int], seed: int) -> None:
    _, hift = tiny_networks()
    draw = torch.Generator().manual_seed(seed)
    mel = torch.randn(80, sum(sizes), generator=draw) * 1.5 - 4
    f0 = hift.f0(mel[None])
    assert 100 < float(f0.mean()) < 300  # it has a voice: phases matter
    got = torch.cat(in_chunks(hift, mel, sizes, seed))
    assert relative(got, one_pass(hift, mel, seed)) < 1e-4


def test_nothing_goes_out_before_it_is_settled() -> None:
    _, hift = tiny_networks()
    mel = torch.randn(80, 60, generator=torch.Generator().manual_seed(1))
    out = in_chunks(hift, mel, [20, 1, 29, 10], seed=0)
    assert [len(samples) // 480 for samples in out] == [0, 1, 29, 30]


def test_a_long_call_keeps_a_short_window() -> None:
    _, hift = tiny_networks()
    call = VocoderCall(hift, 0)
    sizes = set()
    for n in range(8):
        mel = torch.randn(80, 50, generator=torch.Generator().manual_seed(n))
        vocoder.advance(hift, [Piece(call, mel, False)])
        sizes.add(call.nbytes)
    assert len(sizes) == 1
    assert call.mel.shape[1] == vocoder.LEFT_FRAMES + vocoder.HOLD_FRAMES


def test_calls_of_different_ages_do_not_touch_each_other() -> None:
    _, hift = tiny_networks()
    draw = torch.Generator().manual_seed(5)
    mels = [torch.randn(80, frames, generator=draw) for frames in (150, 100, 100, 77)]
    calls = [VocoderCall(hift, seed) for seed in range(4)]
    got: list[list[torch.Tensor]] = [[] for _ in calls]
    at = [0, 0, 0, 0]
    for turn in range(4):
        chosen = [n for n in range(4) if n <= turn and at[n] < mels[n].shape[1]]
        pieces = []
        for n in chosen:
            piece = mels[n][:, at[n] : at[n] + 50]
            at[n] += piece.shape[1]
            pieces.append(Piece(calls[n], piece, at[n] == mels[n].shape[1]))
        for n, samples in zip(chosen, vocoder.advance(hift, pieces), strict=True):
            got[n].append(samples)
    for n, mel in enumerate(mels):
        if at[n] == mel.shape[1]:
            assert relative(torch.cat(got[n]), one_pass(hift, mel, n)) < 1e-4
    assert at[0] == 150 and at[1] == 100 and at[2] == 100


def test_noise_of_a_frame_is_always_the_same() -> None:
    long = frame_noise(4, 0, 9, HIFT.config)
    assert torch.equal(frame_noise(4, 3, 2, HIFT.config), long[3:5])
    assert not torch.equal(frame_noise(5, 3, 2, HIFT.config), long[3:5])
    assert abs(float(long.mean())) < 0.05 and abs(float(long.std()) - 1) < 0.05


def test_phases_stay_exact_at_five_minutes() -> None:
    """440 Hz for 300 s in chunks: each frame turns by 8.8 cycles, 15,000 times."""
    config = tiny_networks()[1].config
    cycles, frames = None, 0
    quiet = torch.zeros(1, 3000, 480, config.harmonics + 1)
    for _ in range(5):
        _, middles = sines(torch.full((1, 3000), 440.0), quiet, config, cycles)
        cycles, frames = middles[:, -1], frames + 3000
    exact = (frames * 480 * 440 / 24_000) % 1
    step = float(torch.tensor(440.0) / 24_000) - 440 / 24_000  # float32's own rounding
    drift = abs(float(cycles[0, 0]) - exact - frames * 480 * step)  # type: ignore[index]
    assert min(drift, abs(1 - drift)) < 1e-6
