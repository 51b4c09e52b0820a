"""A checkpoint folder before anything heavy looks at it: whole, of this model, permitted."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from parley_speech.tts.cosyvoice2_files import FILES, find_checkpoint
from parley_speech.types import EngineUnavailable
from parley_speech.voices.licences import LicenceRefused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "CosyVoice2-0.5B"
    for name in FILES:
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".pt":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", b"x" * 1000)
        else:
            path.write_text("llm: Qwen2LM\nflow: CausalMaskedDiffWithXvec\n")
    return made


def test_a_whole_folder_is_found(folder: Path) -> None:
    files = find_checkpoint(folder)
    assert files.folder == folder
    assert files.speaker == folder / "campplus.onnx"
    assert files.tokenizer == folder / "speech_tokenizer_v2.onnx"
    assert files.licence == ""


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(EngineUnavailable, match=rf"not a whole .*{name} \(.* is missing; expected"):
        find_checkpoint(folder)


@pytest.mark.parametrize("name", ["llm.pt", "flow.pt", "hift.pt"])
def test_a_truncated_file_is_named(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EngineUnavailable, match=rf"{name} \(.*\) is truncated \(\d+ bytes\)"):
        find_checkpoint(folder)
    (folder / name).write_bytes(b"")
    with pytest.raises(EngineUnavailable, match=rf"{name} .* truncated \(0 bytes\)"):
        find_checkpoint(folder)


def test_a_pointer_in_a_file_s_place_is_named(folder: Path) -> None:
    (folder / "llm.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(EngineUnavailable, match=r"llm\.pt .* Git LFS pointer.*git lfs pull"):
        find_checkpoint(folder)


def test_torch_checkpoints_of_the_encoders_do_too(folder: Path) -> None:
    (folder / "campplus.onnx").rename(folder / "campplus_cn_common.bin")
    (folder / "speech_tokenizer_v2.onnx").rename(folder / "speech_tokenizer_v2.pt")
    files = find_checkpoint(folder)
    assert files.speaker.name == "campplus_cn_common.bin"
    assert files.tokenizer.name == "speech_tokenizer_v2.pt"


@pytest.mark.parametrize(
    ("name", "model"), [("cosyvoice.yaml", "CosyVoice 1"), ("cosyvoice3.yaml", "CosyVoice 3")]
)
def test_another_model_is_named(folder: Path, name: str, model: str) -> None:
    (folder / "cosyvoice2.yaml").rename(folder / name)
    with pytest.raises(EngineUnavailable, match=rf"holds {model} .*expected CosyVoice 2"):
        find_checkpoint(folder)


def test_a_foreign_configuration_is_named(folder: Path) -> None:
    (folder / "cosyvoice2.yaml").write_text("llm: something else")
    with pytest.raises(EngineUnavailable, match=r"cosyvoice2\.yaml does not describe CosyVoice 2"):
        find_checkpoint(folder)


def test_the_licence_is_read_and_obeyed(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags:\n- x\n---\n# CosyVoice\n")
    assert find_checkpoint(folder).licence == "apache-2.0"
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    with pytest.raises(LicenceRefused, match="excludes commercial use"):
        find_checkpoint(folder)
    assert find_checkpoint(folder, allow_non_commercial=True).licence == "cc-by-nc-4.0"


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"no folder .*expected a CosyVoice 2 checkpoint"):
        find_checkpoint(tmp_path / "nothing here")


def test_a_name_without_the_hub_s_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(EngineUnavailable, match=r"pip install huggingface_hub, or download"):
        find_checkpoint("FunAudioLLM/CosyVoice2-0.5B")


def test_a_name_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    asked = []

    def refuse(name: str, **options: object) -> str:
        asked.append((name, options))
        raise OSError("no network\nand more")

    hub = SimpleNamespace(snapshot_download=refuse)
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", hub)
    with pytest.raises(EngineUnavailable, match=r"cannot be downloaded \(no network\): check"):
        find_checkpoint("some/model")
    assert asked[0][0] == "some/model"
    assert "llm.pt" in str(asked[0][1])


def test_a_name_that_is_downloaded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from types import SimpleNamespace

    hub = SimpleNamespace(snapshot_download=lambda name, **options: str(folder))
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", hub)
    assert find_checkpoint("some/model").folder == folder
