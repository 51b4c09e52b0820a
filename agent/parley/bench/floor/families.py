"""From a family of conversations, written in YAML, to the conversations: seeded and reproducible.

    family: interruptions
    about: what it is for, one line
    cases: {train: 20, validation: 12, test: 28}
    hearing: desk                   or open
    agent: talks                    or answers
    reply: harbour                  a text of ``texts.TEXTS``
    cues:
      - kind: interruption
        when: {agent: [0.3, 4.0]}   anchor and seconds: a number, or a range to draw from
        say: [stop, wait a minute]  dealt to the cases in turn
        clips: interruptions        every third case has a recording of that list instead
        pause_s: [0.3, 1.5]         for every "|" in what is said
        gain_db: [-6, 0]
        times: 3                    so many cues like this one, each drawn anew
    say: $NAME                      stands for a list of ``sayings.yaml``
    background: {noise: [white, babble], snr_db: [20, 10, 5]}
    echo: {gain_db: [-30, -6], delay_ms: [20, 400], drift_ppm: [-100, 100]}
    telephone: {loss: 0.03, jitter_ms: 60}

A list of texts is dealt in turn, so that each case has another one; a list of two numbers is a
range. Who speaks comes from ``cast.yaml``, which keeps voices and clips of the splits apart.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from parley.bench.floor.scene import (
    ANCHORS,
    KINDS,
    SPLITS,
    Background,
    Cue,
    EchoPath,
    Scene,
    Speaker,
    Split,
    Telephone,
)
from parley_speech.types import MIC_FRAME

Family = Mapping[str, Any]
_KNOWN = {
    "family", "about", "cases", "hearing", "agent", "reply", "cues", "tail_s", "background", "echo",
    "telephone",
}  # fmt: skip
_KNOWN_CUE = {"kind", "when", "say", "clips", "noise", "pause_s", "gain_db", "times"}
CLIP_EVERY = 3


def scenes(split: Split, seed: int = 1, only: Iterable[str] = ()) -> list[Scene]:
    """All conversations of a split, or those of the families in ``only``. Raises ValueError for a
    family that there is not."""
    wanted = set(only)
    known = {family["family"]: family for family in families()}
    if unknown := wanted - set(known):
        raise ValueError(f"no family {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [
        scene
        for name, family in known.items()
        if not wanted or name in wanted
        for scene in expand(family, split, seed)
    ]


def families() -> list[Family]:
    """As written, in the order of their names."""
    folder = files("parley.bench.floor").joinpath("scenarios")
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".scenes.yaml"))
    found = [_read(name) for name in names]
    return [family for several in found for family in several]


def _read(name: str) -> list[Family]:
    text = files("parley.bench.floor").joinpath("scenarios", name).read_text("utf-8")
    found = list(yaml.safe_load_all(text))
    for family in found:
        check(family, name)
    return found


def check(family: Family, where: str) -> None:
    """Raises ValueError for what a family may not hold."""
    if unknown := set(family) - _KNOWN:
        raise ValueError(f"{where}: unknown {sorted(unknown)}; known are {sorted(_KNOWN)}")
    for cue in family["cues"]:
        if unknown := set(cue) - _KNOWN_CUE:
            raise ValueError(f"{where}: a cue with {sorted(unknown)}; known: {sorted(_KNOWN_CUE)}")
        if cue["kind"] not in KINDS:
            raise ValueError(f"{where}: kind {cue['kind']!r} is none of {KINDS}")
        if len(cue["when"]) != 1 or next(iter(cue["when"])) not in ANCHORS:
            raise ValueError(f"{where}: when: {cue['when']} names none of {ANCHORS}")


def expand(family: Family, split: Split, seed: int) -> list[Scene]:
    """The family's conversations of one split."""
    return [_scene(family, split, seed, case) for case in range(family["cases"].get(split, 0))]


