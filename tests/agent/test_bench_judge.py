"""The judges: known calls give the figures that they must give, good ones and bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.bench_calls import WAY_S, Script, stats
from parley.bench.figures import Figure
from parley.bench.instant import Rendering
from parley.bench.judge import figures, ratios
from parley.bench.scenarios import TEXTS, Plan
from parley.dialogue.mixer import Fade
from parley_speech import audio
from parley_speech.types import SPEAKER_HZ, AudioChunk, WordMark

SPEECH = Path(__file__).parents[1] / "data" / "audio" / "read_lj001_0004.flac"
TEXT = TEXTS["notice"]
CLICKS_MS = [80.0, 78.0, 82.0]


@pytest.fixture(scope="module")
def rendering() -> Rendering:
    """Real speech under the words of a text of the bench; each word takes as long as the others."""
    pcm = audio.scaled(audio.read(SPEECH, SPEAKER_HZ), 6.0)
    words = TEXT.split()
    step = len(pcm) // len(words)
    marks, char = [], 0
    for i, word in enumerate(words):
        marks.append(WordMark(word, char, char + len(word), i * step, (i + 1) * step))
        char += len(word) + 1
    return Rendering(TEXT, (AudioChunk(pcm, tuple(marks)),))


def judged(name: str, *scripts: Script, **more: object) -> dict[str, Figure]:
    calls = {name: [script.record(**more) for script in scripts]}
    found = figures(calls, {TEXT: scripts[0].rendering}, CLICKS_MS)
    return {figure.name: figure for figure in found}


@pytest.fixture
def call(rendering: Rendering) -> Script:
    return Script(rendering, Plan("answer", "notice"))


# --- replies --------------------------------------------------------------------------------


def test_a_reply_is_timed_from_the_true_end_less_the_floors_wait(call: Script) -> None:
    call.says(0.5, 1.5)
    call.reply(1.78, waited_ms=200)
    found = judged("interruptions", call)
    raw = (1.78 + WAY_S - 1.5) * 1000
    assert found["reply_raw"].samples[0] == pytest.approx(raw, abs=2)
    assert found["reply"].samples[0] == pytest.approx(raw - 200, abs=2)
    assert found["reply_waited"].samples == (200,)
    assert found["reply_made"].samples == (20,)
    assert found["reply_out"].samples[0] == pytest.approx(WAY_S * 1000, abs=2)
    assert found["reply_hearing"].samples[0] == pytest.approx(raw - 220 - WAY_S * 1000, abs=2)
    assert found["reply"].goals[0].most == 100  # T is the median click
    assert found["reply"].verdict == "MISS"  # 120 ms are more than T + 20


def test_a_reply_in_the_middle_of_what_is_said_answers_nothing(call: Script) -> None:
    call.says(0.5, 3.5)
    call.reply(1.0)
    assert judged("interruptions", call)["reply"].n == 0


# --- interruptions --------------------------------------------------------------------------


def test_an_interruption_is_timed_to_the_duck_and_to_the_silence(call: Script) -> None:
    call.says(0.2, 1.0)
    call.reply(1.5, {58: Fade.DUCK, 68: Fade.STOP})
    call.says(2.6, 3.6, aimed=True)
    found = judged("interruptions", call)
    duck = 1.5 + WAY_S + 58 * 0.02
    stop = 1.5 + WAY_S + 68 * 0.02
    assert found["ducked"].samples[0] == pytest.approx((duck + 0.022 - 2.6) * 1000, abs=20)
    assert found["silent"].samples[0] == pytest.approx((stop + 0.025 - 2.6) * 1000, abs=25)
    (row,) = found["ducked"].details["rows"]
    assert row["engine_duck_ms"] == pytest.approx((1.5 + 58 * 0.02 - 2.6) * 1000, abs=1)
    assert row["engine_yield_ms"] == pytest.approx((1.5 + 68 * 0.02 - 2.6) * 1000, abs=1)
    assert found["ducked_early"].n == 0


def test_an_interruption_that_stops_nothing_is_a_miss(call: Script) -> None:
    call.says(0.2, 1.0)
    call.reply(1.5)
    call.says(2.6, 3.6, aimed=True)
    found = judged("interruptions", call)
    assert found["silent"].samples == (None,)
    assert found["ducked"].samples == (None,)
    assert found["silent"].verdict == found["ducked"].verdict == "MISS"


def test_the_first_moments_of_a_reply_count_by_themselves_too(call: Script) -> None:
    call.reply(1.0, {9: Fade.DUCK, 16: Fade.STOP})
    call.says(1.0 + WAY_S + 0.06, 2.0, aimed=True)
    found = judged("interruptions", call)
    assert found["silent_early"].n == found["silent"].n == 1


def test_an_interruption_of_silence_tells_nothing_and_says_so(call: Script) -> None:
    call.reply(3.0)
    call.says(1.0, 2.0, aimed=True)
    found = judged("interruptions", call)
    assert found["ducked"].n == 0
    assert found["ducked"].verdict == "none"
    assert found["ducked"].notes[0].startswith("1 of 1 tell nothing")


# --- cuts -----------------------------------------------------------------------------------


def test_words_that_agree_are_exact(call: Script) -> None:
    for at, frame in ((0.5, 58), (4.0, 40), (8.0, 124)):
        call.reply(at, {frame - 9: Fade.DUCK, frame: Fade.STOP})
    found = judged("interruptions", call)
    assert found["cut_words"].samples == (0, 0, 0)
    assert found["cut_words"].verdict == "OK"
    assert found["history_words"].samples == (0, 0, 0)
    rows = found["cut_words"].details["rows"]
    assert [row["heard"] == row["context"] == row["livekit"] for row in rows] == [True] * 3


def test_one_word_too_many_in_the_context_is_found(call: Script) -> None:
    call.reply(0.5, {58: Fade.STOP}, context="Your parcel has left our store in the city")
    found = judged("interruptions", call)
    assert found["cut_words"].samples == (1,)
    assert found["cut_words"].verdict == "MISS"
    (row,) = found["cut_words"].details["mismatches"]
    assert row["heard"] == "Your parcel has left our store in"
    assert row["context"] == "Your parcel has left our store in the city"


def test_livekits_history_is_held_against_the_recording_too(call: Script) -> None:
    call.reply(0.5, {58: Fade.STOP})
    call.history[0]["text"] = "Your"
    found = judged("interruptions", call)
    assert found["cut_words"].samples == (0,)
    assert found["history_words"].samples == (1,)


def test_a_history_without_the_last_reply_is_still_compared(call: Script) -> None:
    call.reply(0.5, {58: Fade.STOP})
    call.reply(5.0)
    call.history.pop()
    assert judged("interruptions", call)["history_words"].samples == (0,)


def test_a_history_of_another_length_is_not_guessed_at(call: Script) -> None:
    call.reply(0.5, {58: Fade.STOP})
    call.history.clear()
    call.history += [{"text": text, "interrupted": False} for text in ("a", "b", "c")]
    assert judged("interruptions", call)["history_words"].n == 0


# --- sounds that are to change nothing ------------------------------------------------------


def test_a_duck_for_a_backchannel_is_no_stop(call: Script) -> None:
    call.reply(0.5, {50: Fade.DUCK, 70: Fade.FULL})
    call.says(1.45, 1.8, what="backchannel")
    found = judged("sounds", call)
    assert found["sound_stops"].samples == (0,)
    assert found["sound_stops"].verdict == "OK"
    assert found["sound_ducked"].samples[0] == pytest.approx(440, abs=80)
    assert "backchannel: 0 of 1" in found["sound_stops"].notes


def test_a_noise_that_stops_the_agent_is_counted(call: Script) -> None:
    call.reply(0.5, {58: Fade.STOP})
    call.says(1.5, 2.2, what="noise")
    found = judged("sounds", call)
    assert found["sound_stops"].samples == (1,)
    assert found["sound_stops"].verdict == "MISS"


def test_a_stop_long_after_a_sound_is_not_its_doing(call: Script) -> None:
    call.reply(0.5, {200: Fade.STOP})
    call.says(0.9, 1.2, what="backchannel")
    assert judged("sounds", call)["sound_stops"].samples == (0,)


# --- echo -----------------------------------------------------------------------------------


def test_replies_that_their_echo_stops_or_answers_are_counted(rendering: Rendering) -> None:
    good = Script(rendering, Plan("monologue", "notice", 2))
    good.reply(0.5, cause="instructed")
    good.reply(7.0, {20: Fade.DUCK, 40: Fade.FULL}, cause="instructed")
    bad = Script(rendering, Plan("monologue", "notice", 2))
    bad.reply(0.5, {58: Fade.STOP}, cause="instructed")
    bad.reply(7.0, cause="user")
    found = judged("echo", good, bad, echo_ms=120)
    assert found["echo_stops"].samples == (0, 0, 1, 0)
    assert found["echo_stops"].verdict == "MISS"
    assert found["echo_turns"].samples == (1,)
    assert "120 ms: 1 of 4" in found["echo_stops"].notes


def test_a_line_that_stood_still_is_no_stop_of_the_agents(rendering: Rendering) -> None:
    call = Script(rendering, Plan("monologue", "notice", 1))
    call.reply(0.5, {58: Fade.STOP}, cause="instructed")
    call.events = [e for e in call.events if e.get("name") != "Yield"]
    call.events[-1] |= {"cut": False, "heard": rendering.text}
    found = judged("echo", call, echo_ms=120)
    assert found["echo_stops"].samples == (0,)
    assert "1 more broke off where the line stood still, not the agent" in found["echo_stops"].notes


# --- cost -----------------------------------------------------------------------------------


def test_cost_and_late_ticks(call: Script) -> None:
    call.reply(0.5)
    (agent,) = stats([(3000, 3, 41.0)])
    found = judged("cost", call, agent=agent, cpu_percent=22.5, caller_late_ms=(1.0, 12.0))
    assert found["cpu"].value("mean") == 22.5
    assert found["cpu"].verdict == "OK"
    assert found["late_ticks"].value("mean") == pytest.approx(0.1)
    assert found["late_ticks"].notes == ("3 of 3000, the worst 41 ms",)
    assert found["caller_late"].samples == (12.0,)


# --- beside a stock session -----------------------------------------------------------------


def test_a_stock_session_is_judged_without_a_journal(call: Script, rendering: Rendering) -> None:
    theirs = Script(rendering, Plan("stock", "notice"))
    for script, frame in ((call, 58), (theirs, 124)):
        script.says(0.2, 1.0)
        script.reply(1.5, {frame: Fade.STOP})
        script.says(2.3, 5.0, aimed=True)
    theirs.events.clear()
    calls = {"interruptions": [call.record()], "stock interruptions": [theirs.record()]}
    found = figures(calls, {TEXT: rendering}, CLICKS_MS)
    (silent,) = [r for r in ratios(found) if "silent" in r[0]]
    ours, other = silent[1:]
    assert ours is not None and other is not None
    assert other - ours == pytest.approx((124 - 58) * 20, abs=30)
