"""Every number the floor decides by, and the rule for the end of a turn, which is continuous."""

from __future__ import annotations

import math
from dataclasses import dataclass

SUREST_WORDS = 0.97
"""What is known of the words counts for no more than this P, nor for less than 1 minus this."""
LEAST_WORDING, MOST_WORDING = 0.15, 0.9
"""... of open words that no language model judges, one in three of them misheard."""
SUREST_SOUND = 0.85
"""... of the sound, which is wrong more often: it shifts a wait, but words that are surely all are
answered at once however they sounded."""


@dataclass(frozen=True, slots=True)
class FloorPolicy:
    """Every number the floor decides by. Times in ms."""

    offset_ms: int = 100
    """Silence after which a user is said to pause: above the closures inside words (60-90 ms)."""

    wait_complete_ms: int = 120
    """The shortest wait for the end of a turn: what words and voice say is surely all."""
    wait_unsure_ms: int = 600
    """... when nothing is known."""
    wait_open_ms: int = 2000
    """... and the longest, when it is surely unfinished ("my order number is")."""
    pause_ms: int = 600
    """Mean of the pauses inside turns, until this user's own are known: by so much the wait grows
    for each nat of evidence that more will come."""
    words_weight: float = 2.5
    """What a nat of evidence in the words counts."""
    wording_weight: float = 1.0
    """... in open words where only ``parley_speech.turn_end.wording`` judges them."""
    wording_doubt: float = 1.6
    """Nats by which those must look more whole than not to shorten the wait: people pause behind
    whole phrases, too."""
    sound_weight: float = 2.0
    """... in the voice (``parley_speech.turn_end``)."""
    sound_alone: float = 1.0
    """Nats by which a voice that sounds unfinished may lengthen the wait where nobody
    judges the words: no judge of voices is proven on people, and nothing else ends the turn."""
    sound_doubt: float = 0.33
    """Nats by which a voice must sound more finished than not to shorten the wait: to speak into a
    pause is worse than to wait."""
    stable_ms: int = 40
    """Words that stand for so long in a silence, though not final, are worth a speculated reply."""
    stable_voice_ms: int = 240
    """... and while the voice still sounds."""
    likely: float = 0.7
    """P(finished) from which they are worth one at once."""
    most_starts: int = 6
    """Speculated replies of one turn; half of them, rounded down, may be made while the voice
    sounds. 0: none, replies are asked for when the turn is over."""

    ask_share: float = 0.6
    """The recogniser is asked for its final words when this share of the wait has passed: the
    surer the end, the sooner, and a phrase that will go on is understood together with its rest."""
    ask_least_ms: int = 100
    """... but not before so much silence: a closure inside a word is none."""
    ask_most_ms: int = 1500

    late_words_ms: int = 1000
    """Longest extra wait for a recogniser that still owes words."""

    nothing_ms: int = 900
    """Silence after sound without words that means nothing was said."""
    mumble_ms: int = 700
    """Voice without words longer than this is a turn all the same: the mind asks again."""
    unclear_ms: int = 300
    """... voice with words that the recogniser does not trust. A "no" is about as long."""
    unclear_wait_ms: int = 160
    """Silence after those, at least, before the mind asks again."""
    doubted_complete: float = 0.69
    """What words that are below trust count for, at most, when they would be a complete turn: two
    nats. Whatever was said, a match is seldom complete by chance. That one is incomplete tells
    nothing. Less than ``likely``: nobody should prepare an answer to them."""
    owed_words_ms: int = 3000
    """Longest extra wait for a recogniser that has told no words at all of a sound: whatever was
    said in it is not to be lost."""

    stir_ms: int = 200
    """A sound that may be the user's lowers the agent for so long, if no voice is found in it."""
    stir_gap_ms: int = 100
    """Without it for so long it is over, and the next one begins anew."""
    stir_again_ms: int = 1000
    """After one that was nothing, for so long only a voice lowers the agent."""
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

    def doubted(self, completeness: float) -> float | None:
        """P(finished) by words that may be wrong, given what it would be if they were right."""
        return min(completeness, self.doubted_complete) if completeness > 0.5 else None

    def evidence(
        self,
        completeness: float | None,
        finality: float | None,
        *,
        wording: float | None = None,
        unjudged: bool = False,
    ) -> float:
        """Log-odds that the turn is finished, given P(finished) by its words and by its sound;
        what is not known (None) says nothing. ``wording`` is a guess about open words that counts
        where ``completeness`` is None. ``unjudged``: no mind judges the words of this
        conversation. docs/turn.md has the formula."""
        sound = 0.0
        if finality is not None:
            sound = self.sound_weight * _log_odds(finality, SUREST_SOUND) - self.sound_doubt
            sound = max(sound, -self.sound_alone) if unjudged else sound
        if completeness is not None:
            return sound + self.words_weight * _log_odds(completeness, SUREST_WORDS)
        return sound + self.wording_weight * self._guess(wording)

    def _guess(self, wording: float | None) -> float:
        """Nats in open words, as far as they are proven: fewer for the end than against it."""
        if wording is None:
            return 0.0
        p = min(max(wording, LEAST_WORDING), MOST_WORDING)
        nats = math.log(p / (1.0 - p))
        return nats if nats < 0 else max(nats - self.wording_doubt, 0.0)

    def wait_ms(
        self,
        completeness: float | None,
        finality: float | None = None,
        pause_ms: float | None = None,
        *,
        wording: float | None = None,
        unjudged: bool = False,
    ) -> int:
        """Silence to wait before a turn is taken to be over. Pauses of ``pause_ms`` on average,
        exponentially distributed, outlive a silence of t with exp(-t / pause_ms): each such time
        without a word adds a nat to the evidence, and the turn ends when there is enough."""
        habit = 1.0 if pause_ms is None else pause_ms / self.pause_ms
        evidence = self.evidence(completeness, finality, wording=wording, unjudged=unjudged)
        wait = self.wait_unsure_ms - self.pause_ms * evidence
        return round(min(max(habit * wait, self.wait_complete_ms), self.wait_open_ms))

    def ask_ms(self, wait_ms: int) -> int:
        """Silence after which the recogniser is asked for its final words."""
        return round(min(max(self.ask_share * wait_ms, self.ask_least_ms), self.ask_most_ms))


def _log_odds(p: float | None, surest: float) -> float:
    if p is None:
        return 0.0
    p = min(max(p, 1.0 - surest), surest)
    return math.log(p / (1.0 - p))
