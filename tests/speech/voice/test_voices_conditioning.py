"""A voice as a model sees it: right numbers, computed once, mapped to each mode's prompt."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from parley_speech.audio import read
from parley_speech.voices import conditioning as module
from parley_speech.voices.conditioning import Conditioner, Mode, prompt_of
from parley_speech.voices.encoders import SpeakerEncoder, SpeechTokenizer
from parley_speech.voices.features import prompt_mel
from parley_speech.voices.library import Voice
from speech.voice.golden_files import GOLDEN
from speech.voice.recordings import HZ, saved, speech

TOKENIZER = GOLDEN / "s3tokenizer-v2" / "speech_tokenizer_v2.onnx"
SPEAKER = GOLDEN / "campplus" / "campplus.onnx"


@pytest.fixture(autouse=True)
def _networks_load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SpeechTokenizer", cache(SpeechTokenizer))
    monkeypatch.setattr(module, "SpeakerEncoder", _speaker)


_speaker = cache(SpeakerEncoder)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path: Path = saved(tmp_path, speech(4.01))
    return path


def _conditioner(tmp_path: Path) -> Conditioner:
    return Conditioner(TOKENIZER, SPEAKER, cache=tmp_path / "cache")


def _voice(reference: Path) -> Voice:
    return Voice("anna", "what it says", "en", "CC0-1.0", "public domain", reference)


def test_it_is_what_the_parts_give_cut_to_two_frames_a_token(
    tmp_path: Path, reference: Path
) -> None:
    got = _conditioner(tmp_path).condition(reference)
    at_16k = read(reference, 16_000).astype(np.float32) / np.float32(32768)
    at_24k = read(reference, 24_000).astype(np.float32) / np.float32(32768)
    tokens = SpeechTokenizer(TOKENIZER)(at_16k)
    assert len(tokens) == 101  # the tokenizer rounds up, the mel down: 200 frames
    assert got.tokens == tokens[:100]
    assert np.array_equal(got.mel, prompt_mel(at_24k)[:200])
    assert np.array_equal(got.embedding, _speaker(SPEAKER)(at_16k))


def test_a_second_time_it_comes_from_the_cache(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _conditioner(tmp_path).condition(reference)
    monkeypatch.setattr(module, "SpeechTokenizer", None)  # would fail if it were loaded
    moved = reference.rename(tmp_path / "moved.wav")
    again = _conditioner(tmp_path).condition(moved)
    assert again.tokens == first.tokens
    assert np.array_equal(again.mel, first.mel)
    assert np.array_equal(again.embedding, first.embedding)
    assert again.mel.dtype == again.embedding.dtype == np.float32


def test_another_recording_or_another_network_is_computed_anew(
    tmp_path: Path, reference: Path
) -> None:
    _conditioner(tmp_path).condition(reference)
    other = saved(tmp_path, speech(4.5), name="other.wav")
    _conditioner(tmp_path).condition(other)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    copy = tmp_path / "speech_tokenizer_v2.onnx"
    copy.write_bytes(TOKENIZER.read_bytes())
    Conditioner(copy, SPEAKER, cache=tmp_path / "cache").condition(reference)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the same content
    swapped = Conditioner(TOKENIZER, SPEAKER.with_name("campplus_cn_common.bin"))
    assert swapped._key(reference) != _conditioner(tmp_path)._key(reference)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip file", b"\x00" * 1000])
def test_a_damaged_cache_is_mended(
    tmp_path: Path, reference: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    first = _conditioner(tmp_path).condition(reference)
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    for content in (damage, whole[: len(whole) // 2]):
        kept.write_bytes(content)
        assert _conditioner(tmp_path).condition(reference).tokens == first.tokens
    assert "is damaged and is computed again" in caplog.text
    assert list((tmp_path / "cache").iterdir()) == [kept]


def test_recordings_out_of_range_are_refused(tmp_path: Path) -> None:
    for seconds in (0.3, 30.5):
        path = saved(tmp_path, speech(seconds))
        with pytest.raises(ValueError, match="expected 3 to 30 s"):
            _conditioner(tmp_path).condition(path)


# --- modes ----------------------------------------------------------------------------------


def test_modes_map_as_upstream_does(tmp_path: Path, reference: Path) -> None:
    voice, c = _voice(reference), _conditioner(tmp_path).condition(reference)
    zero_shot = prompt_of(voice, c, mode=Mode.ZERO_SHOT)
    cross = prompt_of(voice, c, mode=Mode.CROSS_LINGUAL)
    told = prompt_of(voice, c, mode=Mode.INSTRUCT, instruction=" whisper it ")
    assert (zero_shot.text, zero_shot.instruction) == ("what it says", "")
    assert (cross.text, cross.instruction) == ("", "")
    assert (told.text, told.instruction) == ("", "whisper it")
    for prompt in (zero_shot, cross, told):  # the decoder always has the whole reference
        assert prompt.tokens == c.tokens
        assert prompt.mel is c.mel
        assert prompt.embedding is c.embedding
        assert prompt.name == "anna"


def test_the_natural_mode(tmp_path: Path, reference: Path) -> None:
    voice, c = _voice(reference), _conditioner(tmp_path).condition(reference)
    assert prompt_of(voice, c).text == "what it says"
    assert prompt_of(replace(voice, text=""), c).text == ""
    instructed = replace(voice, instruction="calmly")
    assert prompt_of(instructed, c).instruction == "calmly"
    assert prompt_of(instructed, c, instruction="fast").instruction == "fast"
    assert prompt_of(instructed, c, instruction="").text == "what it says"


def test_a_mode_that_lacks_what_it_needs(tmp_path: Path, reference: Path) -> None:
    voice, c = _voice(reference), _conditioner(tmp_path).condition(reference)
    with pytest.raises(ValueError, match="has no text, which zero-shot speech needs"):
        prompt_of(replace(voice, text=""), c, mode=Mode.ZERO_SHOT)
    with pytest.raises(ValueError, match="needs an instruction"):
        prompt_of(voice, c, mode=Mode.INSTRUCT)


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert module.default_cache() == Path("/somewhere/parley/voices")
    assert HZ == 24_000
