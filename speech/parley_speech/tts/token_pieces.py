"""Text cut into pieces: what a token LM speaks in one go.

A piece ends at a pause that was asked for, or at the end of a clause where much was said, and never
holds more than fits into the LM's context. It also carries its sound as far as that is not heard.
One event loop; the sounds are filled by the decoding thread, under the stream's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from parley_speech.lm.errors import UtteranceTooLong
from parley_speech.text import Break, Spoken
from parley_speech.token_voice import TokenLm, TokenPrompt, TokenStream
from parley_speech.tts.token_decoding import Decoding
from parley_speech.tts.token_marks import WordClock, spoken_letters
from parley_speech.types import Pcm

SLOWER = 1.5  # than its usual pace a voice may speak, and a piece still fits into the context
TEXT_TOKENS = 0.5  # per letter; most texts need half of that
EARLY = 0.6  # of what fits: from there on a piece ends with a clause
_ENDS = (*".!?,;:…。！？，；：、",)


class Piece:
    """One utterance of the LM, and its sound as far as it is not heard."""

    def __init__(self, pace: float) -> None:
        self.words = WordClock(pace)
        self.texts: list[str] = []  # that the LM was not given
        self.letters = 0.0
        self.closed = False  # no more text
        self.after: Break | None = None
        self.markup = ""  # of the pause after it
        self.tokens: TokenStream | None = None
        self.decoding: Decoding | None = None
        self.received = 0  # tokens
        self.complete = False  # all tokens are here
        self.sounds: deque[Pcm] = deque()
        self.decoded = False  # all sounds are here
        self.base: int | None = None  # stream sample of its first one
        self.heard = 0  # samples given to the listener
        self.cut: UtteranceTooLong | None = None  # the LM's context was full before its end

    def can_be_spoken(self) -> bool:
        return self.letters > 0

    def is_decided(self) -> bool:
        return self.closed or self.can_be_spoken()


def letters_that_fit(lm: TokenLm, prompt: TokenPrompt, tokens_per_letter: float) -> float:
    """How many letters of text the LM can speak in one go; it may say how many tokens it has
    ``room(prompt)`` for, text and speech together."""
    room: Callable[[TokenPrompt], int] | None = getattr(lm, "room", None)
    if room is None:
        return float("inf")
    return max(1.0, room(prompt) / (tokens_per_letter * SLOWER + TEXT_TOKENS))


class Pieces:
    """Of one stream, from the one that is heard on.

    Args:
        samples_per_letter, samples_per_token: the voice's pace, at the loudspeaker's rate.
        most_letters: of one piece.
    """

    def __init__(
        self, *, samples_per_letter: float, samples_per_token: float, most_letters: float
    ) -> None:
        self._pace, self._per_token = samples_per_letter, samples_per_token
        self._most = most_letters
        self._source = ""  # pushed and not cut into pieces yet
        self._source_at = 0
        self.heard_on: deque[Piece] = deque([Piece(self._pace)])
        """From the one that the listener hears."""
        self.unspoken: deque[Piece] = deque(self.heard_on)
        """From the one that the LM speaks."""

    def push(self, source: str) -> None:
        """What the items that follow were made from."""
        self._source += source

    def add(self, items: Sequence[Spoken | Break]) -> None:
        for item in items:
            if isinstance(item, Break):
                self._close(item)
                self._open()
            else:
                self._speak(item)

    def end(self) -> None:
        self._close(None)

    def clear(self) -> None:
        self.heard_on.clear()
        self.unspoken.clear()

    def unheard_samples(self) -> float:
        """Of the tokens that were made so far."""
        return sum(p.received * self._per_token - p.heard for p in self.heard_on)

    def _speak(self, item: Spoken) -> None:
        letters = spoken_letters(item.text)
        if self.heard_on[-1].letters and self.heard_on[-1].letters + letters > self._most:
            self._close(None)
            self._open()
        piece = self.heard_on[-1]
        source = self._taken_source(item.char_start, item.char_end)
        piece.words.add(source, item.char_start, item.text, piece.received * self._per_token)
        piece.letters += letters
        if piece.tokens is None:
            piece.texts.append(item.text)
        elif item.text:
            piece.tokens.push(item.text)
        if piece.letters > EARLY * self._most and item.text.rstrip().endswith(_ENDS):
            self._close(None)
            self._open()

    def _close(self, after: Break | None) -> None:
        piece = self.heard_on[-1]
        piece.closed, piece.after = True, after
        if after is not None:
            piece.markup = self._taken_source(after.char_start, after.char_end)
        if piece.tokens is not None:
            piece.tokens.end()

    def _open(self) -> None:
        piece = Piece(self._pace)
        self.heard_on.append(piece)
        self.unspoken.append(piece)

    def _taken_source(self, start: int, end: int) -> str:
        """A slice of what was pushed; what stands before its end is kept no longer."""
        text = self._source[start - self._source_at : end - self._source_at]
        self._source = self._source[end - self._source_at :]
        self._source_at = end
        return text
