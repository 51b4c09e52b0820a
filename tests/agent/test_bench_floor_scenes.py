"""The conversations of the floor's bench: drawn by seed, apart by voice and clip, and sayable."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from parley.bench.floor import families, noises
from parley.bench.floor.play import DESK
from parley.bench.floor.scene import SPLITS, Scene, Split
from parley.bench.floor.texts import TEXTS
from parley.minds.flow import FlowMind
from parley_speech.types import MIC_HZ


def everything(seed: int = 1) -> list[Scene]:
    return [scene for split in SPLITS for scene in families.scenes(split, seed)]


def test_there_are_enough_and_their_names_are_their_own() -> None:
    scenes = everything()
    assert len(scenes) >= 300
    assert len(families.scenes("test")) >= 300
    assert len({scene.name for scene in scenes}) == len(scenes)


def test_the_same_seed_gives_the_same_conversations_and_another_one_others() -> None:
    assert everything(1) == everything(1)
    same = [a == b for a, b in zip(everything(1), everything(2), strict=True)]
    assert not any(same)


def test_a_family_draws_the_same_whether_others_are_there_or_not() -> None:
    alone = families.scenes("test", only=["pauses"])
    assert alone == [s for s in families.scenes("test") if s.family == "pauses"]
    with pytest.raises(ValueError, match="no family pause; there are"):
        families.scenes("test", only=["pause"])


@pytest.mark.parametrize("what", ["voices", "noises"])
def test_no_voice_and_no_noise_is_in_two_splits(what: str) -> None:
    splits = families.cast()["splits"]
    for one, other in combinations(SPLITS, 2):
        assert not set(splits[one][what]) & set(splits[other][what])


def test_no_clip_is_in_two_splits() -> None:
    splits = families.cast()["splits"]
    clips = {s: {c for some in splits[s]["clips"].values() for c in some} for s in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not clips[one] & clips[other]


def test_every_speaker_is_of_the_scenes_split() -> None:
    for scene in everything():
        known = families.cast()["splits"][scene.split]["voices"]
        for cue in scene.cues:
            assert cue.speaker.voice in (*known, "clip", "noise"), scene.name


def test_a_scene_is_read_back_as_it_was() -> None:
    for scene in everything()[::17]:
        assert Scene.of(scene.as_json()) == scene


def test_pauses_are_as_many_and_as_long_as_the_family_says() -> None:
    for scene in families.scenes("test", only=["pauses"]):
        for cue in scene.cues:
            assert len(cue.pauses_s) == len(cue.pieces) - 1
            assert all(0.3 <= pause <= 1.5 for pause in cue.pauses_s)


def test_every_text_and_every_noise_is_known() -> None:
    for scene in everything():
        assert scene.reply in TEXTS
        if scene.background is not None:
            assert scene.background.noise in noises.STEADY
        for cue in scene.cues:
            if cue.speaker.voice == "noise":
                assert cue.say in noises.BURSTS or cue.say.endswith(".flac")


def test_what_callers_at_the_desk_say_is_whole_in_its_flow() -> None:
    desk = FlowMind(DESK).session()
    said = {
        " ".join(cue.pieces)
        for scene in everything()
        if scene.hearing == "desk"
        for cue in scene.cues
        if cue.kind == "turn" and cue.speaker.voice != "clip"
    }
    unknown = [text for text in said if (desk.completeness(text) or 0.0) < 0.5]
    assert not unknown


def test_the_beginnings_of_numbers_and_addresses_are_open() -> None:
    desk = FlowMind(DESK).session()
    for text in (
        "my order number is",
        "my order number is one two three",
        "i live at twenty two",
    ):
        assert desk.completeness(text) == pytest.approx(0.2), text


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"surprise": 1}, "unknown"),
        ({"cues": [{"kind": "song", "when": {"start": 0}}]}, "song"),
        ({"cues": [{"kind": "turn", "when": {"later": 0}}]}, "later"),
        ({"cues": [{"kind": "turn", "when": {"start": 0}, "what": 1}]}, "what"),
    ],
)
def test_a_family_that_cannot_be_played_is_refused(change: dict[str, object], error: str) -> None:
    family = {"family": "x", "cases": {"test": 1}, "cues": []}
    with pytest.raises(ValueError, match=error):
        families.check({**family, **change}, "x.yaml")


@pytest.mark.parametrize("split", SPLITS)
def test_cases_are_dealt_different_words(split: Split) -> None:
    said = [scene.cues[0].say for scene in families.scenes(split, only=["interruptions_early"])]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("name", sorted(noises.BURSTS))
def test_bursts_are_seeded_and_loud(name: str) -> None:
    one, again, other = (noises.burst(name, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    peak = 20 * np.log10(np.abs(one.astype(float)).max() / 32768)
    assert peak == pytest.approx(noises.BURST_PEAK_DBFS, abs=0.1)


@pytest.mark.parametrize("name", sorted(noises.STEADY))
def test_steady_noise_lies_below_the_voice_by_the_ratio(name: str) -> None:
    pcm = noises.steady(name, 4.0, 10.0, seed=3)
    assert len(pcm) == 4 * MIC_HZ
    rms = 20 * np.log10(np.sqrt(np.mean(pcm.astype(float) ** 2)) / 32768)
    assert rms == pytest.approx(-30.0, abs=0.3)
