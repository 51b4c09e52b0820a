"""The metrics of Full-Duplex-Bench v1.

Lin et al., "Full-Duplex-Bench: A Benchmark to Evaluate Full-duplex Spoken Dialogue Models on
Turn-taking Capabilities", arXiv 2503.04721, section 3 (3.1 pause handling, 3.2 backchanneling,
3.3 smooth turn-taking, 3.4 user interruption), with the thresholds of its published evaluation
code. Left out: the language model's 0 to 5 for what an answer to an interruption says.

Their words come from a recogniser that hears the model's output; ours are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from parley.bench.floor.timeline import Speech, Timeline, UserSound

SHORT_S = 1.0
FEW_WORDS = 3
LONG_S = 3.0
BACKCHANNEL_WORDS = 2
BIN_S = 0.2


def takes_over(speech: Speech | None) -> bool:
    """TOR of one sample: false without words, or below one second with at most three words."""
    if speech is None or not speech.words:
        return False
    return not (speech.end_s - speech.begin_s < SHORT_S and speech.words <= FEW_WORDS)


def is_backchannel(speech: Speech) -> bool:
    """Shorter than one second and no more than two words (section 3.2)."""
    return speech.end_s - speech.begin_s < SHORT_S and speech.words <= BACKCHANNEL_WORDS


def takes_the_turn(speech: Speech) -> bool:
    """In the backchannel task: longer than three seconds, or more than three words."""
    return speech.end_s - speech.begin_s > LONG_S or speech.words > FEW_WORDS


@dataclass(frozen=True, slots=True)
class Response:
    """TOR and latency of one turn or interruption."""

    took: bool
    latency_s: float | None
    """First word of the answer after the user's end, at least 0; None without a take-over."""


def pause_take_over(timeline: Timeline, sound: UserSound) -> bool:
    """3.1: the agent takes over before the user has said everything. Lower is better."""
    began = [s for s in timeline.agent if sound.begin_s < s.begin_s < sound.end_s]
    return any(takes_over(s) for s in began)


def response(timeline: Timeline, index: int) -> Response:
    """3.3 and 3.4: who speaks after the ``index``-th sound, and how soon. An answer that began
    before the end counts with latency 0, as negative ones are set to 0 there."""
    sound = timeline.user[index]
    until = timeline.until(index)
    found = [s for s in timeline.agent if sound.begin_s < s.begin_s < until and takes_over(s)]
    if not found:
        return Response(False, None)
    # What was begun within a pause and given up again is no answer if a later one follows.
    chosen = next((s for s in found if s.end_s > sound.end_s), found[-1])
    return Response(True, max(0.0, chosen.begin_s - sound.end_s))


@dataclass(frozen=True, slots=True)
class Backchannels:
    """3.2, of one long turn of the user."""

    took: bool
    times_s: tuple[float, ...]
    """Middles of the agent's backchannels, since the turn's begin."""
    seconds: float

    @property
    def frequency_hz(self) -> float:
        return len(self.times_s) / self.seconds


def backchannels(timeline: Timeline, sound: UserSound) -> Backchannels:
    """What the agent says while the user speaks for long."""
    within = [s for s in timeline.agent if sound.begin_s < s.begin_s < sound.end_s]
    nods = [s for s in within if is_backchannel(s)]
    times = tuple((s.begin_s + s.end_s) / 2 - sound.begin_s for s in nods)
    return Backchannels(any(takes_the_turn(s) for s in within), times, sound.end_s - sound.begin_s)


def histogram(times_s: Sequence[float], seconds: float) -> list[float]:
    """Shares in bins of 0.2 s; all zero without a time."""
    bins = [0.0] * max(1, math.ceil(seconds / BIN_S))
    for t in times_s:
        bins[min(len(bins) - 1, int(t / BIN_S))] += 1
    total = sum(bins)
    return [b / total for b in bins] if total else bins


def distance(ours: Sequence[float], theirs: Sequence[float], seconds: float) -> float:
    """Jensen-Shannon *distance* (the divergence's root, logarithm of base 2: 0 to 1) between two
    listeners' backchannels; 1 when the agent has none. Raises ValueError without a reference."""
    if not theirs:
        raise ValueError("the reference has no backchannels: there is nothing to compare with")
    if not ours:
        return 1.0
    p, q = histogram(ours, seconds), histogram(theirs, seconds)
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    divergence = (_divergence(p, middle) + _divergence(q, middle)) / 2
    return math.sqrt(max(0.0, divergence))


def _divergence(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(a * math.log2(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@dataclass(frozen=True, slots=True)
class Scores:
    """The row of the paper's table 2. None: no sample."""

    pause_tor: float | None
    turn_tor: float | None
    turn_latency_s: float | None
    interruption_tor: float | None
    interruption_latency_s: float | None
    backchannel_tor: float | None
    backchannel_hz: float | None
    backchannel_distance: float | None


def scores(timelines: Sequence[Timeline]) -> Scores:
    """Pauses: turns that have any. Turns: those without. Long turns are of families whose name
    begins with ``monologue``; their reference is the speaker's own pauses, where listeners nod,
    as there are no recorded listeners here."""
    pauses: list[bool] = []
    turns: list[Response] = []
    cuts: list[Response] = []
    long: list[tuple[Backchannels, float | None]] = []
    for t in timelines:
        for index, sound in enumerate(t.user):
            if t.family.startswith("monologue"):
                long.append(_long(t, sound))
            elif sound.kind == "turn" and sound.pauses_s:
                pauses.append(pause_take_over(t, sound))
            elif sound.kind == "turn":
                turns.append(response(t, index))
            elif sound.kind == "interruption":
                cuts.append(response(t, index))
    return Scores(
        mean(pauses),
        mean([r.took for r in turns]),
        mean([r.latency_s for r in turns if r.latency_s is not None]),
        mean([r.took for r in cuts]),
        mean([r.latency_s for r in cuts if r.latency_s is not None]),
        mean([b.took for b, _ in long]),
        mean([b.frequency_hz for b, _ in long]),
        mean([d for _, d in long if d is not None]),
    )


def _long(timeline: Timeline, sound: UserSound) -> tuple[Backchannels, float | None]:
    found = backchannels(timeline, sound)
    places = [(a + b) / 2 - sound.begin_s for a, b in sound.pauses_s]
    return found, distance(found.times_s, places, found.seconds) if places else None


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
