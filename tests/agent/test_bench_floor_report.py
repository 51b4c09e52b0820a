"""The report of the floor's bench: cases in words and pictures, the trade-off, what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parley.bench.floor import cases, fingerprint, pictures, summary
from parley.bench.floor.run import wrong_rows


def row(kind: str = "turn", **fields: Any) -> dict[str, Any]:
    base = {
        "family": "x", "kind": kind, "onset_ms": 1500.0, "over_agent": kind != "turn",
        "left_ms": 9000.0, "ducked_ms": None, "silent_ms": None, "stopped": False,
        "answered_ms": None, "cut_in_ms": [], "pauses": [],
    }  # fmt: skip
    return {**base, **fields}


def conversation(name: str, *rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "scene": {"name": name, "family": name.split("-")[0]},
        "seconds": 6.0,
        "rows": list(rows),
        "user": [{"kind": "turn", "text": "a <b>", "voiced_ms": [[1500.0, 2000.0]]}],
        "agent": [
            {"reply": 1, "cause": "user", "begin_ms": 2200.0, "end_ms": 3000.0, "heard": None}
        ],
        "moves": [[1600, "Duck", -1], [1700, "Listen", -1]],
    }


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (row(cut_in_ms=[-400.0]), "turn at 1.5 s: the agent cut in 400 ms before its end"),
        (row(), "turn at 1.5 s: no answer"),
        (row(answered_ms=912.4), "turn at 1.5 s: answered after 912 ms"),
        (row("interruption"), "interruption at 1.5 s: not heeded"),
        (row("interruption", silent_ms=801.0), "interruption at 1.5 s: silent after 801 ms"),
        (row("noise", stopped=True), "noise at 1.5 s: stopped the agent"),
        (row("side", answered_ms=700.0), "side at 1.5 s: was answered as a turn"),
    ],
)
def test_what_went_wrong_in_words(one: dict[str, Any], words: str) -> None:
    assert cases.reason(one) == words
    assert wrong_rows({"rows": [one]}) == [one]


@pytest.mark.parametrize(
    "one",
    [
        row(answered_ms=300.0),
        row("interruption", silent_ms=300.0, stopped=True),
        row("interruption", left_ms=400.0),  # the reply ended by itself
        row("backchannel"),
    ],
)
def test_what_went_well_is_no_case(one: dict[str, Any]) -> None:
    assert wrong_rows({"rows": [one]}) == []


def test_a_timeline_holds_everybody_and_no_markup_of_theirs() -> None:
    drawn = cases.svg(conversation("x-0"))
    assert "a &lt;b&gt;" in drawn and "<b>" not in drawn
    assert drawn.count("<rect") == 2
    assert "Duck 1600 ms" in drawn and "Listen" not in drawn


def test_the_worst_cases_are_three_of_a_family_at_most(tmp_path: Path) -> None:
    many = [conversation(f"{family}-{n}", row()) for family in "xy" for n in range(5)]
    fine = conversation("z-0", row(answered_ms=200.0))
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls" / "x-0.wav").touch()
    found = cases.worst([*many, fine], tmp_path)
    assert [case.name for case in found] == ["x-0", "x-1", "x-2", "y-0", "y-1", "y-2"]
    assert [case.sound for case in found[:2]] == ["calls/x-0.wav", None]


def test_the_trade_off_of_a_run_and_its_picture() -> None:
    pauses = [
        {"begin_ms": 0.0, "end_ms": 500.0, "cut_in": False},
        {"begin_ms": 0.0, "end_ms": 1500.0, "cut_in": True},
    ]
    turns = [row(pauses=pauses, cut_in_ms=[-100.0]), row(answered_ms=250.0)]
    found = summary.trade_off([conversation("x-0", *turns)])
    by_delay = {round(p["delay_s"], 2): p["cut_ins"] for p in found["fixed"]}
    assert (by_delay[0.2], by_delay[0.6], by_delay[1.5]) == (1.0, 0.5, 0.0)
    assert found["fixed_delay_at_5_percent_s"] == pytest.approx(1.5)
    (point, desk) = found["points"]
    assert (point["label"], desk["label"]) == ("all", "desk")
    assert point["cut_ins"] == 0.5
    assert point["delay_s"] == pytest.approx(0.25)
    assert summary.trade_off([conversation("x-0", row())]) == {"fixed": [], "points": []}
    pytest.importorskip("matplotlib")
    drawn = pictures.trade_off([{"system": "one", "sweep": found}])
    assert drawn.startswith(b"\x89PNG")


def test_a_family_in_numbers() -> None:
    rows = [
        row("interruption", silent_ms=200.0, ducked_ms=40.0, stopped=True, answered_ms=300.0),
        row("interruption", ducked_ms=60.0),
        row("interruption", left_ms=100.0),
    ]
    (found,) = summary.families([conversation("x-0", *rows)])
    assert (found["n"], found["over"], found["stopped"]) == (3, 3, 1)
    assert (found["silent_p50"], found["silent_p95"]) == (200, "never")
    assert found["ducked_p95"] == 60, "the reply that ended by itself is left out"
    assert found["unanswered"] == 2


def test_a_changed_file_is_another_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "floor.py"
    file.write_text("a = 1")
    monkeypatch.setattr(fingerprint, "_files", lambda: iter([file]))
    first = fingerprint.fingerprint.__wrapped__()
    assert fingerprint.fingerprint.__wrapped__() == first
    file.write_text("a = 2")
    assert fingerprint.fingerprint.__wrapped__() != first


def test_the_fingerprint_is_of_the_floor_and_the_ears() -> None:
    names = {path.name for path in fingerprint._files()}
    assert {"floor.py", "engine.py", "ears.py", "overlap.py", "echo.py", "line.py"} <= names
    assert "overlap_net.npz" in names
    assert "goals.py" not in names, "another table is no reason to play everything again"
