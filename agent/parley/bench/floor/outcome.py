"""What became of each of the user's sounds: the rows that every metric is made from.

Judged from samples: when the user's voice really began and ended, and when the agent was really
heard. Only two things are asked of the agent itself: which reply a frame belongs to, and whether
the user or the application caused it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from parley.bench.floor.follow import Followed, follow, heard_words, words_of
from parley.bench.floor.line import Placed
from parley.bench.floor.played import Played, PlayedReply
from parley.bench.instant import Rendering
from parley.report.levels import sounds
from parley_speech.types import MIC_HZ, SPEAKER_HZ

DUCKED_DB = -6.0
REACH_MS = 1500.0
"""A stop this long after a sound has ended is still taken for its effect."""
ANSWER_MS = 6000.0
"""A reply later than this answers something else."""
AUDIBLE_DBFS = -50.0


@dataclass(frozen=True)
class Heard:
    """A reply with what was heard of it. Times in ms of the conversation."""

    reply: PlayedReply
    begin_ms: float
    """Its first audible sample."""
    end_ms: float
    """Behind its last."""
    followed: Followed
    heard_error: int
    """Words by which the agent's account of what was heard is wrong."""


@dataclass
class Pause:
    """One pause inside a turn."""

    begin_ms: float
    end_ms: float
    cut_in: bool
    """The agent began to speak in it, or so late that the user was speaking again."""


@dataclass
class Row:
    """One sound of the user's side and what it led to."""

    scene: str
    family: str
    kind: str
    text: str
    onset_ms: float
    end_ms: float
    over_agent: bool
    into_ms: float | None = None
    """How long the agent had been speaking."""
    left_ms: float | None = None
    """How long it would have gone on."""
    ducked_ms: float | None = None
    """From the onset; None: never."""
    silent_ms: float | None = None
    stopped: bool = False
    """The reply that sounded at the onset ended before its time, because of this sound."""
    answered_ms: float | None = None
    """From the real end to the first audible sample of a reply to it; None: none came."""
    cut_in_ms: list[float] = field(default_factory=list)
    """Replies that began before the end: by how much, negative."""
    pauses: list[Pause] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def replies(played: Played) -> list[Heard]:
    """Every reply that had a sound, oldest first."""
    found = []
    for reply in played.replies:
        rendering = rendering_of(played, reply)
        pcm = reply.pcm
        spans = sounds(pcm, SPEAKER_HZ, threshold_dbfs=AUDIBLE_DBFS, join_ms=500)
        if not spans:
            continue
        followed = follow(rendering.pcm, pcm)
        error = 0
        if reply.heard is not None:
            said = words_of(reply.heard)
            low, high = heard_words(rendering, followed, len(pcm))
            error = max(0, low - said, said - high)
        begin = float(reply.at_ms + spans[0].start_s * 1000)
        end = float(reply.at_ms + min(spans[-1].end_s * 1000, followed.last_heard_ms))
        found.append(Heard(reply, begin, end, followed, error))
    return found


def rendering_of(played: Played, reply: PlayedReply) -> Rendering:
    """Of a reply whose text is not known, as the conversation ended before it: by its sound."""
    if reply.text in played.renderings:
        return played.renderings[reply.text]
    pcm = reply.pcm[:SPEAKER_HZ].astype(np.float64)
    return max(
        played.renderings.values(),
        key=lambda r: float(r.pcm[: len(pcm)].astype(np.float64) @ pcm[: len(r.pcm)]),
    )


def whole_ms(played: Played, reply: PlayedReply) -> float:
    """How long the reply is when nobody stops it."""
    return len(rendering_of(played, reply).pcm) * 1000 / SPEAKER_HZ


def rows(played: Played, heard: list[Heard]) -> list[Row]:
    """One for each sound, and one for each reply in a conversation without sounds."""
    placed = played.placed
    nexts = [*(p.onset for p in placed[1:]), len(played.mic)] if placed else []
    made = [
        _row(played, heard, one, after * 1000 / MIC_HZ)
        for one, after in zip(placed, nexts, strict=True)
    ]
    return made or _quiet_rows(played, heard)


