"""The wire between user and agent: cues become sounds, the agent's voice comes back, lines are bad.

The line takes what the agent has played in a tick and gives what the microphone brings in the
next. It knows nothing of how the agent works: what it waits for, it hears (so the same line serves
any system). Times are samples at 16 kHz since the conversation's first.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parley.bench.floor import noises
from parley.bench.floor.echo_room import EchoRoom
from parley.bench.floor.scene import Cue, Scene
from parley.bench.floor.utterances import Utterance, Voiced
from parley_speech import audio
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, SPEAKER_FRAME, Pcm

LONGEST_S = 90.0
LINE_NOISE = 15.0  # amplitude, -67 dBFS
SOUND_DBFS = -55.0
JOIN_S = 0.15
"""Closures within the agent's words; its texts have no pauses."""
ANSWER_S = 4.0
"""How long a user waits for an answer."""
ASK_S = 0.8
"""Silence after which the application makes an agent speak that ``talks``."""
FIRST_ASK_S = 0.3
APART_S = 1.5
"""Between two sounds over the agent, at least: each is to have its own effect."""


@dataclass(frozen=True)
class Placed:
    """A sound of the user's side, and where it lies."""

    cue: Cue
    at: int
    voiced: tuple[Voiced, ...]
    """In samples of the conversation."""
    text: str
    over_agent: bool
    """The agent sounded when it began."""

    @property
    def onset(self) -> int:
        return self.voiced[0].first

    @property
    def end(self) -> int:
        return self.voiced[-1].last


