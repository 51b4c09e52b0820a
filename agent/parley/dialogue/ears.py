"""From microphone frames to what the floor can perceive: voice, words, overlap evidence.

Everything here is one call's. Order in a frame: echo canceller (reference: what we played), VAD,
recogniser, overlap classifier. The recogniser is told when an utterance begins and ends, so that
it costs nothing while nobody speaks; it keeps its own pre-roll, so no first sound is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from parley_speech.overlap_lexicon import Words, classify
from parley_speech.types import (
    FRAME_MS,
    Cleaned,
    Grammar,
    Hypothesis,
    OverlapEvidence,
    Pcm,
    RecognizerStream,
    Vad,
)
from parley_speech.vad.offset import Offset
from parley_speech.vad.stir import Stir


class Canceller(Protocol):
    @property
    def delay_ms(self) -> float | None:
        """How much later our own voice comes back; None when it never has."""
        ...

    def process(self, mic: Pcm, far: Pcm) -> Cleaned: ...


class TurnEndSense(Protocol):
    def push(self, frame: Pcm, p_voice: float, voice: bool) -> float | None: ...


class OverlapSense(Protocol):
    def begin(self, t_ms: int) -> None: ...
    def turn(self, frame: Pcm, voice: bool) -> None: ...
    def step(self, frame: Pcm, p_voice: float, echo: float) -> OverlapEvidence: ...
    def hear(self, words: Sequence[str], confidence: float = 0.0) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EarPolicy:
    open: float = 0.5
    """P(voice) that opens the gate."""
    close: float = 0.35
    """... below which it closes."""
    echo: float = 0.5
    """Echo likelihood from which a voice is taken for our own (``echo.ECHO_THRESHOLD``)."""
    stir: float = 0.2
    """P(voice) from which a sound may become one, as does what stands out from the background."""
    anew_ms: int = 180
    """A voice that comes back over the agent after such a silence is another sound, as the one
    before was given up then (``FloorPolicy.release_ms``)."""
    utterance_end_ms: int = 220
    """Silence after which the recogniser is asked for its final words, if nobody says when."""
    trust: float = 0.5
    """Confidence below which one or two recognised words are not taken for words."""
    trust_long: float = 0.3
    """... and three or more: what a grammar finds by chance is short."""

    believe: float = 0.25
    """... and any number, before they are final, below which they say nothing about the turn's end.
    A grammar's wrong match has 0.07; open English has 0.3 as long as it is unproven."""
    trust_short_evidence: float = 0.75
    """... of one or two words that are to decide about an overlap before they are final."""
    trust_nod: float = 0.4
    """... of words that are nothing but a nod: to believe one too many costs a moment, to miss one
    stops the agent."""

    def trusts(self, text: str, confidence: float) -> bool:
        bar = self.trust if len(text.split()) < 3 else self.trust_long
        return confidence >= bar

    def trusts_as_evidence(self, text: str, confidence: float) -> bool:
        words = text.split()
        if classify(words) is Words.BACKCHANNEL:
            return confidence >= self.trust_nod
        return confidence >= (self.trust_short_evidence if len(words) < 3 else self.trust)


@dataclass(frozen=True, slots=True)
class Heard:
    """What one frame brought."""

    voice: bool
    p_voice: float
    echo: float
    overlap: OverlapEvidence | None
    silence_ms: int = 0
    """Since the voice's own end, which lies before the detector's; 0 while it sounds."""
    finality: float | None = None
    """P(the turn is finished | how the voice sounded before this silence)."""
    stir: bool = False
    """A sound that may become a voice, before it is one for the detector."""


