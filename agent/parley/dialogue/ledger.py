"""The ledger: what was said, played and heard, to the word.

The context that a mind sees must hold exactly the words the other side heard. The ledger is
told what text a reply has (``said``), which samples sound which word (``marked``) and how many
samples have really left (``played``), and answers with the words heard. It is pure: no clock,
no audio.

A word counts as heard when at least half of its samples were played audibly: the point at which
listeners recognise most words (gating paradigm; Grosjean 1980, Perception & Psychophysics 28).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from parley.minds.base import Item, Said, ToolCall, ToolResult
from parley_speech.types import WordMark

CUT_MARK = "\N{EM DASH}"
"""Ends the text of a turn that was cut, where a mind reads it."""


@dataclass(slots=True)
class AgentTurn:
    """One reply that has begun to sound."""

    reply: int
    text: str = ""
    marks: list[WordMark] = field(default_factory=list)
    played: int = 0
    """Samples at 24 kHz that were played audibly."""
    over: bool = False
    cut: bool = False
    _middles: list[int] = field(default_factory=list, repr=False, compare=False)
    """Of the marked words, sorted: the thousandth word of a reply costs a tick no more."""

    def mark(self, marks: Iterable[WordMark]) -> None:
        """More words, in order."""
        for word in marks:
            if self.marks and word.start < self.marks[-1].start:
                raise ValueError(f"word marks of reply {self.reply} run backwards at {word.text!r}")
            self.marks.append(word)
            insort(self._middles, middle(word))

    def heard_words(self, limit: int | None = None) -> int:
        """How many of the marked words were heard, of the first ``limit`` samples."""
        played = self.played if limit is None else min(self.played, limit)
        return bisect_right(self._middles, played)

    def heard_text(self, limit: int | None = None) -> str:
        """The text up to and including the last word heard."""
        if self.over and not self.cut and limit is None:
            return self.text.strip()
        return self.text_until(self.heard_words(limit))

    def text_until(self, words: int) -> str:
        """The text up to and including so many words."""
        return self.text[: self.marks[words - 1].char_end].strip() if words else ""


def middle(mark: WordMark) -> int:
    """The sample from which a word counts as heard."""
    return mark.start + (mark.end - mark.start + 1) // 2


class Ledger:
    """One call's words, oldest first. User turns, asides, agent turns, tool calls and results."""

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._entries: list[Item | AgentTurn] = list(items)
        self._turns: dict[int, AgentTurn] = {}
        self.asides: list[str] = []
        """Backchannels and other words that answered nothing; not part of the context."""

    # --- the user ------------------------------------------------------------------------------

    def user_said(self, text: str) -> None:
        if text.strip():
            self._entries.append(Said("user", text.strip()))

    def aside(self, text: str) -> None:
        if text.strip():
            self.asides.append(text.strip())

    # --- the agent -----------------------------------------------------------------------------

    def begin(self, reply: int) -> AgentTurn:
        """The reply's first sample is about to be played. Idempotent."""
        turn = self._turns.get(reply)
        if turn is None:
            turn = self._turns[reply] = AgentTurn(reply)
            self._entries.append(turn)
        return turn

    def said(self, reply: int, text: str) -> None:
        """The whole text of the reply so far (it may still grow)."""
        turn = self._turns[reply]
        if not text.startswith(turn.text):
            raise ValueError(f"the text of reply {reply} may grow, but not change")
        turn.text = text

    def marked(self, reply: int, marks: Iterable[WordMark]) -> None:
        """More words of the reply, in order."""
        self._turns[reply].mark(marks)

    def played(self, reply: int, samples: int) -> tuple[WordMark, ...]:
        """``samples`` more were played audibly; gives the words that became heard by them."""
        turn = self._turns[reply]
        if turn.over or samples <= 0:
            return ()
        before = turn.heard_words()
        turn.played += samples
        return tuple(turn.marks[before : turn.heard_words()])

    def end(self, reply: int, text: str) -> None:
        """The reply, whose whole text is given, was played to its last sample. Idempotent; a cut
        one stays cut, one that never began leaves nothing."""
        turn = self._turns.get(reply)
        if turn is not None and not turn.over:
            self.said(reply, text)
            turn.over = True

    def correct(self, reply: int, samples: int) -> None:
        """Less was heard than was played: the far end dropped what came after ``samples``."""
        turn = self._turns.get(reply)
        if turn is not None and samples < turn.played:
            turn.played = samples
            turn.over = turn.cut = True

    def cut(self, reply: int) -> str:
        """The reply stops here; gives the heard text. Idempotent. Cutting a reply that never
        began leaves nothing of it."""
        turn = self._turns.get(reply)
        if turn is None:
            return ""
        if not turn.over:
            turn.over = turn.cut = True
        return turn.heard_text()

    # --- tools ---------------------------------------------------------------------------------

    def tool(self, item: ToolCall | ToolResult) -> None:
        """A call or its result; a result given twice counts once."""
        if item not in self._entries:
            self._entries.append(item)

    def replace(self, items: Iterable[Item]) -> None:
        """Another history, as the application keeps it. A reply that sounds just now stays."""
        sounding = [e for e in self._entries if isinstance(e, AgentTurn) and not e.over]
        self._entries = [*items, *sounding]

    # --- reading -------------------------------------------------------------------------------

    def turn(self, reply: int) -> AgentTurn | None:
        return self._turns.get(reply)

    def items(self) -> tuple[Item, ...]:
        """The context: only what was heard, up to now."""
        return tuple(item for entry in self._entries if (item := _heard(entry)) is not None)


def _heard(entry: Item | AgentTurn) -> Item | None:
    if not isinstance(entry, AgentTurn):
        return entry
    text = entry.heard_text()
    return Said("agent", text, cut=entry.cut) if text else None
