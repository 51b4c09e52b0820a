"""A worker as a process of its own, for demonstrations, tests and benches."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from livekit.plugins.parley.leash import leashed

READY = "parley: ready"
"""The line that a worker prints once LiveKit may send it calls."""

START_S = 60.0
STOP_S = 8.0
LOG_LINES = 20


class WorkerCrashed(RuntimeError):
    """The worker did not start or ended by itself; the message holds its last lines."""


class WorkerProcess:
    """``async with WorkerProcess(server.environment(), log_file=...)``: a worker that is ready."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        log_file: Path,
        arguments: tuple[str, ...] = ("-m", "livekit.plugins.parley.cli", "dev"),
        ready: str = READY,
    ) -> None:
        """``arguments`` are Python's; ``ready`` stands in the line that ends the start."""
        self.log_file = log_file
        self._environment = {**os.environ, "PARLEY_PORT": "0", **environment}
        self._arguments = arguments
        self._ready_line = ready
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("this worker is not running: use it within 'async with'")
        return self._process.pid

    async def __aenter__(self) -> Self:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *leashed([sys.executable, *self._arguments]),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us, and we stop it in order
        )
        self._reading = asyncio.create_task(self._read(), name="parley-worker-log")
        ready = asyncio.create_task(self._ready.wait(), name="parley-worker-ready")
        try:
            await asyncio.wait(
                [ready, self._reading], timeout=START_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        if not self._ready.is_set():
            await self.stop()
            raise self.crashed("did not start")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _read(self) -> None:
        """Its output into the log; sees the line that says it is ready."""
        assert self._process is not None and self._process.stdout is not None
        with self.log_file.open("wb") as log:
            async for line in self._process.stdout:
                log.write(line)
                log.flush()
                if self._ready_line.encode() in line:
                    self._ready.set()

    def check(self) -> None:
        """Raises WorkerCrashed if it has ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            raise self.crashed("ended by itself")

    def crashed(self, how: str) -> WorkerCrashed:
        lines = self.log_file.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return WorkerCrashed(f"the worker {how}. Its last lines:\n  " + "\n  ".join(lines))

    async def stop(self) -> None:
        """In order, then by force, with everything it has started. Idempotent."""
        process = self._process
        if process is not None and process.returncode is None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    if number == signal.SIGKILL:
                        os.killpg(process.pid, number)
                    else:
                        process.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), STOP_S)
                    break
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
