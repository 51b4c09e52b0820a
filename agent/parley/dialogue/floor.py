"""Who has the floor: a pure state machine in the manner of a protocol library.

Theory of operation
-------------------
``Floor.step(percept) -> list[Act]`` is called once a tick with what is known at its end. The
floor has no clock (time comes from the percept), does no I/O and draws no random numbers, so
the same percepts always give the same acts.

A step does three things. It *reads* the percept into at most one ``Event`` for the state it is
in (``_EVENTS``: which questions a state asks, in order of urgency). It looks (state, event) up
in ``TABLE``, the one literal table of this module, which names the next state and the acts; the
documentation's diagram is generated from it. It *makes* those acts from its small memory: the
number of the reply in hand, when the user was last heard, since when the agent is ducked.

The states say whose turn it is:

* ``IDLE``     nobody speaks.
* ``USER``     the user speaks. A reply may already be made (speculated); changed words discard it.
* ``PAUSE``    the user is silent, perhaps finished. As in USER, a reply may be made.
* ``THINK``    the user's turn is committed, its reply has no sound yet.
* ``HELD``     as THINK, but the user makes a sound again: the reply waits until it is clear
  whether the user goes on.
* ``AGENT``    the agent speaks.
* ``ALERT``    it does, and a sound has begun that may be the user: the agent is ducked before any
  detector knows, and not for long where no voice follows.
* ``OVERLAP``  both do; the agent is ducked until it is decided who goes on.

Waiting for the end of a turn is one continuous rule (``FloorPolicy.wait_ms``): the more finished
the user's words and voice are, and the shorter this user's pauses, the shorter the wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from parley.dialogue.acts import (
    Act,
    Backchannel,
    Commit,
    Discard,
    Duck,
    Listen,
    Speak,
    Speculate,
    Unduck,
    Yield,
)
from parley.dialogue.habits import PauseHabit
from parley.dialogue.percepts import Percept, Sound
from parley.dialogue.policy import FloorPolicy
from parley.minds.agreement import agrees
from parley.minds.base import Cause


class State(Enum):
    IDLE = "idle"
    USER = "user"
    PAUSE = "pause"
    THINK = "think"
    HELD = "held"
    AGENT = "agent"
    ALERT = "alert"
    OVERLAP = "overlap"


class Event(Enum):
    ONSET = "onset"  # the user's voice begins
    OFFSET = "offset"  # it has been silent for a moment
    WORDS = "words"  # words of a sound that was over before they were recognised
    THOUGHT = "thought"  # the words so far are worth a speculated reply
    CHANGED = "changed"  # the words are no longer those of the speculated reply
    NOD = "nod"  # a long turn pauses: a good moment for a listener's word
    TURN_ENDS = "turn ends"  # waited long enough for these words
    NOTHING_SAID = "nothing said"  # there was sound, but no words
    READY = "ready"  # the reply's first samples are there
    DONE = "done"  # the reply was played to its end, or had no sound
    STIR = "stir"  # a sound begins that may become the user's voice
    CALM = "calm"  # it did not
    CUT_IN = "cut in"  # the user wants the floor
    RELEASE = "release"  # the user did not want it
    REQUEST = "request"  # the application asks for a reply
    STOP = "stop"  # the application stops the agent
    NO_INPUT = "no input"  # silence for long


class Row(NamedTuple):
    next: State
    acts: tuple[str, ...] = ()


_S, _E = State, Event
TABLE: dict[tuple[State, Event], Row] = {
    (_S.IDLE, _E.ONSET): Row(_S.USER, ("listen",)),
    (_S.IDLE, _E.WORDS): Row(_S.PAUSE),
    (_S.IDLE, _E.REQUEST): Row(_S.THINK, ("speculate", "commit")),
    (_S.IDLE, _E.NO_INPUT): Row(_S.THINK, ("speculate", "commit")),
    (_S.USER, _E.OFFSET): Row(_S.PAUSE),
    (_S.USER, _E.CHANGED): Row(_S.USER, ("discard",)),
    (_S.USER, _E.THOUGHT): Row(_S.USER, ("speculate",)),
    (_S.PAUSE, _E.ONSET): Row(_S.USER),
    (_S.PAUSE, _E.CHANGED): Row(_S.PAUSE, ("discard",)),
    (_S.PAUSE, _E.THOUGHT): Row(_S.PAUSE, ("speculate",)),
    (_S.PAUSE, _E.NOD): Row(_S.PAUSE, ("backchannel",)),
    (_S.PAUSE, _E.TURN_ENDS): Row(_S.THINK, ("speculate", "commit")),
    (_S.PAUSE, _E.NOTHING_SAID): Row(_S.IDLE, ("discard",)),
    (_S.THINK, _E.READY): Row(_S.AGENT, ("speak",)),
    (_S.THINK, _E.DONE): Row(_S.IDLE),
    (_S.THINK, _E.ONSET): Row(_S.HELD),
    (_S.THINK, _E.STOP): Row(_S.IDLE, ("yield",)),
    (_S.HELD, _E.CUT_IN): Row(_S.USER, ("yield", "listen")),
    (_S.HELD, _E.RELEASE): Row(_S.THINK),
    (_S.HELD, _E.DONE): Row(_S.USER, ("listen",)),
    (_S.HELD, _E.STOP): Row(_S.USER, ("yield", "listen")),
    (_S.AGENT, _E.ONSET): Row(_S.OVERLAP, ("duck",)),
    (_S.AGENT, _E.STIR): Row(_S.ALERT, ("duck",)),
    (_S.AGENT, _E.CUT_IN): Row(_S.USER, ("yield", "listen")),
    (_S.AGENT, _E.DONE): Row(_S.IDLE),
    (_S.AGENT, _E.STOP): Row(_S.IDLE, ("yield",)),
    (_S.ALERT, _E.ONSET): Row(_S.OVERLAP),
    (_S.ALERT, _E.CUT_IN): Row(_S.USER, ("yield", "listen")),
    (_S.ALERT, _E.CALM): Row(_S.AGENT, ("lift",)),
    (_S.ALERT, _E.DONE): Row(_S.IDLE, ("lift",)),
    (_S.ALERT, _E.STOP): Row(_S.IDLE, ("yield",)),
    (_S.OVERLAP, _E.CUT_IN): Row(_S.USER, ("yield", "listen")),
    (_S.OVERLAP, _E.RELEASE): Row(_S.AGENT, ("unduck",)),
    (_S.OVERLAP, _E.DONE): Row(_S.USER, ("unduck", "listen")),
    (_S.OVERLAP, _E.STOP): Row(_S.USER, ("yield", "listen")),
}


_OVER_AGENT = frozenset((State.HELD, State.ALERT, State.OVERLAP))
_WITH_AGENT = _OVER_AGENT | {State.THINK, State.AGENT}
_LONG_AGO_MS = 60_000


@dataclass(slots=True)
class _Memory:
    """All that the floor carries from tick to tick, apart from its state."""

    habit: PauseHabit
    """The user's pauses so far."""
    next_reply: int = 0
    speculation: Speculate | None = None
    committed: int = -1
    """The committed reply in hand, -1: none."""
    last_voice_ms: int = 0
    tolerated: bool = False
    """The sound going on over the agent was decided not to matter; until it stops."""
    overlap_since_ms: int = 0
    """Since when the agent is ducked, or its reply held."""
    stirred_ms: int = -_LONG_AGO_MS
    """When a sound that may become a voice was last noticed."""
    lifted_ms: int = -_LONG_AGO_MS
    """When such a sound last turned out to be none."""
    waits_for_turn: bool = False
    """Words over the end of a reply begin a turn as soon as it has ended."""
    idle_since_ms: int = 0
    nodded_at_ms: int = 0
    cause: Cause = Cause.USER
    words: str = ""
    """The user's words at the last tick."""
    words_since_ms: int = 0
    """Since when they are these."""
    starts: int = 0
    """Speculations of this turn."""
    ended_ms: int = 0
    """When the voice ended of the turn that was committed last."""


