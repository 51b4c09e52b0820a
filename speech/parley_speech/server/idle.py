"""Notices that nothing happens: a timer that looks every ``idle_s`` whether anything did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class IdleWatch:
    """Calls ``on_idle`` once, after between one and two times ``idle_s`` without `progress`.

    Noting progress costs nothing, so it may be done for every message.
    """

    def __init__(self, idle_s: float, on_idle: Callable[[], None]) -> None:
        self._idle_s = idle_s
        self._on_idle = on_idle
        self._progress = False
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(self._idle_s, self._look)

    def progress(self) -> None:
        self._progress = True

    def stop(self) -> None:
        """Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        if self._progress:
            self._progress = False
            self.start()
        else:
            self._handle = None
            self._on_idle()
