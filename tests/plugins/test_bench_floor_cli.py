"""``parley bench floor`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from livekit.plugins.parley.bench.floor_cli import _policy, product_engine
from livekit.plugins.parley.cli import app
from typer.testing import CliRunner

from parley.bench.floor import goals
from parley.bench.floor.lockstep import LockstepRecognizer
from parley.bench.instant import InstantMind, InstantVoice
from parley.dialogue.policy import FloorPolicy

WIDE = {"COLUMNS": "200", "NO_COLOR": "1"}


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["bench", "floor", *arguments], env=WIDE)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--split", "tests"), "--split is one of train, validation, test"),
        (("--only", "pause"), "no family pause"),
        (("--policy", "patience=3"), "expected NAME=NUMBER"),
        (("--compare", "nowhere", "nowhere"), "floor.json is not there"),
    ],
)
def test_what_cannot_be_played_is_told(
    arguments: tuple[str, ...], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nowhere").mkdir()
    result = invoke(*arguments, "--out", str(tmp_path))
    assert result.exit_code == 2
    assert error in " ".join(result.output.replace("│", " ").split())


def run(folder: Path, silent_ms: float) -> Path:
    """A run of one conversation, as the bench leaves it."""
    row = {
        "family": "x", "kind": "interruption", "over_agent": True, "left_ms": 9000.0,
        "ducked_ms": 40.0, "silent_ms": silent_ms, "stopped": True, "answered_ms": 150.0,
        "cut_in_ms": [], "pauses": [],
    }  # fmt: skip
    conversation = {
        "key": "k", "scene": {"name": "x-test-000"}, "rows": [row], "agent": [], "seconds": 6.0,
        "floor_s": 0.01,
    }  # fmt: skip
    about = {
        "system": "Parley", "code": "abc", "conversations": 1, "split": "test", "keys": ["k"],
        "figures": [f.as_json() for f in goals.table([conversation])],
    }  # fmt: skip
    folder.mkdir()
    (folder / "floor.json").write_text(json.dumps(about))
    (folder / "results.jsonl").write_text(json.dumps(conversation) + "\n")
    return folder


def test_two_runs_are_compared(tmp_path: Path) -> None:
    before, after = run(tmp_path / "a", 200.0), run(tmp_path / "b", 900.0)
    result = invoke("--compare", str(before), str(after))
    assert result.exit_code == 0, result.output
    lines = {line.split("│")[1].strip(): line for line in result.output.splitlines() if "│" in line}
    assert "worse" in lines["onset of an interruption → silent, P50"]
    assert "same" in lines["onset of an interruption → ducked, P95"]
    assert "x-test-000: 0 wrong before, 1 after" in result.output


def test_numbers_of_the_policy() -> None:
    assert _policy([]) is None
    assert _policy(["cut_in=0.8", "offset_ms=80"]) == FloorPolicy(cut_in=0.8, offset_ms=80)


async def test_the_engine_is_the_products_own_around_the_benchs_parts() -> None:
    pytest.importorskip("pocketsphinx")
    recognizer = LockstepRecognizer()
    engine = await product_engine(
        InstantMind("yes"), InstantVoice({}), recognizer, lambda _: None, FloorPolicy(cut_in=0.8)
    )
    assert engine.floor.policy.cut_in == 0.8
    engine.tick()
    assert engine.t_ms == 20
    await engine.replies.aclose()
    await recognizer.aclose()
