"""Measures what the floor makes of a user's sounds over the agent's voice: docs/overlap.md.

    python scripts/measure_overlap.py [--split test] [--cache DIR] [--weights FILE] [--sweep]

Every sound goes through the ears of a call (detector, canceller with the agent's voice as its
reference, overlap classifier) and the real floor, without a recogniser: by sound alone. Times count
from the true onset of the sound; a network's and a jitter buffer's delays are not in them.

Splits, by speaker and by clip:

    validation   voices and noises that fit_overlap.py kept for it; the recorded clips that
                 `parley bench room` does not use. Here the formula's numbers were chosen (--sweep).
    test         the other voices and noises kept; the clips and the listener's words of the bench.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from fit_overlap_lines import opus
from fit_overlap_texts import BACKCHANNEL, INTERRUPTION, NOISE
from livekit.plugins.parley.bench.clips import Clips
from livekit.plugins.parley.bench.trials import Clip

from parley.bench import scenarios
from parley.dialogue.acts import Duck, Unduck, Yield
from parley.dialogue.ears import Ears
from parley.dialogue.floor import Floor
from parley.dialogue.percepts import Percept, Sound
from parley.minds.base import Cause
from parley_speech import audio
from parley_speech.echo import EchoCanceller
from parley_speech.overlap import OverlapClassifier
from parley_speech.overlap_fusion import TERMS, Terms, fuse
from parley_speech.overlap_lexicon import Words
from parley_speech.overlap_net import Weights, load, read
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, OverlapEvidence, Pcm
from parley_speech.vad.fusion import FusionVad

AUDIO = Path(__file__).parents[1] / "tests" / "data" / "audio"
KINDS = {BACKCHANNEL: "backchannels", INTERRUPTION: "interruptions", NOISE: "noises"}
SPLITS = {
    "validation": ("validation-espeak", "validation-kokoro", "validation-made"),
    "test": ("test-espeak", "test-kokoro", "test-made"),
}
RECORDED_NOISES = {"validation": ("noise_engine_idling.flac",), "test": scenarios.NOISES}
GAINS_DB = (0.0, -6.0, -12.0)
LEAD_S, TAIL_S = 0.6, 1.4
LINE_NOISE = 15.0  # amplitude, -67 dBFS


@dataclasses.dataclass(frozen=True)
class Heard:
    """One sound over the agent, ready for the ears."""

    group: str
    name: str
    kind: int
    pcm: Pcm
    onset_ms: float


@dataclasses.dataclass(frozen=True)
class Frame:
    """What the ears had after one frame; ``evidence`` is None where no overlap is."""

    t_ms: int
    voice: bool
    evidence: OverlapEvidence | None
    p_sound: float
    other: float
    """Log-odds that somebody else speaks: of the level alone, as nothing was heard before."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    ducked_ms: float
    yielded_ms: float
    back_ms: float
    """Until the agent was back at its full voice for the last time. All: inf for never."""


class NoRecognizer:
    """A recogniser that hears no words."""

    def begin_utterance(self) -> None: ...
    def push(self, frame: Pcm) -> None: ...
    def end_utterance(self) -> None: ...
    def set_grammar(self, grammar: object) -> None: ...
    def poll(self) -> list[object]:
        return []

    async def aclose(self) -> None: ...


# --- sounds ---------------------------------------------------------------------------------


def kept(cache: Path, split: str) -> Iterator[Heard]:
    """The scenes of fit_overlap.py that were kept from training."""
    for name in SPLITS[split]:
        for file in sorted(cache.glob(f"scenes-{name}-*.npz")):
            with np.load(file) as scenes:
                columns = (scenes[field] for field in ("pcm", "kind", "onset"))
                for pcm, kind, onset in zip(*columns, strict=True):
                    group = f"{name.split('-')[1]} {KINDS[int(kind)]}"
                    yield Heard(group, file.stem, int(kind), pcm, onset * 1000 / MIC_HZ)


def recorded(split: str, again: int) -> Iterator[Heard]:
    """Clips, each ``again`` times on another line."""
    clips = Clips(AUDIO)
    rng = np.random.default_rng(1)
    for clip in _clips(clips, split):
        kind = {"speech": INTERRUPTION, "backchannel": BACKCHANNEL, "noise": NOISE}[clip.what]
        what = "recorded" if clip.name.endswith(".flac") else "espeak bench"
        for turn in range(again):
            pcm, lead_s = _line(clip.pcm, GAINS_DB[turn % len(GAINS_DB)], rng)
            onset_ms = (lead_s + clip.sound[0]) * 1000
            yield Heard(f"{what} {KINDS[kind]}", clip.name, kind, pcm, onset_ms)


