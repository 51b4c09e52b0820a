"""CosyVoice 2's two sequence layouts, as plans (arXiv 2412.10117, section 2.3).

Interleaved, for text that is still being written:

    [sos] (5 text)(15 speech) (5 text)(15 speech) … [rest of the text] [task] speech … [eos]

The voice's own text and speech come first, in the same pattern. After 5 text tokens the model
speaks until it asks for more text (fill) or has spoken 15 tokens. Whole, for text that is there:

    [sos] [voice's text + text] [task] [voice's speech] speech … [eos]

Upstream's loop has three quirks, each of which `Quirks` brings back:

- ``stale_token``: what was fed last before the fill is fed once more in front of the last segment;
- ``one_block_per_piece``: at most one block of five is used per arriving piece of text, so the
  layout depends on how the text was cut;
- ``drop_prompt``: when the text ends before the voice's speech could be interleaved, what is left
  of that speech is dropped, so that the model goes on reading the voice's own text aloud. Here the
  whole layout is used then: nothing has been fed yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from parley_speech.lm.errors import UtteranceTooLong
from parley_speech.lm.segments import Allowed, Segment
from parley_speech.lm.vocabulary import MergedVocabulary

TEXT_BLOCK = 5
SPEECH_BLOCK = 15
MIN_SPEECH_PER_TEXT = 2
"""Of the whole layout: no end before twice as many speech tokens as text tokens."""
MAX_SPEECH_PER_TEXT = 20
"""25 tokens a second: 0.8 s for one token of text is more than any voice takes."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """What upstream does and should not; all off by default."""

    stale_token: bool = False
    one_block_per_piece: bool = False
    drop_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Utterance:
    """What both layouts start from."""

    ids: MergedVocabulary
    limit: int
    """The model's context, in tokens."""
    prompt_text: tuple[int, ...] = ()
    prompt_speech: tuple[int, ...] = ()
    """Speech tokens 0..S-1."""
    window: int = 10
    """How many past tokens the sampling rule looks at."""


@dataclass(slots=True)
class _Context:
    """What an utterance has used of the context, and what it has said."""

    utterance: Utterance
    used: int = 0
    said: list[int] = field(default_factory=list)
    """Every token that was sampled or forced, as merged ids, fill tokens included."""
    spoken: int = 0
    """Speech tokens among them."""

    def segment(
        self,
        feed: list[int],
        max_tokens: int,
        stops: frozenset[int],
        allowed: Allowed,
        *,
        last: bool,
    ) -> Segment:
        """A segment that fits; the caller has asked `room` before."""
        self.used += len(feed)
        return Segment(
            feed=tuple(feed),
            max_tokens=max_tokens,
            stops=stops,
            allowed=allowed,
            history=tuple(self.said[-self.utterance.window :]) if self.utterance.window else (),
            step=len(self.said),
            last=last,
        )

    def room(self, feed: Sequence[int]) -> int:
        """Tokens that may be sampled after feeding this (the last one needs no place)."""
        return self.utterance.limit - self.used - len(feed)

    def too_long(self, what: str) -> UtteranceTooLong:
        return UtteranceTooLong(
            f"{what}: the context holds {self.utterance.limit} tokens, {self.used} are used "
            f"({self.spoken} of speech); split the text into shorter utterances or raise "
            "max_model_len"
        )


class WholePlan:
    """The whole layout: waits for the end of the text, then one segment."""

    def __init__(self, utterance: Utterance) -> None:
        self._ids = utterance.ids
        self._context = _Context(utterance)
        self._text: list[int] = []
        self._ended = self._asked = self.finished = False
        self._most = self._sampled = 0
        self._cut = False

    def feed(self, text_ids: Sequence[int]) -> None:
        self._text.extend(self._ids.text(token) for token in text_ids)
        if len(self._text) > self._context.utterance.limit:
            raise self._context.too_long(f"{len(self._text)} text tokens")

    def end(self) -> None:
        self._ended = True

    def next(self) -> Segment | None:
        if not self._ended or self._asked or self.finished:
            return None
        self._asked = True
        if not self._text:
            self.finished = True
            return None
        utterance, ids, context = self._context.utterance, self._ids, self._context
        feed = [ids.sos, *utterance.prompt_text, *self._text, ids.task]
        feed += [ids.speech(token) for token in utterance.prompt_speech]
        wanted = MAX_SPEECH_PER_TEXT * len(self._text)
        least = MIN_SPEECH_PER_TEXT * len(self._text)
        if context.room(feed) < min(least, wanted) + 1:
            raise context.too_long(f"no room to speak {len(self._text)} text tokens")
        self._most = min(wanted, context.room(feed))
        self._cut = self._most < wanted
        allowed = Allowed(
            low=ids.offset,
            width=ids.head_rows,
            not_before=(ids.eos,),
            from_step=least,
        )
        return context.segment(feed, self._most, ids.ends, allowed, last=True)

    def take(self, token: int) -> int | None:
        ids = self._ids
        self._sampled += 1
        if token in ids.ends:
            self.finished = True
            return None
        self._context.used += 1
        self._context.said.append(token)
        self._context.spoken += 1
        if self._sampled >= self._most:
            self.finished = True
            if self._cut:
                raise self._context.too_long("the context is full before the speech has ended")
        return token - ids.offset


