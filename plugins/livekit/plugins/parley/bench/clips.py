"""The caller's sounds: recorded clips with their manifest, and listener's words from espeak-ng."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from livekit.plugins.parley.bench.trials import Clip

from parley.bench import scenarios
from parley.bench.instant import render
from parley.report.levels import sounds
from parley_speech import audio
from parley_speech.tts.espeak import EspeakSynthesizer
from parley_speech.types import MIC_HZ, SPEAKER_HZ

T = TypeVar("T")


class Clips:
    """A folder of sound files with its manifest. Raises ValueError for what is not there."""

    def __init__(self, folder: Path) -> None:
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            raise ValueError(
                f"{manifest} is missing: give --clips the folder of recorded speech "
                "(tests/data/audio in the repository)"
            )
        self.folder = folder
        self._about = {entry["file"]: entry for entry in json.loads(manifest.read_text())}

    def read(self, name: str, what: str = "speech", gain_db: float = 0.0) -> Clip:
        if name not in self._about:
            raise ValueError(f"{name} is not in the manifest of {self.folder}")
        first, last = self._about[name]["sound"]
        pcm = audio.read(self.folder / name, MIC_HZ)
        return Clip(name, pcm, (first, last), what, gain_db)

    @property
    def question(self) -> Clip:
        return self.read(scenarios.QUESTION)

    def interruptions(self, count: int, rng: random.Random) -> list[Clip]:
        """Each in turn, in a random order."""
        return [self.read(name) for name in _dealt(scenarios.INTERRUPTIONS, count, rng)]

    async def sounds(self, count: int, rng: random.Random) -> list[Clip]:
        """What must not stop the agent: three backchannels to two noises."""
        noises = [
            self.read(name, "noise", rng.choice(scenarios.NOISE_GAINS_DB))
            for name in _dealt(scenarios.NOISES, count * 2 // 5, rng)
        ]
        yes = self.read(scenarios.YES, "backchannel")
        nods = [yes, *await _nods()]
        backchannels = _dealt(nods, count - len(noises), rng)
        mixed = [*noises, *backchannels]
        rng.shuffle(mixed)
        return mixed


def _dealt(things: Sequence[T], count: int, rng: random.Random) -> list[T]:
    """``count`` of them, each as often as the others, give or take one."""
    dealt: list[T] = []
    while len(dealt) < count:
        dealt += rng.sample(list(things), len(things))
    return dealt[:count]


async def _nods() -> list[Clip]:
    clips = []
    voices = zip(scenarios.NOD_VOICES, scenarios.NOD_PITCH, strict=True)
    for voice, pitch in voices:
        synthesizer = EspeakSynthesizer(voice, pitch=pitch)
        await synthesizer.start()
        try:
            rendered = await render(scenarios.NOD_WORDS, synthesizer)
        finally:
            await synthesizer.aclose()
        for word, rendering in rendered.items():
            found = sounds(rendering.pcm, SPEAKER_HZ, join_ms=400)
            pcm = audio.resample(rendering.pcm, SPEAKER_HZ, MIC_HZ)
            sound = (found[0].start_s, found[-1].end_s)
            clips.append(Clip(f"{word} ({voice})", pcm, sound, "backchannel"))
    return clips
