"""The event loop that a process of ours runs on."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable


def factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed: a message costs it about half. Else None, asyncio's own."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop
