"""Two runs of the bench beside each other: what became better, worse, or was the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

STATISTICS = {"ms": ("p50", "p95"), "%": ("mean",)}
SAME = {"ms": 1.0, "%": 0.05}
"""Differences below this are none."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One number of two runs; lower is better. None: it never happened, or was not measured."""

    what: str
    unit: str
    n: tuple[int, int]
    before: float | None
    after: float | None

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, ``same``, or nothing where one run has no sample."""
        if not all(self.n):
            return ""
        before, after = (float("inf") if v is None else v for v in (self.before, self.after))
        if before == after or abs(after - before) < SAME.get(self.unit, 1e-9):
            return "same"
        return "better" if after < before else "worse"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Of every figure that both have. Raises ValueError for runs of different splits."""
    if before["split"] != after["split"]:
        raise ValueError(
            f"one run is of the split {before['split']}, the other of {after['split']}: "
            "they hold different conversations"
        )
    theirs = {f["name"]: f for f in after["figures"]}
    return [
        Difference(
            figure["what"] + (f", {statistic.upper()}" if statistic.startswith("p") else ""),
            figure["unit"],
            (figure["n"], theirs[figure["name"]]["n"]),
            figure[statistic],
            theirs[figure["name"]][statistic],
        )
        for figure in before["figures"]
        if figure["name"] in theirs
        for statistic in STATISTICS.get(figure["unit"], ("count",))
    ]


def changed(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[tuple[str, int, int]]:
    """Conversations that went otherwise: (name, things wrong before, things wrong after)."""
    from parley.bench.floor.run import wrong_rows

    first = {c["scene"]["name"]: len(wrong_rows(c)) for c in before}
    found = [
        (c["scene"]["name"], first[c["scene"]["name"]], len(wrong_rows(c)))
        for c in after
        if c["scene"]["name"] in first
    ]
    return [one for one in found if one[1] != one[2]]


def read(folder: Path) -> dict[str, Any]:
    """A run's ``floor.json``. Raises FileNotFoundError."""
    path = folder / "floor.json" if folder.is_dir() else folder
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: `parley bench floor --out ...` writes it")
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def conversations(folder: Path) -> list[dict[str, Any]]:
    """Of the code that the run's report is about; none where they were not kept."""
    about = read(folder)
    path = folder / "results.jsonl"
    if not path.is_file():
        return []
    kept = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [c for c in kept if c["key"] in set(about["keys"])]


def table(before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    """For the console."""
    from rich.table import Table

    title = f"{_name(before)}  →  {_name(after)}"
    made = Table(title=title, title_justify="left")
    for heading in ("what", "n", "before", "after", ""):
        made.add_column(heading, justify="left" if heading in ("what", "") else "right")
    colour = {"better": "[green]better[/]", "worse": "[bold red]worse[/]"}
    for d in differences(before, after):
        n = str(d.n[0]) if d.n[0] == d.n[1] else f"{d.n[0]} / {d.n[1]}"
        values = (
            _number(v, d.unit, measured)
            for v, measured in zip((d.before, d.after), d.n, strict=True)
        )
        made.add_row(d.what, n, *values, colour.get(d.verdict, d.verdict))
    return made


def _name(run: Mapping[str, Any]) -> str:
    return f"{run['system']} {run['code']} ({run['conversations']} of {run['split']})"


def _number(value: float | None, unit: str, measured: int) -> str:
    if not measured:
        return "–"
    if value is None:
        return "never"
    return f"{value:.1f} %" if unit == "%" else f"{value:.0f}"
