"""Fits the judge of open English words, parley_speech.turn_end.wording, and reports.

    python scripts/fit_wording.py [--cache DIR] [--out FILE] [--stop-after SECONDS]

Needs what fit_overlap.py needs, and pocketsphinx. Two kinds of examples, each half of the weight:

    written   turns of fit_wording_texts.py as they are, and every beginning of them
    heard     turns said by espeak-ng's and flite's training voices with a pause at one place; what
              the open recogniser makes of them at the pause and at the end, as in the first turn
              of a call

About fifteen minutes on one core; heard parts are kept in the cache, so that a run that was stopped
goes on where it was (exit status 3: run it again). Everything drawn is drawn from seeds. Validation
is heard from voices, and test from turns too, that nothing was fitted on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import soxr
from fit_turn_end import area
from fit_turn_end_voices import Say, Voices
from fit_wording_texts import Turns, examples

from parley_speech.asr.decoding import BLOCK_MS, BYTES_PER_MS, OPEN, Models, StreamDecoder
from parley_speech.turn_end.wording import NAMES, describe
from parley_speech.types import MIC_HZ, Pcm

PARTS = {
    # name: split of the voices, source, turns, seed
    **{f"espeak-{n}": ("train", "espeak", 16, 100 + n) for n in range(5)},
    **{f"flite-{n}": ("train", "flite", 16, 200 + n) for n in range(1)},
    **{f"validation-{n}": ("validation", "espeak", 16, 500 + n) for n in range(1)},
    **{f"test-{n}": ("test", "espeak", 16, 600 + n) for n in range(1)},
}
WRITTEN = 4000
DECAY = 3e-4
"""Of the weights' squares, beside a mean cross-entropy of at most 0.7."""
STEPS = 60
Example = tuple[str, bool]
"""Words, and whether the turn ended there."""


def heard(name: str) -> list[Example]:
    """What the recogniser makes of a part's turns."""
    split, source, count, seed = PARTS[name]
    turns, voices, found = Turns(seed), Voices(seed, split), []
    speaker = {"espeak": voices._espeak_speaker, "flite": voices._flite_speaker}[source]
    models = Models({}, {})
    for number in range(count):
        _, say = speaker()
        words = turns.turn()
        at = turns.cut(words) if len(words) > 1 else len(words)
        pieces = [_said(say, " ".join(words[:at]), "," if words[at:] else ".")]
        if words[at:]:
            pieces.append(_said(say, " ".join(words[at:]), "."))
        decoder = StreamDecoder(models)
        texts = _decoded(decoder, number, pieces)
        decoder.close()
        if len(texts) == 2:
            found.append((texts[0], False))
        found.append((texts[-1], True))
    return found


def _said(say: Say, text: str, mark: str) -> Pcm:
    x, rate_hz = say(text, mark)
    y = soxr.resample(np.asarray(x, np.float32), rate_hz, MIC_HZ)
    loud = np.flatnonzero(np.abs(y) > 0.013 * np.abs(y).max())
    y = y[loud[0] : loud[-1] + 1]
    return np.asarray(y / np.abs(y).max() * 10_000, np.int16)


