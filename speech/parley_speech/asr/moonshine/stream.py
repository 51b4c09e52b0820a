"""One stream of utterances through Moonshine: when to decode, what is certain, words with times.

Runs in the child process and meets ``child.Decoder``. A sound that grows is decoded anew, so what
is decoded when is all that matters:

- **while somebody speaks** now and then (``Cadence``), for words that may already tell something.
  Each decoding takes the one before for a guess;
- **as soon as the voice is quiet**, 60 ms after its end and before anybody asked: if nothing
  follows, these are the final words, and they are there when they are asked for;
- a sound of more than ten seconds is cut at its quietest place, so that no decoding grows beyond.

In a grammar the words are the likeliest that it allows. How far words can be trusted is in their
own probability (``of_sentence``, ``of_text``).
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
from parley_speech.asr.moonshine.constrained import Constraint, Sentence
from parley_speech.asr.moonshine.model import Moonshine, Written
from parley_speech.asr.moonshine.word_graph import WordGraph
from parley_speech.types import FRAME_MS, MIC_FRAME

BYTES_PER_MS = 32
QUIET_FRAMES = 3
"""After so many frames without the voice it may have ended."""
TAIL_MS = 200
"""Silence put behind what is decoded: of 1682 words of odd synthetic voices 35 % were wrong with
none, 29 % with 100 ms and 27 % with 200."""
CADENCE_MS = ((1200, 160), (4000, 320), (math.inf, 640))
"""A sound of up to so many ms is decoded again after so many more."""
LONGEST_MS = 10_000
"""A longer sound is cut ..."""
CUT_FROM_MS, CUT_TO_MS = 4_000, 9_000
"""... where it is quietest between these."""
HUSH_FRAMES = 6
"""Frames of which the quietest run is looked for."""
MOST_GRAMMARS = 24

ENOUGH = 0.4
"""Confidence of a sentence of the grammar from which nothing else is looked for."""
UNFINISHED_FROM = 0.25
"""... of an unfinished one from which the next utterance may go on with it."""
INCOMPLETE = 0.7
"""Factor for a sentence after which the grammar does not allow to stop."""
NO_WORDS = frozenset("♪♫©")
"""What the model writes for music and noise."""
NOISE = frozenset(["you"])
"""... and, where it writes nothing else, this word: for 67 of 90 noises, and for the first tenths
of a second of a voice."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was heard in a piece of sound."""

    words: tuple[tuple[str, float], ...] = ()
    """Each with its confidence."""
    confidence: float = 0.0


@dataclass(slots=True)
class _Utterance:
    number: int
    source: str
    pcm: bytearray = field(default_factory=bytearray)
    begun: int = 0
    """Bytes before the piece that is being decoded."""
    before: list[tuple[tuple[tuple[str, int, int, float], ...], float]] = field(
        default_factory=list
    )
    """Words of the pieces before it, with their confidences."""
    decoded: int = 0
    """Bytes that were there when it was last decoded."""
    taken: int = 0
    paused: bool = False
    """What was found last was found after the voice, and no voice came since."""
    found: Found = field(default_factory=Found)
    sentence: Sentence | None = None
    """Of the grammar, if that was asked."""
    guess: tuple[int, ...] = ()
    told: str = ""
    ended: bool = False


class MoonshineModels:
    """What the streams of a child share."""

    def __init__(self, model: Moonshine) -> None:
        self.model = model
        self._constraints: dict[str, Constraint] = {}

    def decoder(self) -> MoonshineStream:
        return MoonshineStream(self)

    def constraint(self, source: str) -> Constraint:
        """Of a grammar. Raises GrammarError."""
        if source not in self._constraints:
            while len(self._constraints) >= MOST_GRAMMARS:
                del self._constraints[next(iter(self._constraints))]
            self._constraints[source] = Constraint(WordGraph(source), self.model.spelling)
        return self._constraints[source]


