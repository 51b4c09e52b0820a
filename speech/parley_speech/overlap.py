"""What the user's sound over the agent's voice is: a wish for the floor, a nod, or a noise.

    microphone frame ─ FrameFeatures ─ ring of 200 ms ─┐
    p_voice ───────────────────────────────────────────┤ at begin the ring, then as it comes
                                                       └─ recurrent network ─ P(kind | so far) ─┐
    echo ─── what our own loudspeaker explains takes away from it ──────────────────────────────┤
    words of the recogniser, late ─ lexicon ─ override ─────────────────────────────────────────┤
                                                                               OverlapEvidence ◀┘

Duration alone cannot decide: "yes" lasts 370 ms and "mhm" up to 650, but half of the
interruptions must be seen within 200 ms. So a small network (``overlap_net``) is asked at every
frame what the sound so far is the beginning of. ``scripts/fit_overlap.py`` fitted it.

Not known here: the floor, the clock, what the agent says. One object per call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from parley_speech.overlap_features import LEVEL, FloatArray, FrameFeatures
from parley_speech.overlap_lexicon import Words, classify
from parley_speech.overlap_net import PREROLL, OverlapNet, Posterior, Weights, load
from parley_speech.types import FRAME_MS, OverlapEvidence, OverlapKind, Pcm

DECIDE_INTERRUPTION = 0.9
"""Measured through FusionVad with voices and clips that the network was not fitted on, at -6 to
-30 dBFS: sentences are 29 recorded ones (two human speakers, JFK, two synthetic callers), nods
are 160 of espeak variants kept for the test, "yes" and noises are the recorded clips. Three
nods of each figure from 0.85 to 0.97 are slower than LONG_MS.

    threshold            0.6     0.7     0.8     0.9     0.95    0.98
    sentences P50 (ms)   191     211     248     296     402     422
    sentences P75 (ms)   354     556     628     690     805     982
    nods stopping us     11      8       7       5       3       1       of 160
    "yes" and noises     0       0       0       0       0       0       of 42

With the agent's voice left 25 dB below the user's, 0.9 gives 472 ms, 6 of 161 and 0 of 42. A
lower threshold is quicker and less polite; nothing here has both."""
DECIDE_NOISE = 0.6
"""``p_noise`` at which a sound that ends is called a noise and not a backchannel."""
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
LONG_MS = 940
"""A voice that has sounded for this long is no backchannel, whatever it sounds like; a slow "okay
okay" takes 850 ms."""
LONG = 0.97
VOICED = 0.35
"""Probability of a voice in a frame of a sound that goes on, as in SpeechGate's ``off``."""
ONSET_DEPTH, ONSET_RISE = 7.0, 1.4
"""Nats (30 and 6 dB): the onset is where the level came within 30 dB of the loudest frame and
6 dB above the quietest of the ring."""

NOTHING_KNOWN = Posterior(backchannel=1.0, interruption=0.0, noise=0.0)


class OverlapClassifier:
    """One call's overlaps, one after the other.

    ``step`` takes every frame of the microphone, in overlap or not, so that the 200 ms before
    ``begin`` are known. A frame costs 0.27 ms of CPU, in an overlap 0.4 ms, and the first of an
    overlap 1.3 ms (measured on two busy cores).
    """

    def __init__(self, *, language: str = "en", weights: Weights | None = None) -> None:
        """``language``: of the words given to ``hear`` (BCP 47). ``weights``: None for the
        package's own."""
        self._language = language
        self._features = FrameFeatures()
        self._net = OverlapNet(weights or load())
        self._ring: deque[FloatArray] = deque(maxlen=PREROLL)
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

    def begin(self, t_ms: int) -> None:
        """The VAD opened over the agent's voice; the next ``step`` brings the frame that opened
        it. Forgets the overlap before."""
        self._clear()
        self.begun_ms = t_ms

    def end(self) -> None:
        """The overlap was decided or is over; until ``begin`` the evidence is empty."""
        self._clear()
        self.begun_ms = None

    def hear(self, words: Sequence[str]) -> None:
        """All words of the recogniser's hypothesis for this sound so far, replacing the earlier.

        Words that come between overlaps belong to none and are not kept."""
        if self.begun_ms is not None:
            self._words = tuple(words)

    def step(self, frame: Pcm, p_voice: float, echo: float) -> OverlapEvidence:
        """One microphone frame (320,) after echo cancellation, its probability of a voice and how
        much of the microphone our loudspeaker explains, both 0..1."""
        raw = self._features.push(frame, p_voice)
        if self.begun_ms is None:
            self._ring.append(raw)
            return OverlapEvidence(0, 0, 0, 0.0)
        if self._fresh:
            self._enter(raw)
        own = echo >= ECHO_FRAME
        if not own:
            self._before, self._posterior = self._posterior, self._net.step(raw)
        self._ring.append(raw)
        self._steps += 1
        self._own += own
        self._age += 1
        self._silent = self._silent + 1 if own or p_voice < VOICED else 0
        self._voiced += self._silent == 0
        return self._evidence()

    def _enter(self, raw: FloatArray) -> None:
        """The first frame of an overlap: what came before it, and how much of that is its sound."""
        for earlier in self._ring:
            self._net.step(earlier)
        self._age = self._voiced = _frames_since_onset([*self._ring, raw])
        self._fresh = False

    def _evidence(self) -> OverlapEvidence:
        # The lower of two frames: a belief held for one frame only decides nothing.
        p = min(self._before.interruption, self._posterior.interruption)
        p_noise = self._posterior.noise
        if p_noise < DECIDE_NOISE and self._voiced * FRAME_MS >= LONG_MS:
            p = max(p, LONG)
        if self._own > OWN_SHARE * self._steps:
            p = 0.0
        else:
            p = _with_words(p, p_noise, classify(self._words, self._language))
        return OverlapEvidence(
            since_onset_ms=self._age * FRAME_MS,
            voiced_ms=self._voiced * FRAME_MS,
            silence_ms=self._silent * FRAME_MS,
            p_interruption=p if self._age >= LEAST_FRAMES else 0.0,
            p_noise=p_noise,
            text=" ".join(self._words),
            words=self._words,
        )


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


def _with_words(p: float, p_noise: float, words: Words) -> float:
    """Words override the sound; a recogniser's words for a noise are worth nothing."""
    if words is Words.BACKCHANNEL:
        return min(p, 0.4)
    if p_noise >= DECIDE_NOISE:
        return p
    if words is Words.OPENER:
        return max(p, 0.98)
    if words is Words.CONTENT:
        return max(p, 0.96)
    return p


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
