"""A real vLLM for the bench of the mind: one that runs already, or one that is started for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

SCRIPT = Path("scripts/vllm_cpu.py")
_SAMPLE = re.compile(r"^(vllm:\w+)(?:\{[^}]*\})?\s+(\S+)$", re.MULTILINE)


class ServerUnavailable(RuntimeError):
    """There is no vLLM here; the message says how to get one."""


@contextmanager
def vllm(url: str | None, log: Path, tell: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """The address (``.../v1``) of ``url``, or of a server with the tiny chat model on this CPU;
    ``tell`` is told what its start is at. Raises ServerUnavailable."""
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
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None and server.stdin is not None
        said = ""
        for line in server.stdout:
            if line.startswith("ready "):
                said = line
                break
            said += line
            tell(line.strip()[:100])
        else:
            raise ServerUnavailable(
                f"{python} {SCRIPT} did not start one (its log: {log}). It said: "
                f"{said.strip()[-1500:] or 'nothing'}"
            )
        try:
            yield said.split()[1]
        finally:
            server.stdin.close()


RUNNING = "vllm:num_requests_running"
PLAIN = {"Accept-Encoding": "identity"}
"""Packing a page takes the server longer than sending it."""


class Metrics:
    """vLLM's own counts, by name, summed over labels."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self._client = client
        self._url = f"{url.rstrip('/').removesuffix('/v1')}/metrics"

    async def read(self) -> dict[str, float]:
        async with self._client.get(self._url, headers=PLAIN) as answer:
            return _counts(await answer.text())

    async def running(self) -> float:
        """Of all samples, this one alone: writing the whole page down takes vLLM 20 ms and more,
        in which it does nothing else, not even notice that somebody has left. The filter is
        prometheus_client's, whose page vLLM has below ``/metrics/``."""
        where, alone = f"{self._url}/", {"name[]": RUNNING}
        async with self._client.get(where, params=alone, headers=PLAIN) as answer:
            found = _counts(await answer.text()) if answer.status == 200 else {}
        return found[RUNNING] if RUNNING in found else (await self.read())[RUNNING]


def _counts(page: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in _SAMPLE.findall(page):
        found[name] = found.get(name, 0.0) + float(value)
    return found
