"""What the user's sound over the agent's voice is: a wish for the floor, a nod, or a noise.

    microphone frame, p_voice ─ ring of 200 ms ─ FrameFeatures ─ recurrent network ─ beliefs ──┐
                                (at begin the ring, then as it comes)                          │
    how long the voice has sounded, whether it is over ────────────────────────────────────────┤
    words of the recogniser, late ─ lexicon ───────────────────────────────────────────────────┤
    level of the sound ─ against the user's own, so far in this call (second_talker) ──────────┤
    echo ─── what our own loudspeaker explains takes away from it ─────────────────────────────┤
                                                            fuse (overlap_fusion) ◀────────────┘
                                                              │
                                                              ▼ OverlapEvidence

Duration alone cannot decide: "yes" lasts 370 ms and "mhm" up to 650, but half of the
interruptions must be seen within 200 ms. So a small network (``overlap_net``) is asked at every
frame what the sound so far is the beginning of. ``scripts/fit_overlap.py`` fitted it, and
docs/overlap.md has what it reaches on voices and clips that it was not fitted on.

Not known here: the floor, the clock, what the agent says. One object per call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from parley_speech.audio import check_pcm
from parley_speech.overlap_features import HISTORY, LEVEL, FloatArray, FrameFeatures
from parley_speech.overlap_fusion import DECIDE_NOISE, fuse
from parley_speech.overlap_lexicon import Words, classify
from parley_speech.overlap_net import PREROLL, OverlapNet, Posterior, Weights, load
from parley_speech.second_talker import Loudness, Talkers
from parley_speech.types import FRAME_MS, MIC_FRAME, OverlapEvidence, OverlapKind, Pcm

DECIDE_INTERRUPTION = 0.9
"""``p_interruption`` that takes the floor."""
RELEASE_SILENCE_MS = 180
"""A sound that ended this long ago without being an interruption was none. "Mm-hm" and "uh-huh"
have gaps of up to 90 ms, and a voice detector lags 50-110 ms behind the end of a voice."""
DEADLINE_MS = 1000
"""From the onset: then the likelier kind is taken, and the agent is ducked no longer."""

ECHO_FRAME = 0.75
"""Echo likelihood from which a frame is our own voice and says nothing about the user: 1 is an
echo alone, 0.5 an equally loud user over it (``echo.EchoLikelihood``)."""
OWN_SHARE = 0.5
"""A sound with more than this share of such frames is our own voice, whatever it says."""
LEAST_FRAMES = 5
"""Frames of a sound before anything can be decided: its first 80 ms tell little apart, and what
stands before them may be a rest of our own voice."""
FEW_WORDS, FEW_WORDS_NOISE = 2, 0.05
"""So few words that want the floor are a grammar's guess wherever the network thinks of a noise, be
it as little as this: a front desk's makes "no" of many a bark. Below 0.01 for each of 34 that were
said and understood, 0.31 or more for all that were found in 90 barks and other noises."""
SURE_WORDS = 0.85
"""... unless the recogniser is so sure of them. No word in 110 noises was, a clear "no" is (0.91 to
0.98, Moonshine in a grammar)."""
VOICED = 0.35
"""Probability of a voice in a frame of a sound that goes on, as in SpeechGate's ``off``."""
ONSET_DEPTH, ONSET_RISE = 7.0, 1.4
"""Nats (30 and 6 dB): the onset is where the level came within 30 dB of the loudest frame and
6 dB above the quietest of the ring."""

