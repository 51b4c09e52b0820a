"""Judges what is to change nothing: backchannels, noises, the agent's own echo.

A reply that breaks off in the recording was stopped if the agent's journal says so, too. The
journal is written by what does the stopping, so it cannot hide a stop; where it holds none the line
stood still, and the sound that is missing is counted by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from parley.bench.figures import Figure, Goal
from parley.bench.journals import Spoken, spoken
from parley.bench.judged import Judged, ends, stages, void

STOP_REACH_S = 1.5
"""A stop this long after a sound has ended is still taken for its effect."""


# --- sounds that are to change nothing ------------------------------------------------------


def sound_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    rows = [row for call in calls for row in sound_rows(call)]
    both = [(what, [r for r in rows if r["what"] == what]) for what in ("backchannel", "noise")]
    return [
        Figure(
            "sound_stops",
            "backchannels and noises that stopped the agent",
            unit="stops",
            samples=tuple(float(row["stopped"]) for row in rows),
            goals=(Goal("count", 0, "none"),),
            details={"rows": rows},
            notes=(
                *(f"{what}: {_stops(some)}" for what, some in both if some),
                *_torn(rows),
                *void(calls, len(rows), lambda t: t.what != "speech"),
            ),
        ),
        Figure(
            "sound_ducked",
            "… for how long they lowered its voice",
            samples=tuple(row["ducked_ms"] for row in rows),
            notes=(f"{sum(row['ducked_ms'] > 30 for row in rows)} of {len(rows)} did",),
        ),
    ]


def _stops(rows: Sequence[dict[str, Any]]) -> str:
    return f"{sum(row['stopped'] for row in rows)} of {len(rows)}"


def _torn(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    count = sum(row["torn"] for row in rows)
    return (f"{count} more broke off where the line stood still, not the agent",) if count else ()


def _verdict(broke_off: bool, known: Spoken | None) -> dict[str, bool]:
    by_agent = broke_off and (known is None or known.cut)
    return {"stopped": by_agent, "torn": broke_off and not by_agent}


def sound_rows(judged: Judged) -> Iterable[dict[str, Any]]:
    for trial, after in zip(judged.call.trials, ends(judged.call.trials), strict=True):
        found = judged.during(trial.onset) if trial.what != "speech" else None
        if found is None:
            continue
        heard, known = found
        end = min(after, trial.end + STOP_REACH_S)
        yield {
            "clip": trial.clip,
            "what": trial.what,
            "gain_db": trial.gain_db,
            **_verdict(bool(heard.stopped(trial.onset) and heard.span.end_s < end), known),
            "ducked_ms": heard.ducked_ms(trial.onset, end),
            **stages(known, trial.onset, end),
        }


# --- echo -----------------------------------------------------------------------------------


def echo_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    rows = [row for call in calls for row in echo_rows(call)]
    unsure = sum(call.unsure for call in calls)
    delays = sorted({row["echo_ms"] for row in rows})
    by_delay = [(d, [r for r in rows if r["echo_ms"] == d]) for d in delays]
    answered = sum(s.cause == "user" for call in calls for s in spoken(call.call.events))
    ducked = sum(row["ducked_ms"] > 30 for row in rows)
    return [
        Figure(
            "echo_stops",
            "replies stopped by their own echo",
            unit="stops",
            samples=tuple(float(row["stopped"]) for row in rows),
            goals=(Goal("count", 0, "none"),),
            details={"rows": rows},
            notes=(
                *(f"{delay} ms: {_stops(some)}" for delay, some in by_delay),
                f"ducked by it: {ducked} of {len(rows)}",
                *_torn(rows),
                *([f"{unsure} sounds could not be recognised as replies"] if unsure else []),
            ),
        ),
        Figure(
            "echo_turns",
            "echoes that were answered as if the user had spoken",
            unit="turns",
            samples=(float(answered),),
            goals=(Goal("count", 0, "none"),),
        ),
    ]


def echo_rows(judged: Judged) -> Iterable[dict[str, Any]]:
    for number, (heard, known) in enumerate(judged.replies):
        yield {
            "echo_ms": judged.call.echo_ms,
            "reply": number,
            **_verdict(heard.stopped(heard.start), known),
            "ducked_ms": heard.ducked_ms(heard.start, heard.span.end_s),
            **stages(known, heard.start - 0.5, heard.span.end_s + 0.5),
        }
