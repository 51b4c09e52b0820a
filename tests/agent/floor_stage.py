"""A stage for tests of the floor's bench: a call's engine, and an agent that says little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from parley.bench.floor.lockstep import LockstepRecognizer
from parley.bench.floor.play import Stage
from parley.bench.floor.scene import Cue, Scene, Speaker
from parley.bench.floor.texts import TEXTS
from parley.bench.floor.utterances import Studio
from parley.bench.instant import Rendering
from parley.dialogue import events as ev
from parley.dialogue.ears import Ears
from parley.dialogue.engine import Engine
from parley.dialogue.policy import FloorPolicy
from parley.minds.base import Mind
from parley_speech.echo import EchoCanceller
from parley_speech.overlap import OverlapClassifier
from parley_speech.types import SPEAKER_HZ, AudioChunk, Recognizer, Synthesizer, WordMark
from parley_speech.vad.fusion import FusionVad

AUDIO = Path(__file__).parents[1] / "data" / "audio"
STOP = Cue("interruption", "agent", 1.0, "caller_order_status.flac", Speaker("clip"))
TURN = Cue("turn", "start", 0.4, "caller_order_status.flac", Speaker("clip"), into_frame=77)


async def make(
    mind: Mind,
    voice: Synthesizer,
    recognizer: Recognizer,
    on_event: Callable[[ev.EngineEvent], None],
    policy: FloorPolicy | None,
) -> Engine:
    ears = Ears(FusionVad(), recognizer.stream(), EchoCanceller(), OverlapClassifier())
    return Engine(ears, mind.session(), voice, on_event, policy=policy)


def buzz(text: str) -> Rendering:
    """Something like a voice: a buzz in syllables, a word every 250 ms."""
    words = text.split()
    each = SPEAKER_HZ // 4
    t = np.arange(each * len(words)) / SPEAKER_HZ
    rng = np.random.default_rng(len(text))
    pulses = np.sin(2 * np.pi * 110 * t) ** 9 * (1.2 + np.sin(2 * np.pi * 4 * t))
    pcm = (4000 * pulses + 300 * rng.standard_normal(len(t))).astype(np.int16)
    marks = []
    at = 0
    for number, word in enumerate(words):
        marks.append(WordMark(word, at, at + len(word), number * each, (number + 1) * each))
        at += len(word) + 1
    return Rendering(text, (AudioChunk(pcm, tuple(marks)),))


def renderings() -> dict[str, Rendering]:
    return {text: buzz(text) for text in TEXTS.values()}


def stage(folder: Path, recognizer: LockstepRecognizer | None = None) -> Stage:
    """Without a recogniser the words are told."""
    return Stage(
        make,
        recognizer or LockstepRecognizer(),
        Studio(folder, AUDIO),
        renderings(),
        told=recognizer is None,
    )


def scene(*cues: Cue, talks: bool = False, name: str = "x-test-000") -> Scene:
    agent = "talks" if talks else "answers"
    reply = "notice" if talks else "short"
    return Scene(name, "x", "test", 1, "desk", agent, reply, cues, tail_s=1.0)  # type: ignore[arg-type]