def _decoded(decoder: StreamDecoder, number: int, pieces: list[Pcm]) -> list[str]:
    """The words at the end of each piece, 400 ms of silence behind it."""
    silence = np.zeros(MIC_HZ * 4 // 10, np.int16)
    rng = np.random.default_rng(number)
    decoder.begin(number, OPEN)
    texts, text = [], ""
    for n, piece in enumerate(pieces):
        pcm = np.concatenate([silence[: MIC_HZ * 3 // 10], piece, silence])
        pcm = pcm + rng.normal(0, 15, len(pcm)).astype(np.int16)
        raw = pcm.astype("<i2").tobytes()
        for begin in range(0, len(raw), BLOCK_MS * BYTES_PER_MS):
            decoder.push(raw[begin : begin + BLOCK_MS * BYTES_PER_MS])
            while decoder.busy:
                for result in decoder.step():
                    text = result.text
        if n == len(pieces) - 1:
            decoder.end()
            while decoder.busy:
                for result in decoder.step():
                    text = result.text
        texts.append(text)
    return texts


def written(seed: int, count: int) -> tuple[list[Example], np.ndarray]:
    turns = Turns(seed)
    drawn = [e for _ in range(count) for e in examples(turns.turn())]
    return [(text, whole) for text, whole, _ in drawn], np.array([w for *_, w in drawn])


def matrix(found: list[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(examples, features), ends, and which of them there is an opinion about."""
    notes = [describe(text) for text, _ in found]
    x = np.array([[note.get(name, 0.0) for name in NAMES] for note in notes])
    return x, np.array([whole for _, whole in found]), np.array([bool(note) for note in notes])


def balanced(y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Ends and pauses count the same; sums to 1."""
    made = weight.copy()
    for label in (False, True):
        made[y == label] *= 0.5 / max(1e-9, weight[y == label].sum())
    return made


def fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Newton's method on the weighted cross-entropy with a small decay."""
    theta = np.zeros(x.shape[1])
    decay = np.full(len(theta), DECAY)
    decay[NAMES.index("bias")] = 1e-6
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(x @ theta)))
        slope = x.T @ ((p - y) * weight) + decay * theta
        curve = (x * (weight * p * (1 - p))[:, None]).T @ x + np.diag(decay)
        theta -= np.linalg.solve(curve, slope)
    return theta


def report(name: str, found: list[Example], theta: np.ndarray) -> None:
    x, y, known = matrix(found)
    p = (1 / (1 + np.exp(-(x @ theta))))[known]
    y = y[known]
    print(f"{name:20s} {y.sum():5d} {(~y).sum():5d} {known.mean():6.2f} {area(p, y):6.3f}  "
          f"{(p[y] >= 0.5).mean():6.2f} {(p[~y] >= 0.5).mean():6.2f}  "
          f"{(p[y] < 0.25).mean():6.2f} {(p[~y] < 0.25).mean():6.2f}")  # fmt: skip


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cache", type=Path, default=Path("out/fit_wording"))
    arguments.add_argument(
        "--out", type=Path, default=Path("speech/parley_speech/data/turn_end_wording.json")
    )
    arguments.add_argument("--stop-after", type=float, default=float("inf"))
    given = arguments.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + given.stop_after
    parts: dict[str, list[Example]] = {}
    for n, name in enumerate(PARTS, 1):
        path = given.cache / f"{name}.json"
        if not path.is_file():
            if time.monotonic() > until:
                print("stopped; run it again to go on", file=sys.stderr)
                return 3
            path.write_text(json.dumps(heard(name), indent=0) + "\n", "utf-8")
        parts[name] = [(text, whole) for text, whole in json.loads(path.read_text("utf-8"))]
        print(f"{n}/{len(PARTS)} {name}", file=sys.stderr)
    wrote, each = written(1, WRITTEN)
    said = [e for name, part in parts.items() if PARTS[name][0] == "train" for e in part]
    x, y, known = matrix([*wrote, *said])
    first = np.arange(len(y)) < len(wrote)
    weight = np.concatenate([each, np.ones(len(said))]) * known
    weight = np.concatenate(
        [balanced(y[first], weight[first]), balanced(y[~first], weight[~first])]
    )
    theta = fit(x, y.astype(float), weight / 2)
    weights = {name: round(float(v), 3) for name, v in zip(NAMES, theta, strict=True)}
    given.out.write_text(json.dumps(weights, indent=2) + "\n", "utf-8")
    print("part                  ends pauses known   area   P>=.5: e  p   P<.25: e   p")
    report("written, others", written(2, 1000)[0], theta)
    for name, part in parts.items():
        report(name, part, theta)
    print(json.dumps(weights, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
