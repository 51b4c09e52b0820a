"""Judgements of a served model: fitted, checked, timed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from parley.bench.figures import Figure, Goal
from parley.bench.mind_calibration import Curve, curve, fit_letters, fit_platt
from parley.bench.mind_examples import MEANINGS, Example
from parley.bench.mind_latency import STORY
from parley.minds.base import OverlapOpinion
from parley.minds.judgement import BUDGET_S, Calibration, LetterCalibration, Platt
from parley.minds.judgement_vllm import Judge
from parley.minds.vllm import VllmMind, VllmOptions
from parley.minds.vllm_request import Composer

PATIENT_S = 30.0
"""Calibration is about what the model says, not when."""
OVERLAP_WEIGHT = 0.35
"""How much words count beside sound, where nothing better is known: less than half."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """What ``calibrate`` found for one model."""

    model: str
    end: Platt
    end_curve: Curve
    """Of the held-out half, calibrated."""
    end_raw: Curve
    """The same, as the model says it."""
    overlap: LetterCalibration
    overlap_curve: Curve
    """Of P(floor), held out."""
    overlap_raw: Curve

    def entry(self) -> dict[str, object]:
        """For the calibration file."""
        return {
            "end": {**asdict(self.end), "held_out": asdict(self.end_curve)},
            "overlap": {
                **asdict(self.overlap),
                "weight": OVERLAP_WEIGHT,
                "held_out": asdict(self.overlap_curve),
            },
        }


def judge_of(mind: VllmMind, calibration: Calibration, budget_s: float = BUDGET_S) -> Judge:
    """A judge of its own for a started mind that knows what ends a turn."""
    assert mind.client is not None, "the mind is started"
    compose = Composer(mind.options, mind.served)
    token = mind.served.end_token
    return Judge(mind.client.post, compose.judgement, calibration, token, budget_s)


async def calibrate(options: VllmOptions, examples: Sequence[Example], tell: Tell) -> Fitted:
    """Every second example fits, the others check. Raises ValueError when they do not suffice."""
    mind = VllmMind(options)
    await mind.start()
    try:
        await mind.learn_end_token()
        identity = Calibration(Platt(), LetterCalibration(), 1.0)
        judge = judge_of(mind, identity, PATIENT_S)
        ends = [e for e in examples if e.finished is not None]
        overlaps = [e for e in examples if e.meant is not None]
        said_end = [_known(await judge.end(e.context)) for e in _told(ends, "turns", tell)]
        said_over = [
            _letters(await judge.overlap(e.context)) for e in _told(overlaps, "overlaps", tell)
        ]
        await judge.aclose()
    finally:
        await mind.aclose()
    finished = [bool(e.finished) for e in ends]
    meant = [MEANINGS.index(e.meant) for e in overlaps if e.meant is not None]
    end = fit_platt(said_end[::2], finished[::2])
    overlap = fit_letters(said_over[::2], meant[::2])
    floor = [m == 0 for m in meant[1::2]]
    return Fitted(
        mind.served.model,
        end,
        curve([end(raw) for raw in said_end[1::2]], finished[1::2]),
        curve(said_end[1::2], finished[1::2]),
        overlap,
        curve([overlap(raw)[0] for raw in said_over[1::2]], floor),
        curve([raw[0] for raw in said_over[1::2]], floor),
    )


def _told(examples: Sequence[Example], what: str, tell: Tell) -> Sequence[Example]:
    tell(f"judging {len(examples)} {what}")
    return examples


def _known(raw: float | None) -> float:
    if raw is None:
        raise ValueError("the server gave no judgement; is it vLLM, and does it answer?")
    return raw


def _letters(opinion: OverlapOpinion | None) -> tuple[float, float, float]:
    if opinion is None:
        raise ValueError("the server gave no judgement; does it take structured_outputs?")
    return opinion.p_floor, opinion.p_backchannel, opinion.p_aside


def write(path: Path, fitted: Fitted) -> None:
    """Puts a model's entry into the file, beside those of other models."""
    known = json.loads(path.read_text())["models"] if path.is_file() else {}
    models = {**known, fitted.model: fitted.entry()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"models": models}, indent=1) + "\n", encoding="utf-8")


# --- how fast -------------------------------------------------------------------------------


async def timed(options: VllmOptions, examples: Sequence[Example], tell: Tell) -> list[Figure]:
    """One judgement after another with nothing else to do, then beside four replies."""
    mind = VllmMind(options)
    await mind.start()
    try:
        await mind.learn_end_token()
        figures = [await _timed(mind, examples, 0, tell), await _timed(mind, examples, 4, tell)]
    finally:
        await mind.aclose()
    return figures


async def _timed(mind: VllmMind, examples: Sequence[Example], beside: int, tell: Tell) -> Figure:
    identity = Calibration(Platt(), LetterCalibration(), 1.0)
    judge = judge_of(mind, identity, PATIENT_S)
    stop = asyncio.Event()
    talkers = [asyncio.create_task(_talk(mind, stop), name="talker") for _ in range(beside)]
    try:
        for number, example in enumerate(examples):
            if number % 25 == 0:
                tell(f"timing judgements beside {beside} replies: {number} of {len(examples)}")
            if example.finished is not None:
                await judge.end(example.context)
            else:
                await judge.overlap(example.context)
    finally:
        stop.set()
        for talker in talkers:
            talker.cancel()
        await asyncio.gather(*talkers, return_exceptions=True)
        await judge.aclose()
    return Figure(
        f"judgement_{beside}",
        f"one judgement, beside {beside} replies" if beside else "one judgement",
        samples=tuple(judge.took_ms),
        goals=(Goal("p95", BUDGET_S * 1000, "120 ms"),),
    )


async def _talk(mind: VllmMind, stop: asyncio.Event) -> None:
    """Replies without end."""
    session = mind.session()
    while not stop.is_set():
        async for _ in session.reply(STORY):
            pass
