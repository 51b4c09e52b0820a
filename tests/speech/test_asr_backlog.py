"""The parent's copy of unfinished utterances, against a scripted child."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_speech.asr import backlog as module
from parley_speech.asr import wire
from parley_speech.asr.backlog import BACKLOG_MS, BYTES_PER_MS, PRE_ROLL_MS, SEGMENT_MS, Backlog
from parley_speech.asr.wire import Kind
from parley_speech.types import FRAME_MS, MIC_FRAME, Grammar, Hypothesis, Pcm


def frame(value: int) -> Pcm:
    return np.full(MIC_FRAME, value, np.int16)


class Child:
    """Takes everything; keeps the audio of each segment."""

    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self.audio: dict[int, bytes] = {}
        self.ended: list[int] = []
        self.begun: list[dict[str, Any]] = []
        self._now = -1

    def take(self) -> None:
        for message in wire.Reader().feed(b"".join(self.backlog.outgoing(1))):
            if message.kind is Kind.BEGIN:
                self._now = message.fields["utterance"]
                self.begun.append(message.fields)
                self.audio[self._now] = b""
            elif message.kind is Kind.AUDIO:
                self.audio[self._now] += message.payload
            elif message.kind is Kind.END:
                self.ended.append(self._now)

    def decode(self) -> None:
        """Takes and decodes until nothing more comes."""
        before = -1
        while before != (before := sum(map(len, self.audio.values()))):
            self.take()
            for number, audio in self.audio.items():
                self.backlog.taken(number, len(audio))
        self.take()

    def say(
        self, number: int, *words: str, final: bool = True, confidence: float = 0.9
    ) -> list[Hypothesis]:
        found = [[word, 100 * i, 100 * i + 80, 0.8] for i, word in enumerate(words)]
        return self.backlog.heard(
            {"utterance": number, "words": found, "final": final, "confidence": confidence}
        )


@pytest.fixture
def backlog() -> Backlog:
    return Backlog()


@pytest.fixture
def child(backlog: Backlog) -> Child:
    return Child(backlog)


def test_nothing_is_decoded_before_an_utterance_begins(backlog: Backlog, child: Child):
    for i in range(100):
        backlog.push(frame(i))
    child.take()
    assert child.audio == {}
    assert backlog.pending_ms == 0


def test_an_utterance_begins_with_the_pre_roll(backlog: Backlog, child: Child):
    for i in range(100):
        backlog.push(frame(i))
    backlog.begin()
    backlog.push(frame(100))
    backlog.end()
    child.take()
    values = np.frombuffer(child.audio[0], "<i2")[::MIC_FRAME]
    assert list(values) == list(range(100 - PRE_ROLL_MS // FRAME_MS, 101))
    assert child.ended == [0]


def test_words_are_placed_in_stream_time(backlog: Backlog, child: Child):
    for _ in range(50):
        backlog.push(frame(0))
    backlog.begin()
    backlog.push(frame(1))
    backlog.end()
    child.decode()
    (hypothesis,) = child.say(0, "hello", "there")
    start_ms = 1000 - PRE_ROLL_MS
    assert [(w.text, w.start_ms, w.end_ms) for w in hypothesis.words] == [
        ("hello", start_ms, start_ms + 80),
        ("there", start_ms + 100, start_ms + 180),
    ]
    assert hypothesis.final and hypothesis.text == "hello there"
    assert hypothesis.utterance == 0 and hypothesis.confidence == 0.9


def test_the_end_of_one_utterance_is_not_the_beginning_of_the_next(backlog: Backlog, child: Child):
    backlog.begin()
    backlog.push(frame(1))
    backlog.end()
    backlog.push(frame(2))
    backlog.begin()
    backlog.push(frame(3))
    backlog.end()
    child.decode()
    assert list(np.frombuffer(child.audio[1], "<i2")[::MIC_FRAME]) == [2, 3]


def test_begin_within_and_end_outside_an_utterance_do_nothing(backlog: Backlog, child: Child):
    backlog.end()
    backlog.begin()
    backlog.push(frame(1))
    backlog.begin()
    backlog.push(frame(2))
    backlog.end()
    backlog.end()
    child.decode()
    assert child.ended == [0] and list(child.audio) == [0]


def test_a_grammar_holds_from_the_next_utterance_on(backlog: Backlog, child: Child):
    backlog.begin()
    backlog.push(frame(1))
    backlog.set_grammar(Grammar("yn", "yes | no"))
    backlog.end()
    backlog.begin()
    backlog.push(frame(1))
    backlog.end()
    child.decode()
    assert [b["grammar"] for b in child.begun] == [None, "yn"]
    assert child.begun[0]["source"] == "" and "yes | no" in child.begun[1]["source"]


def test_no_more_is_sent_than_the_window_holds(backlog: Backlog, child: Child):
    backlog.begin()
    for i in range(200):
        backlog.push(frame(i))
    child.take()
    assert len(child.audio[0]) == module.WINDOW_MS * BYTES_PER_MS
    backlog.taken(0, 500 * BYTES_PER_MS)
    child.take()
    assert len(child.audio[0]) == (module.WINDOW_MS + 500) * BYTES_PER_MS
    assert backlog.pending_ms == 200 * FRAME_MS - 500
    assert child.ended == []


@pytest.mark.parametrize("decoded_ms", [0, 400, 1000])
def test_a_new_child_gets_the_utterance_from_its_beginning(decoded_ms: int):
    backlog = Backlog()
    first = Child(backlog)
    backlog.begin()
    for i in range(60):
        backlog.push(frame(i))
    first.take()
    backlog.taken(0, decoded_ms * BYTES_PER_MS)
    first.take()
    assert backlog.rewind() == []
    for i in range(60, 90):
        backlog.push(frame(i))
    backlog.end()
    second = Child(backlog)
    second.decode()
    assert list(np.frombuffer(second.audio[0], "<i2")[::MIC_FRAME]) == list(range(90))
    (hypothesis,) = second.say(0, "all", "of", "it")
    assert hypothesis.text == "all of it"
    assert not backlog.waiting


def test_an_utterance_that_kills_every_child_is_given_up_and_said_so(backlog: Backlog):
    backlog.begin()
    backlog.push(frame(1))
    backlog.end()
    backlog.begin()
    backlog.push(frame(2))
    backlog.end()
    Child(backlog).take()
    assert backlog.rewind() == []
    Child(backlog).take()
    (lost,) = backlog.rewind()
    assert lost.final and lost.text == "" and lost.confidence == 0 and lost.utterance == 0
    assert backlog.lost_ms == FRAME_MS
    survivor = Child(backlog)
    survivor.decode()
    assert survivor.say(1, "next")[0].utterance == 1


def test_a_late_final_of_a_segment_given_up_is_ignored(backlog: Backlog, child: Child):
    backlog.begin()
    backlog.push(frame(1))
    backlog.end()
    child.decode()
    assert len(child.say(0, "once")) == 1
    assert child.say(0, "once") == []


def test_ten_minutes_without_a_pause_are_one_utterance_and_little_memory(
    backlog: Backlog, child: Child
):
    """Segments are cut, decoded and freed; the words stay."""
    rng = np.random.default_rng(1)
    backlog.begin()
    most = 0
    texts = []
    for i in range(10 * 60 * 50):
        loud = 2000 if i % 40 else 10  # a quiet frame now and then
        backlog.push(rng.integers(-loud, loud, MIC_FRAME).astype(np.int16))
        if i % 25 == 0:
            child.decode()
            for number in [n for n in child.ended if n >= len(texts)]:
                texts += child.say(number, f"w{number}")
                child.audio.pop(number)
        most = max(most, sum(len(s.pcm) for s in backlog._segments))
    backlog.end()
    child.decode()
    (final,) = child.say(child.ended[-1], "end")
    assert [t.final for t in texts] == [False] * len(texts)
    assert final.final and final.utterance == 0
    assert final.text == " ".join([*(f"w{n}" for n in range(len(texts))), "end"])
    assert len(texts) >= 9
    assert most <= (SEGMENT_MS + 2000) * BYTES_PER_MS
    assert backlog.lost_ms == 0


def test_segments_are_cut_at_a_quiet_frame(backlog: Backlog, child: Child):
    backlog.begin()
    quiet_at = (module.QUIET_FROM_MS + 3000) // FRAME_MS
    for i in range(SEGMENT_MS // FRAME_MS):
        backlog.push(frame(10 if i == quiet_at else 3000))
        child.decode()
    assert len(child.audio[0]) == (quiet_at + 1) * FRAME_MS * BYTES_PER_MS


def test_the_confidence_of_a_long_utterance_is_over_all_its_words(backlog: Backlog, child: Child):
    backlog.begin()
    for _ in range(SEGMENT_MS // FRAME_MS):
        backlog.push(frame(100))
        child.decode()
    backlog.push(frame(100))
    backlog.end()
    child.decode()
    child.say(0, "a", "b", "c", confidence=1.0)
    (final,) = child.say(1, "d", confidence=0.2)
    assert final.confidence == pytest.approx((3 * 1.0 + 0.2) / 4)


def test_a_child_that_takes_nothing_costs_words_only_after_minutes(backlog: Backlog):
    backlog.begin()
    given_up: list[Hypothesis] = []
    ms = 0
    while not given_up:
        given_up = backlog.push(frame(1000))
        ms += FRAME_MS
        assert ms <= BACKLOG_MS + SEGMENT_MS
    assert ms > BACKLOG_MS
    assert backlog.lost_ms == SEGMENT_MS
    assert not given_up[0].final  # the utterance goes on


def test_a_frame_of_the_wrong_shape_is_refused(backlog: Backlog):
    with pytest.raises(ValueError, match=r"frame: expected int16 of shape \(320,\)"):
        backlog.push(np.zeros(480, np.int16))


@given(st.lists(st.sampled_from(["push", "push", "push", "begin", "end", "crash", "work"])))
def test_whatever_happens_every_utterance_gets_exactly_one_final(steps: list[str]):
    """Crashes are fewer than what gives a segment up, so no audio is lost either."""
    backlog = Backlog()
    child = Child(backlog)
    begun = 0
    is_open = False
    finals: list[int] = []
    heard: dict[int, int] = {}

    def work() -> None:
        child.decode()
        for number in list(child.ended):
            for h in child.say(number, "x"):
                heard[h.utterance] = len(child.audio[number])
                finals.append(h.utterance)

    crashed: set[int] = set()
    for i, step in enumerate(steps):
        if step == "push":
            backlog.push(frame(i))
        elif step == "begin":
            begun += not is_open
            is_open = True
            backlog.begin()
        elif step == "end":
            is_open = False
            backlog.end()
        elif step == "crash" and begun not in crashed:
            crashed.add(begun)
            finals += [h.utterance for h in backlog.rewind()]
            child = Child(backlog)
        elif step == "work":
            work()
    backlog.end()
    work()
    assert finals == list(range(begun))
    assert not backlog.waiting and backlog.pending_ms == 0