class InterleavedPlan:
    """The interleaved layout: a segment for each block of text, and one for the rest."""

    def __init__(self, utterance: Utterance, quirks: Quirks | None = None) -> None:
        self._utterance, self._ids = utterance, utterance.ids
        self._quirks = quirks or Quirks()
        self._context = _Context(utterance)
        self._text: deque[int] = deque(utterance.prompt_text)
        self._prompt: deque[int] = deque(map(utterance.ids.speech, utterance.prompt_speech))
        self._pieces: deque[list[int]] = deque()
        self._new_text = 0
        self._pending = [self._ids.sos]
        self._fed_last: list[int] = []
        # What the voice's last, shorter block of speech leaves of the 15.
        self._room = SPEECH_BLOCK - len(utterance.prompt_speech) % SPEECH_BLOCK
        self._block = _Block(0)
        self._ended = self.finished = False
        self._whole: WholePlan | None = None

    def feed(self, text_ids: Sequence[int]) -> None:
        piece = [self._ids.text(token) for token in text_ids]
        if not piece:
            return
        self._new_text += len(piece)
        if self._new_text > self._utterance.limit:
            raise self._context.too_long(f"{self._new_text} text tokens")
        if self._quirks.one_block_per_piece:
            self._pieces.append(piece)
        else:
            self._text.extend(piece)

    def end(self) -> None:
        self._ended = True

    def next(self) -> Segment | None:
        if self._whole:
            return self._whole.next()
        if self.finished or not self._new_text:
            self.finished |= self._ended
            return None
        if self._quirks.one_block_per_piece:
            while self._pieces:
                self._text.extend(self._pieces.popleft())
                if segment := self._next_block():
                    return segment
        elif segment := self._next_block():
            return segment
        return self._rest() if self._ended else None

    def _next_block(self) -> Segment | None:
        self._interleave_prompt()
        if self._prompt:
            return None
        if self._context.said or self._pending == [self._ids.sos]:
            if len(self._text) < TEXT_BLOCK:
                return None
            self._pending += [self._text.popleft() for _ in range(TEXT_BLOCK)]
        ids, context = self._ids, self._context
        feed, self._pending = self._pending, []
        most = self._room + 1  # the last one stands for the forced fill
        if context.room(feed) < most:
            raise context.too_long(f"{len(self._text)} text tokens are left to speak")
        self._block, self._fed_last = _Block(most), feed
        allowed = Allowed(low=ids.offset, width=ids.head_rows, never=(ids.eos, ids.eos2))
        return context.segment(feed, most, frozenset({ids.fill}), allowed, last=False)

    def _interleave_prompt(self) -> None:
        while self._prompt and len(self._text) >= TEXT_BLOCK:
            self._pending += [self._text.popleft() for _ in range(TEXT_BLOCK)]
            count = min(SPEECH_BLOCK, len(self._prompt))
            self._pending += [self._prompt.popleft() for _ in range(count)]

    def _rest(self) -> Segment | None:
        """What is left of the text, and the speech up to its end."""
        if self._prompt and not self._quirks.drop_prompt:
            return self._speak_whole()
        ids, context = self._ids, self._context
        stale = self._fed_last if self._quirks.stale_token and context.said else []
        feed = [*stale, *self._pending, *self._text, ids.task]
        self._pending.clear()
        self._text.clear()
        wanted = max(MAX_SPEECH_PER_TEXT * self._new_text - context.spoken, SPEECH_BLOCK)
        most = min(wanted, context.room(feed))
        if most < 1:
            raise context.too_long("no room to speak the end of the text")
        self._block = _Block(most, last=True, cut=most < wanted)
        allowed = Allowed(low=ids.offset, width=ids.head_rows)
        return context.segment(feed, most, ids.ends, allowed, last=True)

    def _speak_whole(self) -> Segment | None:
        arrived = list(self._pending_text())[len(self._utterance.prompt_text) :]
        self._whole = WholePlan(self._utterance)
        self._whole.feed(arrived)
        self._whole.end()
        return self._whole.next()

    def _pending_text(self) -> list[int]:
        """All text so far, the voice's first; nothing of it has been fed."""
        held = [token for token in self._pending if token < self._ids.offset]
        return [*held, *self._text]

    def take(self, token: int) -> int | None:
        if self._whole:
            spoken = self._whole.take(token)
            self.finished = self._whole.finished
            return spoken
        block = self._block
        block.left -= 1
        if block.last:
            return self._take_last(token, block)
        if token == self._ids.fill or not block.left:  # asked for more text, or had to
            self._context.said.append(self._ids.fill)
            self._room = SPEECH_BLOCK
            return None
        return self._spoken(token)

    def _take_last(self, token: int, block: _Block) -> int | None:
        if token in self._ids.ends:
            self.finished = True
            return None
        spoken = self._spoken(token)
        if not block.left:
            self.finished = True
            if block.cut:
                raise self._context.too_long("the context is full before the speech has ended")
        return spoken

    def _spoken(self, token: int) -> int:
        self._context.used += 1
        self._context.spoken += 1
        self._context.said.append(token)
        self._fed_last = [token]
        return token - self._ids.offset


@dataclass(slots=True)
class _Block:
    """The segment that is being sampled."""

    left: int
    last: bool = False
    cut: bool = False
    """The context, not the text, set its length."""
