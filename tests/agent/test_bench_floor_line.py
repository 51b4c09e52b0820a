"""The wire of the floor's bench: when sounds begin, what comes back, what is measured of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parley.bench.floor.echo_room import Down, EchoRoom
from parley.bench.floor.follow import HOP_MS, follow, heard_words
from parley.bench.floor.line import SILENCE, Line
from parley.bench.floor.scene import Cue, EchoPath, Scene, Speaker, Telephone
from parley.bench.floor.told import ToldRecognizer, words_of
from parley.bench.floor.utterances import Utterance, Voiced, edges, stretches
from parley.bench.instant import Rendering
from parley_speech.types import MIC_FRAME, MIC_HZ, SPEAKER_FRAME, SPEAKER_HZ, AudioChunk, WordMark

VOICE = Speaker("espeak:en-us")
LOUD = np.full(SPEAKER_FRAME, 3000, np.int16)


def scene(*cues: Cue, agent: str = "answers", **fields: object) -> Scene:
    base = Scene("s", "f", "test", 1, "desk", agent, "short", cues, tail_s=1.0)  # type: ignore[arg-type]
    return replace(base, **fields)  # type: ignore[arg-type]


def tone(seconds: float = 0.5) -> Utterance:
    t = np.arange(round(seconds * MIC_HZ)) / MIC_HZ
    pcm = (6000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
    return Utterance(pcm, (Voiced(0, len(pcm), "one two"),), "one two")


def cue(anchor: str, s: float, kind: str = "turn", into_frame: int = 0) -> Cue:
    return Cue(kind, anchor, s, "one two", VOICE, into_frame=into_frame)  # type: ignore[arg-type]


def run(line: Line, seconds: float, agent: np.ndarray = SILENCE) -> None:
    for _ in range(round(seconds * 50)):
        line.step(agent)


# --- cues -----------------------------------------------------------------------------------------


def test_a_sound_begins_where_its_cue_says_to_the_sample() -> None:
    line = Line(scene(cue("start", 0.5, into_frame=123)), [tone()], 5.0)
    run(line, 2.0)
    (placed,) = line.placed
    assert placed.onset == MIC_HZ // 2 + 123
    assert placed.end == placed.onset + MIC_HZ // 2
    assert not placed.over_agent
    mic = np.concatenate(line.mic).astype(np.int32)
    assert np.abs(mic[: placed.onset]).max() < 100
    assert np.abs(mic[placed.onset : placed.end]).max() > 5000


def test_the_application_asks_an_agent_that_talks_and_the_cue_counts_from_its_voice() -> None:
    line = Line(scene(cue("agent", 1.0, "interruption"), agent="talks"), [tone()], 5.0)
    asked = False
    while not asked:
        line.step(SILENCE)
        asked = line.asks()
    assert not line.asks(), "once is enough"
    began = line.now
    run(line, 2.0, LOUD)
    assert line.placed[0].onset == pytest.approx(began + MIC_HZ, abs=MIC_FRAME)
    assert line.placed[0].over_agent


def test_an_answer_does_not_count_as_what_was_asked_for() -> None:
    line = Line(scene(cue("agent", 0.2), agent="talks"), [tone()], 5.0)
    run(line, 0.2)
    run(line, 1.0, LOUD)  # nobody asked for this
    assert not line.placed


def test_a_sound_over_the_end_of_a_reply_counts_back_from_it() -> None:
    line = Line(scene(cue("agent_left", 0.4, "interruption"), agent="talks"), [tone()], 2.0)
    while not line.asks():
        line.step(SILENCE)
    began = line.now
    run(line, 2.0, LOUD)
    assert line.placed[0].onset == pytest.approx(began + 1.6 * MIC_HZ, abs=MIC_FRAME)


def test_a_user_speaks_again_when_the_answer_is_over() -> None:
    line = Line(scene(cue("start", 0.2), cue("answered", 0.5)), [tone(), tone()], 1.0)
    run(line, 1.0)
    run(line, 1.0, LOUD)
    run(line, 1.0)
    assert line.placed[1].onset == pytest.approx(2.5 * MIC_HZ, abs=2 * MIC_FRAME)
    assert not line.over
    run(line, 0.5, LOUD)
    run(line, 1.0)
    assert line.over


def test_a_user_without_an_answer_does_not_wait_for_ever() -> None:
    line = Line(scene(cue("start", 0.2), cue("answered", 0.5)), [tone(), tone()], 1.0)
    run(line, 12.0)
    assert len(line.placed) == 2
    assert line.over


# --- lines ----------------------------------------------------------------------------------------


def test_the_microphone_is_at_the_rate_of_what_is_played() -> None:
    t = np.arange(SPEAKER_HZ) / SPEAKER_HZ
    pcm = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
    down = Down()
    out = np.concatenate([down.push(f) for f in pcm.reshape(-1, SPEAKER_FRAME)])
    assert len(out) == MIC_HZ
    spectrum = np.abs(np.fft.rfft(out[2000:10000]))
    assert np.argmax(spectrum) * MIC_HZ / 8000 == pytest.approx(440, abs=3)
    assert np.abs(out[2000:]).max() == pytest.approx(8000, rel=0.05)


def test_an_echo_comes_back_late_and_softer() -> None:
    rng = np.random.default_rng(0)
    room = EchoRoom(EchoPath(-20.0, 100.0, room_ms=2.0), seed=1)
    taken = []
    for number in range(50):
        loud = rng.standard_normal(SPEAKER_FRAME) * 6000 if number == 0 else SILENCE
        room.push(np.asarray(loud).astype(np.int16))
        taken.append(room.take())
    out = np.concatenate(taken)
    heard = np.flatnonzero(np.abs(out) > 50)
    assert heard[0] == pytest.approx(0.1 * MIC_HZ, abs=40)
    energy_db = 10 * np.log10(np.sum(out**2) / (MIC_FRAME * 6000**2))
    assert energy_db == pytest.approx(-20 - 1.8, abs=1.5)  # 16 of 24 kHz are left of white noise


def test_a_drifting_clock_moves_the_echo() -> None:
    def lag(ppm: float) -> int:
        room = EchoRoom(EchoPath(0.0, 50.0, ppm, room_ms=1.0), seed=1)
        rng = np.random.default_rng(0)
        out = []
        for number in range(1000):
            loud = rng.standard_normal(SPEAKER_FRAME) * 6000 if number == 900 else SILENCE
            room.push(np.asarray(loud).astype(np.int16))
            out.append(room.take())
        return int(np.flatnonzero(np.abs(np.concatenate(out)) > 500)[0])

    assert lag(500.0) - lag(0.0) == pytest.approx(900 * MIC_FRAME * 500e-6, abs=3)


def test_a_telephone_is_late_and_loses_what_it_is_told_to() -> None:
    def mic(loss: float) -> np.ndarray:
        phone = Telephone(loss, 60)
        line = Line(scene(cue("start", 0.2), telephone=phone), [tone(2.0)], 1.0)
        run(line, 3.0)
        return np.concatenate(line.mic).astype(np.int32)

    whole, torn = mic(0.0), mic(0.2)
    assert np.flatnonzero(np.abs(whole) > 2000)[0] == pytest.approx((0.2 + 0.06) * MIC_HZ, abs=80)
    different = (whole != torn).reshape(-1, MIC_FRAME).any(axis=1)
    assert 0.05 < different.mean() < 0.4


# --- what was heard of a reply --------------------------------------------------------------------


def rendering(seconds: float = 2.0) -> Rendering:
    rng = np.random.default_rng(5)
    pcm = (rng.standard_normal(round(seconds * SPEAKER_HZ)) * 3000).astype(np.int16)
    quarter = SPEAKER_HZ // 4
    count = len(pcm) // quarter
    text = " ".join("abcdefgh"[:count])
    marks = tuple(
        WordMark(text[2 * i], 2 * i, 2 * i + 1, i * quarter, (i + 1) * quarter)
        for i in range(count)
    )
    return Rendering(text, (AudioChunk(pcm, marks),))


def test_gain_is_followed_hop_by_hop() -> None:
    reply = rendering()
    played = reply.pcm.astype(float)
    played[SPEAKER_HZ:] *= 0.178
    found = follow(reply.pcm, played.astype(np.int16))
    assert found.slips == ()
    assert found.gain[10] == pytest.approx(1.0, abs=0.01)
    assert found.gain[-10] == pytest.approx(0.178, abs=0.01)
    assert found.lowered_ms(0.0, -6.0) == pytest.approx(1000.0, abs=HOP_MS)
    assert found.lowered_ms(1200.0, -6.0) == pytest.approx(1200.0, abs=HOP_MS)
    assert found.lowered_ms(0.0, -20.0) is None


@pytest.mark.parametrize("samples", [-960, 480])
def test_samples_that_are_lost_or_repeated_are_counted(samples: int) -> None:
    reply = rendering()
    pcm = reply.pcm
    played = np.concatenate([pcm[:SPEAKER_HZ], pcm[SPEAKER_HZ + samples :]])
    found = follow(pcm, played)
    assert sum(found.slips) == samples
    assert len(found.slips) == 1


def test_words_heard_are_those_whose_half_sounded() -> None:
    reply = rendering()
    for cut_ms, low, high in ((1000, 4, 4), (1180, 5, 5), (1124, 4, 5)):
        played = reply.pcm[: SPEAKER_HZ * cut_ms // 1000]
        found = follow(reply.pcm, played)
        assert heard_words(reply, found, len(played)) == (low, high), cut_ms


# --- what is said ---------------------------------------------------------------------------------


def test_a_voice_begins_and_ends_at_its_samples() -> None:
    pcm = np.zeros(MIC_HZ, np.int16)
    pcm[1000:3000] = 5000
    pcm[12000:13000] = -5000
    assert edges(pcm) == (1000, 13000)
    first, second = stretches(pcm, "words")
    assert (first.first, first.last, first.text) == (1000, 3000, "words")
    assert (second.first, second.last, second.text) == (12000, 13000, "")
    with pytest.raises(ValueError, match="silence"):
        edges(np.zeros(100, np.int16))


def test_a_told_recogniser_is_late_and_never_wrong() -> None:
    line = Line(scene(cue("start", 0.0)), [tone(1.0)], 1.0)
    line.step(SILENCE)
    assert [(w.text, w.end_ms) for w in words_of(line.placed[0])] == [("one", 500), ("two", 1000)]
    stream = ToldRecognizer(line.placed).stream()
    frame = np.zeros(MIC_FRAME, np.int16)
    heard: dict[str, int] = {}
    stream.begin_utterance()
    for tick in range(1, 61):
        stream.push(frame)
        if tick == 55:
            stream.end_utterance()
        for hypothesis in stream.poll():
            heard[f"{hypothesis.text}/{hypothesis.final}"] = tick * 20
    assert heard == {"one/False": 660, "one two/True": 1160}
