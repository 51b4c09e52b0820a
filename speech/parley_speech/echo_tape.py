"""What was played, and what is known of it, to be read again some time later."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Samples in int16 units, or powers; single precision halves the cost of the transforms."""


class Tape:
    """The last part of an endless row of numbers (or of rows), by their place in it."""

    def __init__(self, keep: int, width: tuple[int, ...] = ()) -> None:
        self._keep = keep
        self._store = np.zeros((4 * keep, *width), np.float32)
        self._at = keep
        self.end = 0
        """How many were ever written."""

    def write(self, x: Samples) -> None:
        """More than ``keep`` at once leave only their last part."""
        self.end += len(x)
        x = x[-self._keep :]
        if self._at + len(x) > len(self._store):
            self._store[: self._keep] = self._store[self._at - self._keep : self._at]
            self._at = self._keep
        self._store[self._at : self._at + len(x)] = x
        self._at += len(x)

    def read(self, start: int, stop: int) -> Samples:
        """Those from ``start`` to ``stop``, both by place and at most ``keep`` back; a view."""
        shift = self._at - self.end
        return self._store[start + shift : stop + shift]

    def clear(self) -> None:
        """What was written so far reads as zero."""
        self._store[:] = 0.0
