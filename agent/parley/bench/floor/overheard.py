"""A conversation of the floor's bench as its caller heard it, at the far end of a room.

What the agent played is not known here, only what came out of the network: replies are found in
the recording and laid over their renderings (`parley.bench.hearing`), and the agent's journal says
what each was for. The rows are made as for every other system (`outcome`). Words of the context
and samples lost at a resume are not asked about: a codec and a jitter buffer lose samples of their
own (``parley bench room`` judges the words).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parley.bench.floor.follow import HOP_MS, Followed
from parley.bench.floor.line import Line
from parley.bench.floor.outcome import Heard
from parley.bench.floor.played import Moved, Played, PlayedReply
from parley.bench.floor.scene import Scene
from parley.bench.floor.texts import TEXTS
from parley.bench.hearing import JOIN_MS, SOUND_DBFS, HeardReply, hear
from parley.bench.instant import Rendering
from parley.bench.journals import Spoken, matched, spoken
from parley.report.levels import Span, sounds
from parley.report.recording import Recording
from parley_speech.types import MIC_HZ, SPEAKER_HZ, Pcm

KNOWN = 0.3
"""A sound that is less like every reply than this, and that the journal does not know, is none."""
TAIL_MS = 300


def overheard(
    scene: Scene,
    line: Line,
    recording: Recording,
    began: float,
    events: Sequence[dict[str, Any]],
    renderings: Mapping[str, Rendering],
) -> tuple[Played, list[Heard]]:
    """``began``: wall-clock time of the line's first sample. ``events``: the journal's, with wall-
    clock times."""
    candidates = [renderings[TEXTS[name]] for name in sorted({"short", scene.reply})]
    found = [_likest(recording, span, candidates) for span in _spans(recording)]
    heard = [
        _heard(reply, known, began, number)
        for number, (reply, known) in enumerate(matched(found, spoken(events)))
        if known is not None or reply.score >= KNOWN
    ]
    played = Played(
        scene=scene,
        placed=line.placed,
        replies=[one.reply for one in heard],
        moves=[
            Moved(round((e["t"] - began) * 1000), e["name"], e.get("reply", -1))
            for e in events
            if e["kind"] == "act"
        ],
        words=[],
        renderings=dict(renderings),
        mic=np.concatenate(line.mic),
        agent=_from(recording, began, line.now * SPEAKER_HZ // MIC_HZ),
        seconds=line.now / MIC_HZ,
        floor_s=0.0,
        cpu_s=0.0,
    )
    return played, heard


def _spans(recording: Recording) -> list[Span]:
    at = recording.started_at
    found = sounds(
        recording.agent,
        recording.rate_hz,
        threshold_dbfs=SOUND_DBFS,
        join_ms=JOIN_MS,
        least_ms=20,
    )
    return [Span(at + one.start_s, at + one.end_s) for one in found]


def _likest(recording: Recording, span: Span, candidates: Sequence[Rendering]) -> HeardReply:
    return max((hear(recording, span, one) for one in candidates), key=lambda reply: reply.score)


def _heard(reply: HeardReply, known: Spoken | None, began: float, number: int) -> Heard:
    """In ms of the line; a reply that the journal does not know was caused by nobody we know."""
    at_ms = (reply.start - began) * 1000
    played = PlayedReply(
        number if known is None else known.reply,
        round(at_ms),
        "" if known is None else known.cause,
        reply.rendering.text,
        cut=not reply.whole and not reply.left,
    )
    end = min(reply.span.end_s, reply.silent_at())
    begin_ms, end_ms = (reply.span.start_s - began) * 1000, (end - began) * 1000
    return Heard(played, begin_ms, max(begin_ms, end_ms), _followed(reply, end), 0)


def _followed(reply: HeardReply, end: float) -> Followed:
    """Its gain in the hops of a reply that was played without a network."""
    times, gains = reply.times, reply.alignment.gain_db
    length_ms = max(0.0, (end - reply.start) * 1000) + TAIL_MS
    at = reply.start + (np.arange(int(length_ms // HOP_MS)) + 0.5) * HOP_MS / 1000
    nearest = np.clip(np.searchsorted(times, at), 0, len(times) - 1)
    return Followed(10 ** (gains[nearest] / 20), ())


def _from(recording: Recording, began: float, samples: int) -> Pcm:
    """What the agent was heard to say, in step with the line."""
    out = np.zeros(samples, np.int16)
    first = recording.sample_at(began)
    part = recording.agent[max(0, first) : max(0, first + samples)]
    begin = max(0, -first)
    part = part[: samples - begin]
    out[begin : begin + len(part)] = part
    return out
