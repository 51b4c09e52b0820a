"""The converter against upstream's export, and what it says of files that are not right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import lm_golden as golden  # noqa: E402

from parley_speech.lm.convert import convert, is_merged, merged, merged_folder  # noqa: E402
from parley_speech.lm.errors import CheckpointError  # noqa: E402
from parley_speech.lm.vocabulary import MergedVocabulary  # noqa: E402


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that may be spoilt."""
    folder = tmp_path / "CosyVoice2-tiny"
    shutil.copytree(golden.GOLDEN / "CosyVoice-BlankEN", folder / "CosyVoice-BlankEN")
    shutil.copyfile(golden.GOLDEN / "llm.pt", folder / "llm.pt")
    return folder


def test_every_tensor_is_as_upstream_exports_it(tmp_path: Path):
    folder = merged(golden.GOLDEN, cache=tmp_path)
    got, want = golden.tensors(folder), golden.tensors(golden.GOLDEN / "hf_merged")
    assert set(got) == set(want)
    for name, value in want.items():
        assert got[name].dtype == value.dtype
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_the_configuration_describes_it(tmp_path: Path):
    config = json.loads((merged(golden.GOLDEN, cache=tmp_path) / "config.json").read_text())
    want = json.loads((golden.GOLDEN / "hf_merged" / "config.json").read_text())
    for key in (
        "vocab_size",
        "tie_word_embeddings",
        "eos_token_id",
        "hidden_size",
        "rope_parameters",
    ):
        assert config[key] == want[key], key
    ids = MergedVocabulary.from_config(config)
    listed = json.loads((golden.GOLDEN / "config.json").read_text())["merged"]
    assert {
        "vocab_size": ids.size,
        "speech_offset": ids.offset,
        "eos": ids.eos,
        "eos2": ids.eos2,
        "fill": ids.fill,
        "sos": ids.sos,
        "task_id": ids.task,
    } == listed


def test_progress_reaches_the_end(tmp_path: Path):
    steps: list[tuple[int, int, str]] = []
    merged(golden.GOLDEN, cache=tmp_path, progress=lambda *step: steps.append(step))
    done = [step[0] for step in steps]
    assert done == sorted(done) and steps[-1][0] == steps[-1][1] > 400_000
    assert "model.embed_tokens.weight" in [name for *_, name in steps]


def test_it_is_converted_once_and_again_when_a_file_has_changed(checkpoint: Path, tmp_path: Path):
    steps: list[str] = []

    def convert_() -> Path:
        return merged(
            checkpoint, cache=tmp_path / "cache", progress=lambda _, __, name: steps.append(name)
        )

    first, count = convert_(), len(steps)
    assert convert_() == first and len(steps) == count > 0
    assert merged(first) == first  # a converted one is taken as it is
    os.utime(checkpoint / "llm.pt", ns=(1, 1))
    second = convert_()
    assert second != first and is_merged(second) and len(steps) == 2 * count


def test_tokenizer_files_come_along(checkpoint: Path, tmp_path: Path):
    (checkpoint / "CosyVoice-BlankEN" / "merges.txt").write_text("#version: 0.2\n")
    folder = merged(checkpoint, cache=tmp_path / "cache")
    assert (folder / "merges.txt").read_text() == "#version: 0.2\n"


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def truncate(folder: Path) -> None:
    data = (folder / "llm.pt").read_bytes()
    (folder / "llm.pt").write_bytes(data[: len(data) // 2])


def other_model(folder: Path) -> None:
    torch.save({"decoder.weight": torch.zeros(3)}, folder / "llm.pt")


def other_config(folder: Path) -> None:
    path = folder / "CosyVoice-BlankEN" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_size": 128}))


CONFIG = "CosyVoice-BlankEN/config.json"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (remove("llm.pt"), r"llm\.pt is missing"),
        (remove(CONFIG), r"config\.json is missing: .*Qwen 2"),
        (truncate, r"llm\.pt \(208,825 bytes\) cannot be read .*truncated"),
        (write("llm.pt", b""), r"llm\.pt \(0 bytes\)"),
        (write("llm.pt", b"<html>not found</html>"), r"llm\.pt .*something else"),
        (other_model, r"llm\.pt is no token LM .*lacks .*holds decoder\.weight"),
        (write(CONFIG, b"{"), r"config\.json is no JSON"),
        (write(CONFIG, b'{"model_type": "llama"}'), r"does not describe a Qwen 2"),
        (other_config, r"has shape .*expected .*same checkpoint"),
    ],
)
def test_a_wrong_file_is_named(
    checkpoint: Path, tmp_path: Path, spoil: Callable[[Path], None], says: str
):
    spoil(checkpoint)
    with pytest.raises(CheckpointError, match=says):
        merged(checkpoint, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_no_folder_at_all(tmp_path: Path):
    with pytest.raises(CheckpointError, match="is no folder"):
        merged(tmp_path / "nothing", cache=tmp_path)


def test_nothing_half_written_is_taken_for_done(checkpoint: Path, tmp_path: Path):
    folder = merged_folder(checkpoint, cache=tmp_path)

    def fail(done: int, total: int, name: str) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, folder, progress=fail)
    assert not folder.exists() and not is_merged(folder)
    assert not list(folder.parent.iterdir())


def test_from_the_command_line(checkpoint: Path, tmp_path: Path):
    command = [sys.executable, "-m", "parley_speech.lm.convert", str(checkpoint)]
    done = subprocess.run(
        [*command, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].endswith("out") and is_merged(tmp_path / "out")
    (checkpoint / "llm.pt").unlink()
    failed = subprocess.run(
        [*command, str(tmp_path / "no")], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1 and "llm.pt is missing" in failed.stderr
