"""What the bench hears: the real mixer's ducks and stops, behind Opus, found to the millisecond."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.bench_calls import played
from parley.bench.hearing import HeardReply, hear, replies
from parley.bench.instant import Rendering
from parley.dialogue.mixer import Fade
from parley.report.levels import Span
from parley.report.recording import Recording
from parley_speech import audio
from parley_speech.types import SPEAKER_FRAME, SPEAKER_HZ, AudioChunk, Pcm, WordMark

SPEECH = Path(__file__).parents[1] / "data" / "audio" / "read_lj001_0004.flac"
WALL = 1_700_000_000.0
DELAY_S = 0.7354
FRAME_S = SPEAKER_FRAME / SPEAKER_HZ
MS = SPEAKER_HZ // 1000


@pytest.fixture(scope="module")
def rendering() -> Rendering:
    """Real speech with a word every 300 ms."""
    pcm = audio.scaled(audio.read(SPEECH, SPEAKER_HZ), 6.0)
    step = SPEAKER_HZ * 3 // 10
    words = [f"word{i}" for i in range(len(pcm) // step)]
    text = " ".join(words)
    marks, char = [], 0
    for i, word in enumerate(words):
        marks.append(WordMark(word, char, char + len(word), i * step, (i + 1) * step))
        char += len(word) + 1
    return Rendering(text, (AudioChunk(pcm, tuple(marks)),))


def through_the_room(pcm: Pcm, *more: Pcm) -> Recording:
    """Behind Opus, ``DELAY_S`` into a recording; further pieces follow, each after a second."""
    line = np.zeros(round(DELAY_S * SPEAKER_HZ), np.int16)
    for piece in (pcm, *more):
        line = np.concatenate([line, piece, np.zeros(SPEAKER_HZ, np.int16)])
    file = io.BytesIO()
    soundfile.write(file, line, SPEAKER_HZ, format="OGG", subtype="OPUS")
    file.seek(0)
    coded, rate = soundfile.read(file, dtype="int16")
    assert rate == SPEAKER_HZ
    return Recording(np.stack([np.zeros_like(coded), coded], axis=1), SPEAKER_HZ, WALL)


def only_reply(rendering: Rendering, acts: dict[int, Fade]) -> tuple[HeardReply, int]:
    pcm, audible = played(rendering, acts)
    (reply,) = replies(through_the_room(pcm), rendering)
    return reply, audible


def test_a_whole_reply_is_found_where_it_begins(rendering: Rendering) -> None:
    reply, _ = only_reply(rendering, {})
    assert reply.whole
    assert reply.score > 0.85
    assert reply.start == pytest.approx(WALL + DELAY_S, abs=0.002)
    assert reply.ducked_at(reply.start + 0.5) is None
    assert not reply.stopped(reply.start)


@pytest.mark.parametrize("frame", [40, 75, 120])
def test_a_duck_is_heard_when_it_happens(rendering: Rendering, frame: int) -> None:
    reply, _ = only_reply(rendering, {frame: Fade.DUCK, frame + 40: Fade.FULL})
    at = WALL + DELAY_S + frame * FRAME_S
    ducked = reply.ducked_at(at - 0.1)
    assert ducked is not None
    # 6 dB down lies 22 ms into the ramp of 40 ms; the level is measured over 20 ms.
    assert ducked == pytest.approx(at + 0.022, abs=0.02)
    assert reply.whole
    # From 6 dB down to 6 dB below the top of the slow way back up.
    assert reply.ducked_ms(at - 0.1, at + 2) == pytest.approx(40 * 20 + 30, abs=60)


def test_what_stays_loud_is_not_ducked(rendering: Rendering) -> None:
    reply, _ = only_reply(rendering, {100: Fade.DUCK})
    assert reply.ducked_ms(reply.start, reply.start + 1.9) == 0


@pytest.mark.parametrize("ducked", [False, True], ids=["loud", "ducked"])
@pytest.mark.parametrize("frame", [16, 40, 58, 124, 154, 220])
def test_a_cut_is_found_to_the_millisecond(rendering: Rendering, frame: int, ducked: bool) -> None:
    acts = {frame - 9: Fade.DUCK, frame: Fade.STOP} if ducked else {frame: Fade.STOP}
    reply, audible = only_reply(rendering, acts)
    cut = reply.cut()
    assert abs(cut.best - audible) < 3 * MS
    assert cut.latest - cut.earliest < 15 * MS
    end = WALL + DELAY_S + frame * FRAME_S
    assert reply.stopped(reply.start + 0.1)
    assert reply.silent_at() == pytest.approx(end + 0.025, abs=0.025)


@pytest.mark.parametrize("ticks", [1, 2, 3, 6])
@pytest.mark.parametrize("frame", [16, 58, 154])
def test_a_stop_soon_after_its_duck_is_found_too(
    rendering: Rendering, frame: int, ticks: int
) -> None:
    """Both ramps lie in what is compared: taken for one, the cut would lie 20 to 50 ms early."""
    reply, audible = only_reply(rendering, {frame - ticks: Fade.DUCK, frame: Fade.STOP})
    assert abs(reply.cut().best - audible) < 3 * MS


@pytest.mark.parametrize("frame", [28, 77, 88, 190, 226])
def test_a_cut_in_a_pause_is_not_claimed_to_be_known(rendering: Rendering, frame: int) -> None:
    """Where the speaker is silent a cut leaves no trace: the range must hold it all the same."""
    reply, audible = only_reply(rendering, {frame - 9: Fade.DUCK, frame: Fade.STOP})
    cut = reply.cut()
    assert cut.earliest - 3 * MS <= audible <= cut.latest + 3 * MS


def test_a_whole_reply_was_cut_nowhere(rendering: Rendering) -> None:
    reply, _ = only_reply(rendering, {})
    assert reply.words(reply.cut().best) == rendering.text


def test_words_count_from_their_middle(rendering: Rendering) -> None:
    reply, _ = only_reply(rendering, {60: Fade.STOP})
    half = rendering.marks[2].start + SPEAKER_HZ * 15 // 100
    assert reply.words(half - 1) == "word0 word1"
    assert reply.words(half) == "word0 word1 word2"
    assert reply.margin_ms(half + 24) == pytest.approx(1.0)
    assert reply.words(0) == ""


def test_a_reply_cut_in_its_first_moments_is_still_found(rendering: Rendering) -> None:
    pcm, audible = played(rendering, {15: Fade.STOP})
    other, _ = played(rendering, {100: Fade.STOP})
    first, second = replies(through_the_room(pcm, other), rendering)
    assert first.score > 0.5
    assert second.start - first.start == pytest.approx(len(pcm) / SPEAKER_HZ + 1, abs=0.003)
    assert abs(first.cut().best - audible) < 3 * MS


def test_a_stop_counts_as_lower_where_there_was_no_duck(rendering: Rendering) -> None:
    reply, _ = only_reply(rendering, {50: Fade.STOP})
    ducked = reply.ducked_at(reply.start + 0.9)
    assert ducked == pytest.approx(reply.start + 1.02, abs=0.03)


def test_another_sound_is_no_reply(rendering: Rendering) -> None:
    noise = (np.random.default_rng(3).normal(0, 3000, SPEAKER_HZ)).astype(np.int16)
    recording = through_the_room(noise)
    (reply,) = replies(recording, rendering)
    assert reply.score < 0.5


def test_silence_holds_no_reply(rendering: Rendering) -> None:
    assert replies(through_the_room(np.zeros(SPEAKER_HZ, np.int16)), rendering) == []


def test_hear_takes_the_part_it_is_told(rendering: Rendering) -> None:
    pcm, _ = played(rendering, {100: Fade.STOP})
    recording = through_the_room(pcm)
    span = Span(WALL + DELAY_S, WALL + DELAY_S + 2.0)
    assert hear(recording, span, rendering).start == pytest.approx(WALL + DELAY_S, abs=0.002)