def _scene(family: Family, split: Split, seed: int, case: int) -> Scene:
    name = f"{family['family']}-{split}-{case:03d}"
    draw = _Draw(f"{seed}/{name}", case, split)
    cues = [
        draw.cue(cue, turn)
        for cue in family["cues"]
        for turn in range(int(draw.number(cue.get("times", 1))))
    ]
    return Scene(
        name=name,
        family=family["family"],
        split=split,
        seed=draw.seed,
        hearing=family.get("hearing", "desk"),
        agent=family.get("agent", "answers"),
        reply=draw.dealt(family.get("reply", "certainly")),
        cues=tuple(cues),
        tail_s=float(family.get("tail_s", 2.0)),
        background=draw.background(family.get("background")),
        echo=draw.echo(family.get("echo")),
        telephone=Telephone(**family["telephone"]) if "telephone" in family else None,
    )


class _Draw:
    """What one case draws and is dealt. The same case draws the same, whatever else there is."""

    def __init__(self, key: str, case: int, split: Split) -> None:
        self._rng = random.Random(key)
        self.seed = self._rng.getrandbits(31)
        self._case = case
        self._dealt = case + SPLITS.index(split)  # the splits begin at different texts
        self._cast = cast()["splits"][split]
        self._speaker = self._new_speaker()

    def number(self, value: Any) -> float:
        if isinstance(value, Sequence):
            low, high = value
            return self._rng.uniform(low, high)
        return float(value)

    def dealt(self, value: Any) -> Any:
        """One of a list, in turn."""
        value = named(value)
        return value[self._dealt % len(value)] if isinstance(value, list) else value

    def cue(self, cue: Mapping[str, Any], turn: int) -> Cue:
        self._dealt += 1
        anchor, seconds = next(iter(cue["when"].items()))
        say, speaker = self._what(cue, turn)
        return Cue(
            kind=cue["kind"],
            anchor=anchor,
            s=round(self.number(seconds), 3),
            say=say,
            speaker=speaker,
            pauses_s=self._pauses(say, cue.get("pause_s", 0.5)),
            gain_db=round(self.number(cue.get("gain_db", 0.0)), 1),
            into_frame=self._rng.randrange(MIC_FRAME),
        )

    def _what(self, cue: Mapping[str, Any], turn: int) -> tuple[str, Speaker]:
        """What is said or sounds, and by whom."""
        if "noise" in cue:
            names = named(cue["noise"])
            clips = self._cast["noises"]
            pool = [*names, *clips] if isinstance(names, list) else clips
            return self.dealt(pool), Speaker("noise")
        clips = self._cast["clips"].get(cue.get("clips", ""), [])
        if clips and ((self._case + turn) % CLIP_EVERY == 0 or "say" not in cue):
            return clips[self._dealt % len(clips)], Speaker("clip")
        other = cue["kind"] == "side"  # somebody else, further away
        return self.dealt(cue["say"]), self._new_speaker() if other else self._speaker

    def _new_speaker(self) -> Speaker:
        voice = self._rng.choice(self._cast["voices"])
        return Speaker(voice, self._rng.randint(35, 65), self._rng.randint(150, 200))

    def _pauses(self, say: str, seconds: Any) -> tuple[float, ...]:
        return tuple(round(self.number(seconds), 3) for _ in range(say.count("|")))

    def background(self, spec: Any) -> Background | None:
        if spec is None:
            return None
        case = self._case
        noises, levels = spec["noise"], spec["snr_db"]
        return Background(noises[case % len(noises)], levels[case // len(noises) % len(levels)])

    def echo(self, spec: Any) -> EchoPath | None:
        if spec is None:
            return None
        return EchoPath(**{name: round(self.number(value), 2) for name, value in spec.items()})


def named(value: Any) -> Any:
    """``$NAME`` is a list of ``sayings.yaml``."""
    return sayings()[value[1:]] if isinstance(value, str) and value.startswith("$") else value


@cache
def sayings() -> Mapping[str, list[str]]:
    text = files("parley.bench.floor").joinpath("scenarios", "sayings.yaml").read_text("utf-8")
    found: Mapping[str, list[str]] = yaml.safe_load(text)
    return found


@cache
def cast() -> Mapping[str, Any]:
    """Who is in which split."""
    text = files("parley.bench.floor").joinpath("scenarios", "cast.yaml").read_text("utf-8")
    found: Mapping[str, Any] = yaml.safe_load(text)
    return found
