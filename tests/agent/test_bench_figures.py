"""Figures, verdicts, and what people and programs see of them."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from parley.bench.figures import Figure, Goal, percentile
from parley.bench.report import Run, cells, goal_text, machine, table, write


def test_percentiles_are_samples_by_nearest_rank() -> None:
    samples = [float(x) for x in range(1, 21)]
    assert percentile(samples, 50) == 10
    assert percentile(samples, 95) == 19
    assert percentile(samples, 100) == 20
    assert percentile([7.0], 95) == 7


def test_what_never_happened_is_worse_than_anything() -> None:
    assert percentile([1.0, None], 50) == 1
    assert percentile([1.0, None], 95) is None


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50)


@given(st.lists(st.none() | st.floats(0, 1e6), min_size=1, max_size=60), st.floats(0, 1e6))
def test_reached_means_that_enough_samples_are_within_the_goal(
    samples: list[float | None], most: float
) -> None:
    figure = Figure("x", "x", samples=tuple(samples), goals=(Goal("p95", most),))
    within = sum(s is not None and s <= most for s in samples)
    assert figure.reached(figure.goals[0]) == (within >= 0.95 * len(samples) - 1e-9)


@pytest.mark.parametrize(
    ("samples", "verdict"), [((), "none"), ((0.0, 0.0), "OK"), ((0.0, 1.0), "MISS")]
)
def test_a_goal_of_none_counts_every_one(samples: tuple[float, ...], verdict: str) -> None:
    figure = Figure("stops", "stops", "stops", samples, (Goal("count", 0),))
    assert figure.verdict == verdict


def test_without_a_goal_there_is_no_verdict() -> None:
    assert Figure("x", "x", samples=(1.0,)).verdict == "none"


def test_cells_say_never_and_nothing_apart() -> None:
    assert cells(Figure("x", "x", samples=(5.0, None))) == ["2", "5", "never", "never"]
    assert cells(Figure("x", "x")) == ["0", "–", "–", "–"]
    assert cells(Figure("stops", "x", "stops", (1.0, 0.0, 1.0)))[:2] == ["3", "2 in all"]
    assert cells(Figure("late_ticks", "x", "% of ticks", (0.05,)))[1] == "0.05"


def test_goals_name_how_they_came_about() -> None:
    assert goal_text(Goal("p95", 180.4, "T + 100"), "ms") == "P95 ≤ 180 (T + 100)"
    assert goal_text(Goal("count", 0), "stops") == "none"


@pytest.fixture
def run() -> Run:
    return Run(
        [
            Figure("trip", "T: the room's own round trip, clicks", samples=(80.0, 90.0, 100.0)),
            Figure(
                "silent",
                "onset of an <interruption> → agent silent",
                samples=(250.0, None, 310.0),
                goals=(Goal("p50", 340, "T + 250"), Goal("p95", 490, "T + 400")),
                details={"rows": [{"clip": "a<b", "silent_ms": 250.0}, {"clip": "c", "p": 0.5}]},
            ),
        ],
        seed=7,
        seconds=12.0,
        failures=("a call: <lost>",),
    )


def test_the_table_tells_goal_and_verdict(run: Run) -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table(run))
    text = console.export_text()
    assert "MISS" in text and "P95 ≤ 490 (T + 400)" in text and "T = 90 ms" in text
    assert [figure.name for figure in run.missed] == ["silent"]


def test_files_hold_every_sample_and_escape_what_they_show(run: Run, tmp_path: Path) -> None:
    data, picture, page = write(tmp_path, run)
    told = json.loads(data.read_text())
    assert told["trip_ms"] == 90 and told["seed"] == 7 and told["failures"] == ["a call: <lost>"]
    assert told["figures"][1]["samples"] == [250.0, None, 310.0]
    assert told["figures"][1]["goals"][1] == {
        "statistic": "p95",
        "most": 490,
        "why": "T + 400",
        "reached": False,
    }
    assert told["machine"]["versions"]["numpy"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    html = page.read_text()
    assert "a&lt;b" in html and "&lt;lost&gt;" in html and "<interruption>" not in html
    assert "data:image/png;base64," in html
    assert "http" not in html.split("</style>")[1]


def test_a_busy_machine_is_said_to_have_disturbed_the_figures(run: Run, tmp_path: Path) -> None:
    assert run.disturbed == ""
    late = Figure("caller_late", "latest frame", samples=(200.0, 150.0, 3.0))
    busy = Run([*run.figures, late], seed=1, seconds=1.0)
    assert "150 ms" in busy.disturbed
    _, _, page = write(tmp_path, busy)
    assert "repeat them when it is quiet" in page.read_text()


def test_what_the_host_took_stands_beside_the_figures(run: Run, tmp_path: Path) -> None:
    about = {**machine(), "host": "the host took 12.5% of the processors' time"}
    robbed = dataclasses.replace(run, about=about)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table(robbed))
    _, _, page = write(tmp_path, robbed)
    assert all("took 12.5%" in shown for shown in (console.export_text(), page.read_text()))
