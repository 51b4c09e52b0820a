"""Writes what an engine tells into ``events.jsonl``, one JSON object a line (see ``events``).

Off unless asked for: a journal holds what callers said.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from parley.dialogue import acts as a
from parley.dialogue import events as ev


class Journal:
    """One call's file. Times are seconds of wall-clock time since ``started_at``."""

    def __init__(
        self,
        path: Path,
        *,
        started_at: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._clock = clock
        self.started_at = clock() if started_at is None else started_at
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._write({"t": 0.0, "kind": "start", "wall": self.started_at})

    def note(self, event: ev.EngineEvent) -> None:
        """An engine event, now."""
        t = self._clock() - self.started_at
        for line in lines_of(event):
            self._write({"t": round(t, 4), **line})

    def _write(self, line: dict[str, Any]) -> None:
        if not self._file.closed:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


def lines_of(event: ev.EngineEvent) -> Iterator[dict[str, Any]]:
    """The journal's lines for one event; audio frames have none."""
    match event:
        case ev.FloorMoved(state=state, acts=acts):
            yield {"kind": "floor", "state": state.value}
            for act in acts:
                yield {"kind": "act", "name": type(act).__name__, **_of_act(act)}
        case ev.UserText(text=text):
            yield {"kind": "partial", "text": text}
        case ev.UserTurn(text=text):
            yield {"kind": "user_turn", "text": text}
        case ev.UserAside(text=text):
            yield {"kind": "aside", "text": text}
        case ev.OverlapDecided(kind=kind, p_interruption=p, p_noise=noise, since_onset_ms=ms):
            name = "interruption" if kind == "interruption" else _aside(noise)
            yield {
                "kind": "overlap",
                "class": name,
                "p": round(p, 3),
                "p_noise": round(noise, 3),
                "since_onset_ms": ms,
            }
        case ev.ReplyWords(reply=n, delta=delta):
            yield {"kind": "agent_word", "reply": n, "text": delta.strip()}
        case ev.ReplyCommitted(reply=n, cause=cause):
            yield {"kind": "reply", "reply": n, "cause": cause.value}
        case ev.ReplyEnded(reply=n, heard=heard, text=text, cut=cut):
            yield {"kind": "agent_turn", "reply": n, "text": text, "heard": heard, "cut": cut}
        case ev.Measured(name=name, ms=ms):
            yield {"kind": "latency", "name": name, "ms": ms}
        case ev.Failed(where=where, error=error):
            yield {"kind": "error", "where": where, "text": error}
        case ev.ToolCalled(call=call):
            yield {"kind": "tool", "name": call.name}
        case ev.HandedOver(to=to):
            yield {"kind": "hand_over", "to": to}
        case ev.HungUp():
            yield {"kind": "hang_up"}
        case _:
            return


def _of_act(act: a.Act) -> dict[str, Any]:
    match act:
        case a.Commit(reply=n, waited_ms=waited):
            return {"reply": n, "waited_ms": waited}
        case a.Speculate(reply=n) | a.Discard(reply=n) | a.Speak(reply=n) | a.Yield(reply=n):
            return {"reply": n}
        case _:
            return {}


def _aside(p_noise: float) -> str:
    return "noise" if p_noise >= 0.5 else "backchannel"
