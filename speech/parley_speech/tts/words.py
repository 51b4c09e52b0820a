"""Text for a voice that must speak before the text is complete.

`ClauseCutter` cuts a stream of text deltas into clauses, `Aligner` ties the words of one clause to
the samples at which a synthesiser says they sound. Neither knows any synthesiser, thread or clock:
what they give depends on what they were given and on nothing else.

Where a clause ends: after punctuation that white space follows, or at a line break. A synthesiser
shapes its melody clause by clause, so such a cut changes nothing that can be heard. Where no
punctuation comes, a stream that has said nothing yet is cut after about five words, the next piece
after about ten, then twenty (`EAGER_WORDS`): each piece buys the time in which the next, longer one
is written. These cuts prefer the place before a preposition or a conjunction and never follow an
article.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise

from parley_speech.text.markup import first_pause

EAGER_WORDS = (5, 10, 20)
"""Complete words without punctuation that are enough to speak: first, second, any later piece."""
EAGER_SLACK_WORDS = 2  # so many more are awaited for a good place to cut
MIN_EAGER_WORDS = 3
MAX_WORDS = 24  # about 9 s of speech at 175 words per minute
MAX_CHARS = 240
MAX_WORD_CHARS = 64  # a longer run without white space is cut: no word is that long
_WINDOW_CHARS = 2 * MAX_CHARS  # how far ahead a boundary is looked for

COMMA_MS, COLON_MS, STOP_MS, PARAGRAPH_MS = 150, 225, 320, 540
"""Pauses after a clause, as espeak-ng 1.52 makes them at 175 words per minute."""

_CJK_STOP = "。，！？；：、"
_BOUNDARY = re.compile(
    rf"""(?P<mark>[.,!?;:…—–]+) ["'”’)\]}}»*_]* (?=\s)
      |  (?P<cjk>[{_CJK_STOP}]+) ["'”’)\]}}»」』]*
      |  (?P<line>\n\s*)""",
    re.VERBOSE,
)
_MAYBE_CLOSED = re.compile(r"""[.,!?;:…]["'”’)\]}»*]*$""")  # if white space is what comes next
_TOKEN = re.compile(rf"""[^\s{_CJK_STOP}]*[{_CJK_STOP}]+["'”’)\]}}»*」』]*|\S+""")
_ABBREVIATED = """
    mr mrs ms dr prof st jr sr vs etc e.g i.e a.m p.m approx inc ltd co dept est fig gen gov hon
    jan feb mar apr jun jul aug sept oct nov dec tel ext"""
_JOINING = """
    and but or nor so because although though since while when whenever where which who whom that
    if unless until than as for to in on at by from with without of about into over under after
    before during through between against"""
_LEADING = "a an the my your his her its our their this no"
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_BREAK_BEFORE = frozenset(_JOINING.split())
_NEVER_LAST = _BREAK_BEFORE | frozenset(_LEADING.split())


@dataclass(frozen=True, slots=True)
class Clause:
    """What is synthesised in one go: ``text`` stands at ``start`` in all that was pushed."""

    text: str
    start: int
    pause_ms: int = 0
    """The pause that belongs after it, at 175 words per minute."""
    goes_on: bool = False
    """Cut where no punctuation stands: the melody must not fall."""
    silence_ms: int | None = None
    """It is mark-up for a pause (``parley_speech.text.markup``): nothing of it is spoken."""


class ClauseCutter:
    """Text deltas in, clauses out; the clauses joined give the text back."""

    def __init__(self) -> None:
        self._pending = ""
        self._start = 0  # of the pending text in all that was pushed
        self._given = 0  # clauses given so far

    def push(self, text: str) -> list[Clause]:
        self._pending += text
        clauses = []
        while (clause := self._next(ended=False)) is not None:
            clauses.append(clause)
        return clauses

    def end(self) -> list[Clause]:
        """The rest, at least one clause: an empty one if nothing was held."""
        clauses: list[Clause] = []
        while self._pending or not clauses:
            clause = self._next(ended=True) or self._take(len(self._pending))
            clauses.append(clause)
        return clauses

    def _next(self, *, ended: bool) -> Clause | None:
        window = self._pending[:_WINDOW_CHARS]
        pause = first_pause(window, ended=ended)
        if pause is not None:
            if not window[: pause.start].strip():
                return None if pause.end is None else self._take(pause.end, silence_ms=pause.ms)
            window = window[: pause.start]
        boundary, goes_on = _boundary(window), False
        if boundary is None and pause is not None and pause.end is not None:
            boundary, goes_on = (len(window), 0), True
        limit = boundary[0] if boundary else len(window)
        words = [m.span() for m in re.finditer(r"\S+", window[:limit])]
        if boundary and len(words) <= MAX_WORDS and limit <= MAX_CHARS:
            return self._take(limit, pause_ms=boundary[1], goes_on=goes_on)
        closed = ended or boundary is not None or bool(_MAYBE_CLOSED.search(window))
        if not (ended or boundary) and words and words[-1][1] == limit:
            words.pop()  # it may go on in the next delta
        cut = _eager_cut(window[:limit], words, MAX_WORDS + 1 if closed else self._enough())
        return None if cut is None else self._take(cut, goes_on=True)

    def _enough(self) -> int:
        return EAGER_WORDS[min(self._given, len(EAGER_WORDS) - 1)]

    def _take(
        self, chars: int, *, pause_ms: int = 0, goes_on: bool = False, silence_ms: int | None = None
    ) -> Clause:
        clause = Clause(self._pending[:chars], self._start, pause_ms, goes_on, silence_ms)
        self._pending = self._pending[chars:]
        self._start += chars
        self._given += silence_ms is None and bool(clause.text.strip())
        return clause


def _boundary(text: str) -> tuple[int, int] | None:
    """End of the first clause that its punctuation closes, and its pause in ms."""
    for found in _BOUNDARY.finditer(text):
        before, mark = text[: found.start()], found["mark"] or found["cjk"]
        if mark is None and not before.strip():
            continue  # an empty line closes nothing
        if mark == "." and _is_abbreviation(before):
            continue
        return found.end(), _pause_ms(mark, found["line"] or "")
    return None


def _pause_ms(mark: str | None, line: str) -> int:
    if mark is None:
        return PARAGRAPH_MS if line.count("\n") > 1 else COLON_MS
    last = mark[-1]
    if last in ",，、":
        return COMMA_MS
    return STOP_MS if last in ".!?。！？" and "..." not in mark else COLON_MS


def _is_abbreviation(before: str) -> bool:
    """Whether a full stop after this text belongs to its last word ("Dr", "J", "e.g")."""
    words = before.split()
    last = words[-1].lstrip("([\"'“‘") if words else ""
    initial = len(last) == 1 and last.isupper() and last != "I"
    return initial or last.lower() in _ABBREVIATIONS


def _eager_cut(text: str, words: list[tuple[int, int]], enough: int) -> int | None:
    """Where to cut text in which no clause ends, or None: wait for more.

    ``words`` are the spans of its complete words, ``enough`` is how many of them are worth it.
    """
    too_long = len(text) > MAX_CHARS
    if len(words) < enough and not too_long:
        return None
    usable = sum(end <= MAX_CHARS for _, end in words[:MAX_WORDS])
    if usable == 0:  # one run of characters without white space
        return MAX_WORD_CHARS
    lowered = [text[a:b].lower() for a, b in words]
    for size in range(min(usable, len(words) - 1), MIN_EAGER_WORDS - 1, -1):
        if lowered[size] in _BREAK_BEFORE and lowered[size - 1] not in _NEVER_LAST:
            return words[size][0]
    if usable < enough + EAGER_SLACK_WORDS and usable < MAX_WORDS and not too_long:
        return None
    while usable > MIN_EAGER_WORDS and lowered[usable - 1] in _NEVER_LAST:
        usable -= 1
    return _past_space(text, words[usable - 1][1])


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


# --- words and samples ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """``start:end`` in samples of the synthesiser, ``char_start:char_end`` in the clause."""

    char_start: int
    char_end: int
    start: int
    end: int


def tokens(text: str) -> list[tuple[int, int]]:
    """Spans of the words with the punctuation written on to them.

    Words end at white space, behind CJK punctuation, and after `MAX_WORD_CHARS`.
    """
    spans = []
    for found in _TOKEN.finditer(text):
        for start in range(found.start(), found.end(), MAX_WORD_CHARS):
            spans.append((start, min(start + MAX_WORD_CHARS, found.end())))
    return spans


def weight(word: str) -> int:
    """How much of a word can be spoken: its letters, digits and emoji, by count."""
    return sum(unicodedata.category(c)[0] in "LN" or unicodedata.category(c) == "So" for c in word)


class Aligner:
    """Ties the words of one clause to samples, from a synthesiser's word events.

    Synthesisers report less than a mark per word (espeak says "of the" as one) and more (it says
    12345 as five): events inside a word that has begun are dropped, and words without an event
    share the time of the word before them by their length. Punctuation that stands alone joins
    the word before it.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._starts = [start for start, _ in self._tokens]
        self._group = 0  # first token of the group that sounds now
        self._token = -1  # the newest token that has begun; -1: none yet
        self._sample = 0  # where the group that sounds now began

    def word(self, char: int, sample: int) -> list[Span]:
        """The word at character ``char`` begins at ``sample``: the words that ended by that."""
        token = self._token_at(char)
        if token <= self._token:
            return []
        first, self._token = self._token < 0, token
        if first:  # what stands before the first word sounds with it, if at all
            self._sample = sample
            return []
        return self._close(token, sample)

    def finish(self, sample: int) -> list[Span]:
        """The clause ends at ``sample``: all words that were not given yet."""
        return self._close(len(self._tokens), sample)

    def _close(self, upto: int, sample: int) -> list[Span]:
        sample = max(sample, self._sample)
        merged = _merge_silent(self._text, self._tokens[self._group : upto])
        spans = _share(self._text, merged, self._sample, sample)
        self._group, self._sample = upto, sample
        return spans

    def _token_at(self, char: int) -> int:
        return max(0, bisect_right(self._starts, char) - 1)


def _merge_silent(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Joins tokens without anything to speak to the one before, the first ones to the next."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and not (weight(text[start:end]) and weight(text[slice(*merged[-1])])):
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _share(text: str, spans: list[tuple[int, int]], start: int, end: int) -> list[Span]:
    """Deals the samples ``start:end`` out to the words, by their weight."""
    weights = [max(1, weight(text[a:b])) for a, b in spans]
    total = max(1, sum(weights))
    edges = [start + (end - start) * done // total for done in accumulate(weights, initial=0)]
    return [Span(a, b, s, e) for (a, b), (s, e) in zip(spans, pairwise(edges), strict=True)]