class Floor:
    """The machine. One per call."""

    def __init__(self, policy: FloorPolicy | None = None) -> None:
        self.policy = policy or FloorPolicy()
        self.state = State.IDLE
        self._m = _Memory(habit=PauseHabit(self.policy.pause_ms))

    @property
    def keeps_words(self) -> bool:
        """Words said over the agent wait for its end, because they begin a turn."""
        return self._m.waits_for_turn

    @property
    def has_agent(self) -> bool:
        """The agent has the floor or is about to: a sound of the user is an overlap."""
        return self.state in _WITH_AGENT

    def step(self, p: Percept) -> list[Act]:
        """One tick: what to do now."""
        if p.voice:
            self._note_pause(p)
            self._m.last_voice_ms = p.t_ms
        else:
            self._m.tolerated = False
        if p.text != self._m.words:
            self._m.words, self._m.words_since_ms = p.text, p.t_ms
        acts: list[Act] = []
        # A state entered in this tick may at once have its answer (a speculated reply that is
        # committed and ready): follow it, so that no decision waits for another tick.
        # Each event counts once: what a percept tells is used up by being followed.
        seen: set[Event] = set()
        while (event := self._event(p)) is not None and event not in seen:
            seen.add(event)
            row = TABLE[self.state, event]
            self._m.cause = _cause(event, p)
            for name in row.acts:
                acts += _MAKE[name](self, p)
            self._enter(row.next, event, p)
        if p.stir:
            self._m.stirred_ms = p.t_ms
        return acts

    def wait_ms(self, p: Percept) -> int:
        """Silence after which the turn would be over, by what is known now."""
        completeness = p.completeness if p.text or p.unclear else None
        habit_ms = self._m.habit.mean_ms
        return self.policy.wait_ms(
            completeness, p.finality, habit_ms, wording=p.wording, unjudged=p.unjudged
        )

    def _note_pause(self, p: Percept) -> None:
        """The voice goes on, within its turn or, as is seen only later, within what was one."""
        m, policy = self._m, self.policy
        silence_ms = p.t_ms - m.last_voice_ms
        if self.state is State.PAUSE and silence_ms > policy.offset_ms:
            m.habit = m.habit.after(silence_ms - policy.offset_ms)

    def _note_cut_in(self) -> None:
        """The user went on so soon that the agent has probably spoken into a pause."""
        m, policy = self._m, self.policy
        pause_ms = m.overlap_since_ms - m.ended_ms
        if pause_ms <= policy.wait_open_ms:
            m.habit = m.habit.after(pause_ms - policy.offset_ms, cut_into=True)

    def _event(self, p: Percept) -> Event | None:
        return next((e for e, asks in _EVENTS[self.state] if asks(self, p)), None)

    # --- questions: is this event so? --------------------------------------------------------

    def _onset(self, p: Percept) -> bool:
        return p.voice

    def _fresh_onset(self, p: Percept) -> bool:
        """Over the agent's turn: a new sound, or a tolerated one that has become serious."""
        if not p.voice or p.overlap is None:
            return False
        return not self._m.tolerated or p.overlap.p_interruption >= self.policy.cut_in

    def _stir(self, p: Percept) -> bool:
        """Something begins now: what has been there for a while, or has just turned out to be
        nothing, is none of the user's."""
        m, policy = self._m, self.policy
        begins = p.stir and p.t_ms - m.stirred_ms > policy.stir_gap_ms
        return begins and not m.tolerated and p.t_ms - m.lifted_ms > policy.stir_again_ms

    def _calm(self, p: Percept) -> bool:
        gone = not p.stir and p.t_ms - self._m.stirred_ms >= self.policy.stir_gap_ms
        return gone or p.t_ms - self._m.overlap_since_ms >= self.policy.stir_ms

    def _offset(self, p: Percept) -> bool:
        return self._quiet(p) >= self.policy.offset_ms

    def _words(self, p: Percept) -> bool:
        return bool(p.text)

    def _changed(self, p: Percept) -> bool:
        """Words that came back empty are no other words while the recogniser thinks again."""
        s = self._m.speculation
        known = bool(p.text) or self._lost(p)
        return s is not None and (p.stale or (known and not agrees(s.text, p.text)))

    def _thought(self, p: Percept) -> bool:
        """No guess is being made, the turn has some left, and these words may be all."""
        policy, m = self.policy, self._m
        if m.speculation is not None or m.starts >= policy.most_starts:
            return False
        if not p.text:
            return self._lost(p)
        likely = p.completeness is not None and p.completeness >= policy.likely
        if p.final or likely:
            return True
        stable_ms = p.t_ms - m.words_since_ms
        if p.voice:
            # Most words of a turn are stable for a while and are not its last: some starts are
            # kept for when the voice stops.
            spare = m.starts < policy.most_starts // 2
            return spare and stable_ms >= policy.stable_voice_ms
        return stable_ms >= policy.stable_ms

    def _nod(self, p: Percept) -> bool:
        after = self.policy.nod_after_ms
        if after is None or p.voiced_ms < after or (p.completeness or 0.5) > 0.5:
            return False
        return p.t_ms - self._m.nodded_at_ms >= after and self._quiet(p) >= self.policy.offset_ms

    def _turn_ends(self, p: Percept) -> bool:
        if not p.text:
            return self._mumbled(p) and self._wordless(p)
        late = 0 if p.final else self.policy.late_words_ms
        return self._quiet(p) >= self.wait_ms(p) + late

    def _mumbled(self, p: Percept) -> bool:
        """So much voice is a turn, though none of its words are known."""
        least = self.policy.unclear_ms if p.unclear else self.policy.mumble_ms
        return not p.text and p.voiced_ms >= least

    def _lost(self, p: Percept) -> bool:
        """... and none will be, so that what asks for them again may be thought of."""
        return p.final and not p.voice and self._mumbled(p)

    def _nothing_said(self, p: Percept) -> bool:
        return not p.text and self._wordless(p)

    def _wordless(self, p: Percept) -> bool:
        """No words have come, and none will. Where some must have been said, the voice may tell
        that they were all, or that more will come."""
        late = 0 if p.final else self.policy.owed_words_ms
        wait = self.policy.nothing_ms
        if p.finality is not None:
            said = p.unclear or p.voiced_ms >= self.policy.mumble_ms
            least = self.policy.unclear_wait_ms if said else wait
            wait = max(least, self.wait_ms(p))
        return self._quiet(p) >= wait + late

    def _ready(self, p: Percept) -> bool:
        return p.reply == self._m.committed and p.sound in (Sound.READY, Sound.PLAYING)

    def _done(self, p: Percept) -> bool:
        return p.reply == self._m.committed and p.sound is Sound.ENDED

    def _cut_in(self, p: Percept) -> bool:
        o = p.overlap
        if o is None:
            return False
        policy = self.policy
        overdue = p.t_ms - self._m.overlap_since_ms >= policy.decide_ms
        # ... this very sound: not one that has just begun, with another before it.
        late = overdue and o.since_onset_ms >= policy.decide_ms - policy.stir_ms
        return o.p_interruption >= (policy.late_cut_in if late else policy.cut_in)

    def _cut_in_late(self, p: Percept) -> bool:
        """The words of a sound that was let pass show what it was: "no"."""
        o = p.overlap
        if o is None or p.voice or not o.words:
            return False
        return o.p_interruption >= self.policy.cut_in

    def _release(self, p: Percept) -> bool:
        overdue = p.t_ms - self._m.overlap_since_ms >= self.policy.decide_ms
        late = 0 if p.final else self.policy.release_words_ms
        return overdue or self._silence(p) >= self.policy.release_ms + late

    def _request(self, p: Percept) -> bool:
        return p.request is not None

    def _stop(self, p: Percept) -> bool:
        return p.stop

    def _no_input(self, p: Percept) -> bool:
        limit = self.policy.no_input_ms
        return limit is not None and p.t_ms - self._m.idle_since_ms >= limit

    def _silence(self, p: Percept) -> int:
        """Since the detector last told of a voice: sure, but late."""
        return p.t_ms - self._m.last_voice_ms

    def _quiet(self, p: Percept) -> int:
        """Since the voice's own end: what a wait for the end of a turn counts from."""
        return 0 if p.voice else max(self._silence(p), p.silence_ms)

    # --- acts ---------------------------------------------------------------------------------

    def _make_listen(self, p: Percept) -> list[Act]:
        return [Listen()]

    def _make_speculate(self, p: Percept) -> list[Act]:
        """Nothing to do when the speculation in hand already answers these words."""
        m = self._m
        text = p.text if m.cause is Cause.USER else ""
        if m.speculation is not None and not p.stale and agrees(m.speculation.text, text):
            return []
        acts = self._make_discard(p)
        m.starts += 1
        m.speculation = Speculate(m.next_reply, m.cause, text)
        m.next_reply += 1
        return [*acts, m.speculation]

    def _make_commit(self, p: Percept) -> list[Act]:
        m = self._m
        assert m.speculation is not None, "a commit follows its speculation in the table"
        s, m.speculation = m.speculation, None
        m.committed = s.reply
        m.ended_ms = m.last_voice_ms
        m.starts = 0
        waited = self._quiet(p) if m.cause is Cause.USER else 0
        # The words that are final, which the speculated reply answers as well.
        text = p.text if s.cause is Cause.USER else s.text
        return [Commit(s.reply, s.cause, text, waited)]

    def _make_discard(self, p: Percept) -> list[Act]:
        s, self._m.speculation = self._m.speculation, None
        return [] if s is None else [Discard(s.reply)]

    def _make_speak(self, p: Percept) -> list[Act]:
        return [Speak(self._m.committed)]

    def _make_backchannel(self, p: Percept) -> list[Act]:
        self._m.nodded_at_ms = p.t_ms
        return [Backchannel(self.policy.nod_text)]

    def _make_duck(self, p: Percept) -> list[Act]:
        return [Duck()]

    def _make_unduck(self, p: Percept) -> list[Act]:
        near_end = p.remaining_ms is not None and p.remaining_ms <= self.policy.turn_at_end_ms
        done = self._done(p)
        self._m.waits_for_turn = done or (near_end and bool(p.text))
        return [Unduck("turn" if self._m.waits_for_turn else "aside")]

    def _make_lift(self, p: Percept) -> list[Act]:
        self._m.lifted_ms = p.t_ms
        return [Unduck("nothing")]

    def _make_yield(self, p: Percept) -> list[Act]:
        reply, self._m.committed = self._m.committed, -1
        return [Yield(reply, "application" if p.stop else "user")]

    # --- entering a state ---------------------------------------------------------------------

    def _enter(self, state: State, event: Event, p: Percept) -> None:
        m = self._m
        if state in _OVER_AGENT and self.state not in _OVER_AGENT:
            m.overlap_since_ms = p.t_ms
        if event is Event.CUT_IN:
            self._note_cut_in()
        if event is Event.RELEASE:
            m.tolerated = p.voice
        if state is State.IDLE:
            m.idle_since_ms = p.t_ms
            m.committed = -1
            m.starts = 0
            if event is Event.DONE and m.waits_for_turn:
                state = State.PAUSE  # words said over the end of the reply answer it
            m.waits_for_turn = False
        if state is State.USER:
            m.waits_for_turn = False
            m.nodded_at_ms = max(m.nodded_at_ms, p.t_ms if event is Event.ONSET else 0)
        self.state = state


