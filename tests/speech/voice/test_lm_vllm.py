"""The token LM on a real vLLM, in a child process that starts one engine for all these tests."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import lm_golden as golden
from codec_lm_tiny import RECIPE, TEXT, make_llama, said

from parley_speech.lm.cosyvoice2 import SpeechOptions
from parley_speech.lm.segments import RAS
from parley_speech.lm.transformers_engine import (
    TransformersEngine,
    TransformersTokenLm,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Run = Callable[[str], Any]


def vllm_python() -> str:
    return os.environ.get("PARLEY_VLLM_PYTHON", "") or sys.executable


def require_vllm() -> None:
    if os.environ.get("PARLEY_NO_VLLM") == "1":
        pytest.skip("PARLEY_NO_VLLM=1")
    find = "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"
    if subprocess.run([vllm_python(), "-c", find], check=False).returncode:
        pytest.fail(
            f"vLLM is not installed for {vllm_python()}: install the full lock, set "
            "PARLEY_VLLM_PYTHON to a Python that has it, or PARLEY_NO_VLLM=1 to go without"
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a case of `vllm_child` and gives what it returns."""
    require_vllm()
    folder = tmp_path_factory.mktemp("vllm")
    here = Path(__file__).resolve().parent
    paths = [str(here), *(str(here.parents[2] / root) for root in ("agent", "speech"))]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    log = folder / "child.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [vllm_python(), str(here / "vllm_child.py"), str(folder / "cache")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as child,
    ):
        assert child.stdin is not None and child.stdout is not None

        def ask(case: str) -> Any:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(f"{case}\n")
            child.stdin.flush()
            line = child.stdout.readline()
            if not line:
                pytest.fail(f"the child died in {case}: {log.read_text()[-4000:]}")
            answer = json.loads(line)
            if "error" in answer:
                pytest.fail(f"{case} in the child: {answer['error']}\n{log.read_text()[-4000:]}")
            return answer["value"]

        yield ask
        child.stdin.close()  # the leash: it ends, however the tests end
        child.wait(60)


def test_every_golden_case(run: Run):
    """Greedy and repetition-aware, interleaved and whole, upstream's quirks and without."""
    got = run("golden")
    assert got == {case.name: golden.ids(f"{case.name}/tokens") for case in golden.CASES}


def test_side_by_side_as_alone_with_more_utterances_than_places(run: Run):
    got = run("together")
    assert len(got) == 6
    for name, tokens in got:
        assert tokens == golden.ids(f"{name}/tokens")


def test_a_seed_says_the_same_on_vllm_and_on_transformers(run: Run):
    async def here() -> list[list[int]]:
        lm = TransformersTokenLm(golden.GOLDEN, speech=SpeechOptions(rule=RAS))
        await lm.start()
        result = []
        for seed in (7, 8):
            stream = lm.utterance_of_ids((), (), seed=seed)
            stream.push_ids(golden.ids("in/text"))
            stream.end()
            result.append([token async for tokens in stream for token in tokens])
        await lm.aclose()
        return result

    assert run("seeds") == asyncio.run(here())


def test_an_utterance_too_long_ends_itself_and_not_the_engine(run: Run):
    got = run("too_long")
    assert "context holds 256 tokens" in got["error"]
    assert got["tokens"] > 100
    assert got["after"] == golden.ids("bi_short/tokens")


def test_places_are_counted_and_given_on(run: Run):
    got = run("places")
    slots, running, waiting, kv_used = got["busy"]
    assert (slots, running, waiting) == (4, 4, 2) and kv_used > 0
    assert "2 utterances wait" in got["refused"]
    assert got["first"][0] == golden.ids("bi_noprompt/tokens")[0]
    assert got["free"] == [4, 0, 0, 0.0]


def test_cancelled_utterances_leave_nothing(run: Run):
    got = run("cancels")
    assert got["running"] == 0 and got["kv_used"] == 0.0
    # The step that ran, at most one that was scheduled behind it, and the one that clears up.
    assert got["steps_after"] <= 4


def test_a_killed_engine_is_an_error_for_its_utterances_and_comes_back(run: Run):
    got = run("death")
    assert len(got["errors"]) == 2
    assert all("died" in error for error in got["errors"])
    assert got["after"] == golden.ids("bi_noprompt_fixed/tokens")
    assert got["running"] == 0


def test_a_codec_lm_by_its_recipe_as_on_transformers(run: Run, tmp_path: Path):
    from parley_speech.codec_lm.engine import CodecLm

    async def here() -> list[list[int]]:
        folder = make_llama(tmp_path)
        lm = CodecLm(RECIPE, folder, TransformersEngine(folder))
        await lm.start()
        result = [await said(lm, TEXT, seed) for seed in (1, 2)]
        await lm.aclose()
        return result

    got = run("codec_lm")
    assert got == asyncio.run(here())
    assert all(tokens and len(tokens) % 7 == 0 for tokens in got)
