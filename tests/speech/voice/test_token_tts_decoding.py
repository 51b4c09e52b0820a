"""The decoding thread: who is next, what a step takes, and that nobody is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pytest

from parley_speech.token_voice import Floats
from parley_speech.tts.token_decoding import (
    COMFORT_S,
    FIRST_S,
    Decoding,
    DecodingThread,
    Playout,
    pick,
)
from speech.voice.token_fakes import HOP, LOOK_AHEAD, PER_TOKEN, PROMPT, FakeDecoder

HZ = 24_000


class Listener:
    def __init__(self) -> None:
        self.sounds: list[Floats] = []
        self.ended: Future[None] = Future()

    def emit(self, sound: Floats, last: bool) -> None:
        self.sounds.append(sound)
        if last:
            self.ended.set_result(None)

    @property
    def samples(self) -> int:
        return sum(len(sound) for sound in self.sounds)


def _call(*, in_hand_s: float | None = None, ready_at_s: float = 100.0) -> Decoding:
    """A call whose listener has so much sound at 100 s; None: it has heard nothing yet."""
    playout = Playout(HZ)
    if in_hand_s is not None:
        playout.give(round(in_hand_s * HZ), 100.0)
    call = Decoding(DecodingThread(FakeDecoder()), PROMPT, playout, lambda sound, last: None)
    call.ready_at_s = ready_at_s
    return call


# --- who is next ----------------------------------------------------------------------------


def test_the_buffer_that_runs_dry_first_is_first() -> None:
    late, soon, now = _call(in_hand_s=0.3), _call(in_hand_s=0.1), _call(in_hand_s=0.02)
    assert pick([late, soon, now], 100.0, 8) == [now, soon, late]
    assert pick([late, soon, now], 100.0, 2) == [now, soon]


def test_a_first_chunk_goes_before_comfort_and_after_a_dry_buffer() -> None:
    first, dry, rich = _call(), _call(in_hand_s=FIRST_S / 2), _call(in_hand_s=0.4)
    assert pick([rich, first, dry], 100.0, 8) == [dry, first, rich]


def test_who_has_plenty_waits_while_somebody_is_in_a_hurry() -> None:
    first, rich = _call(), _call(in_hand_s=COMFORT_S + 0.3)
    assert pick([rich, first], 100.0, 8) == [first]
    other = _call(in_hand_s=COMFORT_S + 0.1)
    assert pick([rich, other], 100.0, 8) == [other, rich]


def test_first_chunks_are_served_in_the_order_they_came() -> None:
    calls = [_call(ready_at_s=100.0 - age) for age in (0.0, 0.3, 0.1)]
    assert pick(calls, 100.0, 8) == [calls[1], calls[2], calls[0]]


def test_a_call_that_was_starved_of_text_does_not_overtake_all() -> None:
    starved = _call(in_hand_s=0.5, ready_at_s=200.0)  # its buffer ran dry 99.5 s ago
    dry = _call(ready_at_s=200.0)
    dry.playout.give(round(0.01 * HZ), 200.0)
    assert pick([starved, dry], 200.0, 8) == [dry, starved]


def test_nobody() -> None:
    assert pick([], 0.0, 8) == []


def test_a_playout_that_ran_dry_starts_afresh() -> None:
    playout = Playout(HZ)
    playout.give(HZ, 10.0)
    playout.give(HZ, 10.5)
    assert playout.dry_at_s == 12.0
    playout.give(HZ, 20.0)
    assert playout.dry_at_s == 21.0
    playout.take(2 * HZ)
    assert playout.in_hand_s == 1.0


# --- the thread -----------------------------------------------------------------------------


@pytest.fixture
def thread() -> Iterator[tuple[DecodingThread, FakeDecoder]]:
    decoder = FakeDecoder()
    made = DecodingThread(decoder)
    made.start()
    yield made, decoder
    decoder.gate.set()
    made.stop()


def test_steps_are_of_one_size_however_many_tokens_wait(
    thread: tuple[DecodingThread, FakeDecoder],
) -> None:
    decoding, decoder = thread
    listener = Listener()
    call = decoding.open(PROMPT, Playout(HZ), listener.emit)
    call.feed(range(42))
    call.finish()
    listener.ended.result(30)
    assert listener.samples == 42 * PER_TOKEN
    sizes = [len(sound) // PER_TOKEN for sound in listener.sounds]
    assert max(sizes) <= HOP + LOOK_AHEAD
    assert len(decoder.batches) == len(sizes)


def test_no_step_is_made_that_would_give_nothing(
    thread: tuple[DecodingThread, FakeDecoder],
) -> None:
    decoding, decoder = thread
    listener = Listener()
    call = decoding.open(PROMPT, Playout(HZ), listener.emit)
    for token in range(HOP + LOOK_AHEAD - 1):
        call.feed([token])
    decoding.do(lambda: None).result(30)
    assert decoder.batches == []
    call.feed([7])
    call.finish()
    listener.ended.result(30)
    assert all(len(sound) for sound in listener.sounds)


def test_an_end_without_tokens_comes_out_as_an_end(
    thread: tuple[DecodingThread, FakeDecoder],
) -> None:
    decoding, _ = thread
    listener = Listener()
    decoding.open(PROMPT, Playout(HZ), listener.emit).finish()
    listener.ended.result(30)
    assert listener.samples == 0


def test_jobs_run_on_the_thread_and_give_their_result_or_error(
    thread: tuple[DecodingThread, FakeDecoder],
) -> None:
    decoding, _ = thread
    assert decoding.do(threading.get_ident).result(30) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        decoding.do(lambda: 1 // 0).result(30)


def test_a_decoder_that_refuses_a_voice_says_so_to_its_caller(
    thread: tuple[DecodingThread, FakeDecoder],
) -> None:
    decoding, decoder = thread
    refused: Future[BaseException] = Future()

    def refuse(prompt: object) -> None:
        raise ValueError("this voice does not fit")

    decoder.open = refuse  # type: ignore[assignment,method-assign]
    call = decoding.open(PROMPT, Playout(HZ), Listener().emit)
    call.error = refused.set_result
    call.feed([1])
    assert "does not fit" in str(refused.result(30))
    decoding.do(lambda: None).result(30)
    assert decoding.calls == 0


def test_stopping_ends_calls_and_refuses_new_ones() -> None:
    decoder = FakeDecoder()
    decoding = DecodingThread(decoder)
    with pytest.raises(RuntimeError, match="start it"):
        decoding.open(PROMPT, Playout(HZ), Listener().emit)
    decoding.start()
    call = decoding.open(PROMPT, Playout(HZ), Listener().emit)
    call.feed(range(20))
    decoding.stop()
    assert decoder.open_calls == 0
    with pytest.raises(RuntimeError, match="start it"):
        decoding.do(lambda: None)
    decoding.start()
    listener = Listener()
    again = decoding.open(PROMPT, Playout(HZ), listener.emit)
    again.feed(range(20))
    again.finish()
    listener.ended.result(30)
    decoding.stop()
    assert np.concatenate(listener.sounds).size == 20 * PER_TOKEN