def _cause(event: Event, p: Percept) -> Cause:
    if event is Event.REQUEST and p.request is not None:
        return p.request
    return Cause.NO_INPUT if event is Event.NO_INPUT else Cause.USER


_Question = Callable[[Floor, Percept], bool]
_EVENTS: dict[State, tuple[tuple[Event, _Question], ...]] = {
    State.IDLE: (
        (Event.ONSET, Floor._onset),
        (Event.WORDS, Floor._words),
        (Event.REQUEST, Floor._request),
        (Event.NO_INPUT, Floor._no_input),
    ),
    State.USER: (
        (Event.OFFSET, Floor._offset),
        (Event.CHANGED, Floor._changed),
        (Event.THOUGHT, Floor._thought),
    ),
    State.PAUSE: (
        (Event.ONSET, Floor._onset),
        (Event.TURN_ENDS, Floor._turn_ends),
        (Event.NOTHING_SAID, Floor._nothing_said),
        (Event.CHANGED, Floor._changed),
        (Event.THOUGHT, Floor._thought),
        (Event.NOD, Floor._nod),
    ),
    State.THINK: (
        (Event.STOP, Floor._stop),
        (Event.ONSET, Floor._fresh_onset),
        (Event.READY, Floor._ready),
        (Event.DONE, Floor._done),
    ),
    State.HELD: (
        (Event.STOP, Floor._stop),
        (Event.CUT_IN, Floor._cut_in),
        (Event.DONE, Floor._done),
        (Event.RELEASE, Floor._release),
    ),
    State.AGENT: (
        (Event.STOP, Floor._stop),
        (Event.DONE, Floor._done),
        (Event.CUT_IN, Floor._cut_in_late),
        (Event.ONSET, Floor._fresh_onset),
        (Event.STIR, Floor._stir),
    ),
    State.ALERT: (
        (Event.STOP, Floor._stop),
        (Event.DONE, Floor._done),
        (Event.CUT_IN, Floor._cut_in_late),
        (Event.ONSET, Floor._fresh_onset),
        (Event.CALM, Floor._calm),
    ),
    State.OVERLAP: (
        (Event.STOP, Floor._stop),
        (Event.CUT_IN, Floor._cut_in),
        (Event.DONE, Floor._done),
        (Event.RELEASE, Floor._release),
    ),
}
_MAKE: dict[str, Callable[[Floor, Percept], list[Act]]] = {
    "listen": Floor._make_listen,
    "speculate": Floor._make_speculate,
    "commit": Floor._make_commit,
    "discard": Floor._make_discard,
    "speak": Floor._make_speak,
    "backchannel": Floor._make_backchannel,
    "duck": Floor._make_duck,
    "unduck": Floor._make_unduck,
    "lift": Floor._make_lift,
    "yield": Floor._make_yield,
}
