from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parley_speech.tts.clause_audio import CHUNK, LIMIT_FROM, ClauseAudio, limit
from parley_speech.tts.words import Clause
from parley_speech.types import AudioChunk, Pcm

HZ = 22_050


def tone(samples: int, level: float = 0.2) -> Pcm:
    wave = level * 32767 * np.sin(2 * np.pi * 220 * np.arange(samples) / HZ + 0.5)
    return wave.astype(np.int16)


def render(
    pieces: list[Pcm],
    words: list[tuple[int, int]],
    text: str = "one two",
    **options: object,
) -> tuple[list[AudioChunk], int]:
    """All pieces of one clause; each word is told with the first piece."""
    chunks: list[AudioChunk] = []
    arguments = {"unspoken": "", "at": 0, "pause": 0, "gain": 1.0, "source_hz": HZ} | options
    audio = ClauseAudio(Clause(text, 0), emit=chunks.append, **arguments)  # type: ignore[arg-type]
    for number, piece in enumerate(pieces):
        audio.push(piece, words if number == 0 else [])
    return chunks, audio.finish()


def joined(chunks: list[AudioChunk]) -> Pcm:
    return np.concatenate([chunk.pcm for chunk in chunks])


def test_length_and_marks_are_exact() -> None:
    chunks, after = render([tone(1470)], [(0, 0), (4, 735)])

    assert after == len(joined(chunks)) == 1600
    assert [(m.text, m.start, m.end) for c in chunks for m in c.marks] == [
        ("one", 0, 800),
        ("two", 800, 1600),
    ]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=8))
def test_pieces_make_no_difference(sizes: list[int]) -> None:
    whole = tone(sum(sizes))
    edges = np.cumsum(sizes)[:-1]
    words = [(0, 0), (4, len(whole) // 2)]

    in_one, _ = render([whole], words)
    in_pieces, _ = render(np.split(whole, edges), words)

    assert np.array_equal(joined(in_one), joined(in_pieces))


def test_no_chunk_is_empty_or_longer_than_60_ms() -> None:
    chunks, _ = render([tone(HZ)], [(0, 0), (4, 999)], pause=5000)
    assert all(0 < len(chunk.pcm) <= CHUNK == 1440 for chunk in chunks)


def test_a_mark_comes_with_the_chunk_in_which_its_word_begins() -> None:
    chunks, _ = render([tone(HZ)], [(0, 0), (4, 12_000)])
    position = 0
    for chunk in chunks:
        assert all(position <= m.start < position + len(chunk.pcm) for m in chunk.marks)
        position += len(chunk.pcm)


def test_a_word_leaves_before_the_clause_is_whole() -> None:
    chunks: list[AudioChunk] = []
    audio = ClauseAudio(
        Clause("one two", 0),
        unspoken="",
        at=0,
        pause=0,
        gain=1.0,
        source_hz=HZ,
        emit=chunks.append,
    )
    audio.push(tone(5000), [(0, 0), (4, 4410)])

    given_so_far = len(joined(chunks))
    assert 0.8 * 4800 < given_so_far <= 4800  # the resampler keeps some milliseconds
    assert [m.text for c in chunks for m in c.marks] == ["one"]


def test_silence_at_both_ends_is_cut() -> None:
    quiet = np.zeros(4410, np.int16)
    chunks, after = render([quiet, tone(4410), quiet], [(0, 4410), (4, 6615)])

    assert 4800 <= after <= 4800 + 5 * 24 + 160
    assert chunks[0].marks[0].start <= 5 * 24 + 1
    assert chunks[-1].marks == () or chunks[-1].marks[-1].end <= after


def test_a_clause_without_sound_gives_nothing() -> None:
    assert render([np.zeros(4410, np.int16)], [(0, 0)], pause=480, at=7) == ([], 7)


def test_a_pause_stands_before_the_sound_and_shifts_the_marks() -> None:
    chunks, after = render([tone(1470)], [(0, 0), (4, 735)], pause=2400, at=1000)

    assert after == 1000 + 2400 + 1600
    assert not joined(chunks)[:2400].any()
    assert [m.start for c in chunks for m in c.marks] == [3400, 4200]


def test_what_could_not_be_spoken_joins_the_first_mark() -> None:
    chunks: list[AudioChunk] = []
    audio = ClauseAudio(
        Clause(" one", 5), unspoken="  ...", at=0, pause=0, gain=1.0, source_hz=HZ,
        emit=chunks.append,
    )  # fmt: skip
    audio.push(tone(1470), [(1, 0)])
    audio.finish()

    (mark,) = [m for c in chunks for m in c.marks]
    assert (mark.text, mark.char_start, mark.char_end) == ("... one", 2, 9)


def test_ends_and_seams_do_not_click() -> None:
    pieces = np.array_split(tone(HZ), 20)
    chunks, _ = render(pieces, [(0, 0), (4, 10_000)])
    steps = np.abs(np.diff(joined(chunks).astype(int)))[50:-50]
    assert steps.max() < 1.2 * 0.2 * 32767 * 2 * np.pi * 220 / 24_000


@pytest.mark.parametrize("level", [0.5, 1.0, 3.0, 100.0])
def test_the_limiter_never_clips_and_leaves_low_levels_alone(level: float) -> None:
    sound: NDArray[np.float32] = np.linspace(-level, level, 10_001, dtype=np.float32)
    limited = limit(sound) / 32767

    assert np.abs(limited).max() < 0.99
    low = np.abs(sound) <= LIMIT_FROM
    assert np.allclose(limited[low], sound[low], atol=1e-4)
    assert (np.diff(limited) >= 0).all()
