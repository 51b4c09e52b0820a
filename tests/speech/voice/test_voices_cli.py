"""`parley voices` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from livekit.plugins.parley.cli_voices import app
from typer.testing import CliRunner, Result

from speech.voice.recordings import noisy, saved, speech

CARD = ["--text", "it says", "--language", "en", "--consent", "agreed in writing"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "voices"


def _run(home: Path, *arguments: str) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(app, [command, "--voices", str(home), *rest])


def test_add_list_and_check(home: Path, tmp_path: Path) -> None:
    recording = str(saved(tmp_path, speech(8.0)))
    assert "no voice in" in _run(home, "list").output
    added = _run(home, "add", "anna", recording, *CARD, "--licence", "CC0-1.0")
    assert added.exit_code == 0, added.output
    assert "8.0 s at 24000 Hz" in added.output
    assert _run(home, "list").output == "anna: en, CC0-1.0\n"
    assert _run(home, "check", "anna").exit_code == 0
    assert _run(home, "check", recording).exit_code == 0


def test_what_is_refused_says_why_on_stderr(home: Path, tmp_path: Path) -> None:
    good = str(saved(tmp_path, speech(8.0)))
    bad = str(saved(tmp_path, noisy(speech(8.0), 5), name="bad.wav"))
    refused = _run(home, "add", "anna", bad, *CARD, "--licence", "CC0-1.0")
    assert refused.exit_code == 1
    assert "above the noise" in refused.stderr
    refused = _run(home, "add", "anna", good, *CARD, "--licence", "CC-BY-NC-4.0")
    assert refused.exit_code == 1
    assert "--allow-non-commercial" in refused.stderr
    assert _run(home, "check", bad).exit_code == 1
    assert _run(home, "check", "nobody").exit_code == 1
    taken = _run(
        home, "add", "anna", good, *CARD, "--licence", "CC-BY-NC-4.0", "--allow-non-commercial"
    )
    assert taken.exit_code == 0


def test_a_damaged_voice_is_listed_as_such(home: Path, tmp_path: Path) -> None:
    recording = str(saved(tmp_path, speech(8.0)))
    _run(home, "add", "anna", recording, *CARD, "--licence", "CC0-1.0")
    (home / "anna" / "reference.wav").unlink()
    listed = _run(home, "list")
    assert listed.exit_code == 1
    assert "anna: " in listed.output
