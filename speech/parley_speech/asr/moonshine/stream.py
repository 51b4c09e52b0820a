"""One stream of utterances through Moonshine: what is decoded when.

Runs in the child process and meets ``child.Decoder``. A sound that grows is decoded anew, so what
is decoded when is all that matters:

- **while somebody speaks** now and then (``CADENCE_MS``), for words that may already tell
  something. Each decoding takes the one before for a guess;
- **as soon as the voice is quiet**, 40 ms after its end and before anybody asked: if nothing
  follows, these are the final words, and they are there when they are asked for. A grammar is asked
  only here: the beginning of a sentence says little about which one it is;
- who goes on after a pause begins a new **piece**, in a grammar one that goes on with the sentence.
  Pieces, and the cut of a sound of ten seconds at its quietest place, keep every decoding short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parley_speech.asr.grammar import GrammarError
from parley_speech.asr.heard import Heard
from parley_speech.asr.moonshine import tempo
from parley_speech.asr.moonshine.constrained import Constraint
from parley_speech.asr.moonshine.hearing import (
    ENOUGH,
    UNFINISHED,
    Found,
    TimedWord,
    decode,
    timed,
)
from parley_speech.asr.moonshine.model import Moonshine
from parley_speech.asr.moonshine.word_graph import WordGraph
from parley_speech.types import FRAME_MS, MIC_FRAME

BYTES_PER_MS = 32
FRAME_BYTES = 2 * MIC_FRAME
QUIET_FRAMES = 2
"""After so many frames without the voice it may have ended."""
CADENCE_MS = {
    True: ((1200, 160), (math.inf, 1280)),
    False: ((1200, 160), (4000, 320), (math.inf, 640)),
}
"""A piece of up to so many ms is decoded again after so many more, in a grammar or not."""
PAUSE_FRAMES = 15
"""After so many quiet frames a voice begins a new piece ..."""
LEAD_FRAMES = 10
"""... with so many of them before it,"""
SURE = 0.6
"""if what was heard before the pause is so sure: later sound will not change it,"""
LONG_MS = 4000
"""or, in open English, was so long."""
LONGEST_MS = 10_000
"""A longer piece is cut ..."""
CUT_FROM_MS, CUT_TO_MS = 4_000, 9_000
"""... where it is quietest between these."""
HUSH_FRAMES = 6
"""Frames of which the quietest run is looked for."""
MOST_GRAMMARS = 24

Begun = tuple[tuple[str, ...], ...]
"""Words of sentences that may be gone on with."""
Loud = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.float64]


@dataclass(slots=True)
class _Piece:
    """What is decoded in one go."""

    first: int = 0
    """Its first byte in the utterance, where a frame begins."""
    begun: Begun = ()
    found: Found = field(default_factory=Found)
    guess: tuple[int, ...] = ()
    decoded: int = 0
    """Bytes of the utterance that were there when it was last decoded."""
    paused: bool = False
    """What was found last was found after the voice, and no voice came since."""


@dataclass(slots=True)
class _Utterance:
    number: int
    source: str
    piece: _Piece
    pcm: bytearray = field(default_factory=bytearray)
    done: list[tuple[tuple[TimedWord, ...], float]] = field(default_factory=list)
    """Words of the pieces before, with their confidences."""
    undone: Begun = ()
    """With what its first piece may go on."""
    loudest_db: float = -100.0
    """Of the pieces before: a rest of their sound is no new voice."""
    taken: int = 0
    told: str = ""
    ended: bool = False
    _levels: Levels = field(default_factory=lambda: np.zeros(0))
    """Of its whole frames, as far as they were asked for."""

    @property
    def sound(self) -> npt.NDArray[np.int16]:
        """Of the present piece, (samples,)."""
        return np.frombuffer(self.pcm, "<i2")[self.piece.first // 2 :]

    @property
    def loud(self) -> Loud:
        """Which of its frames hold the voice."""
        return tempo.sounding(self.levels, self.loudest_db)

    @property
    def levels(self) -> Levels:
        """Of its frames, in dB; each is measured once, though they are asked for every 20 ms."""
        known = len(self._levels)
        if len(self.pcm) >= (known + 1) * FRAME_BYTES:
            fresh = np.frombuffer(self.pcm, "<i2")[known * MIC_FRAME :]
            self._levels = np.concatenate([self._levels, tempo.levels_db(fresh)])
        return self._levels[self.piece.first // FRAME_BYTES :]


class MoonshineModels:
    """What the streams of a child share."""

    def __init__(self, model: Moonshine) -> None:
        self.model = model
        self._constraints: dict[str, Constraint | GrammarError] = {}

    def decoder(self) -> MoonshineStream:
        return MoonshineStream(self)

    def constraint(self, source: str) -> Constraint:
        """Of a grammar. Raises GrammarError, for the same one once more without reading it."""
        if source not in self._constraints:
            while len(self._constraints) >= MOST_GRAMMARS:
                del self._constraints[next(iter(self._constraints))]
            try:
                self._constraints[source] = Constraint(WordGraph(source), self.model.spelling)
            except GrammarError as error:
                self._constraints[source] = error
        found = self._constraints[source]
        if isinstance(found, GrammarError):
            raise found
        return found


class MoonshineStream:
    """Meets ``child.Decoder``."""

    def __init__(self, models: MoonshineModels) -> None:
        self._models = models
        self._now: _Utterance | None = None
        self._unfinished: Begun = ()
        """What the last utterance may have begun."""
        self.problems: list[str] = []

    def close(self) -> None:
        self._now = None

    def prepare(self, source: str) -> None:
        """A grammar that cannot be read is a problem; open English takes its place."""
        if not source:
            return
        try:
            self._models.constraint(source)
        except GrammarError as error:
            self.problems.append(f"a grammar could not be read: {error}: {source[:300]!r}")

    def begin(self, number: int, source: str) -> None:
        if self._now is not None:
            raise ValueError(f"utterance {number} begins before {self._now.number} has ended")
        self.prepare(source)
        begun = self._unfinished
        self._now = _Utterance(number, source, _Piece(begun=begun), undone=begun)

    def push(self, pcm: bytes) -> None:
        if self._now is None:
            raise ValueError("audio came before its utterance began")
        self._now.pcm += pcm

    def end(self) -> None:
        if self._now is None:
            raise ValueError("an utterance ends that has not begun")
        self._now.ended = True

    @property
    def busy(self) -> bool:
        now = self._now
        return now is not None and (now.ended or now.taken < len(now.pcm))

    @property
    def taken(self) -> tuple[int, int] | None:
        return None if self._now is None else (self._now.number, self._now.taken)

    def step(self) -> list[Heard]:
        """Decodes once at most."""
        now = self._now
        if now is None:
            return []
        now.taken = len(now.pcm)
        if len(now.pcm) - now.piece.first > LONGEST_MS * BYTES_PER_MS:
            self._cut(now)
            return self._partial(now)
        loud = now.loud
        fresh = loud[(now.piece.decoded - now.piece.first) // FRAME_BYTES :]
        if now.piece.paused and fresh.any():
            now.piece.paused = False
            if self._goes_on(now, loud):
                loud = now.loud
        quiet = bool(loud.any()) and not loud[-QUIET_FRAMES:].any()
        if now.ended:
            return [self._final(now, loud)]
        fresh_ms = (len(now.pcm) - now.piece.decoded) / BYTES_PER_MS
        if quiet and not now.piece.paused:
            self._decode(now, loud, whole=True)
            now.piece.paused = True
        elif not now.piece.paused and fresh_ms >= _cadence_ms(now):
            self._decode(now, loud, whole=False)
        else:
            return []
        return self._partial(now)

    # --- decoding ------------------------------------------------------------------------------

    def _decode(self, now: _Utterance, loud: Loud, *, whole: bool) -> None:
        """``whole``: the voice has ended, or may have; only then a grammar tells more."""
        piece = now.piece
        piece.decoded = len(now.pcm)
        constraint = self._constraint(now.source) if whole else None
        model = self._models.model
        piece.found = decode(model, now.sound, loud, piece.guess, constraint, piece.begun)
        piece.guess = piece.found.tokens or piece.guess

    def _final(self, now: _Utterance, loud: Loud) -> Heard:
        if not now.piece.paused:
            self._decode(now, loud, whole=True)
        if now.source and now.done and now.piece.found.confidence < ENOUGH:
            self._undo(now)
        self._now = None
        self._unfinished = _unfinished(now.piece, UNFINISHED) if now.source else ()
        return self._heard(now, final=True)

    def _undo(self, now: _Utterance) -> None:
        """In a grammar a pause may have been taken for one in another sentence: all at once."""
        pieces, done = now.piece, now.done
        if len(now.pcm) > LONGEST_MS * BYTES_PER_MS:
            return
        now.piece, now.done = _Piece(begun=now.undone), []
        self._decode(now, now.loud, whole=True)
        if now.piece.found.confidence < ENOUGH:
            now.piece, now.done = pieces, done

    # --- pieces --------------------------------------------------------------------------------

    def _goes_on(self, now: _Utterance, loud: Loud) -> bool:
        """The voice is back after a pause: whether a new piece begins."""
        sounding = np.flatnonzero(loud)
        gaps = np.diff(sounding) - 1
        back = sounding[-1] - np.argmax(gaps[::-1] > 0) if (gaps > 0).any() else 0
        quiet = loud[: int(back)][::-1]
        pause = int(np.argmax(quiet)) if quiet.any() else 0
        found = now.piece.found
        sure = found.sentence is not None and found.confidence >= SURE
        long = not now.source and len(loud) * FRAME_MS >= LONG_MS
        if pause < PAUSE_FRAMES or not (sure or long):
            return False
        self._close(now, (int(back) - LEAD_FRAMES) * FRAME_BYTES)
        return True

    def _cut(self, now: _Utterance) -> None:
        """The first words of a long piece are done with."""
        levels = now.levels
        first, last = CUT_FROM_MS // FRAME_MS, CUT_TO_MS // FRAME_MS
        around = np.convolve(levels[first:last], np.ones(HUSH_FRAMES) / HUSH_FRAMES, "valid")
        at = first + int(around.argmin()) + HUSH_FRAMES // 2
        head, loud = now.sound[: at * MIC_FRAME], tempo.sounding(levels[:at], now.loudest_db)
        now.piece.found = decode(self._models.model, head, loud, (), None, ())
        self._close(now, at * FRAME_BYTES)

    def _close(self, now: _Utterance, size: int) -> None:
        """The piece was ``size`` bytes long; the next one begins behind it."""
        piece = now.piece
        levels = now.levels[: size // FRAME_BYTES]
        loud = tempo.sounding(levels, now.loudest_db)
        now.loudest_db = max(now.loudest_db, tempo.loud_db(levels))
        words = timed(piece.found, loud, piece.first // BYTES_PER_MS)
        now.done.append((words, piece.found.confidence))
        begun = _unfinished(piece, SURE) if now.source else ()
        now.piece = _Piece(piece.first + size, begun, decoded=len(now.pcm))

    # --- what is told --------------------------------------------------------------------------

    def _partial(self, now: _Utterance) -> list[Heard]:
        heard = self._heard(now, final=False)
        told = f"{heard.text}/{heard.confidence:.1f}"
        if told == now.told or not heard.text:
            return []
        now.told = told
        return [heard]

    def _heard(self, now: _Utterance, *, final: bool) -> Heard:
        found = now.piece.found
        last = timed(found, now.loud, now.piece.first // BYTES_PER_MS)
        pieces = [*now.done, *([(last, found.confidence)] if last or not now.done else [])]
        words = tuple(word for piece, _ in pieces for word in piece)
        trust = sum(len(piece) * p for piece, p in pieces) / max(len(words), 1)
        return Heard(now.number, " ".join(w[0] for w in words), final, words, trust)

    def _constraint(self, source: str) -> Constraint | None:
        """None in open English, and for a grammar that was a problem."""
        try:
            return self._models.constraint(source) if source else None
        except GrammarError:
            return None


def _unfinished(piece: _Piece, least: float) -> Begun:
    """What may be gone on with after this piece: its sentence, and those that it went on with."""
    sentence = piece.found.sentence
    if sentence is None or piece.found.confidence < least:
        return ()
    return (sentence.words, *((*words, *sentence.words) for words in piece.begun))


def _cadence_ms(now: _Utterance) -> int:
    ms = (len(now.pcm) - now.piece.first) / BYTES_PER_MS
    return next(every for longest, every in CADENCE_MS[bool(now.source)] if ms <= longest)


def models(options: Mapping[str, Any]) -> MoonshineModels:
    """For the child: ``options`` has the model's folder and the number of threads."""
    return MoonshineModels(Moonshine(Path(options["folder"]), options["threads"]))