class Ears:
    """One call's hearing."""

    def __init__(
        self,
        vad: Vad,
        recognizer: RecognizerStream,
        canceller: Canceller | None = None,
        overlap: OverlapSense | None = None,
        policy: EarPolicy | None = None,
        turn_end: TurnEndSense | None = None,
        wording: Callable[[str], float | None] | None = None,
    ) -> None:
        """``wording``: P(the turn is finished | these words), where no mind tells."""
        self.policy = policy or EarPolicy()
        self._vad = vad
        self._asr = recognizer
        self._canceller = canceller
        self._overlap = overlap
        self._turn_end = turn_end
        self._wording = wording
        self._voice = False
        self._in_utterance = False
        self._in_overlap = False
        self._offset = Offset()
        self._stir = Stir()
        self._silence_ms = 0
        self._gap_ms = 0
        """Since the gate last held."""
        self._finals: list[str] = []
        self._partial = ""
        self._begun = 0
        """Utterances begun; the recogniser numbers them from 0 in the same way."""
        self._owed = 0
        """Finals that the recogniser still owes."""
        self._partial_of = -1
        self._supposed: Hypothesis | None = None
        """The latest partial as it came."""
        self._confidence = 0.0
        """Of the latest words."""
        self._taken: dict[int, str] = {}
        """Words already taken of utterances that are not final yet."""
        self._changed = False
        """The text has changed since somebody last asked."""
        self.voiced_ms = 0
        """Voice since the words were last taken."""
        self.open_speech = True
        """No grammar says which words may come."""
        self.doubted = ""
        """What was last heard below trust since the words were taken. Not to be told as the user's
        words."""

    # --- a frame -------------------------------------------------------------------------------

    def hear(
        self, mic: Pcm, far: Pcm, t_ms: int, *, over_agent: bool, ask_ms: int | None = None
    ) -> Heard:
        """One microphone frame (320,) at 16 kHz; ``far`` is what we played then, also (320,).
        ``over_agent``: the agent has the floor, a voice now is an overlap. ``ask_ms``: the
        silence after which the recogniser is to say its final words; None: the usual."""
        clean = Cleaned(mic, 0.0) if self._canceller is None else self._canceller.process(mic, far)
        p = self._vad.push(clean.pcm)
        self._gate(p, clean)
        usual_ms = self.policy.utterance_end_ms
        self._recognise(clean.pcm, usual_ms if over_agent or ask_ms is None else ask_ms)
        self._poll()  # what ends a sound may be the words that decide it: first take them in
        evidence = self._sense(clean, p, t_ms, over_agent)
        finality = None
        if self._turn_end is not None:
            finality = self._turn_end.push(clean.pcm, p, self._voice)
        stir = self._stirs(p, clean)
        return Heard(self._voice, p, clean.echo, evidence, self._silence_ms, finality, stir)

    def _stirs(self, p: float, clean: Cleaned) -> bool:
        stands_out = self._stir.push(self._offset.level_dbfs, self._voice)
        ours = clean.echo >= self.policy.echo and self._echoes
        return (stands_out or p >= self.policy.stir) and not ours

    @property
    def _echoes(self) -> bool:
        """Our own voice has come back on this line. Until it has, what might be ours might as well
        be the user, whom it does not hurt to listen to."""
        return self._canceller is not None and self._canceller.delay_ms is not None

    def _gate(self, p: float, clean: Cleaned) -> None:
        bar = self.policy.close if self._voice else self.policy.open
        self._voice = p >= bar and clean.echo < self.policy.echo
        self._silence_ms = self._offset.push(clean.pcm, self._voice)
        if self._voice:
            self.voiced_ms += FRAME_MS

    def _recognise(self, pcm: Pcm, end_ms: int) -> None:
        if self._voice and not self._in_utterance:
            self._asr.begin_utterance()
            self._in_utterance = True
            self._begun += 1
        self._asr.push(pcm)
        if self._in_utterance and self._silence_ms >= end_ms:
            self._asr.end_utterance()
            self._in_utterance = False
            self._owed += 1

    def _sense(
        self, clean: Cleaned, p: float, t_ms: int, over_agent: bool
    ) -> OverlapEvidence | None:
        """Evidence lives from the first voiced frame until the sound is long over."""
        if self._overlap is None:
            return None
        if not over_agent:
            self._end_overlap()
            self._overlap.turn(clean.pcm, self._voice)
            return None
        if self._voice and (not self._in_overlap or self._gap_ms >= self.policy.anew_ms):
            self._begin_overlap(t_ms)
        self._gap_ms = 0 if self._voice else self._gap_ms + FRAME_MS
        evidence = self._overlap.step(clean.pcm, p, clean.echo)
        if not self._in_overlap:
            return None
        if self._silence_ms >= (2 if self.final else 4) * self.policy.utterance_end_ms:
            self._end_overlap()
        return evidence

    def _begin_overlap(self, t_ms: int) -> None:
        """A dog that barks twice has not been sounding all along: nothing counts for a sound that
        came before it, but words that nobody has taken yet, which may be told late."""
        assert self._overlap is not None, "called where there is one"
        again, self._in_overlap = self._in_overlap, True
        self._overlap.begin(t_ms)
        if again:
            self._overlap.hear(self._trusted_words(), self._confidence)

    def _end_overlap(self) -> None:
        if self._in_overlap and self._overlap is not None:
            self._overlap.end()
        self._in_overlap = False

    # --- words ---------------------------------------------------------------------------------

    def listen(self) -> bool:
        """Take in what the recogniser found; True when the text has changed since the last time."""
        self._poll()
        changed, self._changed = self._changed, False
        return changed

    def _poll(self) -> None:
        before, news = self.text, self._asr.poll()
        for h in news:
            self._confidence = h.confidence
            text = _remainder(self._taken.get(h.utterance, ""), h.text)
            if h.final:
                self._close(h, text)
            else:
                self._partial, self._partial_of = text, h.utterance
                self._supposed = h
        self._changed |= self.text != before
        # The same words once more count for more when they are final.
        if news and self._in_overlap and self._overlap is not None:
            self._overlap.hear(self._trusted_words(), self._confidence)

    def _close(self, h: Hypothesis, text: str) -> None:
        self._owed = max(0, self._owed - 1)
        self._taken.pop(h.utterance, None)
        if self._partial_of == h.utterance:
            self._partial = ""
        if not text:
            return
        if self.policy.trusts(h.text, h.confidence):
            self._finals.append(text)
        else:
            self.doubted = h.text

    @property
    def unclear(self) -> bool:
        """Since the words were last taken, some were heard that are below trust."""
        return bool(self.doubted)

    @property
    def text(self) -> str:
        """The user's words since they were last taken."""
        return " ".join([*self._finals, *([self._partial] if self._partial else [])])

    @property
    def believed(self) -> bool:
        """The words so far are good enough to tell whether a turn is finished."""
        return not self._partial or self._supposes(lambda _, p: p >= self.policy.believe)

    @property
    def wording(self) -> float | None:
        """P(the turn is finished | the words so far) by a guess at open words. In a grammar, too:
        a recogniser may hear words that it does not hold."""
        return None if self._wording is None else self._wording(self.text)

    def _trusted_words(self) -> tuple[str, ...]:
        """A grammar finds words in any noise; only those it is sure of say what a sound is."""
        partial = self._partial if self._supposes(self.policy.trusts_as_evidence) else ""
        return tuple(" ".join([*self._finals, partial]).split())

    def _supposes(self, trusts: Callable[[str, float], bool]) -> bool:
        """There are words of a partial, and they are good enough."""
        h = self._supposed
        return bool(self._partial) and h is not None and trusts(h.text, h.confidence)

    @property
    def final(self) -> bool:
        """Nothing is owed for the sound so far."""
        return not self._in_utterance and self._owed == 0

    def take(self) -> str:
        """The words so far; from now on they belong to somebody else."""
        text = self.text
        open_now = self._owed + self._in_utterance
        for u in range(self._begun - open_now, self._begun):
            seen = self._partial if u == self._partial_of else ""
            self._taken[u] = f"{self._taken.get(u, '')} {seen}".strip()
        self._finals.clear()
        self._partial = ""
        self.doubted = ""
        self.voiced_ms = 0
        return text

    def expect(self, grammar: Grammar | None) -> None:
        self.open_speech = grammar is None
        self._asr.set_grammar(grammar)

    async def aclose(self) -> None:
        await self._asr.aclose()


def _remainder(taken: str, text: str) -> str:
    """What ``text`` has beyond the words already taken from its beginning. A recogniser that has
    changed its mind about taken words is not followed: they were acted upon."""
    return " ".join(text.split()[len(taken.split()) :])
