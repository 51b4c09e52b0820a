"""SNAC against the published package's outputs (tests/data/golden/snac-orpheus)."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from parley_speech.codec_lm.recipe import ORPHEUS, levels  # noqa: E402
from parley_speech.codec_lm.snac import Snac, decode  # noqa: E402
from parley_speech.codec_lm.snac_decoder import SnacCall, SnacDecoder  # noqa: E402
from parley_speech.codec_lm.snac_files import load_snac  # noqa: E402
from parley_speech.lm.errors import CheckpointError, LmError  # noqa: E402
from parley_speech.token_voice import DecoderWork, Floats, TokenPrompt  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "golden" / "snac-orpheus"
VOICE = TokenPrompt("tara", "", (), np.zeros((0, 80), np.float32), np.zeros(0, np.float32))
FRAMES, FRAME = 9, 2048
REL = 1e-4


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@cache
def cases() -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(GOLDEN / "cases.safetensors").items())


@cache
def model() -> Snac:
    return load_snac(GOLDEN)


def codes() -> list[Any]:
    return [cases()[f"in/codes{n}"] for n in range(3)]


def noise() -> list[Any]:
    return [cases()[f"in/noise{n}"].float() for n in range(4)]


def flat() -> list[int]:
    return [int(code) for code in cases()["orpheus/codes_flat"]]


def rel(got: Any, want: Any) -> float:
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


class GoldenNoise(SnacDecoder):
    """A decoder whose noise is the stored one."""

    def frame_noise(self, call: SnacCall, frame: int) -> list[Any]:
        cut = []
        for block in noise():
            length = block.shape[-1] // FRAMES
            cut.append(block[0, 0, frame * length : (frame + 1) * length])
        return cut


def decoder(**settings: Any) -> SnacDecoder:
    made = GoldenNoise(GOLDEN, ORPHEUS, **settings)
    made.load()
    return made


def stream(made: SnacDecoder, cuts: list[int], tokens: list[int] | None = None) -> Floats:
    """One utterance in steps of the given numbers of tokens, the last step closing it."""
    tokens = flat() if tokens is None else tokens
    call, sound, at = made.open(VOICE), [], 0
    for size in cuts:
        sound += made.step([DecoderWork(call, tokens[at : at + size])])
        at += size
    sound += made.step([DecoderWork(call, tokens[at:], last=True)])
    made.close(call)
    return np.concatenate(sound)


# --- the network ----------------------------------------------------------------------------


def test_codebook_vectors_and_their_sum():
    books: Any = model().quantizer.quantizers
    for n, (book, level) in enumerate(zip(books, codes(), strict=True)):
        vectors = book.codebook(level).transpose(1, 2).detach()
        assert rel(vectors, cases()[f"z_q_level{n}"]) < REL
    assert rel(model().embed(codes()).detach(), cases()["z_q"]) < REL


def test_first_layers():
    layers: Any = model().decoder.model
    x = model().embed(codes())
    for n in range(2):
        x = layers[n](x)
        assert rel(x.detach(), cases()[f"full/layer{n}"]) < REL


def test_sound_with_and_without_noise():
    assert rel(decode(model(), codes(), noise()), cases()["full/wav"][:, 0]) < REL
    assert rel(decode(model(), codes(), None), cases()["nonoise/wav"][:, 0]) < REL


# --- windows and streaming ------------------------------------------------------------------


def test_windows_of_any_size_keep_their_own_frame():
    """Window (1, 2) is Orpheus' choice: it differs from the whole, (3, 3) does not."""
    for left, right in ((1, 2), (3, 3)):
        kept = []
        for frame in range(FRAMES):
            start, stop = max(0, frame - left), min(FRAMES, frame + right + 1)
            part = [
                level[:, start * (level.shape[1] // FRAMES) : stop * (level.shape[1] // FRAMES)]
                for level in codes()
            ]
            draws = [
                block[..., start * block.shape[-1] // FRAMES : stop * block.shape[-1] // FRAMES]
                for block in noise()
            ]
            sound = decode(model(), part, draws)
            kept.append(sound[:, (frame - start) * FRAME : (frame - start + 1) * FRAME])
        got = torch.cat(kept, dim=1)
        assert rel(got, cases()[f"window_{left}_{right}/wav"][:, 0]) < REL
        exact = rel(got, decode(model(), codes(), noise())) < 1e-5
        assert exact == ((left, right) == (3, 3))


@pytest.mark.parametrize(
    "cuts", [[], [7] * 8, [1] * 62, [28, 7, 7, 14], [3, 50], [63], [35]], ids=str
)
def test_streamed_equals_whole_however_it_is_cut(cuts: list[int]):
    """Every sample of every frame, the first and the last included."""
    got = stream(decoder(), cuts)
    assert got.shape == (FRAMES * FRAME,)
    assert rel(got, cases()["full/wav"][0, 0]) < REL
    assert rel(got, decode(model(), codes(), noise())[0]) < 1e-5


def test_upstream_loses_three_frames_that_are_heard_here():
    """Upstream's stream holds frames 1 to F-3 only, decoded with too little to the right."""
    lost = np.asarray(cases()["orpheus/upstream_pcm"], np.float64)
    assert int(cases()["orpheus/upstream_num_chunks"]) == FRAMES - 3
    ours = stream(decoder(noise=False), [7] * 9)
    assert len(ours) - len(lost) == 3 * FRAME
    # What upstream gives for its frames: windows of 1 + 2 frames, scaled and cut to integers.
    theirs = []
    for frame in range(1, FRAMES - 2):
        per = [level.shape[1] // FRAMES for level in codes()]
        part = [
            level[:, (frame - 1) * n : (frame + 3) * n]
            for level, n in zip(codes(), per, strict=True)
        ]
        theirs.append(decode(model(), part, None)[0, FRAME : 2 * FRAME])
    pcm = np.trunc(torch.cat(theirs).double().numpy() * 32767)
    assert np.abs(pcm - lost).max() <= 1
    # Ours is the exact sound of those frames, and sounds before and after them as well.
    exact = np.asarray(cases()["nonoise/wav"][0, 0])
    assert rel(ours, exact) < REL
    assert np.abs(ours[:FRAME]).max() > 0.01 and np.abs(ours[-2 * FRAME :]).max() > 0.01


def test_calls_of_different_ages_share_a_step():
    made = decoder()
    calls = [made.open(VOICE) for _ in range(4)]
    lengths = (7, 5, 9, 2)  # frames of each utterance
    sound: list[list[Floats]] = [[] for _ in calls]
    for tick in range(12):  # call n joins at tick n and gets a frame each tick
        work, who = [], []
        for n, (call, frames) in enumerate(zip(calls, lengths, strict=True)):
            frame = tick - n
            if 0 <= frame < frames:
                tokens = flat()[frame * 7 : frame * 7 + 7]
                work.append(DecoderWork(call, tokens, last=frame == frames - 1))
                who.append(n)
        for n, samples in zip(who, made.step(work), strict=True):
            sound[n].append(samples)
    for n, frames in enumerate(lengths):
        alone = stream(decoder(), [7] * (frames - 1), flat()[: frames * 7])
        assert rel(np.concatenate(sound[n]), alone) < 1e-5


def test_needed_says_when_sound_will_come():
    made = decoder()
    call = made.open(VOICE)
    assert call.needed == 4 * 7
    given = 0
    for token in flat():
        before = call.needed
        (samples,) = made.step([DecoderWork(call, [token])])
        assert (len(samples) > 0) == (before == 1)
        given += len(samples)
    assert given == (FRAMES - 3) * FRAME


def test_state_does_not_grow():
    made = SnacDecoder(GOLDEN, ORPHEUS)
    call = made.open(VOICE)
    sizes = set()
    for _ in range(12):
        made.step([DecoderWork(call, flat()[:7])])
        sizes.add(len(call.codes))
    assert max(sizes) <= 6 * 7


def test_noise_belongs_to_a_call_and_a_frame():
    made = SnacDecoder(GOLDEN, ORPHEUS, noise_seed=5)
    one, other = made.open(VOICE), made.open(VOICE)
    first = [block.clone() for block in made.frame_noise(one, 3)]
    assert [len(block) for block in first] == [32, 256, 1024, 2048]
    again = made.frame_noise(one, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[3], made.frame_noise(one, 4)[3])
    assert not torch.equal(first[3], made.frame_noise(other, 3)[3])


def test_code_0_is_a_code_and_4096_is_none():
    made = SnacDecoder(GOLDEN, ORPHEUS)
    call = made.open(VOICE)
    (samples,) = made.step([DecoderWork(call, [0] * 14, last=True)])
    assert len(samples) == 2 * FRAME
    with pytest.raises(ValueError, match=r"4096.*0\.\.4095"):
        made.step([DecoderWork(made.open(VOICE), [4096])])


def test_a_closed_call_is_refused_and_closing_twice_is_fine():
    made = SnacDecoder(GOLDEN, ORPHEUS)
    call = made.open(VOICE)
    made.close(call)
    made.close(call)
    with pytest.raises(LmError, match="closed"):
        made.step([DecoderWork(call, [1])])


def test_an_unfinished_frame_at_the_end_gives_no_sound(caplog: pytest.LogCaptureFixture):
    made = SnacDecoder(GOLDEN, ORPHEUS)
    call = made.open(VOICE)
    (samples,) = made.step([DecoderWork(call, flat()[:10], last=True)])
    assert len(samples) == FRAME
    assert "3 codes of a frame" in caplog.text


# --- Orpheus' ids ---------------------------------------------------------------------------


def test_upstreams_mapping_of_ids():
    ids = [int(token) for token in cases()["orpheus/in/token_ids"]]
    assert [ORPHEUS.code(token, n) for n, token in enumerate(ids)] == flat()
    by_level = levels(flat(), ORPHEUS.layout)
    assert by_level == [level[0].tolist() for level in codes()]


@pytest.mark.parametrize(("token_id", "position"), [(128265, 0), (128266 + 4096, 0), (128266, 1)])
def test_an_id_of_another_slot_is_refused(token_id: int, position: int):
    with pytest.raises(ValueError, match=f"id {token_id} is no code of slot {position}"):
        ORPHEUS.code(token_id, position)


def test_codes_0_and_4095_are_in_range():
    assert ORPHEUS.code(128266, 7) == 0
    assert ORPHEUS.code(128266 + 6 * 4096 + 4095, 13) == 4095


# --- files ----------------------------------------------------------------------------------


def test_files_that_are_missing_truncated_or_foreign(tmp_path: Path):
    def refused(match: str) -> None:
        with pytest.raises(CheckpointError, match=match):
            load_snac(tmp_path)

    refused(r"config\.json is missing")
    (tmp_path / "config.json").write_text("{")
    refused("no configuration")
    (tmp_path / "config.json").write_text('{"sampling_rate": 24000}')
    refused("lacks .*decoder_rates")
    config = json.loads((GOLDEN / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "attn_window_size": 32}))
    refused("attention")
    shutil.copyfile(GOLDEN / "config.json", tmp_path / "config.json")
    refused(r"pytorch_model\.bin is missing")
    weights = (GOLDEN / "pytorch_model.bin").read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(weights[:100_000])
    refused("truncated")
    torch.save({"other": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    refused("lacks quantizer")
    (tmp_path / "pytorch_model.bin").write_bytes(weights)
    (tmp_path / "config.json").write_text(json.dumps({**config, "decoder_dim": 128}))
    refused("shape")


def test_a_recipe_of_another_frame_is_refused():
    from dataclasses import replace

    with pytest.raises(LmError, match="codes in a frame"):
        SnacDecoder(GOLDEN, replace(ORPHEUS, layout=(0, 1, 2))).load()
