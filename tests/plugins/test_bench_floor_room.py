"""``parley bench floor --room``: its line in a microphone, its command, and one real room."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from livekit.plugins.parley.bench import floor_room, floor_room_caller
from livekit.plugins.parley.cli import app
from typer.testing import CliRunner

from parley.bench.floor.line import Line
from parley.bench.floor.scene import Cue, Scene, Speaker
from parley.bench.floor.utterances import Utterance, Voiced
from parley.bench.relay import Impairment
from parley_speech.types import MIC_FRAME, MIC_HZ, SPEAKER_FRAME

CLIPS = Path(__file__).parents[1] / "data" / "audio"
CUE = Cue("backchannel", "agent", 0.6, "okay", Speaker("espeak:en-us"))
SCENE = Scene(
    "nod-validation-000", "nod", "validation", 1, "open", "talks", "notice", (CUE,), tail_s=1.5
)


def line(cue: Cue) -> Line:
    sound = Utterance(np.full(MIC_HZ // 10, 8000, np.int16), (Voiced(0, 1600, "x"),), "x")
    return Line(replace(SCENE, cues=(cue,), tail_s=0.2), [sound], 5.0)


def test_the_microphone_brings_the_line_in_halves_of_its_ticks() -> None:
    wire = line(replace(CUE, kind="noise", anchor="start", s=0.1))
    mixer = floor_room_caller.LineMixer(wire)
    half = MIC_FRAME // 2
    assert not mixer.frame(0, half, 100.0).any() and wire.now == 0  # nobody is there yet
    mixer.begin()
    heard = [mixer.frame(half * n, half, 100.0) for n in range(1, 200) if not mixer.over.is_set()]
    assert mixer.began == pytest.approx(100.0 + half / MIC_HZ)
    assert not mixer.torn
    sent = np.concatenate(heard)
    assert np.array_equal(sent, np.concatenate(wire.mic)[: len(sent)])
    assert abs(sent).max() > 7000
    assert not mixer.frame(half * 500, half, 100.0).any()  # it is over


def test_the_line_hears_what_the_room_brings_and_nothing_old() -> None:
    mixer = floor_room_caller.LineMixer(line(CUE))
    mixer.begin()
    gate = floor_room_caller.Gate(mixer)
    for number in range(30):  # a burst after a stall
        gate.push(np.full(SPEAKER_FRAME // 2, number, np.int16), 0.0)
    assert set(mixer._hear()) == {22, 23}
    for _ in range(3):
        mixer._hear()
    assert not mixer._hear().any()


def test_a_stall_that_moved_the_schedule_is_noticed() -> None:
    mixer = floor_room_caller.LineMixer(line(CUE))
    mixer.begin()
    half = MIC_FRAME // 2
    for n in range(4):
        mixer.frame(half * n, half, 100.0)
    assert not mixer.torn
    mixer.frame(half * 4, half, 100.3)
    assert mixer.torn


def test_what_was_played_is_known_by_scene_and_network() -> None:
    keys = {
        floor_room.key(scene, network, seed)
        for scene in (SCENE, replace(SCENE, seed=2))
        for network in (Impairment(), Impairment(0.03))
        for seed in (1, 2)
    }
    assert len(keys) == 8


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--loss", "100"), "percent from 0 to below 100"),
        (("--delay", "-1"), "milliseconds from 0 on"),
        (("--told",), "no --system, --told, --policy"),
        (("--system", "stock"), "no --system, --told, --policy"),
    ],
)
def test_what_a_room_cannot_do_is_told(
    arguments: tuple[str, ...], error: str, tmp_path: Path
) -> None:
    asked = ["bench", "floor", "--room", "--every", "16", *arguments, "--out", str(tmp_path)]
    result = CliRunner().invoke(app, asked, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 2
    assert error in " ".join(result.output.replace("│", " ").split())


@pytest.mark.room
@pytest.mark.slow
async def test_a_scene_in_a_room_over_a_bad_network(tmp_path: Path) -> None:
    """The agent is asked to speak, a user nods, and all of it was heard through the relay."""
    place = floor_room.Place(tmp_path / "run", tmp_path / "cache", CLIPS)
    network = Impairment(0.02, 20, 10)
    try:
        found, run = await floor_room.play_all([SCENE], place, network, clicks=4)
    except floor_room.NoBadNetwork as error:
        pytest.skip(str(error))
    assert len(found) == 1, run.failures
    (row,) = found[0]["rows"]
    assert row["kind"] == "backchannel" and row["over_agent"]
    assert found[0]["agent"][0]["cause"] == "instructed"
    assert run.packets > 200 and 0 < run.lost < run.packets / 4
    # Media had no other way: a click passes the relay there and back.
    assert run.trip_ms is not None and run.trip_ms > 2 * network.delay_ms
    assert "2 % loss" in run.words()
    kept = place.results.read_text().splitlines()
    assert [json.loads(one)["key"] for one in kept] == [floor_room.key(SCENE, network, 1)]
    again, _ = await floor_room.play_all([SCENE], place, network)
    assert again == found  # kept, and not played anew
