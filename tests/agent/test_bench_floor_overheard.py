"""A conversation as it comes out of a room: replies are found, aligned with theirs, judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from parley.bench.floor.line import Line, Placed
from parley.bench.floor.outcome import judged
from parley.bench.floor.overheard import overheard
from parley.bench.floor.scene import Cue, Scene, Speaker
from parley.bench.floor.texts import TEXTS
from parley.bench.floor.utterances import Voiced
from parley.bench.instant import Rendering
from parley.report.recording import Recorder
from parley_speech.types import MIC_HZ, SPEAKER_HZ, AudioChunk, Pcm, WordMark

ZERO = 1_000_000.0
CUE = Cue("interruption", "agent", 1.0, "stop", Speaker("espeak:en-us"))
SCENE = Scene("x-test-000", "x", "test", 1, "open", "talks", "notice", (CUE,))
LATE_S = 0.11
"""The room's way."""


def noise(seconds: float, seed: int) -> Pcm:
    """Something that never repeats and never pauses, like a voice without words."""
    draw = np.random.default_rng(seed)
    samples = draw.normal(0, 3000, round(seconds * SPEAKER_HZ))
    return np.clip(np.convolve(samples, np.ones(6) / 6, "same"), -30000, 30000).astype(np.int16)


def rendering(text: str, seconds: float, seed: int) -> Rendering:
    pcm = noise(seconds, seed)
    mark = WordMark(text, 0, len(text), 0, len(pcm))
    return Rendering(text, (AudioChunk(pcm, (mark,)),))


RENDERINGS = {
    TEXTS["short"]: rendering(TEXTS["short"], 1.2, 1),
    TEXTS["notice"]: rendering(TEXTS["notice"], 4.0, 2),
}


def spoken_at(reply: int, at_s: float, cause: str) -> list[dict[str, Any]]:
    at = ZERO + at_s
    return [
        {"kind": "act", "name": "Commit", "reply": reply, "t": at, "waited_ms": 100},
        {"kind": "reply", "reply": reply, "cause": cause, "t": at},
        {"kind": "latency", "name": "reply", "ms": 100.0, "t": at},
        {"kind": "act", "name": "Speak", "reply": reply, "t": at},
    ]


def conversation(
    parts: Sequence[tuple[float, Pcm]], events: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The agent's sounds at these seconds; the user says "stop" from 2.0 to 2.4 s."""
    line = Line(SCENE, [], 4.0)
    line.mic = [np.zeros(10 * MIC_HZ, np.int16)]
    line.now = 10 * MIC_HZ
    voiced = (Voiced(2 * MIC_HZ, round(2.4 * MIC_HZ), "stop"),)
    line.placed = [Placed(CUE, 2 * MIC_HZ, voiced, "stop", True)]
    heard = np.zeros(10 * SPEAKER_HZ, np.int16)
    for at_s, pcm in parts:
        first = round(at_s * SPEAKER_HZ)
        heard[first : first + len(pcm)] = pcm
    recorder = Recorder()
    recorder.agent_run(SPEAKER_HZ).append(heard, ZERO)
    return judged(*overheard(SCENE, line, recorder.recording(), ZERO, events, RENDERINGS))


@pytest.fixture
def no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without its cues: what it has brought is told by the test."""
    monkeypatch.setattr(Line, "__init__", lambda self, *_: None)


@pytest.mark.usefixtures("no_line")
def test_a_cut_and_an_answer_are_timed_where_they_were_heard() -> None:
    asked, answer = RENDERINGS[TEXTS["notice"]].pcm, RENDERINGS[TEXTS["short"]].pcm
    ducked = asked[: round(1.6 * SPEAKER_HZ)].copy()
    ducked[round(1.3 * SPEAKER_HZ) :] //= 4  # 12 dB lower from 2.3 s on, gone at 2.6 s
    events = [*spoken_at(0, 1.0 - LATE_S, "instructed"), *spoken_at(1, 3.4 - LATE_S, "user")]
    found = conversation([(1.0, ducked), (3.4, answer)], events)
    (row,) = found["rows"]
    assert row["over_agent"] and row["stopped"]
    assert row["into_ms"] == pytest.approx(1000, abs=15)
    assert row["ducked_ms"] == pytest.approx(300, abs=20)
    assert row["silent_ms"] == pytest.approx(600, abs=20)
    assert row["answered_ms"] == pytest.approx(1000, abs=20)
    causes = [(reply["cause"], reply["cut"]) for reply in found["agent"]]
    assert causes == [("instructed", True), ("user", False)]
    # A room tells nothing about words and samples.
    assert all(reply["heard"] is None for reply in found["agent"])


@pytest.mark.usefixtures("no_line")
def test_a_reply_that_goes_on_was_neither_ducked_nor_stopped() -> None:
    whole = RENDERINGS[TEXTS["notice"]].pcm
    found = conversation([(1.0, whole)], spoken_at(0, 1.0 - LATE_S, "instructed"))
    (row,) = found["rows"]
    assert row["over_agent"] and not row["stopped"]
    assert row["ducked_ms"] is row["silent_ms"] is row["answered_ms"] is None
    assert row["left_ms"] == pytest.approx(3000, abs=20)
    assert [act for _, act, _ in found["moves"]] == ["Commit", "Speak"]


@pytest.mark.usefixtures("no_line")
def test_a_noise_that_nobody_knows_is_no_reply() -> None:
    found = conversation([(1.0, noise(0.5, 9))], [])
    assert found["agent"] == []
    assert not found["rows"][0]["over_agent"]