def _row(played: Played, heard: list[Heard], placed: Placed, after_ms: float) -> Row:
    onset, end = placed.onset * 1000 / MIC_HZ, placed.end * 1000 / MIC_HZ
    scene = played.scene
    row = Row(
        scene.name,
        scene.family,
        placed.cue.kind,
        placed.text,
        round(onset, 1),
        round(end, 1),
        False,
    )
    under = next((h for h in heard if h.begin_ms <= onset < h.end_ms), None)
    if under is not None:
        _overlap(row, under, after_ms)
        row.left_ms = round(under.reply.at_ms + whole_ms(played, under.reply) - onset, 1)
    own = [h for h in heard if h.reply.cause == "user" and onset < h.begin_ms < after_ms]
    row.cut_in_ms = [round(h.begin_ms - end, 1) for h in own if h.begin_ms < end]
    answers = [h.begin_ms - end for h in own if h.begin_ms >= end]
    if answers and answers[0] <= ANSWER_MS:
        row.answered_ms = round(answers[0], 1)
    row.pauses = _pauses(placed, own)
    return row


def _overlap(row: Row, under: Heard, after_ms: float) -> None:
    at = under.reply.at_ms
    row.over_agent = True
    row.into_ms = round(row.onset_ms - under.begin_ms, 1)
    lowered = under.followed.lowered_ms(row.onset_ms - at, DUCKED_DB)
    until = min(after_ms, row.end_ms + REACH_MS)
    if lowered is not None and at + lowered < until:
        row.ducked_ms = round(at + lowered - row.onset_ms, 1)
    row.stopped = bool(under.reply.cut and row.onset_ms <= under.end_ms < until)
    if row.stopped:
        row.silent_ms = round(under.end_ms - row.onset_ms, 1)
        row.ducked_ms = row.silent_ms if row.ducked_ms is None else row.ducked_ms


def _pauses(placed: Placed, own: list[Heard]) -> list[Pause]:
    """A reply counts for the last pause that had begun before it."""
    spans = [
        (a.last * 1000 / MIC_HZ, b.first * 1000 / MIC_HZ, b.last * 1000 / MIC_HZ)
        for a, b in zip(placed.voiced, placed.voiced[1:], strict=False)
    ]
    return [
        Pause(
            round(begin, 1),
            round(end, 1),
            bool(any(begin < h.begin_ms < until for h in own)),
        )
        for begin, end, until in spans
    ]


def _quiet_rows(played: Played, heard: list[Heard]) -> list[Row]:
    """Nobody said anything: each reply is one chance to stop for no reason."""
    scene = played.scene
    kind = "echo" if scene.echo is not None else "nothing"
    made = []
    for h in heard:
        row = Row(scene.name, scene.family, kind, "", h.begin_ms, h.end_ms, True, into_ms=0.0)
        row.stopped = h.reply.cut
        lowered = h.followed.lowered_ms(0.0, DUCKED_DB)
        row.ducked_ms = None if lowered is None else round(lowered, 1)
        if h.reply.cause == "user":
            row.answered_ms = 0.0
        made.append(row)
    return made


# --- a conversation as JSON ---------------------------------------------------------------------


def judged(played: Played, heard: list[Heard] | None = None) -> dict[str, Any]:
    """All that the metrics and the report need of a conversation. ``heard``: its replies, where
    they were not heard on the line itself but somewhere else."""
    heard = replies(played) if heard is None else heard
    moves = [m.act for m in played.moves]
    return {
        "scene": played.scene.as_json(),
        "seconds": round(played.seconds, 2),
        "cpu_s": round(played.cpu_s, 3),
        "floor_s": round(played.floor_s, 5),
        "rows": [row.as_json() for row in rows(played, heard)],
        "user": [
            {
                "kind": p.cue.kind,
                "text": p.text,
                "voiced_ms": [
                    [round(v.first * 1000 / MIC_HZ, 1), round(v.last * 1000 / MIC_HZ, 1)]
                    for v in p.voiced
                ],
            }
            for p in played.placed
        ],
        "agent": [
            {
                "reply": h.reply.number,
                "cause": h.reply.cause,
                "begin_ms": round(h.begin_ms, 1),
                "end_ms": round(h.end_ms, 1),
                "whole_ms": round(h.reply.at_ms + whole_ms(played, h.reply), 1),
                "cut": h.reply.cut,
                "heard": h.reply.heard,
                "heard_error": h.heard_error,
                "slips": list(h.followed.slips),
            }
            for h in heard
        ],
        "moves": [[m.t_ms, m.act, m.reply] for m in played.moves],
        "words": [list(w) for w in played.words],
        "speculated": moves.count("Speculate"),
        "committed": moves.count("Commit"),
        "discarded": moves.count("Discard"),
    }
