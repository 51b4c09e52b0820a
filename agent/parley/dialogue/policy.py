"""Every number the floor decides by, and the one rule that is continuous in one of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FloorPolicy:
    """Every number the floor decides by. Times in ms."""

    offset_ms: int = 100
    """Silence after which a user is said to pause: above the closures inside words (60-90 ms)."""

    wait_complete_ms: int = 200
    """Wait when the words are surely a whole turn."""
    wait_unsure_ms: int = 600
    """... when nothing is known about them."""
    wait_open_ms: int = 2000
    """... when they are surely unfinished ("my order number is")."""
    stable_ms: int = 40
    """Words that stand for so long in a silence, though not final, are worth a speculated reply."""
    stable_voice_ms: int = 240
    """... and while the voice still sounds."""
    likely: float = 0.7
    """P(finished) from which they are worth one at once."""
    most_starts: int = 6
    """Speculated replies of one turn; half of them, rounded down, may be made while the voice
    sounds. 0: none, replies are asked for when the turn is over."""

    late_words_ms: int = 1000
    """Longest extra wait for a recogniser that still owes words."""

    nothing_ms: int = 900
    """Silence after sound without words that means nothing was said."""
    mumble_ms: int = 700
    """Voice without words longer than this is a turn all the same: the mind asks again."""
    unclear_ms: int = 300
    """... voice with words that the recogniser does not trust. A "no" is about as long."""
    owed_words_ms: int = 3000
    """Longest extra wait for a recogniser that has told no words at all of a sound: whatever was
    said in it is not to be lost."""

    decide_ms: int = 1000
    """An overlap is decided within this time."""
    release_ms: int = 180
    """Silence after which an undecided sound over the agent is over."""
    release_words_ms: int = 200
    """Longest extra wait for its last words: a lone "no" is known by them."""
    cut_in: float = 0.9
    """P(interruption) that takes the floor; what ``parley_speech.overlap`` is fitted for."""
    late_cut_in: float = 0.5
    """... at the deadline, when the sound still goes on."""
    turn_at_end_ms: int = 800
    """Words over the last part of a reply answer it: they begin a turn."""

    no_input_ms: int | None = 12_000
    """Silence after which the mind may speak up; None: never."""
    nod_after_ms: int | None = None
    """Voice in one turn after which the agent may nod ("mhm") at a pause; None: never."""
    nod_text: str = "mhm"

    def wait_ms(self, completeness: float | None) -> int:
        """Silence to wait before a turn is taken to be over: continuous and falling in
        P(finished), through the three given points (0, 0.5, 1)."""
        p = 0.5 if completeness is None else min(max(completeness, 0.0), 1.0)
        if p < 0.5:
            return round(self.wait_open_ms + (self.wait_unsure_ms - self.wait_open_ms) * 2 * p)
        low, high = self.wait_complete_ms, self.wait_unsure_ms
        return round(high + (low - high) * (2 * p - 1))
