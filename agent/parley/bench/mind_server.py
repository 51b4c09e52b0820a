"""A real vLLM for the bench of the mind: one that runs already, or one that is started for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

SCRIPT = Path("scripts/vllm_cpu.py")
_SAMPLE = re.compile(r"^(vllm:\w+)(?:\{[^}]*\})?\s+(\S+)$", re.MULTILINE)


class ServerUnavailable(RuntimeError):
    """There is no vLLM here; the message says how to get one."""


@contextmanager
def vllm(url: str | None, log: Path) -> Iterator[str]:
    """The address (``.../v1``) of ``url``, or of a server with the tiny chat model on this CPU."""
    if url is not None:
        yield url
        return
    if not SCRIPT.is_file():
        raise ServerUnavailable(
            f"{SCRIPT} is not here: run this in the repository's root, or give --url"
        )
    log.parent.mkdir(parents=True, exist_ok=True)
    python = os.environ.get("PARLEY_VLLM_PYTHON") or sys.executable
    # The pipe is the leash: the server ends with this process, however it ends.
    with subprocess.Popen(
        [python, str(SCRIPT), "--log", str(log), "--until-stdin-closes", "--restarts", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None and server.stdin is not None
        said = ""
        for line in server.stdout:
            said += line
            if line.startswith("ready "):
                break
        else:
            raise ServerUnavailable(f"vLLM did not start; its log is {log}. {said.strip()[-500:]}")
        try:
            yield said.split()[-1]
        finally:
            server.stdin.close()


class Metrics:
    """vLLM's own counts, by name, summed over labels."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = f"{url.rstrip('/').removesuffix('/v1')}/metrics"

    async def read(self) -> dict[str, float]:
        text = (await self._client.get(self._url)).text
        found: dict[str, float] = {}
        for name, value in _SAMPLE.findall(text):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    async def running(self) -> float:
        return (await self.read())["vllm:num_requests_running"]
