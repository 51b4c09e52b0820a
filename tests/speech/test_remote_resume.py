"""Going on after a loss: every word once, in order, wherever it happens. No network here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tone_voice import PAUSE, WORD, ToneVoice, read, text_of

from parley_speech.remote.errors import SourceBusy, SourceLost, SpeechServersLost
from parley_speech.remote.resume import Continuation, Given, Place, whole_words
from parley_speech.remote.stream import Failures, ResumingStream, Source
from parley_speech.types import AudioChunk, Pcm, SpeechStream, WordMark


def chunk(samples: int, *marks: WordMark, value: int = 1000) -> AudioChunk:
    return AudioChunk(np.full(samples, value, np.int16), marks)


def word(text: str, char: int, start: int, end: int) -> WordMark:
    return WordMark(text, char, char + len(text), start, end)


# --- where to go on -------------------------------------------------------------------------------

ONE, TWO = word("one", 0, 0, 100), word("two,", 4, 120, 220)


@pytest.mark.parametrize(
    ("chunks", "place"),
    [
        ([], Place(0, 0, 0.0)),
        ([chunk(100, ONE)], Place(3, 3, 0.0)),
        ([chunk(110, ONE)], Place(3, 3, 0.0)),
        ([chunk(50, ONE)], Place(0, 3, 0.5)),
        ([chunk(110, ONE, TWO)], Place(4, 8, 0.0)),
        ([chunk(145, ONE, TWO)], Place(4, 8, 0.25)),
        ([chunk(50, ONE, TWO)], Place(0, 8, 0.5)),
        ([chunk(100, ONE), chunk(120, TWO)], Place(8, 8, 0.0)),
    ],
)
def test_the_place_is_the_first_word_that_was_not_heard_whole(
    chunks: list[AudioChunk], place: Place
) -> None:
    given_ = Given()
    for one in chunks:
        given_.add(one)
    assert given_.place() == place


def kept(waiting: list[AudioChunk], *heard: AudioChunk) -> tuple[int, list[str]]:
    given_ = Given()
    for one in heard:
        given_.add(one)
    left = whole_words(waiting, given_)
    return sum(len(c.pcm) for c in left), [mark.text for c in left for mark in c.marks]


def test_what_waits_is_kept_to_its_last_whole_word() -> None:
    assert kept([chunk(100, ONE), chunk(60, TWO)]) == (120, ["one"])
    assert kept([chunk(160, ONE, TWO)]) == (120, ["one"])
    assert kept([chunk(100, ONE), chunk(120, TWO)]) == (220, ["one", "two,"])
    assert kept([chunk(60, TWO)], chunk(100, ONE)) == (20, [])
    assert kept([chunk(50, ONE)]) == (0, [])


def test_a_word_that_the_listener_has_begun_is_kept() -> None:
    assert kept([chunk(40)], chunk(30, ONE)) == (40, [])
    assert kept([chunk(60), chunk(60, TWO)], chunk(50, ONE)) == (70, [])


def test_a_late_mark_leaves_nothing_of_its_word_but_the_pause_before() -> None:
    pause = AudioChunk(np.zeros(30, np.int16))
    assert kept([chunk(100, ONE), pause, chunk(50)]) == (130, ["one"])


# --- going on -------------------------------------------------------------------------------------


def test_a_source_from_the_beginning_is_given_as_it_is() -> None:
    same = [chunk(100, ONE), chunk(120, TWO)]
    continuation = Continuation(Place(), 0)
    out = [c for one in same for c in continuation.take(one)]
    assert [c.marks for c in out] == [(ONE,), (TWO,)]
    assert [len(c.pcm) for c in out] == [100, 120]


def test_the_share_that_was_heard_is_skipped_and_the_word_is_not_given_again() -> None:
    continuation = Continuation(Place(char=4, given_to=8, share=0.5), at=1000)
    first = word("two,", 0, 10, 210)
    assert continuation.take(AudioChunk(np.arange(60, dtype=np.int16))) == []
    out = continuation.take(AudioChunk(np.arange(60, 200, dtype=np.int16), (first,)))
    out += continuation.take(chunk(100, word("six", 5, 220, 300)))
    assert out[0].pcm[0] == 110
    assert [mark for c in out for mark in c.marks] == [word("six", 9, 1110, 1190)]


def test_a_word_that_takes_in_a_known_one_gives_what_is_new() -> None:
    continuation = Continuation(Place(char=4, given_to=7, share=0.0), at=0)
    (out,) = continuation.take(chunk(10, word("she said —", 0, 0, 10)))
    assert out.marks == (word("said —", 8, 0, 10),)


def test_a_source_that_never_tells_its_words_is_given_whole() -> None:
    continuation = Continuation(Place(char=4, given_to=8, share=0.5), at=0)
    assert continuation.take(chunk(10)) == []
    assert [len(c.pcm) for c in continuation.finish()] == [10]


# --- every word once ------------------------------------------------------------------------------


class Dying:
    """A source that gives so many chunks, and is then lost as a connection is: what waits for the
    listener at that time is cut to whole words."""

    def __init__(self, voice: ToneVoice, lives: int | None, ahead: int) -> None:
        self._voice, self._lives, self._ahead = voice, lives, ahead
        self.busy_for: float | None = None

    def stream(self) -> SpeechStream:
        return _DyingStream(self._voice.stream(), self._lives, self._ahead)

    def is_busy(self, retry_s: float) -> None:
        self.busy_for = retry_s


class _DyingStream:
    def __init__(self, stream: SpeechStream, lives: int | None, ahead: int) -> None:
        self._stream, self._lives, self._ahead = stream, lives, ahead
        self._given = Given()
        self.push, self.end, self.cancel, self.aclose = (
            stream.push, stream.end, stream.cancel, stream.aclose,
        )  # fmt: skip

    async def __aiter__(self) -> AsyncIterator[AudioChunk]:
        waiting: deque[AudioChunk] = deque()
        made = 0
        chunks = aiter(self._stream)
        while True:
            lost = made == self._lives
            while not lost and len(waiting) <= self._ahead:
                try:
                    waiting.append(await anext(chunks))
                except StopAsyncIteration:
                    break
                made += 1
                lost = made == self._lives
            if lost:
                waiting = whole_words(waiting, self._given)
            elif not waiting:
                return
            while waiting:
                self._given.add(waiting[0])
                yield waiting.popleft()
                if not lost:
                    break
            if lost:
                raise SourceLost("gone")


class InTurn:
    """Sources, each used until it fails."""

    def __init__(self, *sources: Source) -> None:
        self.sources = list(sources)
        self.asked = 0

    def best(self, failed: Failures) -> Source | None:
        self.asked += 1
        assert self.asked < 200, "it goes round in circles"
        return next((source for source in self.sources if source not in failed), None)

    async def wait(self, failed: Failures, since: float, problem: SourceLost | None) -> Source:
        raise SpeechServersLost(f"none is left: {problem}")


async def hear(stream: ResumingStream) -> tuple[Pcm, list[WordMark]]:
    chunks = [one async for one in stream]
    marks = [mark for one in chunks for mark in one.marks]
    return np.concatenate([np.zeros(0, np.int16), *(one.pcm for one in chunks)]), marks


NUMBERS = list(range(1, 9))
TEXT = text_of(*NUMBERS)


@given(
    lives=st.lists(st.integers(0, 12), max_size=4),
    ahead=st.integers(0, 8),
    pieces=st.lists(st.sampled_from([480, 960, 1000, 2400, 2880, 7]), min_size=5, max_size=5),
    late=st.booleans(),
    cut=st.integers(0, len(TEXT)),
)
async def test_wherever_sources_are_lost_every_word_is_given_once(
    lives: list[int], ahead: int, pieces: list[int], late: bool, cut: int
) -> None:
    pieces = [max(piece, 200) for piece in pieces]
    voices = [ToneVoice(chunk=piece, late=late) for piece in pieces]
    ends: list[int | None] = [*lives, None]
    sources = [Dying(v, n, ahead) for v, n in zip(voices, ends, strict=False)]
    stream = ResumingStream(InTurn(*sources))
    stream.push(TEXT[:cut])
    stream.push(TEXT[cut:])
    stream.end()
    pcm, marks = await asyncio.wait_for(hear(stream), 20)
    await stream.aclose()

    assert [mark.text for mark in marks] == TEXT.split()
    assert all(TEXT[mark.char_start : mark.char_end] == mark.text for mark in marks)
    assert all(a.start <= b.start for a, b in pairwise(marks))
    heard = read(pcm)
    order = [number for number, _ in heard]
    assert sorted(set(order)) == NUMBERS
    if late:  # a word whose mark was not known yet is begun again
        assert order == sorted(order)
        assert all(samples >= WORD for _, samples in heard)
    else:
        assert order == NUMBERS
        assert all(abs(samples - WORD) <= len(lives) for _, samples in heard)
        sounding = np.flatnonzero(pcm)
        for mark in marks:
            assert (
                abs(int(sounding[pcm[sounding] == 100 + int(mark.text[1:])][0]) - mark.start) <= 1
            )
    assert all(voice.open == 0 for voice in voices)


@given(st.integers(1, 20), st.integers(0, 3))
async def test_text_that_comes_after_the_loss_is_spoken_too(lives: int, ahead: int) -> None:
    first, second = ToneVoice(), ToneVoice()
    stream = ResumingStream(InTurn(Dying(first, lives, ahead), Dying(second, None, 0)))
    marks: list[WordMark] = []

    async def listen() -> None:
        async for one in stream:
            marks.extend(one.marks)

    listening = asyncio.create_task(listen())
    for number in NUMBERS:
        stream.push(f"w{number} ")
        for _ in range(6):
            await asyncio.sleep(0)
    stream.end()
    await asyncio.wait_for(listening, 20)
    assert [mark.text for mark in marks] == TEXT.split()
    await stream.aclose()
    assert (first.open, second.open) == (0, 0)


async def test_a_source_that_is_busy_is_told_so_and_not_blamed() -> None:
    class Busy(Dying):
        def stream(self) -> SpeechStream:
            return _BusyStream()

    busy, voice = Busy(ToneVoice(), None, 0), ToneVoice()
    failures: list[Failures] = []

    class Watching(InTurn):
        def best(self, failed: Failures) -> Source | None:
            failures.append(dict(failed))
            return busy if busy.busy_for is None else self.sources[1]

    stream = ResumingStream(Watching(busy, Dying(voice, None, 0)))
    stream.push("w1")
    stream.end()
    _, marks = await hear(stream)
    assert [mark.text for mark in marks] == ["w1"]
    assert busy.busy_for == 0.5
    assert failures[0] == {}
    failure = failures[1][busy]
    assert failure.again == pytest.approx(failure.at + 0.5)


class _BusyStream:
    def push(self, text: str) -> None: ...
    def end(self) -> None: ...
    def cancel(self) -> None: ...
    async def aclose(self) -> None: ...
    async def __aiter__(self) -> AsyncIterator[AudioChunk]:
        if self:
            raise SourceBusy("full", 0.5)
        yield chunk(1)


async def test_when_nobody_is_left_the_listener_is_told() -> None:
    stream = ResumingStream(InTurn(Dying(ToneVoice(), 4, 0)))
    stream.push(TEXT)
    stream.end()
    heard: list[str] = []
    with pytest.raises(SpeechServersLost, match="gone"):
        async for one in stream:
            heard += [mark.text for mark in one.marks]
    assert heard == ["w1"]  # what was made of the second one was cut off
    await stream.aclose()


async def test_a_source_that_dies_with_its_last_word_needs_no_other() -> None:
    voice = ToneVoice(chunk=WORD + PAUSE)
    stream = ResumingStream(InTurn(Dying(voice, 2, 0)))
    stream.push("w1 w2")
    stream.end()
    _, marks = await hear(stream)
    assert [mark.text for mark in marks] == ["w1", "w2"]


async def test_a_cancel_ends_it_at_once_also_while_it_waits_for_a_source() -> None:
    class Never(InTurn):
        async def wait(self, failed: Failures, since: float, problem: SourceLost | None) -> Source:
            await asyncio.Event().wait()
            raise AssertionError

    stream = ResumingStream(Never())
    stream.push(TEXT)
    listening = asyncio.create_task(hear(stream))
    await asyncio.sleep(0.01)
    stream.cancel()
    stream.push("more")
    stream.end()
    _, marks = await asyncio.wait_for(listening, 20)
    assert marks == []


async def test_text_after_the_end_and_far_too_much_text_are_errors() -> None:
    stream = ResumingStream(InTurn(Dying(ToneVoice(), None, 0)))
    with pytest.raises(OverflowError, match="100000 characters"):
        stream.push("x" * 100_001)
    stream.end()
    with pytest.raises(RuntimeError, match="open a new stream"):
        stream.push("x")
    await stream.aclose()
