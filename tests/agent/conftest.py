"""A real vLLM server on the CPU, with a chat model made on the spot, for tests marked slow.

The server runs under ``$PARLEY_VLLM_PYTHON`` or the Python of the tests; pytest itself never
imports vLLM. ``PARLEY_NO_VLLM=1`` skips these tests; without it a missing vLLM is a failure, so
that they cannot vanish unnoticed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SETUP_S = 600
"""The model (1-2 min) and the server (10-200 s), first time, on a busy machine with two cores."""


def vllm_python() -> str:
    return os.environ.get("PARLEY_VLLM_PYTHON", "") or sys.executable


@pytest.fixture(scope="session")
def tiny_chat() -> Path:
    """The checkpoint, trained once for each version of the script that makes it."""
    _require_vllm()
    script = SCRIPTS / "train_tiny_chat.py"
    version = hashlib.sha256(script.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parley"
    folder = cache / f"tiny-chat-{version}"
    if not (folder / "tokenizer_config.json").is_file():
        command = [vllm_python(), str(script), str(folder)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=SETUP_S, check=False)
        if made.returncode:
            pytest.fail(f"the tiny chat model could not be made:\n{made.stdout}{made.stderr}")
    return folder


@contextmanager
def serving(model: Path, log: Path) -> Iterator[tuple[str, int]]:
    """A server of its own: its URL, and the process id of ``vllm_cpu.py``, whose child it is."""
    command = [vllm_python(), str(SCRIPTS / "vllm_cpu.py"), str(model)]
    # The pipe is the leash: the server ends with the tests, however these end.
    with subprocess.Popen(
        [*command, "--log", str(log), "--restarts", "0", "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None and server.stdin is not None
        said = server.stdout.readline()
        if not said.startswith("ready "):
            rest = server.communicate()[0]
            pytest.fail(f"vLLM did not start: {said}{rest}")
        yield said.split()[1], server.pid
        server.stdin.close()
        server.wait(60)


@pytest.fixture(scope="module")
def vllm_url(tiny_chat: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``http://127.0.0.1:PORT/v1`` of a server that serves the model as ``tiny``."""
    with serving(tiny_chat, tmp_path_factory.mktemp("vllm") / "vllm.log") as (url, _):
        yield url


def _require_vllm() -> None:
    if os.environ.get("PARLEY_NO_VLLM") == "1":
        pytest.skip("PARLEY_NO_VLLM=1")
    find = "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"
    if subprocess.run([vllm_python(), "-c", find], check=False).returncode:
        pytest.fail(
            f"vLLM is not installed for {vllm_python()}: install the full lock, set "
            "PARLEY_VLLM_PYTHON to a Python that has it, or PARLEY_NO_VLLM=1 to go without"
        )
