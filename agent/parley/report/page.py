"""Writes a conversation's report: ``timeline.png`` and one self-contained ``report.html``.

The page holds everything it shows (pictures and sound as data), asks nobody for anything, and
escapes every text that came from the conversation: what a caller says is data, not markup.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import soundfile

from .events import Event, latencies, load_events, transcript
from .levels import Span, sounds
from .recording import Recording
from .template import template
from .theme import DARK, LIGHT
from .timeline import Row, Scene, draw

EMBED_BYTES = 16_000_000  # about five minutes of speech as FLAC; longer calls are linked
JOIN_TURN_MS = 700  # pauses within one turn


def write_report(
    folder: str | Path,
    recording: Recording | str | Path,
    events: Sequence[Event] | str | Path,
    *,
    title: str = "Conversation",
) -> Path:
    """Writes ``timeline.png`` and ``report.html`` into ``folder``; gives the page's path.

    ``recording``: caller left, agent right; a file that lies elsewhere is embedded or, when long,
    copied beside the page. ``events``: the path of ``events.jsonl`` or its events. Call time 0 is
    the ``wall`` of a ``start`` event, else the recording's first sample. Raises ReportError (events
    or recording cannot be read) and DrawingUnavailable (the ``report`` extra is missing).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    frame = template(Path(__file__).parent, "The report's page", stamp=stamp)
    if not isinstance(recording, Recording):
        recording = Recording.load(recording)
    if isinstance(events, str | Path):
        events = load_events(events)
    scene = make_scene(recording, events, title)
    picture = folder / "timeline.png"
    rows = draw(scene, picture, LIGHT)
    dark = io.BytesIO()
    draw(scene, dark, DARK)
    page = frame.render(
        title=title,
        when=_when(recording.started_at),
        duration=stamp(recording.duration_s),
        audio=_audio(recording, folder),
        light=_data("image/png", picture.read_bytes()),
        dark=_data("image/png", dark.getvalue()),
        rows=[_row(row, scene.offset_s) for row in rows],
        offset=scene.offset_s,
        lines=scene.lines,
        latencies=latencies(events),
        errors=[event for event in events if event.kind == "error"],
        log=[(event, _fields(event)) for event in events if event.kind != "agent_word"],
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def make_scene(recording: Recording, events: Sequence[Event], title: str) -> Scene:
    """Recording and events on call time, with the transcript they tell."""
    wall = next((e.number("wall") for e in events if e.kind == "start"), None)
    offset_s = recording.started_at - wall if wall is not None and recording.started_at else 0.0
    heard = [
        [
            Span(s.start_s + offset_s, s.end_s + offset_s)
            for s in sounds(side, recording.rate_hz, threshold_dbfs=-45, join_ms=JOIN_TURN_MS)
        ]
        for side in (recording.caller, recording.agent)
    ]
    return Scene(
        title, recording.caller, recording.agent, recording.rate_hz, offset_s,
        list(events), transcript(events, *heard),
    )  # fmt: skip


def _audio(recording: Recording, folder: Path) -> str:
    """The recording as a data address; as a link to a file beside the page when it is long."""
    flac = io.BytesIO()
    soundfile.write(flac, recording.pcm, recording.rate_hz, format="FLAC", subtype="PCM_16")
    if flac.getbuffer().nbytes <= EMBED_BYTES:
        return _data("audio/flac", flac.getvalue())
    (folder / "recording.flac").write_bytes(flac.getvalue())
    return "recording.flac"


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _row(row: Row, offset_s: float) -> dict[str, float]:
    """A row on the recording's time, for the page's playhead."""
    return {**asdict(row), "start_s": row.start_s - offset_s, "end_s": row.end_s - offset_s}


def _fields(event: Event) -> str:
    return ", ".join(f"{name}: {_value(value)}" for name, value in event.data.items())


def _value(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else ""


def stamp(t: float) -> str:
    """m:ss.t"""
    tenths = round(abs(t) * 10)
    return f"{'-' if t < 0 and tenths else ''}{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
