"""The parent's copy of what a stream's child has not finished: nothing said is lost with a child.

Pure: frames and calls go in, messages for the child come out, hypotheses of the child come in
and whole hypotheses come out. An utterance is cut into segments of at most a minute; segments
are what the child knows. A segment's audio is kept until its final hypothesis has come, so that
it can be sent again to a new child. What a caller sees is utterances: the words of earlier
segments stand before those of the present one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parley_speech.asr import wire
from parley_speech.asr.grammar import jsgf_source
from parley_speech.audio import check_pcm
from parley_speech.types import FRAME_MS, MIC_FRAME, Grammar, Hypothesis, Pcm, Word

BYTES_PER_MS = 32  # 16 kHz, 2 bytes
PRE_ROLL_MS = 300
"""Sound before ``begin``: the first phones, and quiet by which the decoder learns the noise."""
WINDOW_MS = 1000
"""Audio sent but not yet decoded, at most: the pipe and the child hold no more than this."""
SEGMENT_MS = 60_000
QUIET_FROM_MS = 50_000
"""From here on a segment ends at the first quiet frame, so that no word is cut in two."""
QUIET = 0.1
"""A frame is quiet when its mean amplitude is below this part of the segment's."""
BACKLOG_MS = 180_000
"""Longest sound kept for a child that does not keep up. Older segments are then given up."""
CRASHES = 2
"""A segment over which this many children died is given up, else it would kill every child."""


@dataclass(slots=True)
class Segment:
    """A piece of an utterance, as the child knows it."""

    number: int
    utterance: int
    start_ms: int
    grammar: Grammar | None
    pcm: bytearray = field(default_factory=bytearray)
    amplitude: float = 0.0
    """Sum of the frames' mean amplitudes."""
    ended: bool = False
    last: bool = True
    """Of its utterance; known when it has ended."""
    begun: bool = False
    sent: int = 0
    taken: int = 0
    end_sent: bool = False
    crashes: int = 0

    @property
    def ms(self) -> int:
        return len(self.pcm) // BYTES_PER_MS


