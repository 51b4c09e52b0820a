"""How much the recognisers understand, and what it costs: the table of docs/recognition.md.

    python scripts/measure_recognition.py [--split test] [--clips tests/data/audio] [--most 200]

Every sound goes through the decoder of a call in frames of 20 ms, 300 ms of quiet before it and
400 ms behind it, each as the first of a call. Recorded clips and the bench's callers in open
English: words wrong, by edit distance, figures and punctuation written out. The bench's callers in
the grammar of its desk: sentences that mean the right thing and are trusted; noises and side talk
that are trusted all the same. Each at 16 kHz and in the band of a telephone. CPU time is of this
process, on one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soxr

from parley.bench.floor import families, noises
from parley.bench.floor.play import DESK
from parley.bench.floor.utterances import Studio
from parley.dialogue.ears import EarPolicy
from parley.minds import flow_match, flow_numbers, flow_text
from parley.minds.flow import FlowMind
from parley.minds.flow_slots import Heard as HeardWords
from parley_speech import audio
from parley_speech.asr import child
from parley_speech.asr.grammar import jsgf_source
from parley_speech.asr.heard import Heard
from parley_speech.asr.moonshine.recognizer import find_model
from parley_speech.types import MIC_FRAME, MIC_HZ, Pcm

OPTIONS = {
    "pocketsphinx": {"pronunciations": {}, "decoder": {}},
    "moonshine": {"folder": str(find_model()), "threads": 1},
}
LONGEST_S = 15.0
DIGITS = {str(value): word for value, word in enumerate(flow_numbers.ONES)}


@dataclass
class Count:
    """What one recogniser made of one kind of sounds."""

    sounds: int = 0
    words: int = 0
    wrong: int = 0
    understood: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Sound:
    pcm: Pcm
    text: str
    kind: str


def written_out(text: str) -> list[str]:
    """Words alone: no case, no punctuation, digits one by one."""
    bare = re.sub(r"[^a-z0-9' ]", " ", text.lower().replace("-", " "))
    return [DIGITS.get(w, w) for word in bare.split() for w in (word if word.isdigit() else [word])]


def errors(said: list[str], heard: list[str]) -> int:
    """Words to insert, drop or replace."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(heard, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def final(models: child.Models, source: str, pcm: Pcm) -> tuple[Heard, float]:
    """The last word of a stream that was opened for it, and the CPU time."""
    quiet = np.random.default_rng(0).normal(0, 8, MIC_HZ).astype(np.int16)
    sound = np.concatenate([quiet[: MIC_HZ * 3 // 10], pcm, quiet[: MIC_HZ * 4 // 10]])
    decoder = models.decoder()
    decoder.prepare(source)
    began = time.process_time()
    decoder.begin(0, source)
    found: list[Heard] = []
    for frame in audio.frames(sound, MIC_FRAME):
        decoder.push(frame.tobytes())
        while decoder.busy:
            found += decoder.step()
    decoder.end()
    while not (found and found[-1].final):
        found += decoder.step()
    took = time.process_time() - began
    decoder.close()
    return found[-1], took


def clips(folder: Path) -> Iterator[Sound]:
    for entry in json.loads((folder / "manifest.json").read_text("utf-8")):
        if entry["text"]:
            yield Sound(audio.read(folder / entry["file"], MIC_HZ), entry["text"], "recorded")


async def callers(studio: Studio, split: str, hearing: str, most: int) -> list[Sound]:
    """Different sounds of the bench's callers, evenly over its conversations."""
    sounds: dict[object, Sound] = {}
    for scene in families.scenes(split, 1):
        for number, cue in enumerate(scene.cues):
            key = (cue.say, cue.speaker, scene.seed if cue.kind == "noise" else 0)
            if key in sounds or scene.hearing != hearing:
                continue
            if cue.kind == "noise":
                named = cue.speaker.voice == "clip" or cue.say.endswith(".flac")
                pcm = (
                    studio.recording(cue.say)
                    if named
                    else noises.burst(cue.say, scene.seed + number)
                )
                sounds[key] = Sound(audio.scaled(pcm, cue.gain_db), "", cue.kind)
            else:
                said = await studio.utter(cue)
                sounds[key] = Sound(said.pcm, said.text, cue.kind)
    chosen = list(sounds.values())
    step = max(1, -(-len(chosen) // most))
    return chosen[::step]


def telephone(pcm: Pcm) -> Pcm:
    """300 to 3400 Hz or so: down to 8 kHz and back."""
    narrow = soxr.resample(pcm.astype(np.float32), MIC_HZ, 8000)
    return audio.to_pcm(soxr.resample(narrow, 8000, MIC_HZ))


def in_open_english(models: child.Models, sounds: list[Sound], *, narrow: bool) -> Count:
    count = Count()
    for sound in sounds:
        if len(sound.pcm) > LONGEST_S * MIC_HZ or not sound.text:
            continue
        heard, cpu_s = final(models, "", telephone(sound.pcm) if narrow else sound.pcm)
        said = written_out(sound.text)
        count.sounds += 1
        count.words += len(said)
        count.wrong += errors(said, written_out(heard.text))
        count.seconds += len(sound.pcm) / MIC_HZ
        count.cpu_s += cpu_s
    return count


def in_a_grammar(models: child.Models, sounds: list[Sound], *, narrow: bool) -> tuple[Count, Count]:
    """(sentences of the desk, everything else)."""
    mind = FlowMind(DESK)
    grammar = mind.session().grammar()
    assert grammar is not None, "the desk has one"
    patterns = [mind.script.patterns[p] for o in mind.script.options("desk") for p in o.phrases]
    source, policy = jsgf_source(grammar), EarPolicy()

    def meaning(text: str) -> object:
        found = flow_match.best(patterns, HeardWords(flow_text.tokens(text)))
        return None if found is None else (found[0], found[1].slots)

    ours, others = Count(), Count()
    for sound in sounds:
        if len(sound.pcm) > LONGEST_S * MIC_HZ:
            continue
        meant = meaning(sound.text) if sound.text else None
        heard, cpu_s = final(models, source, telephone(sound.pcm) if narrow else sound.pcm)
        trusted = bool(heard.text) and policy.trusts(heard.text, heard.confidence)
        count = others if meant is None else ours
        count.sounds += 1
        count.seconds += len(sound.pcm) / MIC_HZ
        count.cpu_s += cpu_s
        if meant is None and sound.kind not in ("noise", "side"):
            count.sounds -= 1  # a nod or a lone "no": understood or not, nothing to compare with
            continue
        count.understood += trusted and (meaning(heard.text) is not None if meant is None
                                         else meaning(heard.text) == meant)  # fmt: skip
    return ours, others


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--split", default="test")
    arguments.add_argument("--clips", type=Path, default=Path("tests/data/audio"))
    arguments.add_argument("--cache", type=Path, default=Path("out/bench/floor/cache"))
    arguments.add_argument("--most", type=int, default=200, help="sounds of a kind")
    given = arguments.parse_args()
    studio = Studio(given.cache, given.clips)
    recorded = list(clips(given.clips))
    spoken = asyncio.run(callers(studio, given.split, "open", given.most))
    desk = asyncio.run(callers(studio, given.split, "desk", given.most))
    print("recogniser    band  what                       sounds   result   CPU s per s of sound")
    for name, options in OPTIONS.items():
        models = child.ENGINES[name](options)
        for narrow in (False, True):
            head = f"{name:13s} {'8 kHz' if narrow else '16 kHz':6s}"
            for what, sounds in (("recorded", recorded), ("callers, open", spoken)):
                c = in_open_english(models, sounds, narrow=narrow)
                result = f"{c.wrong}/{c.words} words wrong ({100 * c.wrong / c.words:.0f} %)"
                print(f"{head} {what:25s} {c.sounds:5d}   {result}   {c.cpu_s / c.seconds:.2f}")
            found = in_a_grammar(models, desk, narrow=narrow)
            for what, c in zip(("callers, desk", "noise, side talk"), found, strict=True):
                result = f"{c.understood} taken for a sentence of the desk"
                cost = c.cpu_s / max(c.seconds, 1e-9)
                print(f"{head} {what:25s} {c.sounds:5d}   {result}   {cost:.2f}", flush=True)


if __name__ == "__main__":
    main()