def _clips(clips: Clips, split: str) -> Iterable[Clip]:
    noises = [clips.read(name, "noise") for name in RECORDED_NOISES[split]]
    if split == "test":
        speech = [clips.read(name) for name in scenarios.INTERRUPTIONS]
        nods = asyncio.run(_nods(clips))
        return [*speech, *nods, *noises]
    manifest = json.loads((AUDIO / "manifest.json").read_text())
    known = {e["file"]: e for e in manifest if e["kind"] != "noise"}
    used = {*scenarios.INTERRUPTIONS, scenarios.YES}
    speech = [
        clips.read(name)
        for name, entry in known.items()
        if name not in used and len((entry["text"] or "two words").split()) >= 2
    ]
    return [*speech, *noises]


async def _nods(clips: Clips) -> list[Clip]:
    from livekit.plugins.parley.bench.clips import _nods as bench_nods

    return [clips.read(scenarios.YES, "backchannel"), *await bench_nods()]


def _line(pcm: Pcm, gain_db: float, rng: np.random.Generator) -> tuple[Pcm, float]:
    """Any place within a frame, a quiet line, a room's codec; and where the clip begins."""
    lead = int(LEAD_S * MIC_HZ) + int(rng.integers(MIC_FRAME))
    x = rng.standard_normal(lead + len(pcm) + int(TAIL_S * MIC_HZ)) * LINE_NOISE
    x[lead : lead + len(pcm)] += pcm * 10 ** (gain_db / 20)
    return audio.to_pcm(opus(x / 32768, 32_000) * 32768), lead / MIC_HZ


# --- the ears -------------------------------------------------------------------------------


def agent_voice(cache: Path) -> Pcm:
    """Something for the agent to say."""
    with np.load(cache / "voices-espeak-0.npz") as voices:
        pcm: Pcm = voices["pcm"][: 60 * MIC_HZ]
    return pcm


def hear(sound: Heard, agent: Pcm, weights: Weights) -> list[Frame]:
    classifier = OverlapClassifier(weights=weights)
    ears = Ears(FusionVad(), NoRecognizer(), EchoCanceller(), classifier)  # type: ignore[arg-type]
    out = []
    for number, frame in enumerate(audio.frames(sound.pcm, MIC_FRAME)):
        far = agent[number * MIC_FRAME :][:MIC_FRAME]
        t_ms = (number + 1) * FRAME_MS
        heard = ears.hear(frame, far, t_ms, over_agent=True)
        out.append(Frame(t_ms, heard.voice, heard.overlap, classifier.p_sound, classifier.other))
    return out


def early(sound: Heard, frames: Sequence[Frame]) -> bool:
    """An overlap began before the sound did: with a rest of an agent's voice that here, unlike in
    a call, is nobody's echo. It would be judged as part of the sound."""
    return any(f.evidence is not None and f.t_ms < sound.onset_ms - FRAME_MS for f in frames)


# --- the floor ------------------------------------------------------------------------------


def decide(sound: Heard, frames: Sequence[Frame], terms: Terms = TERMS) -> Outcome:
    """What the floor does, and when after the onset."""
    floor = Floor()
    floor.step(Percept(t_ms=0, request=Cause.INSTRUCTED))
    floor.step(Percept(t_ms=1, reply=0, sound=Sound.PLAYING))
    at = {Duck: np.inf, Unduck: np.inf, Yield: np.inf}
    for frame in frames:
        percept = Percept(
            t_ms=frame.t_ms,
            voice=frame.voice,
            overlap=_evidence(frame, terms),
            reply=0,
            sound=Sound.PLAYING,
        )
        for act in floor.step(percept):
            if type(act) not in at or (type(act) is Duck and at[Duck] < np.inf):
                continue
            at[type(act)] = frame.t_ms - sound.onset_ms
        if at[Yield] < np.inf:
            break
    return Outcome(at[Duck], at[Yield], at[Unduck])


def _evidence(frame: Frame, terms: Terms) -> OverlapEvidence | None:
    """As ``OverlapClassifier`` makes it, with other numbers in the formula."""
    e = frame.evidence
    if e is None or terms is TERMS or e.p_interruption == 0.0:
        return e
    p = fuse(
        frame.p_sound,
        e.p_noise,
        voiced_ms=e.voiced_ms,
        silence_ms=e.silence_ms,
        words=Words.NONE,
        other=frame.other,
        terms=terms,
    )
    return dataclasses.replace(e, p_interruption=p)


# --- report ---------------------------------------------------------------------------------


