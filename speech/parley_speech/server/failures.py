"""What goes wrong while speaking, told without a word of what was spoken."""

from __future__ import annotations

import logging
import traceback

logger = logging.getLogger("parley_speech.server")


class ClientGone(Exception):
    """The client closed its connection, or the connection broke."""


def log_failure(voice: str, error: BaseException) -> str:
    """Logs where an engine failed; gives what a client may be told.

    The error's own message appears in neither: an engine may have put the text into it."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    where = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(frames))
    logger.error("the voice %r failed: %s at %s", voice, type(error).__name__, where)
    return f"the voice {voice!r} failed ({type(error).__name__}); the server's log says where"
