"""What is left of the caller's words while the agent speaks: three ways to treat its echo.

    python scripts/measure_echo.py [--only still moving loud] [--json out.json]

Recorded callers speak over the agent's voice, which comes back out of a small loudspeaker through a
room (``parley.bench.floor.echo_room``). The microphone goes to the recogniser as it is, through
LiveKit's AudioProcessingModule (WebRTC's AEC3, 10 ms at a time, told the delay), and through
``parley_speech.echo``. Told are word errors, how much of a lone echo is left, and the time a frame
takes. ``moving`` is what lies between an agent and a caller's loudspeaker in truth: a jitter buffer
that lets the delay jump by 20 ms now and then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from livekit import rtc
from numpy.typing import NDArray
from rich.progress import track

from parley.bench.floor.echo_room import EchoRoom
from parley.bench.floor.lockstep import LockstepRecognizer, Pace
from parley.bench.floor.scene import EchoPath
from parley.minds import flow_grammar, flow_script, flow_text
from parley_speech import audio
from parley_speech.echo import EchoCanceller
from parley_speech.tts.espeak import EspeakSynthesizer
from parley_speech.types import MIC_FRAME, MIC_HZ, SPEAKER_FRAME, Grammar, Pcm

AUDIO = Path(__file__).resolve().parents[1] / "tests" / "data" / "audio"
ANSWER = (
    "Thank you, I have found it. Your order was shipped on Tuesday from our warehouse. It is "
    "travelling with North Star Parcel, and it left their sorting centre early this morning. You "
    "can expect it this Thursday, between nine in the morning and one in the afternoon."
)
BEFORE_S = 4.0
"""The echo sounds alone for so long, as it does when somebody speaks over an answer."""
PATHS = {
    "still": ("−12 dB, 120 ms", -12.0, 120, False),
    "moving": ("−12 dB, 120 ms, moving", -12.0, 120, True),
    "loud": ("−6 dB, 120 ms, moving", -6.0, 120, True),
}
Clean = Callable[[Pcm, Pcm], Pcm]


@dataclass(frozen=True)
class Clip:
    name: str
    words: tuple[str, ...]
    pcm: Pcm


def clips() -> list[Clip]:
    """Recorded sentences of three words and more, of callers and of announcements."""
    entries = json.loads((AUDIO / "manifest.json").read_text())
    entries = entries["clips"] if isinstance(entries, dict) else entries
    found = []
    for entry in entries:
        words = flow_text.tokens(entry.get("text") or "")
        if 3 <= len(words) <= 12 and entry["file"].startswith(("caller_", "human_", "read_")):
            pcm = audio.read(AUDIO / entry["file"], MIC_HZ)
            found.append(Clip(entry["file"], words, pcm))
    return found


# --- the three ways -------------------------------------------------------------------------


def nothing(_: float) -> Clean:
    return lambda mic, far: mic


def ours(_: float) -> Clean:
    canceller = EchoCanceller()
    return lambda mic, far: canceller.process(mic, far).pcm


def webrtc(delay_ms: float) -> Clean:
    apm = rtc.AudioProcessingModule(
        echo_cancellation=True, noise_suppression=False, high_pass_filter=False,
        auto_gain_control=False,
    )  # fmt: skip

    def clean(mic: Pcm, far: Pcm) -> Pcm:
        out = []
        for near, back in zip(np.split(mic, 2), np.split(far, 2), strict=True):
            reverse, stream = _frame(back), _frame(near)
            apm.process_reverse_stream(reverse)
            apm.set_stream_delay_ms(round(delay_ms))
            apm.process_stream(stream)
            out.append(np.frombuffer(bytes(stream.data), np.int16))
        return np.concatenate(out)

    return clean


def _frame(pcm: Pcm) -> rtc.AudioFrame:
    return rtc.AudioFrame(pcm.tobytes(), MIC_HZ, 1, len(pcm))


WAYS = {"as it is": nothing, "WebRTC's AEC3": webrtc, "ours": ours}


# --- a scene --------------------------------------------------------------------------------


def scene(
    clip: Pcm | None, voice: Pcm, gain_db: float, delay_ms: int, moving: bool, seed: int
) -> Iterator[tuple[Pcm, Pcm]]:
    """Frames of (microphone, loudspeaker): the agent's voice for 4 s, then the clip over it."""
    rng = np.random.default_rng(seed)
    room = EchoRoom(EchoPath(gain_db=gain_db, delay_ms=delay_ms, drift_ppm=0, room_ms=120), seed)
    reference = EchoRoom(EchoPath(gain_db=0, delay_ms=0, drift_ppm=0, room_ms=0), seed)
    length = round(BEFORE_S * MIC_HZ) + (0 if clip is None else len(clip) + MIC_HZ // 2)
    near = np.zeros(length)
    if clip is not None:
        near[round(BEFORE_S * MIC_HZ) :][: len(clip)] = clip
    held: list[NDArray[np.float64]] = []
    for n in range(length // MIC_FRAME):
        at = n * SPEAKER_FRAME % (len(voice) - SPEAKER_FRAME)
        room.push(voice[at : at + SPEAKER_FRAME])
        reference.push(voice[at : at + SPEAKER_FRAME])
        held.append(room.take())
        if moving and n % 75 == 74:  # every 1.5 s the buffer grows or shrinks by a frame
            held = [*held, held[-1]] if rng.random() < 0.5 or len(held) < 2 else held[1:]
        mic = near[n * MIC_FRAME : (n + 1) * MIC_FRAME] + held.pop(0) + rng.normal(0, 5, MIC_FRAME)
        yield audio.to_pcm(mic), audio.to_pcm(reference.take())


def heard(recognizer: LockstepRecognizer, pcm: Pcm, grammar: Grammar | None) -> list[str]:
    """The words of a stretch of sound."""
    stream = recognizer.stream()
    stream.set_grammar(grammar)
    stream.begin_utterance()
    for at in range(0, len(pcm) - MIC_FRAME + 1, MIC_FRAME):
        stream.push(pcm[at : at + MIC_FRAME])
    stream.end_utterance()
    while True:
        stream.push(np.zeros(MIC_FRAME, np.int16))  # its clock
        for found in stream.poll():
            if found.final:
                return list(flow_text.tokens(found.text))


def errors(said: tuple[str, ...], found: list[str]) -> int:
    """Levenshtein's distance in words."""
    row = list(range(len(found) + 1))
    for i, word in enumerate(said, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (word != other))
    return row[-1]


# --- the measurement ------------------------------------------------------------------------


@dataclass
class Tally:
    said: int = 0
    wrong: int = 0
    left_db: float | None = None
    """Of an echo alone, after the first two seconds."""
    frame_ms: float = 0.0


def left_db(
    make: Callable[[float], Clean], voice: Pcm, path: tuple[float, int], moving: bool
) -> float:
    clean, before, after = make(path[1]), 0.0, 0.0
    for n, (mic, far) in enumerate(scene(None, voice, *path, moving, 3)):
        out = clean(mic, far)
        if n >= 100:
            before += float(np.square(mic.astype(float)).sum())
            after += float(np.square(out.astype(float)).sum())
    return 10 * math.log10(max(after, 1.0) / before)


def measure(
    recognizer: LockstepRecognizer, way: str, path: tuple[float, int], moving: bool,
    found: list[Clip], voice: Pcm, grammar: Grammar | None,
) -> Tally:  # fmt: skip
    tally, took, frames = Tally(), 0.0, 0
    for seed, clip in enumerate(found):
        clean, out = WAYS[way](path[1]), []
        for mic, far in scene(clip.pcm, voice, *path, moving, seed):
            began = time.perf_counter()
            out.append(clean(mic, far))
            took += time.perf_counter() - began
            frames += 1
        sound = np.concatenate(out)[round((BEFORE_S - 0.2) * MIC_HZ) :]
        words = heard(recognizer, sound, grammar if clip.name.startswith("caller_") else None)
        tally.said += len(clip.words)
        tally.wrong += errors(clip.words, words)
    tally.frame_ms = took / frames * 1000
    tally.left_db = left_db(WAYS[way], voice, path, moving)
    return tally


async def measure_all(paths: list[str]) -> tuple[Tally, list[dict[str, object]]]:
    voice = await _voice()
    grammar = _grammar()
    recognizer = LockstepRecognizer(Pace(0.0, 0.0, 0.0, 0.0, 0.0))
    await recognizer.start()
    table: list[dict[str, object]] = []
    try:
        found = clips()
        quiet = Tally()
        for clip in found:
            use = grammar if clip.name.startswith("caller_") else None
            words = heard(recognizer, clip.pcm, use)
            quiet.said += len(clip.words)
            quiet.wrong += errors(clip.words, words)
        print(f"{len(found)} clips, {quiet.said} words; without any echo {quiet.wrong} wrong")
        for path, way in track([(PATHS[only], way) for only in paths for way in WAYS]):
            name, gain_db, delay_ms, moving = path
            tally = measure(recognizer, way, (gain_db, delay_ms), moving, found, voice, grammar)
            table.append({"path": name, "way": way, **vars(tally)})
    finally:
        await recognizer.aclose()
    return quiet, table


def main(out: Path | None, paths: list[str]) -> None:
    quiet, table = asyncio.run(measure_all(paths))
    for row in table:
        print(
            f"{row['path']!s:24} {row['way']!s:14} words wrong {row['wrong']:3} of {row['said']} "
            f"| echo alone {row['left_db']:6.1f} dB | {row['frame_ms']:.3f} ms a frame"
        )
    if out is not None:
        out.write_text(json.dumps({"without": vars(quiet), "rows": table}, indent=1))


async def _voice() -> Pcm:
    voice = EspeakSynthesizer()
    await voice.start()
    stream = voice.stream()
    stream.push(ANSWER)
    stream.end()
    parts = [chunk.pcm async for chunk in stream]
    await stream.aclose()
    await voice.aclose()
    return np.concatenate(parts)


def _grammar() -> Grammar | None:
    """What the shop's front desk expects after an answer."""
    script = flow_script.shipped("front_desk")
    return flow_grammar.grammar(script, "more")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--only", nargs="+", choices=PATHS, default=list(PATHS))
    arguments = parser.parse_args()
    main(arguments.json, arguments.only)
