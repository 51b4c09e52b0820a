"""Judges cuts: the words in the context, held against the words in the recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from parley.bench.figures import Figure, Goal
from parley.bench.hearing import HeardReply
from parley.bench.journals import spoken
from parley.bench.judged import Judged
from parley_speech.types import SPEAKER_HZ

WORDS_EXACT_MS = 3.0
"""How exactly a cut is found in a recording. A mismatch with a smaller margin is shown as such."""


# --- cuts -----------------------------------------------------------------------------------


def cut_figures(calls: Sequence[Judged], trip: float) -> list[Figure]:
    """Only cuts of which the recording tells how many words were heard are counted, and those that
    contradict it in any case."""
    rows = [row for call in calls for row in cut_rows(call)]
    told = [row for row in rows if row["sure"] or not row["same"]]
    wrong = [row for row in rows if not row["same"]]
    close = sum(row["margin_ms"] < WORDS_EXACT_MS for row in wrong)
    notes = []
    if len(told) < len(rows):
        notes.append(f"{len(rows) - len(told)} of {len(rows)} are not clear in the recording")
    if wrong:
        notes.append(f"{close} closer than {WORDS_EXACT_MS:g} ms to where a word counts")
    return [
        Figure(
            "cut_words",
            "cuts whose words in the context are not those heard",
            unit="cuts",
            samples=tuple(float(not row["same"]) for row in told),
            goals=(Goal("count", 0, "none"),),
            notes=tuple(notes),
            details={"rows": rows, "mismatches": wrong},
        ),
        Figure(
            "history_words",
            "… in LiveKit's history",
            unit="cuts",
            samples=tuple(
                float(not row["livekit_same"]) for row in told if row["livekit"] is not None
            ),
            goals=(Goal("count", 0, "none"),),
        ),
    ]


def cut_rows(judged: Judged) -> Iterable[dict[str, Any]]:
    """One row for each reply that was cut: the words of recording, context, LiveKit's history."""
    history = _history(judged)
    for heard, known in judged.replies:
        if known is None or known.heard is None or not known.cut:
            continue
        cut = heard.cut()
        least, words, most = (heard.words(at) for at in (cut.earliest, cut.best, cut.latest))
        possible = {text for text in _prefixes(heard) if len(least) <= len(text) <= len(most)}
        livekit = history.get(known.reply)
        yield {
            "heard": words,
            "context": known.heard,
            "livekit": livekit,
            # Any place of the cut that the recording allows will do; it is one, but for pauses.
            "same": known.heard in possible,
            "livekit_same": None if livekit is None else livekit in possible,
            "sure": least == most,
            "margin_ms": round(heard.margin_ms(cut.best), 1),
            "cut_ms": round(cut.best * 1000 / SPEAKER_HZ, 1),
            "range_ms": round((cut.latest - cut.earliest) * 1000 / SPEAKER_HZ, 1),
            "score": round(heard.score, 2),
        }


def _prefixes(heard: HeardReply) -> list[str]:
    """Every text that a cut can leave, none to all."""
    text = heard.rendering.text
    return ["", *(text[: mark.char_end].strip() for mark in heard.rendering.marks)]


def _history(judged: Judged) -> dict[int, str]:
    """LiveKit's words by reply: its messages, and the replies of which anything was heard, follow
    each other in the same order. The last may be missing on one side, as the caller leaves while
    it sounds; empty when more is missing."""
    messages = [m["text"] for m in judged.call.agent.get("history", ())]
    with_words = [s for s in spoken(judged.call.events) if s.heard]
    if abs(len(messages) - len(with_words)) > 1:
        return {}
    return {s.reply: text for s, text in zip(with_words, messages, strict=False)}
