"""``parley bench voice``: how it reads its parts and what it says of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from livekit.plugins.parley.bench import voice_cli
from livekit.plugins.parley.cli import app
from typer.testing import CliRunner

NO_GPU = {"device": None, "note": "no GPU was here"}


def test_figures_are_what_is_printed_last() -> None:
    figures = {"levels": [{"calls": 1}], "n": 2}
    printed = "WARNING: a library says {things}\n{\nnot ours\n" + json.dumps(figures, indent=1)
    assert voice_cli.figures_of(printed + "\n") == figures
    with pytest.raises(ValueError, match="printed no figures"):
        voice_cli.figures_of("only a log\n")


def test_it_says_where_it_ran() -> None:
    assert "No GPU was used" in voice_cli.where({})
    assert "No GPU was used" in voice_cli.where(NO_GPU)
    assert "'gpu' ran on NVIDIA H100" in voice_cli.where({"device": "NVIDIA H100", "levels": []})


def test_every_part_is_a_module_and_is_explained() -> None:
    assert voice_cli.PARTS.keys() == voice_cli.WHAT.keys()
    for module, *_ in voice_cli.PARTS.values():
        path = Path(*module.split(".")).with_suffix(".py")
        assert (Path(__file__).parents[2] / "agent" / path).is_file()


def test_one_part_is_added_to_the_figures_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps(NO_GPU, indent=1))

    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / "voice.json").write_text(json.dumps({"chunk": {"growth": 1.0}}))
    asked = ["bench", "voice", "--only", "gpu", "--device", "cuda:1", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert ran[0][1:] == ["-m", "parley.bench.voice_load", "--device", "cuda:1"]
    kept = json.loads((tmp_path / "voice.json").read_text())
    assert kept == {"chunk": {"growth": 1.0}, "gpu": NO_GPU}
    assert "No GPU was used" in done.output
    unknown = CliRunner().invoke(app, ["bench", "voice", "--only", "tea"])
    assert unknown.exit_code == 2
