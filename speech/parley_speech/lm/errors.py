"""What can go wrong with a token LM; every message says what to do."""

from __future__ import annotations


class LmError(RuntimeError):
    """An utterance could not be finished."""


class UtteranceTooLong(LmError):
    """The text, or what is said of it, does not fit into the model's context."""


class EngineDied(LmError):
    """The process that computes is gone; it is being started again."""


class LmBusy(LmError):
    """As many utterances as may wait are waiting."""


class CheckpointError(LmError):
    """A file of a checkpoint is missing, truncated or of another model."""