class MoonshineStream:
    """Meets ``child.Decoder``."""

    def __init__(self, models: MoonshineModels) -> None:
        self._models = models
        self._now: _Utterance | None = None
        self._unfinished: tuple[tuple[str, ...], ...] = ()
        """What the last utterance may have begun."""
        self.problems: list[str] = []

    def close(self) -> None:
        self._now = None

    def prepare(self, source: str) -> None:
        """A grammar that cannot be read is a problem; open English takes its place."""
        self._constraint(source)

    def begin(self, number: int, source: str) -> None:
        if self._now is not None:
            raise ValueError(f"utterance {number} begins before {self._now.number} has ended")
        self._now = _Utterance(number, source)

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
        sound = np.frombuffer(now.pcm, "<i2")[now.begun // 2 :]
        loud = tempo.sounding(tempo.levels_db(sound))
        quiet = bool(loud.any()) and not loud[-QUIET_FRAMES:].any()
        if now.paused and not quiet:
            now.paused = False
        if len(sound) > LONGEST_MS * BYTES_PER_MS // 2:
            self._cut(now, sound)
            return self._partial(now)
        if now.ended:
            return [self._final(now, sound, loud)]
        if quiet and not now.paused:
            self._decode(now, sound, loud, whole=True)
            now.paused = True
        elif not now.paused and len(now.pcm) - now.decoded >= _cadence_ms(sound) * BYTES_PER_MS:
            self._decode(now, sound, loud, whole=False)
        else:
            return []
        return self._partial(now)

    # --- inside --------------------------------------------------------------------------------

    def _final(
        self, now: _Utterance, sound: npt.NDArray[np.int16], loud: npt.NDArray[np.bool_]
    ) -> Heard:
        if not now.paused:
            self._decode(now, sound, loud, whole=True)
        self._now = None
        self._remember(now)
        return self._heard(now, final=True)

    def _remember(self, now: _Utterance) -> None:
        """Who paused in the middle of a sentence goes on with it in the next utterance."""
        before, self._unfinished = self._unfinished, ()
        sentence = now.sentence
        if sentence is not None and not sentence.whole and now.found.confidence >= UNFINISHED_FROM:
            self._unfinished = (sentence.words, *((*b, *sentence.words) for b in before))

    def _partial(self, now: _Utterance) -> list[Heard]:
        heard = self._heard(now, final=False)
        told = f"{heard.text}/{heard.confidence:.1f}"
        if told == now.told or not heard.text:
            return []
        now.told = told
        return [heard]

    def _cut(self, now: _Utterance, sound: npt.NDArray[np.int16]) -> None:
        """The first words of a long sound are done with."""
        levels = tempo.levels_db(sound)
        first, last = CUT_FROM_MS // FRAME_MS, CUT_TO_MS // FRAME_MS
        around = np.convolve(levels[first:last], np.ones(HUSH_FRAMES) / HUSH_FRAMES, "valid")
        at = first + int(around.argmin()) + HUSH_FRAMES // 2
        head = sound[: at * MIC_FRAME]
        now.guess, now.found = (), Found()
        self._decode(now, head, tempo.sounding(levels[:at]), whole=False)
        now.before.append(
            (_timed(now.found, tempo.sounding(levels[:at]), now.begun), now.found.confidence)
        )
        now.begun += 2 * len(head)
        now.guess, now.found, now.paused = (), Found(), False

    def _decode(
        self,
        now: _Utterance,
        sound: npt.NDArray[np.int16],
        loud: npt.NDArray[np.bool_],
        *,
        whole: bool,
    ) -> None:
        """``whole``: the voice has ended, or may have; only then a grammar tells more."""
        now.decoded = len(now.pcm)
        if not loud.any():
            now.found = Found()
            return
        padded = np.concatenate([sound, np.zeros(TAIL_MS * BYTES_PER_MS // 2, np.int16)])
        speech = self._models.model.listen(padded)
        sounding_ms = tempo.sounding_ms(loud)
        now.sentence = None
        constraint = self._constraint(now.source) if now.begun == 0 and whole else None
        if constraint is not None:
            now.sentence = constraint.likeliest(speech, sounding_ms, self._unfinished)
            if now.sentence is not None and (p := of_sentence(now.sentence)) >= ENOUGH:
                now.found = Found(tuple((word, p) for word in now.sentence.words), p)
                return
        free = speech.follow(now.guess)
        now.guess = free.tokens
        now.found = self._freely(free, sounding_ms)
        if now.sentence is not None and (p := of_sentence(now.sentence)) > now.found.confidence:
            now.found = Found(tuple((word, p) for word in now.sentence.words), p)

    def _freely(self, free: Written, sounding_ms: float) -> Found:
        spelling = self._models.model.spelling
        text = spelling.text(free.tokens)
        bare = "".join(c for c in text.lower() if c.isalnum())
        if not bare or bare in NOISE or NO_WORDS.intersection(text):
            return Found()
        fit = math.exp(tempo.log_fit(len(bare), sounding_ms))
        words: list[tuple[str, list[float]]] = []
        begun: list[list[int]] = []
        for token, log in zip(free.tokens, free.logs, strict=False):
            if spelling.begins_word(token) or not begun:
                begun.append([])
                words.append(("", []))
            begun[-1].append(token)
            words[-1][1].append(log)
        found = [
            (spelling.text(tokens), fit * of_text(sum(logs) / len(logs)))
            for tokens, (_, logs) in zip(begun, words, strict=True)
        ]
        return Found(tuple((w, p) for w, p in found if w), fit * of_text(free.mean_log_p))

    def _constraint(self, source: str) -> Constraint | None:
        if not source:
            return None
        try:
            return self._models.constraint(source)
        except GrammarError as error:
            self.problems.append(f"a grammar could not be read: {error}: {source[:300]!r}")
            return None

    def _heard(self, now: _Utterance, *, final: bool) -> Heard:
        sound = np.frombuffer(now.pcm, "<i2")[now.begun // 2 :]
        last = _timed(now.found, tempo.sounding(tempo.levels_db(sound)), now.begun)
        pieces = [*now.before, (last, now.found.confidence)]
        words = tuple(word for piece, _ in pieces for word in piece)
        trust = sum(len(piece) * p for piece, p in pieces) / max(len(words), 1)
        return Heard(now.number, " ".join(w[0] for w in words), final, words, trust)


def of_sentence(sentence: Sentence) -> float:
    """0..1 that these are the words, by their nats a token: fitted on 699 sounds of the bench's
    training and validation callers in a desk's grammar. Of 274 that were something else, noises and
    side talk among them, 12 get more than 0.5, of 425 that were right 14 less. A lone word is found
    in a noise sooner than a sentence."""
    nats = sentence.log_p / (len(sentence.words) + 1)
    base = (3.2, 4.4, 5.4)[min(len(sentence.words), 3) - 1]
    p = _logistic(base + 2.3 * nats)
    return p if sentence.whole else p * INCOMPLETE


def of_text(mean_log_p: float) -> float:
    """... of what was written freely: fitted on 711 of the same sounds, as right where a quarter of
    the words is wrong at most, then half a nat more in their favour. It tells less (area under the
    curve 0.77; in a grammar 0.98)."""
    return _logistic(2.2 + 6.2 * mean_log_p)


def _logistic(nats: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(nats, -100.0)))


def _cadence_ms(sound: npt.NDArray[np.int16]) -> int:
    ms = len(sound) * FRAME_MS / MIC_FRAME
    return next(every for longest, every in CADENCE_MS if ms <= longest)


def _timed(
    found: Found, loud: npt.NDArray[np.bool_], begun: int
) -> tuple[tuple[str, int, int, float], ...]:
    """The decoder knows no times: each word gets its share of the voice, by its letters."""
    sounding = np.flatnonzero(loud) * FRAME_MS
    if not len(sounding) or not found.words:
        return ()
    letters = np.cumsum([0, *(len(word) for word, _ in found.words)])
    edges = np.interp(letters / letters[-1], np.linspace(0, 1, len(sounding)), sounding)
    at = begun // BYTES_PER_MS
    ends = [*(round(e) for e in edges[1:-1]), int(sounding[-1]) + FRAME_MS]
    starts = [int(sounding[0]), *ends[:-1]]
    return tuple(
        (word, at + start, at + end, p)
        for (word, p), start, end in zip(found.words, starts, ends, strict=True)
    )


def models(options: Mapping[str, Any]) -> MoonshineModels:
    """For the child: ``options`` has the model's folder and the number of threads."""
    return MoonshineModels(Moonshine(Path(options["folder"]), options["threads"]))
