"""Garbage collection that does not stop a voice."""

from __future__ import annotations

import gc


def settle() -> None:
    """To be called once a process has loaded what it keeps. Python's collector goes through all
    objects now and then, and nothing else runs meanwhile: 250 ms with torch and transformers
    (390,000 objects), a gap in every voice that speaks. What is there now is left out of it."""
    gc.collect()
    gc.freeze()
