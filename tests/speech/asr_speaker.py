"""Says recorded clips into a recogniser's stream, as fast as it goes or in real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parley_speech import audio
from parley_speech.asr.grammar import COURTESIES, from_phrases
from parley_speech.asr.process import ChildStream
from parley_speech.types import MIC_FRAME, MIC_HZ, Hypothesis, Pcm

AUDIO = Path(__file__).parent.parent / "data/audio"
LEAD_MS, TAIL_MS = 400, 160
"""Room before the voice, and the silence after which a listener calls it a pause."""
HUM = 8.0
"""RMS of the room's noise, about -72 dBFS."""
FINAL_S = 60.0

FRONT_DESK = from_phrases(
    "front desk",
    [
        "I'd like to check my order status",
        "(check | what is) my order status",
        "where is my order",
        "can you check the status of my order number {digits:5}",
        "[my] order number [is] {digits:5}",
        "{digits:5}",
        "what are your opening hours",
        "when are you open",
        "hours",
        "[I'd like to] (talk | speak) to a person",
        "can you help me [with something]",
        "hello",
        "thank you [very much]",
        "goodbye",
        "{yesno}",
    ],
    after=COURTESIES,
)


def clip(name: str) -> Pcm:
    return audio.read(AUDIO / f"{name}.flac", MIC_HZ)


def in_a_room(pcm: Pcm, seed: int = 0) -> Pcm:
    """With quiet before and after it, and a little noise all over."""
    lead, tail = (np.zeros(MIC_HZ * ms // 1000, np.int16) for ms in (LEAD_MS, TAIL_MS))
    sound = np.concatenate([lead, pcm, tail]).astype(np.float64)
    return audio.to_pcm(sound + np.random.default_rng(seed).normal(0, HUM, len(sound)))


@dataclass(frozen=True)
class Timed:
    at_ms: float
    """Since the first frame was pushed."""
    hypothesis: Hypothesis


@dataclass(frozen=True)
class Answer:
    partials: list[Timed]
    final: Hypothesis
    final_ms: float
    """From the end of the utterance to its final."""


def push(stream: ChildStream, pcm: Pcm, *, begin: bool = True) -> None:
    """All frames; the utterance begins where the voice does."""
    for i, frame in enumerate(audio.frames(pcm, MIC_FRAME)):
        if begin and i == LEAD_MS // 20:
            stream.begin_utterance()
        stream.push(frame)


async def final_of(stream: ChildStream) -> tuple[list[Hypothesis], Hypothesis]:
    """Partials still to come, and the final."""
    found: list[Hypothesis] = []
    async with asyncio.timeout(FINAL_S):
        while not (found and found[-1].final):
            await asyncio.sleep(0.002)
            found += stream.poll()
    return found[:-1], found[-1]


async def say(stream: ChildStream, pcm: Pcm) -> Hypothesis:
    """At once; gives the final."""
    push(stream, in_a_room(pcm))
    stream.end_utterance()
    return (await final_of(stream))[1]


async def say_in_time(
    stream: ChildStream, pcm: Pcm, every_frame: Callable[[], None] = lambda: None
) -> Answer:
    """Frame by frame at the pace of a microphone."""
    partials: list[Timed] = []
    began = time.monotonic()
    for i, frame in enumerate(audio.frames(in_a_room(pcm), MIC_FRAME)):
        await asyncio.sleep(max(0.0, began + 0.02 * (i + 1) - time.monotonic()))
        if i == LEAD_MS // 20:
            stream.begin_utterance()
        stream.push(frame)
        every_frame()
        at_ms = 1000 * (time.monotonic() - began)
        partials += [Timed(at_ms, h) for h in stream.poll()]
    ended = time.monotonic()
    stream.end_utterance()
    _, final = await final_of(stream)
    return Answer(partials, final, 1000 * (time.monotonic() - ended))
