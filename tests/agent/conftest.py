"""A real vLLM server on the CPU, with a chat model made on the spot, for tests marked slow.

The server runs under ``$PARLEY_VLLM_PYTHON`` or the Python of the tests; pytest itself never
imports vLLM. ``PARLEY_TEST_VLLM_URL`` names a server that runs already (``scripts/vllm_cpu.py``),
which saves its start while a test is being written. ``PARLEY_NO_VLLM=1`` skips these tests; without
it a missing vLLM is a failure, so that they cannot vanish unnoticed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SETUP_S = 600
"""Longest wait for a server that is started again: 10-200 s on a busy machine with two cores."""


def vllm_python() -> str:
    return os.environ.get("PARLEY_VLLM_PYTHON", "") or sys.executable


@pytest.fixture(scope="session")
def tiny_chat() -> Path:
    """The checkpoint, trained once for each version of the script that makes it (1-2 min)."""
    _require_vllm()
    spec = importlib.util.spec_from_file_location("vllm_cpu", SCRIPTS / "vllm_cpu.py")
    assert spec is not None and spec.loader is not None
    vllm_cpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vllm_cpu)
    try:
        folder: Path = vllm_cpu.tiny_chat(vllm_python())
    except SystemExit as error:
        pytest.fail(str(error))
    return folder


@contextmanager
def serving(model: Path, log: Path, restarts: int = 0) -> Iterator[tuple[str, int]]:
    """A server of its own: its URL, and the process id of ``vllm_cpu.py``, whose child it is."""
    command = [vllm_python(), str(SCRIPTS / "vllm_cpu.py"), str(model)]
    # The pipe is the leash: the server ends with the tests, however these end.
    with subprocess.Popen(
        [*command, "--log", str(log), "--restarts", str(restarts), "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None and server.stdin is not None
        said = []
        for line in server.stdout:  # it ends when the supervisor has given up
            said.append(line)
            if line.startswith("ready "):
                break
        else:
            pytest.fail(f"vLLM did not start; the supervisor said:\n{''.join(said)}")
        yield said[-1].split()[1], server.pid
        server.stdin.close()
        server.wait(60)


@pytest.fixture(scope="session")
def vllm_server(tiny_chat: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One for all tests; a test that kills its server starts one by ``serving``."""
    if running := os.environ.get("PARLEY_TEST_VLLM_URL"):
        yield running
        return
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    with serving(tiny_chat, log, restarts=2) as (url, _):
        yield url


@pytest.fixture
def vllm_url(vllm_server: str) -> str:
    """``http://127.0.0.1:PORT/v1`` of a server that serves the model as ``tiny``, and is well: a
    dead one is started again by its supervisor, which takes its time."""
    until = time.monotonic() + SETUP_S
    while not _healthy(vllm_server):
        if time.monotonic() > until:
            pytest.fail(f"vLLM at {vllm_server} died and was not well again within {SETUP_S} s")
        time.sleep(0.5)
    return vllm_server


def _healthy(url: str) -> bool:
    try:
        health = url.removesuffix("/v1") + "/health"
        with urllib.request.urlopen(health, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _require_vllm() -> None:
    if os.environ.get("PARLEY_NO_VLLM") == "1":
        pytest.skip("PARLEY_NO_VLLM=1")
    find = "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"
    if subprocess.run([vllm_python(), "-c", find], check=False).returncode:
        pytest.fail(
            f"vLLM is not installed for {vllm_python()}: install the full lock, set "
            "PARLEY_VLLM_PYTHON to a Python that has it, or PARLEY_NO_VLLM=1 to go without"
        )