NOTHING_KNOWN = Posterior(backchannel=1.0, interruption=0.0, noise=0.0)
RING = PREROLL + -(-(HISTORY - MIC_FRAME) // MIC_FRAME)
"""Frames kept between overlaps: the network's, and what their features look back on."""


class OverlapClassifier:
    """One call's overlaps, one after the other.

    ``step`` takes every frame of the microphone, in overlap or not, so that the 200 ms before
    ``begin`` are known. Between overlaps it only keeps them; docs/overlap.md has the costs.
    """

    def __init__(self, *, language: str = "en", weights: Weights | None = None) -> None:
        """``language``: of the words given to ``hear`` (BCP 47). ``weights``: None for the
        package's own."""
        self._language = language
        self._features = FrameFeatures()
        self._net = OverlapNet(weights or load())
        self._ring: deque[tuple[Pcm, float]] = deque(maxlen=RING)
        self._talkers = Talkers()
        self.begun_ms: int | None = None
        """Stream time of the running overlap's ``begin``; None between overlaps."""
        self._clear()

    def _clear(self) -> None:
        self._net.reset()
        self._fresh = True  # no frame of this overlap has come
        self._age = self._voiced = self._silent = 0  # frames
        self._steps = self._own = 0  # frames since begin, and those of our own voice among them
        self._before = self._posterior = NOTHING_KNOWN
        self._words: tuple[str, ...] = ()
        self._sure = False
        self._loudness = Loudness()

    def begin(self, t_ms: int) -> None:
        """The VAD opened over the agent's voice; the next ``step`` brings the frame that opened
        it. Forgets the overlap before."""
        self._clear()
        self.begun_ms = t_ms

    def end(self) -> None:
        """The overlap was decided or is over; until ``begin`` the evidence is empty."""
        self._clear()
        self.begun_ms = None

    def hear(self, words: Sequence[str], confidence: float = 0.0) -> None:
        """All words of the recogniser's hypothesis for this sound so far, replacing the earlier,
        and how sure it is of them.

        Words that come between overlaps belong to none and are not kept."""
        if self.begun_ms is not None:
            self._words = tuple(words)
            self._sure = confidence >= SURE_WORDS

    def turn(self, frame: Pcm, voice: bool) -> None:
        """One microphone frame (320,) of the user's own turn, and whether their voice sounds: what
        is known of the user's voice is learnt there."""
        self._talkers.turn(frame, voice)

    def step(self, frame: Pcm, p_voice: float, echo: float) -> OverlapEvidence:
        """One microphone frame (320,) after echo cancellation, its probability of a voice and how
        much of the microphone our loudspeaker explains, both 0..1."""
        check_pcm(frame, "frame", MIC_FRAME)
        if self.begun_ms is not None:
            self._listen(frame, p_voice, own=echo >= ECHO_FRAME)
        self._ring.append((frame, p_voice))
        return OverlapEvidence(0, 0, 0, 0.0) if self.begun_ms is None else self._evidence()

    def _listen(self, frame: Pcm, p_voice: float, *, own: bool) -> None:
        """A frame of an overlap; ``own``: our voice, of which the network is told nothing."""
        before = self._enter() if self._fresh else []
        raw = self._features.push(frame, p_voice)
        if self._fresh:
            self._age = self._voiced = _frames_since_onset([*before, raw])
            self._fresh = False
        if not own:
            self._before, self._posterior = self._posterior, self._net.step(raw)
            voice = p_voice >= VOICED and self._posterior.noise < DECIDE_NOISE
            self._loudness.push(frame, voice=p_voice >= VOICED)
            self._talkers.aside(frame, voice)
        self._steps += 1
        self._own += own
        self._age += 1
        self._silent = self._silent + 1 if own or p_voice < VOICED else 0
        self._voiced += self._silent == 0

    def _enter(self) -> Sequence[FloatArray]:
        """What came before the first frame of an overlap is computed and shown to the network."""
        frames = [frame for frame, _ in self._ring]
        p_voice = [p for _, p in self._ring][-PREROLL:]
        earlier = self._features.restart(frames, np.array(p_voice, np.float32))
        for raw in earlier:
            self._net.step(raw)
        return list(earlier)

    @property
    def p_sound(self) -> float:
        """P(interruption) by the sound alone: the lower of the network's last two beliefs."""
        return min(self._before.interruption, self._posterior.interruption)

    @property
    def other(self) -> float:
        """Natural log-odds that somebody else speaks than the user, by the level."""
        return self._talkers.other(self._loudness, self._voiced * FRAME_MS)

    def _evidence(self) -> OverlapEvidence:
        voiced_ms, silence_ms = self._voiced * FRAME_MS, self._silent * FRAME_MS
        p = 0.0
        if self._age >= LEAST_FRAMES and self._own <= OWN_SHARE * self._steps:
            p = fuse(
                self.p_sound,
                self._posterior.noise,
                voiced_ms=voiced_ms,
                silence_ms=silence_ms,
                other=self.other,
                words=self._kind_of_words(),
            )
        return OverlapEvidence(
            since_onset_ms=self._age * FRAME_MS,
            voiced_ms=voiced_ms,
            silence_ms=silence_ms,
            p_interruption=p,
            p_noise=self._posterior.noise,
            text=" ".join(self._words),
            words=self._words,
        )

    def _kind_of_words(self) -> Words:
        kind = classify(self._words, self._language)
        few = len(self._words) <= FEW_WORDS and not self._sure
        guessed = few and self._posterior.noise > FEW_WORDS_NOISE
        return Words.NONE if guessed and kind is not Words.BACKCHANNEL else kind


def verdict(evidence: OverlapEvidence) -> OverlapKind | None:
    """What to do about a sound now: its kind, or None to wait and stay ducked.

    Never ``ECHO``: a sound that is echo ends as noise, for the floor must do the same."""
    if evidence.p_interruption >= DECIDE_INTERRUPTION:
        return OverlapKind.INTERRUPTION
    over = evidence.silence_ms >= RELEASE_SILENCE_MS
    if not over and evidence.since_onset_ms < DEADLINE_MS:
        return None
    if not over and evidence.p_interruption >= 0.5:
        return OverlapKind.INTERRUPTION
    return OverlapKind.NOISE if evidence.p_noise >= DECIDE_NOISE else OverlapKind.BACKCHANNEL


def _frames_since_onset(raws: Sequence[FloatArray]) -> int:
    """How many of these frames, the last before the frame that opened the VAD among them, belong
    to the sound: the run at the end that is neither silence nor background."""
    levels = [float(raw[LEVEL].max()) for raw in raws]
    least = max(max(levels) - ONSET_DEPTH, min(levels) + ONSET_RISE)
    count = 0
    for level in reversed(levels[:-1]):
        if level < least:
            break
        count += 1
    return count