class Line:
    """One conversation's wire. ``step`` is called once a tick."""

    def __init__(self, scene: Scene, sounds: Sequence[Utterance], reply_s: float) -> None:
        """``sounds``: one for each cue. ``reply_s``: how long the agent's asked-for reply is."""
        self._scene = scene
        self._reply_s = reply_s
        self._sounds = deque(zip(scene.cues, sounds, strict=True))
        self._rng = np.random.default_rng(scene.seed)
        self._user = self._bed()
        self._echo = EchoRoom(scene.echo, scene.seed) if scene.echo is not None else None
        self._channel = Channel(scene) if scene.telephone is not None else None
        self.placed: list[Placed] = []
        self.mic: list[Pcm] = []
        """What the agent was given, frame by frame."""
        self.now = 0
        """The first sample of the next microphone frame."""
        self._began = -1
        """Since when the agent has been speaking; -1: it is silent."""
        self._sounded = -MIC_HZ * 60
        """When it last sounded."""
        self._asked = -1
        """When the application last asked; -1: its reply has begun."""
        self._last_asked = -1
        self._asked_reply = False
        """The agent's present speech is what the application asked for."""
        self._last_end = 0
        """Where the user's latest sound ends."""

    # --- a tick --------------------------------------------------------------------------------

    def step(self, agent: Pcm) -> Pcm:
        """(480,) at 24 kHz that is played now; gives (320,), what the microphone hears meanwhile.

        The agent is given it at the end of these 20 ms."""
        self._watch(agent)
        self._cue()
        frame = self._user[self.now : self.now + MIC_FRAME].copy()
        if self._echo is not None:
            self._echo.push(agent)
            frame += self._echo.take()
        frame += self._rng.standard_normal(MIC_FRAME) * LINE_NOISE
        mic = audio.to_pcm(frame)
        if self._channel is not None:
            mic = self._channel.push(mic)
        self.now += MIC_FRAME
        self.mic.append(mic)
        return mic

    def asks(self) -> bool:
        """The application wants the agent to speak now. True once for each time."""
        if self._scene.agent != "talks" or self._asked >= 0 or self._began >= 0:
            return False
        quiet = self._since(max(self._sounded, self._last_end))
        answering = self._expects_answer() and self._sounded < self._last_end
        wait = FIRST_ASK_S if not self.placed and self._sounded < 0 else ASK_S
        if quiet < (ANSWER_S if answering else wait) or self.now < FIRST_ASK_S * MIC_HZ:
            return False
        self._asked = self._last_asked = self.now
        return True

    @property
    def over(self) -> bool:
        """Everything was said, and what was to follow has followed."""
        if self.now >= LONGEST_S * MIC_HZ:
            return True
        if self._sounds:
            return False
        after = self._since(self._last_end)
        if self._expects_answer() and after < ANSWER_S:
            return self._answered() and self._quiet_s() >= 0.3
        return after >= self._scene.tail_s

    # --- what the agent does -------------------------------------------------------------------

    def _watch(self, agent: Pcm) -> None:
        if audio.level_dbfs(agent) > SOUND_DBFS:
            if self._began < 0:
                self._began = self.now
                self._asked_reply = self._asked >= 0
                self._asked = -1
            self._sounded = self.now + MIC_FRAME
        elif self._began >= 0 and self._quiet_s() > JOIN_S:
            self._began = -1
        if self._asked >= 0 and self._since(self._asked) > ANSWER_S:
            self._asked = -1  # the agent had something else to do

    def _since(self, sample: int) -> float:
        return (self.now - sample) / MIC_HZ

    def _quiet_s(self) -> float:
        return self._since(self._sounded)

    def _answered(self) -> bool:
        return self._sounded > self._last_end

    def _expects_answer(self) -> bool:
        return bool(self.placed) and self.placed[-1].cue.kind in ("turn", "interruption")

    # --- what the user does --------------------------------------------------------------------

    def _cue(self) -> None:
        while self._sounds and self._due(self._sounds[0][0]):
            cue, sound = self._sounds.popleft()
            self._place(cue, sound)

    def _due(self, cue: Cue) -> bool:
        if self.placed and self.now < self._last_end + (APART_S * MIC_HZ if _over(cue) else 0):
            return False
        match cue.anchor:
            case "start":
                return self.now >= cue.s * MIC_HZ
            case "request":
                return self._last_asked >= 0 and self._since(self._last_asked) >= cue.s
            case "agent":
                return self._asked_reply and self._began >= 0 and self._since(self._began) >= cue.s
            case "agent_left":
                speaking = self._asked_reply and self._began >= 0
                return speaking and self._since(self._began) >= self._reply_s - cue.s
            case "answered":
                if not self._answered():
                    return self._since(self._last_end) >= ANSWER_S + cue.s
                return self._began < 0 and self._quiet_s() >= cue.s

    def _place(self, cue: Cue, sound: Utterance) -> None:
        at = self.now + cue.into_frame
        pcm = sound.pcm
        if self._channel is not None:
            pcm = audio.telephone(pcm, MIC_HZ)
        room = max(0, len(self._user) - at)
        self._user[at : at + len(pcm)] += pcm[:room]
        voiced = tuple(Voiced(v.first + at, v.last + at, v.text) for v in sound.voiced)
        self.placed.append(Placed(cue, at, voiced, sound.text, self._began >= 0))
        self._last_end = voiced[-1].last

    def _bed(self) -> np.ndarray:
        """(samples,): what sounds anyway."""
        samples = round((LONGEST_S + 10) * MIC_HZ)
        background = self._scene.background
        if background is None:
            return np.zeros(samples)
        pcm = noises.steady(background.noise, 30.0, background.snr_db, self._scene.seed)
        return np.resize(pcm, samples).astype(np.float64)


def _over(cue: Cue) -> bool:
    return cue.anchor in ("agent", "agent_left")


class Channel:
    """Packets of 20 ms through a jitter buffer of fixed depth: late by it, and what was lost is
    said once more, softer, then not at all."""

    def __init__(self, scene: Scene) -> None:
        assert scene.telephone is not None
        self._loss = scene.telephone.loss
        self._rng = random.Random(scene.seed)
        silence = np.zeros(MIC_FRAME, np.int16)
        self._buffer = deque([silence] * (scene.telephone.jitter_ms // FRAME_MS))
        self._concealed = silence
        self._lost = 0

    def push(self, frame: Pcm) -> Pcm:
        if self._rng.random() < self._loss:
            self._lost += 1
            frame = audio.scaled(self._concealed, -6.0 * self._lost)
        else:
            self._lost = 0
            self._concealed = frame
        self._buffer.append(frame)
        return self._buffer.popleft()


SILENCE = np.zeros(SPEAKER_FRAME, np.int16)
"""A frame in which the agent says nothing."""
