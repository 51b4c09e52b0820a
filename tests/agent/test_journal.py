from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from parley.dialogue import acts as a
from parley.dialogue import events as ev
from parley.dialogue.floor import State
from parley.minds.base import Cause, ToolCall
from parley.report.events import load_events, transcript
from parley.report.journal import Journal


def test_a_journal_is_what_the_report_reads(tmp_path: Path) -> None:
    now = [1000.0]
    journal = Journal(tmp_path / "calls" / "one.jsonl", clock=lambda: now[0])
    for event in (
        ev.FloorMoved(20, State.USER, (a.Listen(),)),
        ev.UserText(40, "where is"),
        ev.UserTurn(60, "where is my order"),
        ev.ReplyCommitted(60, 0, Cause.USER),
        ev.FloorMoved(80, State.THINK, (a.Commit(0, Cause.USER, "where is my order", 600),)),
        ev.ToolCalled(80, 0, ToolCall("1", "find", "{}")),
        ev.ReplyFrame(100, 0, np.zeros(480, np.int16)),
        ev.ReplyWords(120, 0, "It has"),
        ev.OverlapDecided(140, "interruption", 0.91234, 0.01, 240),
        ev.ReplyEnded(160, 0, "It has", "It has shipped.", True),
        ev.UserAside(180, "mhm"),
        ev.Measured(180, "duck", 60),
        ev.Failed(180, "mind", "it broke"),
        ev.HandedOver(180, "person"),
        ev.HungUp(180),
    ):
        now[0] += 0.25
        journal.note(event)
    journal.close()
    journal.note(ev.HungUp(200))  # after the end: nothing is written, nothing breaks
    events = load_events(journal.path)
    kinds = [e.kind for e in events]
    assert kinds[0] == "start" and "act" in kinds and "hang_up" in kinds
    assert not any("frame" in kind for kind in kinds)
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    commit = next(x for x in lines if x.get("name") == "Commit")
    assert commit["waited_ms"] == 600
    spoken = [line.text for line in transcript(events, [], [])]
    assert any("where is my order" in text for text in spoken)
