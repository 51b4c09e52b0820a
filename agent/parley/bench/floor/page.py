"""``floor.json`` and ``report.html`` of one run, or of several systems beside each other."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parley.bench.figures import Figure, Goal
from parley.bench.floor import cases, pictures
from parley.bench.floor.table import cells, goal
from parley.report.template import template

FDB = {
    "pause_tor": "pauses: TOR ↓",
    "turn_tor": "turns: TOR ↑",
    "turn_latency_s": "turns: latency, s ↓",
    "interruption_tor": "interruptions: TOR ↑",
    "interruption_latency_s": "interruptions: latency, s ↓",
    "backchannel_tor": "long turns: TOR ↓",
    "backchannel_hz": "long turns: backchannels a second ↑",
    "backchannel_distance": "long turns: distance to the speaker's pauses ↓",
}


def write(
    folder: Path, run: Mapping[str, Any], conversations: Sequence[Mapping[str, Any]]
) -> list[Path]:
    """Raises DrawingUnavailable without matplotlib or jinja2, when ``floor.json`` is written."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "floor.json"
    data.write_text(json.dumps(run, ensure_ascii=False, indent=1), encoding="utf-8")
    page = folder / "report.html"
    page.write_text(html(run, conversations, folder), encoding="utf-8")
    return [data, page]


def html(run: Mapping[str, Any], conversations: Sequence[Mapping[str, Any]], folder: Path) -> str:
    page = template(Path(__file__).parent, "The bench's page")
    return page.render(
        run=run,
        goals=[_row(figure) for figure in run["figures"]],
        fdb=[(name, _short(run["fdb"][key])) for key, name in FDB.items()],
        tau=[(name, _short(value)) for name, value in run["tau"].items()],
        distributions=_image(pictures.distributions([run])),
        trade_off=_image(pictures.trade_off([run])) if run["sweep"]["fixed"] else None,
        cases=cases.worst(conversations, folder),
        short=_short,
    )


def _row(figure: Mapping[str, Any]) -> dict[str, Any]:
    """A row of goals, from its JSON."""
    goals = tuple(Goal(g["statistic"], g["most"], g["why"]) for g in figure["goals"])
    again = Figure(figure["name"], figure["what"], figure["unit"], tuple(figure["samples"]), goals)
    return {
        "what": again.what,
        "cells": cells(again),
        "goals": ", ".join(goal(g, again.unit) for g in goals),
        "verdict": again.verdict,
    }


def _short(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _image(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
