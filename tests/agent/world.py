"""A small world around the floor: a user with a script of sounds, an agent whose replies take
time to make and to say. Percepts follow from the acts, as in a real call."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from parley.dialogue import acts as A
from parley.dialogue.floor import Floor, State
from parley.dialogue.percepts import Percept, Sound
from parley.dialogue.policy import FloorPolicy
from parley.minds.base import Cause
from parley_speech.types import OverlapEvidence

TICK = 20


@dataclass(frozen=True)
class UserSound:
    """Something the user does. ``kind``: talk (wants the floor), nod, noise."""

    start_ms: int
    length_ms: int
    kind: str
    words: str = ""

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.length_ms


@dataclass
class SimReply:
    number: int
    asked_ms: int
    make_ms: int
    length_ms: int
    committed: bool = False
    spoken_ms: int | None = None
    cut_ms: int | None = None
    discarded: bool = False

    def played_ms(self, t: int) -> int:
        if self.spoken_ms is None:
            return 0
        return min((self.cut_ms or t) - self.spoken_ms, self.length_ms)

    def sound(self, t: int) -> Sound:
        if self.spoken_ms is None:
            return Sound.READY if t >= self.asked_ms + self.make_ms else Sound.MAKING
        return Sound.ENDED if self.played_ms(t) >= self.length_ms else Sound.PLAYING


@dataclass
class World:
    """Runs a floor and remembers everything."""

    sounds: list[UserSound]
    seed: int = 0
    policy: FloorPolicy = field(default_factory=FloorPolicy)
    make_ms: int | None = None
    reply_ms: int | None = None
    requests: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    lead_ms: int = 0
    """By how much a sound stirs before it is a voice for the detector."""
    stirs: list[int] = field(default_factory=list)
    """Clicks of 40 ms that no detector takes for a voice."""

    def __post_init__(self) -> None:
        self.floor = Floor(self.policy)
        self.rng = random.Random(self.seed)
        self.replies: dict[int, SimReply] = {}
        self.log: list[tuple[int, A.Act]] = []
        self.states: list[tuple[int, State]] = []
        self.turns: list[str] = []
        self.asides: list[str] = []
        self.committed: int | None = None
        self.taken_ms = 0
        self.voiced_from_ms = 0
        self.aside: set[int] = set()
        self.requests = sorted(self.requests)
        self._seen = 0

    # --- what is perceived ---------------------------------------------------------------------

    def _recent(self, t: int) -> list[tuple[int, UserSound]]:
        """Sounds begun by now whose words may still be wanted, with their places."""
        while self._seen < len(self.sounds) and self.sounds[self._seen].start_ms <= t:
            self._seen += 1
        lo = self._seen
        while lo and self.sounds[lo - 1].start_ms > t:  # looked ahead of
            lo -= 1
        hi = lo
        while lo and self.sounds[lo - 1].end_ms > min(self.taken_ms, t - 1000):
            lo -= 1
        return [(i, self.sounds[i]) for i in range(max(0, lo - 1), hi)]

    def _now(self, t: int) -> UserSound | None:
        return next((s for _, s in self._recent(t) if t < s.end_ms), None)

    def _words(self, t: int) -> str:
        """Words of sounds after the last commit, 100 ms after they ended."""
        heard = [
            s.words
            for i, s in self._recent(t)
            if s.words and s.end_ms > self.taken_ms and s.end_ms + 100 <= t and i not in self.aside
        ]
        return " ".join(heard)

    def _evidence(self, t: int) -> OverlapEvidence | None:
        last = [s for _, s in self._recent(t)]
        if not last or not self.floor.has_agent:
            return None
        s = last[-1]
        silence = max(0, t - s.end_ms)
        if silence > 400:
            return None
        since = t - s.start_ms
        p = {"talk": min(1.0, 0.5 + since / 600), "nod": 0.3, "noise": 0.1}[s.kind]
        return OverlapEvidence(since, min(since, s.length_ms), silence, p if silence == 0 else 0.2)

    def percept(self, t: int) -> Percept:
        hand = self.replies.get(self.committed) if self.committed is not None else None
        if hand is None:
            open_ = [r for r in self.replies.values() if not r.committed and not r.discarded]
            hand = open_[-1] if open_ else None
        now = self._now(t)
        owed = any(s.end_ms <= t < s.end_ms + 100 for _, s in self._recent(t)) or now is not None
        return Percept(
            t_ms=t,
            voice=now is not None,
            stir=now is not None
            or self._now(t + self.lead_ms) is not None
            or any(s <= t < s + 40 for s in self.stirs),
            text=self._words(t),
            final=not owed,
            voiced_ms=sum(
                min(s.end_ms, t) - max(s.start_ms, self.taken_ms, self.voiced_from_ms)
                for _, s in self._recent(t)
                if s.end_ms > max(self.taken_ms, self.voiced_from_ms) and s.start_ms < t
            ),
            overlap=self._evidence(t),
            reply=-1 if hand is None else hand.number,
            sound=Sound.NONE if hand is None else hand.sound(t),
            remaining_ms=None if hand is None else hand.length_ms - hand.played_ms(t),
            request=Cause.INSTRUCTED if self.requests and self.requests[0] <= t else None,
            stop=t in self.stops,
        )

    # --- what follows --------------------------------------------------------------------------

    def step(self, t: int) -> list[A.Act]:
        before = self.floor.state
        acts = self.floor.step(self.percept(t))
        for act in acts:
            self.log.append((t, act))
            self._follow(t, act)
        self.states.append((t, self.floor.state))
        if self.floor.state is State.IDLE is not before and not self._words(t):
            self.voiced_from_ms = t  # words that are owed are still to come
        if self.floor.state is State.AGENT and not self.floor.keeps_words and not self._now(t):
            for i, s in self._recent(t):
                if s.end_ms > self.taken_ms and s.end_ms + 100 <= t and i not in self.aside:
                    self.aside.add(i)
                    self.asides.append(s.words)
        return acts

    def _follow(self, t: int, act: A.Act) -> None:
        match act:
            case A.Speculate(reply=n, cause=cause):
                make = self.make_ms if self.make_ms is not None else self.rng.randrange(0, 900, 20)
                length = self.reply_ms or self.rng.randrange(200, 6000, 20)
                self.replies[n] = SimReply(n, t, make, length)
                if cause is Cause.INSTRUCTED:
                    self.requests.pop(0)
            case A.Commit(reply=n, cause=cause, text=text):
                self.replies[n].committed = True
                self.committed = n
                if cause is Cause.USER:
                    self.turns.append(text)
                    self.taken_ms = t
            case A.Discard(reply=n):
                self.replies[n].discarded = True
            case A.Speak(reply=n):
                self.replies[n].spoken_ms = t
            case A.Yield(reply=n):
                self.replies[n].cut_ms = t
                self.committed = None
        if self.floor.state is State.IDLE:
            self.committed = None

    def run(self, until_ms: int) -> World:
        for t in range(TICK, until_ms, TICK):
            self.step(t)
        return self

    def acts(self, kind: type) -> list[tuple[int, A.Act]]:
        return [(t, a) for t, a in self.log if isinstance(a, kind)]
