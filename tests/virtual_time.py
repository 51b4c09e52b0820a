"""An event loop in which time passes only when everybody waits: minutes run in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: tells the loop how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: float | None = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.wanted = timeout
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        self._now = 0.0
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        if self._jumping.wanted is None:
            raise RuntimeError("everybody waits for something that no timer will bring")
        self._now += self._jumping.wanted


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