class Backlog:
    """One stream's utterances on their way through a child."""

    def __init__(self) -> None:
        self._pre_roll: deque[bytes] = deque(maxlen=PRE_ROLL_MS // FRAME_MS)
        self._segments: deque[Segment] = deque()
        self._open: Segment | None = None
        self._grammar: Grammar | None = None
        self._words: list[Word] = []
        """Of the finished segments of the utterance whose segments are coming in."""
        self._trust: list[tuple[int, float]] = []
        """Their numbers of words and confidences."""
        self._at_ms = 0
        self._utterances = 0
        self._numbers = 0
        self.lost_ms = 0
        """Sound given up undecoded, because a child was far too slow or kept dying over it."""

    # --- the caller's side ---------------------------------------------------------------------

    def push(self, frame: Pcm) -> list[Hypothesis]:
        """A microphone frame (320,). Gives the finals of utterances that had to be given up."""
        data = check_pcm(frame, "frame", MIC_FRAME).astype("<i2", copy=False).tobytes()
        self._at_ms += FRAME_MS
        if self._open is None:
            self._pre_roll.append(data)
            return []
        self._open.pcm += data
        loudness = float(np.abs(frame.astype(np.int32)).mean())
        self._open.amplitude += loudness
        if self._full(self._open, loudness):
            self._end(last=False)
            self._begin(self._utterances - 1)
        return self._give_up_oldest()

    def begin(self) -> None:
        """An utterance begins, with what the pre-roll holds. Nothing happens if one is open."""
        if self._open is None:
            self._utterances += 1
            self._begin(self._utterances - 1)

    def end(self) -> None:
        """The utterance is over. Nothing happens if none is open."""
        if self._open is not None:
            self._end(last=True)

    def set_grammar(self, grammar: Grammar | None) -> None:
        """For utterances that begin from now on."""
        self._grammar = grammar

    def _full(self, segment: Segment, loudness: float) -> bool:
        mean = segment.amplitude * FRAME_MS / segment.ms
        quiet = segment.ms >= QUIET_FROM_MS and loudness < QUIET * mean
        return quiet or segment.ms >= SEGMENT_MS

    def _begin(self, utterance: int) -> None:
        lead = b"".join(self._pre_roll)
        start_ms = self._at_ms - len(lead) // BYTES_PER_MS
        self._open = Segment(self._numbers, utterance, start_ms, self._grammar, bytearray(lead))
        self._numbers += 1
        self._segments.append(self._open)

    def _end(self, *, last: bool) -> None:
        assert self._open is not None
        self._open.ended, self._open.last = True, last
        self._open = None
        self._pre_roll.clear()  # what was decoded once is not the beginning of the next

    def _give_up_oldest(self) -> list[Hypothesis]:
        given_up: list[Hypothesis] = []
        while self.pending_ms > BACKLOG_MS and self._segments[0].ended:
            given_up += self._give_up(self._segments[0])
        return given_up

    def _give_up(self, segment: Segment) -> list[Hypothesis]:
        self.lost_ms += segment.ms - segment.taken // BYTES_PER_MS
        return self._finish(segment, (), 0.0)

    # --- the child's side ----------------------------------------------------------------------

    @property
    def pending_ms(self) -> int:
        """Sound that the child has not decoded yet."""
        return sum(len(s.pcm) - s.taken for s in self._segments) // BYTES_PER_MS

    @property
    def waiting(self) -> bool:
        """The child owes something: sound that it was sent, or a final."""
        return any(s.sent > s.taken or s.end_sent for s in self._segments)

    def outgoing(self, stream: int) -> Iterator[bytes]:
        """The messages that may be sent now; each counts as sent when it has been given."""
        room = WINDOW_MS * BYTES_PER_MS - sum(s.sent - s.taken for s in self._segments)
        for segment in self._segments:
            if not segment.begun:
                segment.begun = True
                yield _begin_message(stream, segment)
            piece = bytes(segment.pcm[segment.sent : segment.sent + max(room, 0)])
            if piece:
                segment.sent += len(piece)
                room -= len(piece)
                yield wire.encode(wire.Kind.AUDIO, stream, piece)
            if segment.sent < len(segment.pcm) or not segment.ended:
                return
            if not segment.end_sent:
                segment.end_sent = True
                yield wire.encode(wire.Kind.END, stream)

    def taken(self, number: int, count: int) -> None:
        """The child has decoded ``count`` bytes of a segment."""
        for segment in self._segments:
            if segment.number == number:
                segment.taken = max(segment.taken, min(count, segment.sent))

    def heard(self, fields: dict[str, Any]) -> list[Hypothesis]:
        """What the child heard in a segment, as a hypothesis about the utterance."""
        if not self._segments or self._segments[0].number != fields["utterance"]:
            return []  # given up, or finished by a child that died right after
        segment = self._segments[0]
        words = tuple(
            Word(text, segment.start_ms + start_ms, segment.start_ms + end_ms, confidence)
            for text, start_ms, end_ms, confidence in fields["words"]
        )
        if fields["final"]:
            return self._finish(segment, words, float(fields["confidence"]))
        return [self._hypothesis(segment, words, float(fields["confidence"]), final=False)]

    def rewind(self) -> list[Hypothesis]:
        """The child died: everything unfinished goes to the next one from its beginning. Gives
        the finals of what is given up because child after child died over it."""
        given_up: list[Hypothesis] = []
        if self._segments and self._segments[0].sent:
            self._segments[0].crashes += 1
            if self._segments[0].crashes >= CRASHES and self._segments[0].ended:
                given_up = self._give_up(self._segments[0])
        for segment in self._segments:
            segment.begun = segment.end_sent = False
            segment.sent = segment.taken = 0
        return given_up

    def _finish(
        self, segment: Segment, words: tuple[Word, ...], confidence: float
    ) -> list[Hypothesis]:
        self._segments.remove(segment)
        hypothesis = self._hypothesis(segment, words, confidence, final=segment.last)
        if segment.last:
            self._words, self._trust = [], []
        else:
            self._words += words
            self._trust.append((len(words), confidence))
        return [hypothesis]

    def _hypothesis(
        self, segment: Segment, words: tuple[Word, ...], confidence: float, *, final: bool
    ) -> Hypothesis:
        """With the words of the utterance's earlier segments; confidence: mean over all words."""
        everything = (*self._words, *words)
        trust = [*self._trust, (len(words), confidence)]
        if self._trust and everything:
            confidence = sum(n * c for n, c in trust) / len(everything)
        text = " ".join(word.text for word in everything)
        return Hypothesis(text, segment.utterance, final, everything, confidence)


def _begin_message(stream: int, segment: Segment) -> bytes:
    grammar = segment.grammar
    return wire.encode(
        wire.Kind.BEGIN,
        stream,
        utterance=segment.number,
        grammar=grammar and grammar.name,
        source=jsgf_source(grammar) if grammar else "",
    )
