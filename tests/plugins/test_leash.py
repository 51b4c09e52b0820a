"""Nothing that was started for a while is left behind by whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")

STARTER = """
import asyncio, os, signal, sys
from pathlib import Path
from livekit.plugins.parley.worker_process import WorkerProcess

SLEEPS = "import time; print('parley: ready', flush=True); time.sleep(600)"

async def main():
    log = Path(sys.argv[1])
    async with WorkerProcess({}, log_file=log, arguments=("-c", SLEEPS)) as worker:
        print(worker.pid, flush=True)
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path, how: str) -> None:
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, str(tmp_path / "log"), how, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    out, _ = await starter.communicate()
    async with asyncio.timeout(30):
        while alive(int(out)):  # noqa: ASYNC110  (another process sets no Event of ours)
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (one that ended and waits for its parent does not)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False
