"""The events of a conversation, as ``events.jsonl`` holds them, and the transcript they tell.

One JSON object a line, ``{"t": seconds since the call began, "kind": "...", ...}``:

=============  ======================================  ==========================================
kind           fields                                  meaning
=============  ======================================  ==========================================
start          wall                                    wall-clock time of t = 0 (optional)
floor          state                                   the floor is in this state from now on
act            name                                    what the floor decided (Duck, Yield, ...)
partial        text                                    the recogniser's hypothesis of the moment
user_turn      text, start (optional)                  the caller's turn ended
agent_word     text                                    a word of the agent begins to be heard
agent_turn     text, heard, cut, start (optional)      the agent's turn ended; ``heard`` of it was
                                                       heard, ``cut`` if it was stopped
overlap        overlap, p                              what a sound over the agent's voice was
latency        name, ms                                one measurement
error          anything                                something failed
=============  ======================================  ==========================================

Other kinds are kept and shown in the log. As an overlap's class cannot share the name "kind" with
the event's own in one object, it is called ``overlap`` (or ``class``).
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .levels import Span

log = logging.getLogger("parley.report")

TURN_REACH_S = 15.0  # a turn's sound is looked for this far before the event that ends it


class ReportError(ValueError):
    """The input of a report cannot be read; the message says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Event:
    t: float
    """Seconds since the call began."""
    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A field as text, empty when it is missing."""
        value = self.data.get(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> float | None:
        """A field as a finite number, None when it is missing or is none."""
        value = self.data.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Line:
    """One turn of the transcript."""

    who: Literal["caller", "agent"]
    start_s: float
    end_s: float
    text: str
    """What was said and heard."""
    unheard: str = ""
    """What the agent had wanted to say after that."""
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Latency:
    name: str
    count: int
    p50_ms: float
    p95_ms: float
    max_ms: float


def load_events(path: str | Path) -> list[Event]:
    """Reads ``events.jsonl``, sorted by time.

    Raises ReportError with the line's number for a line that is no event. A last line without its
    end (the process died while it wrote) is left out with a warning.
    """
    text = Path(path).read_text(encoding="utf-8")
    lines = text.splitlines()
    events = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            events.append(parse_event(json.loads(line)))
        except json.JSONDecodeError as error:
            if number == len(lines) and not text.endswith("\n"):
                log.warning("%s: line %d is not complete and was left out", path, number)
                continue
            raise ReportError(f"{path}, line {number}: not JSON ({error}): {line[:80]}") from error
        except ReportError as error:
            raise ReportError(f"{path}, line {number}: {error}") from error
    return sorted(events, key=lambda event: event.t)


def parse_event(raw: object) -> Event:
    """An event from its JSON object; ReportError when it is none."""
    if not isinstance(raw, dict):
        raise ReportError(f"an event is a JSON object, not {type(raw).__name__}")
    data = dict(raw)
    t, kind = data.pop("t", None), data.pop("kind", None)
    if isinstance(t, bool) or not isinstance(t, int | float) or not math.isfinite(t):
        raise ReportError(f'"t" must be seconds since the call began, not {t!r}')
    if not isinstance(kind, str) or not kind:
        raise ReportError(f'"kind" must be a name, not {kind!r}')
    return Event(float(t), kind, data)


def overlap_class(event: Event) -> str:
    """What an overlap was taken for."""
    return next(
        (event.text(name) for name in ("overlap", "class", "what") if event.text(name)), "?"
    )


def floor_states(events: Iterable[Event], end_s: float) -> list[tuple[Span, str]]:
    """The floor's states in order, each until the next one, the last until ``end_s``."""
    changes = [(event.t, event.text("state")) for event in events if event.kind == "floor"]
    spans = itertools.pairwise([*changes, (end_s, "")])
    return [(Span(t, end), state) for (t, state), (end, _) in spans if end > t]


def ducked_spans(events: Iterable[Event], end_s: float) -> list[Span]:
    """From each Duck to the Unduck or Yield that ends it."""
    spans: list[Span] = []
    began: float | None = None
    for event in events:
        name = event.text("name").lower() if event.kind == "act" else ""
        if name == "duck" and began is None:
            began = event.t
        elif name in ("unduck", "yield") and began is not None:
            spans.append(Span(began, event.t))
            began = None
    return spans if began is None else [*spans, Span(began, end_s)]


def transcript(
    events: Sequence[Event], caller: Sequence[Span] = (), agent: Sequence[Span] = ()
) -> list[Line]:
    """The turns in the order in which they began.

    An event tells when a turn ended. Where it does not tell its start, the agent's begins with its
    first word, and the caller's with the last sound (call time, pauses within a turn joined) that
    began before its end.
    """
    lines = [*_caller_lines(events, caller), *_agent_lines(events, agent)]
    return sorted(lines, key=lambda line: (line.start_s, line.end_s))


def latencies(events: Iterable[Event]) -> list[Latency]:
    """Each name's measurements, names in the order of first appearance."""
    values = defaultdict[str, list[float]](list)
    for event in events:
        ms = event.number("ms")
        if event.kind == "latency" and ms is not None:
            values[event.text("name") or "?"].append(ms)
    return [
        Latency(name, len(ms), float(np.percentile(ms, 50)), float(np.percentile(ms, 95)), max(ms))
        for name, ms in values.items()
    ]


def _caller_lines(events: Iterable[Event], heard: Sequence[Span]) -> Iterator[Line]:
    before = -math.inf
    for event in events:
        if event.kind == "user_turn":
            start = event.number("start")
            if start is None:
                start = _sound_start(heard, before, event.t)
            yield Line("caller", start, event.t, event.text("text"))
            before = event.t


def _agent_lines(events: Iterable[Event], heard: Sequence[Span]) -> Iterator[Line]:
    before, first_word = -math.inf, None
    for event in events:
        if event.kind == "agent_word" and first_word is None:
            first_word = event.t
        if event.kind != "agent_turn":
            continue
        start = event.number("start")
        if start is None:
            start = first_word
        if start is None:
            start = _sound_start(heard, before, event.t)
        said, text = event.data.get("heard"), event.text("text")
        heard_text = text if said is None else str(said)
        rest = text[len(heard_text) :] if text.startswith(heard_text) else ""
        cut = bool(event.data.get("cut"))
        yield Line("agent", start, event.t, heard_text, rest.strip() if cut else "", cut)
        before, first_word = event.t, None


def _sound_start(heard: Sequence[Span], after: float, until: float) -> float:
    """The start of the last sound before a turn's end, the end itself when there is none.

    The last and not the first since the turn before: noises and backchannels lie between turns.
    """
    earliest = max(after, until - TURN_REACH_S)
    inside = [s.start_s for s in heard if s.end_s > earliest and s.start_s < until]
    return inside[-1] if inside else until
