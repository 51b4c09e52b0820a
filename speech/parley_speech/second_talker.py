"""Is it the user, or somebody else in the room? By loudness, the one thing known from the start.

Somebody who speaks to somebody else, a colleague, a television: they are further from the
microphone than the user, or turned away from it, and so are quieter by the distance (6 dB for each
doubling) and by the shadow of a head. What counts is the level against the user's own, as known so
far in the call:

    user's level      normal; before anything was heard a wide guess, then narrowed by each half
                      second of the user's turns (Kalman's update of a constant), down to LEAST_SD
    a sound's level   the mean, over its half seconds so far, of each one's loudest 40 ms: at once
                      right, and the surer the longer it lasts
    evidence          log p(level | somebody else) - log p(level | user), both normal

A turn counts as the user's only as far as it may be: a television that sounds while nobody speaks
does not make itself the user. But a voice that keeps coming over the agent and is never answered
slowly becomes the user's: a quiet line must not lock its caller out.

Nothing here hears *who* speaks: somebody who stands next to the user is one with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from parley_speech.types import FRAME_MS, Pcm

SMOOTHING = 0.5
"""Of a frame's power, a frame: about 40 ms."""
WINDOW_MS = 500
"""Voice that makes one observation of a talker's level."""
SPREAD_DB = 5.0
"""Of one talker's half seconds around their level: stressed and unstressed, near and far."""
LEAST_SD_DB = 3.0
"""The user's level is never known better: people move."""
OTHER_DB, OTHER_SD_DB = -18.0, 7.0
"""Somebody else's level against the user's. Who holds a telephone is 10 cm away and somebody in
the room 1 m; at a laptop it is 50 cm against 2 to 4 m."""
ASIDE_SD_DB = 40.0
"""Of an observation over the agent, which may be anybody's."""
SOFT_DB, SOFT_MS = 6.0, 200
"""A sound may begin so much more softly, and this fades over its first 200 ms."""


@dataclass(frozen=True, slots=True)
class Level:
    """A talker's level as far as it is known: dBFS of the loudest 40 ms of half a second."""

    mean: float = -21.0
    """Telephone lines bring speech at -26 dBFS, callers' automatic gain at -20, both measured over
    all of it, and its loudest 40 ms are 4 dB above. The guess is their lower end:
    to let somebody else cut off a greeting is better than to let no quiet caller do it."""
    sd: float = 6.0

    def observed(self, level: float, sd: float) -> Level:
        """After an observation with this standard deviation."""
        gain = self.sd**2 / (self.sd**2 + sd**2)
        narrowed = math.sqrt((1 - gain) * self.sd**2)
        return Level(self.mean + gain * (level - self.mean), max(narrowed, LEAST_SD_DB))


class Loudness:
    """The level of a sound so far, half second by half second of its voice."""

    def __init__(self) -> None:
        self._power = self._peak = 0.0
        self._voiced_ms = 0
        self._levels: list[float] = []

    def push(self, frame: Pcm, *, voice: bool = True) -> bool:
        """One frame (320,); True when it fills half a second of voice."""
        x = frame.astype(np.float32)
        self._power += SMOOTHING * (float(x @ x) / len(x) - self._power)
        self._peak = max(self._peak, self._power)
        self._voiced_ms += FRAME_MS if voice else 0
        if self._voiced_ms < WINDOW_MS:
            return False
        self._levels.append(_dbfs(self._peak))
        self._peak, self._voiced_ms = 0.0, 0
        return True

    @property
    def windows(self) -> int:
        """Half seconds that ``dbfs`` is made of; one, though it is not full, at the beginning."""
        return max(1, len(self._levels))

    @property
    def dbfs(self) -> float:
        return sum(self._levels) / len(self._levels) if self._levels else _dbfs(self._peak)


class Talkers:
    """One call's user, as loud as they were so far."""

    def __init__(self) -> None:
        self.user = Level()
        self._window = Loudness()

    def turn(self, frame: Pcm, voice: bool) -> None:
        """A frame (320,) in which the agent does not have the floor."""
        level = self._heard(frame, voice)
        if level is not None:
            doubt = max(0.0, other_than(level, self.user))
            # Half as likely to be the user's, half the weight.
            self.user = self.user.observed(level, SPREAD_DB * math.exp(doubt / 2))

    def aside(self, frame: Pcm, voice: bool) -> None:
        """... in which it does; only of sounds that are no noise and not the agent's own."""
        level = self._heard(frame, voice)
        if level is not None:
            self.user = self.user.observed(level, ASIDE_SD_DB)

    def _heard(self, frame: Pcm, voice: bool) -> float | None:
        """The level of half a second of voice, when it is full."""
        if not voice or not self._window.push(frame):
            return None
        level, self._window = self._window.dbfs, Loudness()
        return level

    def other(self, sound: Loudness, voiced_ms: int) -> float:
        """How much likelier this sound, which had so much voice, is somebody else's: natural
        log-odds, below 0 where it is rather the user's."""
        soft = SOFT_DB * max(0.0, 1 - voiced_ms / SOFT_MS)
        return other_than(sound.dbfs + soft, self.user, sound.windows)


def other_than(level: float, user: Level, windows: int = 1) -> float:
    """log p(level | somebody else) - log p(level | user), for the mean level of so many half
    seconds. A sound louder than the user is not somebody else's."""
    difference = min(0.0, level - user.mean)
    spread = SPREAD_DB / math.sqrt(windows)
    own = _log_normal(difference, 0.0, math.hypot(user.sd, spread))
    others = _log_normal(difference, OTHER_DB, math.hypot(user.sd, OTHER_SD_DB, spread))
    return others - own


def _log_normal(x: float, mean: float, sd: float) -> float:
    return -0.5 * ((x - mean) / sd) ** 2 - math.log(sd)


def _dbfs(power: float) -> float:
    return 10 * math.log10(power / 32768.0**2 + 1e-12)
