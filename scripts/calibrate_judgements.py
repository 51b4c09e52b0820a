#!/usr/bin/env python3
"""Teaches Parley what a model's judgements are worth, and writes it down for the mind to use.

    python scripts/calibrate_judgements.py --out calibration.json [--url http://HOST:PORT/v1]
        [--model NAME] [--examples FILE.jsonl ...] [--convention TEXT]

Asks the model about labelled examples (their format: ``parley/bench/mind_examples.py``), fits
Platt's two numbers on every second one, checks them on the others and adds the model to the file.
``PARLEY_LLM_CALIBRATION=calibration.json`` then makes the mind offer its judgements. Without
--examples the tiny chat model's own dialogues are drawn, which says something about that one only.
A thousand turns of your own calls, cut at their words, are a good beginning.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from parley.bench import mind_examples, mind_judgements
from parley.bench.mind_calibration import Curve
from parley.minds.vllm_options import CONVENTION, VllmOptions
from parley_speech.types import EngineUnavailable


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default="", help="none: the only one that is served")
    parser.add_argument("--examples", type=Path, nargs="*", default=[])
    parser.add_argument("--convention", default=None, help="as VllmOptions.convention in use")
    parser.add_argument("--n", type=int, default=600, help="examples of each kind for the tiny one")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    convention = arguments.convention
    if convention is None:
        convention = CONVENTION if arguments.examples else ""  # the tiny model knows none
    options = VllmOptions(arguments.url, arguments.model, convention=convention)
    try:
        if arguments.examples:
            examples = [e for path in arguments.examples for e in mind_examples.read(path)]
        else:
            examples = mind_examples.tiny(arguments.seed, arguments.n)
        fitted = asyncio.run(mind_judgements.calibrate(options, examples, print))
    except (ValueError, OSError, EngineUnavailable) as error:
        print(f"no calibration: {error}", file=sys.stderr)
        return 1
    mind_judgements.write(arguments.out, fitted)
    tell("end of turn, as the model says it", fitted.end_raw)
    tell("end of turn, calibrated", fitted.end_curve)
    tell("wants the floor, as the model says it", fitted.overlap_raw)
    tell("wants the floor, calibrated", fitted.overlap_curve)
    print(f"{fitted.model} is in {arguments.out}")
    return 0


def tell(what: str, curve: Curve) -> None:
    print(
        f"{what}: calibration error {curve.error:.3f}, log loss {curve.log_loss:.3f}, n={curve.n}"
    )


if __name__ == "__main__":
    sys.exit(main())
