"""The worst conversations, drawn to be read and linked to be listened to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from parley.bench.floor.run import wrong_rows
from parley.report.theme import LIGHT

WIDTH = 960
LEFT = 64
MOST = 40
MARKS = {"Duck": "▼", "Unduck": "▲", "Yield": "■", "Commit": "●", "Backchannel": "~"}
COLOURS = {
    "turn": LIGHT.caller, "interruption": LIGHT.caller, "backchannel": "#3f9d6b",
    "noise": "#8a8f98", "side": "#9a6fc0",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation that went wrong."""

    name: str
    why: str
    svg: str
    sound: str | None
    """Its WAV file, relative to the page."""


def worst(conversations: Sequence[Mapping[str, Any]], folder: Path) -> list[Case]:
    """The worst first, no more than three of a family, so that each family's is seen."""
    ranked = sorted(
        ((c, wrong_rows(c)) for c in conversations if wrong_rows(c)),
        key=lambda pair: -len(pair[1]),
    )
    taken: dict[str, int] = {}
    cases: list[Case] = []
    for conversation, rows in ranked:
        family = conversation["scene"]["family"]
        taken[family] = taken.get(family, 0) + 1
        if taken[family] <= 3 and len(cases) < MOST:
            name = conversation["scene"]["name"]
            wav = Path("calls") / f"{name}.wav"
            sound = wav.as_posix() if (folder / wav).is_file() else None
            why = "; ".join(reason(row) for row in rows[:4])
            cases.append(Case(name, why, svg(conversation), sound))
    return sorted(cases, key=lambda case: case.name)


def reason(row: Mapping[str, Any]) -> str:
    """What went wrong with a sound, in words."""
    what = f"{row['kind']} at {row['onset_ms'] / 1000:.1f} s"
    if row["cut_in_ms"]:
        return f"{what}: the agent cut in {-row['cut_in_ms'][0]:.0f} ms before its end"
    if row["kind"] == "turn":
        late = row["answered_ms"]
        return f"{what}: " + ("no answer" if late is None else f"answered after {late:.0f} ms")
    if row["kind"] == "interruption":
        late = row["silent_ms"]
        return f"{what}: " + ("not heeded" if late is None else f"silent after {late:.0f} ms")
    return f"{what}: " + ("stopped the agent" if row["stopped"] else "was answered as a turn")


def svg(conversation: Mapping[str, Any]) -> str:
    """User above, agent below, the floor's acts between; a tick a second."""
    seconds = max(1.0, conversation["seconds"])
    scale = (WIDTH - LEFT - 8) / seconds
    parts = [
        f'<svg viewBox="0 0 {WIDTH} 108" role="img" aria-label="timeline">',
        *(_text(4, y, name) for y, name in ((30, "user"), (56, "floor"), (84, "agent"))),
    ]
    for second in range(int(seconds) + 1):
        x = LEFT + second * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="92" stroke="{LIGHT.grid}"/>')
        if second % 2 == 0:
            parts.append(_text(x - 3, 106, str(second), LIGHT.faint))
    for sound in conversation["user"]:
        colour = COLOURS.get(sound["kind"], LIGHT.ink)
        spans = sound["voiced_ms"]
        parts += [
            _bar(a, b, 18, colour, scale, f"{sound['kind']}: {sound['text']}") for a, b in spans
        ]
        x = LEFT + spans[0][0] / 1000 * scale
        parts.append(_text(x, 13, sound["text"][:34], LIGHT.faint))
    for reply in conversation["agent"]:
        about = f"reply {reply['reply']} ({reply['cause']}): {(reply['heard'] or '…')[:80]}"
        parts.append(_bar(reply["begin_ms"], reply["end_ms"], 72, LIGHT.agent, scale, about))
    for t_ms, act, _ in conversation["moves"]:
        if act in MARKS:
            x = LEFT + t_ms / 1000 * scale
            parts.append(f"<g><title>{act} {t_ms} ms</title>{_text(x - 4, 57, MARKS[act])}</g>")
    return "".join([*parts, "</svg>"])


def _bar(begin_ms: float, end_ms: float, y: int, colour: str, scale: float, title: str) -> str:
    x, width = LEFT + begin_ms / 1000 * scale, max(1.0, (end_ms - begin_ms) / 1000 * scale)
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="16" rx="2" fill="{colour}">'
        f"<title>{escape(title)}: {begin_ms:.0f} to {end_ms:.0f} ms</title></rect>"
    )


def _text(x: float, y: float, text: str, colour: str = LIGHT.ink) -> str:
    return f'<text x="{x:.1f}" y="{y}" font-size="10" fill="{colour}">{escape(text)}</text>'
