"""A folder of voices: what is kept, what is refused, and what a hand-edited card may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml

from parley_speech.audio import resample
from parley_speech.voices.library import UnknownVoice, VoiceLibrary
from parley_speech.voices.licences import LicenceRefused, check_licence, excludes_commercial_use
from parley_speech.voices.reference import UnfitReference
from speech.voice.recordings import HZ, saved, speech

CARD: dict[str, Any] = {
    "text": "And it is worth  mention\nin passing.",
    "language": "en-US",
    "licence": "CC0-1.0",
    "consent": "public domain reading",
}


@pytest.fixture
def library(tmp_path: Path) -> VoiceLibrary:
    return VoiceLibrary(tmp_path / "voices")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path: Path = saved(tmp_path, speech(8.0))
    return path


def test_an_added_voice_is_found_again(library: VoiceLibrary, recording: Path) -> None:
    added, report = library.add("anna", recording, **CARD, instruction="calm", source="LJ Speech")
    assert report.usable
    assert library.names() == ("anna",)
    assert library.list() == (added,)
    assert library.get("anna") == added
    assert added.text == "And it is worth mention in passing."
    assert (added.language, added.licence, added.instruction) == ("en-US", "CC0-1.0", "calm")
    assert added.source == "LJ Speech"


def test_the_reference_is_kept_as_mono_at_24_khz(library: VoiceLibrary, tmp_path: Path) -> None:
    pcm = resample(speech(8.0), HZ, 44_100)
    stereo = saved(tmp_path, pcm[:, None].repeat(2, axis=1), 44_100, "stereo.flac")
    added, _ = library.add("anna", stereo, **CARD)
    info = soundfile.info(added.reference)
    assert (info.samplerate, info.channels, info.subtype) == (24_000, 1, "PCM_16")
    assert info.duration == pytest.approx(8.0, abs=0.001)


def test_an_unfit_recording_leaves_nothing_behind(library: VoiceLibrary, tmp_path: Path) -> None:
    short = saved(tmp_path, speech(1.0), name="short.wav")
    with pytest.raises(UnfitReference, match=r"short\.wav cannot be a voice:\n- it lasts 1\.0 s"):
        library.add("anna", short, **CARD)
    assert library.names() == ()
    assert not library.path.exists() or not list(library.path.iterdir())


def test_a_voice_is_replaced_only_on_demand(library: VoiceLibrary, recording: Path) -> None:
    library.add("anna", recording, **CARD)
    with pytest.raises(FileExistsError, match="say replace"):
        library.add("anna", recording, **{**CARD, "text": "other"})
    assert library.get("anna").text != "other"
    library.add("anna", recording, **{**CARD, "text": "other"}, replace=True)
    assert library.get("anna").text == "other"
    assert [path.name for path in library.path.iterdir()] == ["anna"]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("licence", "", "no licence is stated"),
        ("licence", "unknown", "no licence is stated"),
        ("licence", "CC-BY-NC-4.0", "excludes commercial use"),
        ("consent", "  ", "needs a note on consent"),
        ("language", "English", "a tag such as en"),
    ],
)
def test_cards_that_do_not_do(
    library: VoiceLibrary, recording: Path, field: str, value: str, error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        library.add("anna", recording, **{**CARD, field: value})
    assert library.names() == ()


@pytest.mark.parametrize("name", ["", "Anna", "../anna", "a b", "-a", "a" * 65])
def test_names_are_folder_names(library: VoiceLibrary, recording: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a voice's name is"):
        library.add(name, recording, **CARD)


def test_a_non_commercial_voice_needs_a_yes(library: VoiceLibrary, recording: Path) -> None:
    card = {**CARD, "licence": "CC-BY-NC-4.0"}
    added, _ = library.add("anna", recording, **card, allow_non_commercial=True)
    assert added.licence == "CC-BY-NC-4.0"


def test_licence_names() -> None:
    for refused in ("CC-BY-NC-SA-4.0", "cc by nc 4.0", "Fish Audio Research License"):
        assert excludes_commercial_use(refused), refused
    for refused in ("non-commercial", "Noncommercial use", "for academic use"):
        assert excludes_commercial_use(refused), refused
    for fine in ("Apache-2.0", "CC-BY-4.0", "MIT", "CC0", "own recording", "MPL-2.0", "Ncsa"):
        assert not excludes_commercial_use(fine), fine
    assert check_licence(" CC-BY-4.0 ", "x") == "CC-BY-4.0"
    with pytest.raises(LicenceRefused, match="the model x: no licence"):
        check_licence("", "the model x")


def test_an_unknown_voice_lists_those_there_are(library: VoiceLibrary, recording: Path) -> None:
    with pytest.raises(UnknownVoice, match="there are: none yet"):
        library.get("anna")
    library.add("anna", recording, **CARD)
    with pytest.raises(UnknownVoice, match=r"no voice 'bert' in .* there are: anna"):
        library.get("bert")


# --- cards edited by hand -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"name": "bert"}, "is not its folder's"),
        ({"consent": ""}, "consent is missing"),
        ({"licence": None}, "licence is missing"),
        ({"licenc": "x"}, "unknown licenc; there are: name, text"),
        ({"language": "English"}, "a tag such as en"),
    ],
)
def test_a_damaged_card_is_named(
    library: VoiceLibrary, recording: Path, change: dict[str, Any], error: str
) -> None:
    added, _ = library.add("anna", recording, **CARD)
    path = added.reference.parent / "voice.yaml"
    card = {**yaml.safe_load(path.read_text()), **change}
    path.write_text(yaml.safe_dump(card))
    with pytest.raises(ValueError, match=rf"voice\.yaml.*{error}"):
        library.get("anna")


@pytest.mark.parametrize("text", ["[1, 2]", "just words", "a: [", ""])
def test_a_card_that_is_no_card(library: VoiceLibrary, recording: Path, text: str) -> None:
    added, _ = library.add("anna", recording, **CARD)
    (added.reference.parent / "voice.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"voice\.yaml"):
        library.get("anna")


def test_a_voice_without_its_recording(library: VoiceLibrary, recording: Path) -> None:
    added, _ = library.add("anna", recording, **CARD)
    added.reference.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no reference\.wav or reference\.flac"):
        library.get("anna")
    saved(added.reference.parent, speech(8.0), name="reference.flac")
    assert library.get("anna").reference.name == "reference.flac"
