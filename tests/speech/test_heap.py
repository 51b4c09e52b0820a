"""What has been loaded is left out of garbage collection; what comes after it is not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from parley_speech import heap


class Ring:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.collect()


def test_what_was_there_is_left_out_and_what_comes_is_not() -> None:
    loaded = Ring()
    heap.settle()
    kept = weakref.ref(loaded)
    come = weakref.ref(Ring())
    del loaded
    gc.collect()
    assert kept() is not None
    assert come() is None


def test_garbage_of_the_loading_is_thrown_away_before() -> None:
    left = weakref.ref(Ring())
    heap.settle()
    assert left() is None
