"""Whole conversations of the floor's bench, with a call's own ears, floor and engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import floor_stage
from agent.floor_stage import STOP, TURN, scene, stage
from parley.bench.floor import compare, outcome, page, run
from parley.bench.floor.lockstep import LockstepRecognizer, Pace
from parley.bench.floor.scene import Scene
from parley.bench.floor.summary import summary
from parley_speech import audio
from parley_speech.types import MIC_FRAME, MIC_HZ, Grammar, Hypothesis


def plain(found: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the machine."""
    return {k: v for k, v in json.loads(json.dumps(found)).items() if not k.endswith("_s")}


async def judged(folder: Path, *scenes: Scene) -> list[dict[str, Any]]:
    on = stage(folder)
    return [{"key": s.name, **outcome.judged(await on.play(s))} for s in scenes]


async def test_a_turn_is_answered_and_the_same_again_when_played_again(tmp_path: Path) -> None:
    first, second = await judged(tmp_path, scene(TURN), scene(TURN))
    assert plain(first) == plain(second)
    (row,) = first["rows"]
    assert row["kind"] == "turn" and not row["over_agent"]
    assert row["onset_ms"] == pytest.approx(400 + (77 / 16) + 100, abs=15)  # the clip's lead
    assert row["cut_in_ms"] == []
    assert 0 < row["answered_ms"] < 2000
    assert first["agent"][0]["cause"] == "user"


async def test_an_interruption_stops_the_agent_and_the_context_knows_what_was_heard(
    tmp_path: Path,
) -> None:
    (found,) = await judged(tmp_path, scene(STOP, talks=True))
    (row,) = found["rows"]
    assert row["over_agent"] and row["stopped"]
    assert 1000 <= row["into_ms"] <= 1300
    assert 0 < row["ducked_ms"] <= row["silent_ms"] < 2000
    first, *answers = found["agent"]
    assert first["cut"] and first["heard_error"] == 0 and first["slips"] == []
    assert 4 <= len(first["heard"].split()) <= 16
    assert any(a["cause"] == "user" for a in answers)
    assert row["answered_ms"] is not None


async def test_the_page_the_file_and_the_comparison_of_a_run(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    conversations = await judged(tmp_path, scene(TURN), scene(STOP, talks=True, name="x-test-001"))
    about = summary(conversations, system="Parley <1>", split="test", seed=1, of_all=2)
    data, made = page.write(tmp_path / "run", about, conversations)
    text = made.read_text("utf-8")
    assert "Parley &lt;1&gt;" in text and "<1>" not in text
    assert "2 of 2 conversations" in text
    assert compare.read(tmp_path / "run") == json.loads(data.read_text("utf-8"))
    slower = json.loads(data.read_text("utf-8"))
    for figure in slower["figures"]:
        if figure["name"] == "silent":
            figure["p50"] = None
    verdicts = {d.what: d.verdict for d in compare.differences(about, slower)}
    assert verdicts["onset of an interruption → silent, P50"] == "worse"
    assert verdicts["onset of an interruption → silent, P95"] == "same"
    assert verdicts["yields to a noise"] == "", "neither run had one"
    with pytest.raises(ValueError, match="different conversations"):
        compare.differences(about, {**slower, "split": "train"})


# --- a run ----------------------------------------------------------------------------------------


def setting(folder: Path) -> run.Setting:
    return run.Setting(
        floor_stage.make, folder / "cache", floor_stage.AUDIO, folder / "calls", told=True
    )


def test_a_run_over_processes_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("espeakng_loader")
    scenes = [scene(TURN), scene(TURN, name="x-test-001")]
    results = tmp_path / "results.jsonl"
    told: list[tuple[int, int]] = []
    tell = lambda *progress: told.append(progress)  # noqa: E731
    first = run.run(scenes[:1], setting(tmp_path), results, jobs=1, tell=tell)
    assert [c["scene"]["name"] for c in first] == ["x-test-000"]
    assert told[-1] == (1, 1)
    with results.open("a") as file:
        file.write('{"key": "half of a li')  # somebody pulled the plug
    seen: list[Scene] = []
    monkeypatch.setattr(run, "_play_all", lambda missing, *_: seen.extend(missing) or iter(()))
    again = run.run(scenes, setting(tmp_path), results)
    assert again == first, "what was played is kept"
    assert [s.name for s in seen] == ["x-test-001"]
    other = run.Setting(floor_stage.make, tmp_path, floor_stage.AUDIO, tmp_path, told=False)
    assert run.key(scenes[0], other) != run.key(scenes[0], setting(tmp_path))


async def test_the_sound_of_a_conversation_is_kept_with_both_sides(tmp_path: Path) -> None:
    played = await stage(tmp_path).play(scene(STOP, talks=True))
    path = run.keep(played, tmp_path / "calls")
    mono = audio.read(path, MIC_HZ)
    assert len(mono) == len(played.mic)
    row = outcome.judged(played)["rows"][0]
    before = mono[int((row["onset_ms"] - 400) * 16) : int((row["onset_ms"] - 100) * 16)]
    assert audio.level_dbfs(before) > -40, "the agent alone"


# --- the recogniser in virtual time ---------------------------------------------------------------


DIGITS = Grammar("digits", "(one | two | three | four | five)+")


def recognise(recognizer: LockstepRecognizer, clip: str) -> list[tuple[int, Hypothesis]]:
    """What was found, and when, in ms after the end of the clip's utterance."""
    stream = recognizer.stream()
    stream.set_grammar(DIGITS)
    pcm = audio.read(floor_stage.AUDIO / clip, MIC_HZ)
    pcm = np.concatenate([pcm, np.zeros(MIC_HZ, np.int16)])
    frames = [pcm[i : i + MIC_FRAME] for i in range(0, len(pcm) - MIC_FRAME, MIC_FRAME)]
    end = len(frames) - 40
    found = []
    stream.begin_utterance()
    for number, frame in enumerate(frames):
        stream.push(frame)
        if number == end:
            stream.end_utterance()
        found += [((number - end) * 20, h) for h in stream.poll()]
    return found


async def test_real_decoding_at_a_modelled_pace() -> None:
    pytest.importorskip("pocketsphinx")
    quick = LockstepRecognizer(Pace(load_grammar=0.1, final_ms=10.0, way_ms=0.0))
    slow = LockstepRecognizer(Pace(load_grammar=0.1, final_ms=210.0, way_ms=0.0))
    with pytest.raises(RuntimeError, match="start"):
        quick.stream()
    await quick.start()
    await slow.start()
    early = recognise(quick, "human_digits_3.flac")
    assert early == recognise(quick, "human_digits_3.flac"), "the same every time"
    late = recognise(slow, "human_digits_3.flac")
    assert early[-1][1] == late[-1][1]
    assert early[-1][1].final and early[-1][1].text == "three"
    assert 20 <= early[-1][0] <= 300, "a first utterance is decoded anew at its end"
    assert late[-1][0] - early[-1][0] == 200
    await quick.aclose()
    await slow.aclose()