def table(sounds: Sequence[Heard], outcomes: Sequence[Outcome]) -> str:
    rows = [
        "| sounds | n | stopped the agent | after P50 / P75 / P90 / P95 | ducked P95 |",
        "|---|---|---|---|---|",
    ]
    for group in dict.fromkeys(sound.group for sound in sounds):
        mine = [o for s, o in zip(sounds, outcomes, strict=True) if s.group == group]
        at = np.array([o.yielded_ms for o in mine])
        ducked = np.array([o.ducked_ms for o in mine])
        stopped = int(np.isfinite(at).sum())
        times = "" if "interruption" not in group else _quantiles(at, (50, 75, 90, 95))
        share = f"{stopped} ({100 * stopped / len(mine):.1f} %)"
        rows.append(f"| {group} | {len(mine)} | {share} | {times} | {_quantiles(ducked, (95,))} |")
    return "\n".join(rows)


def _quantiles(at: np.ndarray, shares: Iterable[float]) -> str:
    found = np.percentile(at, list(shares), method="higher")
    return " / ".join("never" if np.isinf(one) else f"{one:.0f}" for one in found) + " ms"


def sweep(sounds: Sequence[Heard], frames: Sequence[Sequence[Frame]]) -> None:
    """Every choice of the formula's numbers: nods and noises that stopped, interruptions' times."""
    print("sound long_from open end | nods noises stopped | P50 P75 P90 P95, never | recorded")
    choices = itertools.product((0.0, 0.5, 0.75), (400, 450, 500), (0.3, 0.4, 0.5), (0.0, 0.5))
    for shift, long_from_ms, least, end in choices:
        terms = Terms(sound=shift, long_from_ms=long_from_ms, open=least, end=end)
        outcomes = [decide(s, f, terms) for s, f in zip(sounds, frames, strict=True)]
        at = {kind: _times(sounds, outcomes, kind) for kind in KINDS}
        clips = _times(sounds, outcomes, INTERRUPTION, "recorded")
        stopped = " ".join(f"{np.mean(np.isfinite(at[k])):6.1%}" for k in (BACKCHANNEL, NOISE))
        print(
            f"{shift:5.2f} {long_from_ms:6d} {least:7.1f} {end:4.1f} | {stopped} | "
            f"{_quantiles(at[INTERRUPTION], (50, 75, 90, 95))} "
            f"{np.mean(np.isinf(at[INTERRUPTION])):.1%} | {_quantiles(clips, (50, 75, 90, 95))}",
            flush=True,
        )


def _times(
    sounds: Sequence[Heard], outcomes: Sequence[Outcome], kind: int, group: str = ""
) -> np.ndarray:
    both = zip(sounds, outcomes, strict=True)
    return np.array([o.yielded_ms for s, o in both if s.kind == kind and s.group.startswith(group)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=tuple(SPLITS), default="test")
    parser.add_argument("--cache", type=Path, default=Path("out/fit_overlap"))
    parser.add_argument("--weights", type=Path, help="default: the package's own")
    parser.add_argument("--again", type=int, default=6, help="lines for each recorded clip")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--names", action="store_true", help="a line for each recorded sound")
    options = parser.parse_args()
    if options.sweep and options.split == "test":
        parser.error("nothing is chosen on the test split: add --split validation")
    weights = read(options.weights.read_bytes()) if options.weights else load()
    agent = agent_voice(options.cache)
    sounds = [*kept(options.cache, options.split), *recorded(options.split, options.again)]
    frames = []
    for number, sound in enumerate(sounds, 1):
        frames.append(hear(sound, agent, weights))
        if number % 20 == 0 or number == len(sounds):
            print(f"\rheard {number}/{len(sounds)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    clean = [not early(s, f) for s, f in zip(sounds, frames, strict=True)]
    left_out = len(clean) - sum(clean)
    sounds = [s for s, kept in zip(sounds, clean, strict=True) if kept]
    frames = [f for f, kept in zip(frames, clean, strict=True) if kept]
    if options.sweep:
        sweep(sounds, frames)
        return 0
    outcomes = [decide(s, f) for s, f in zip(sounds, frames, strict=True)]
    print(table(sounds, outcomes))
    print(f"\n{left_out} sounds whose line opened the detector before them are left out.")
    if options.names:
        for name in dict.fromkeys(s.name for s in sounds if not s.name.startswith("scenes")):
            at = [o.yielded_ms for s, o in zip(sounds, outcomes, strict=True) if s.name == name]
            print(f"{name:34}", " ".join("  -" if np.isinf(t) else f"{t:5.0f}" for t in at))
    return 0


if __name__ == "__main__":
    sys.exit(main())
