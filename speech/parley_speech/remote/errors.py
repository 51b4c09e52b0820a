"""How a source of speech fails."""

from __future__ import annotations


class SourceLost(Exception):
    """It will give no more of this utterance; another source may go on."""


class SourceBusy(SourceLost):
    """It has no slot for the utterance now."""

    def __init__(self, message: str, retry_s: float) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class SpeechServersLost(RuntimeError):
    """No server is left, and no embedded voice: the utterance ends unfinished."""
