"""A conversation as the metrics of the papers see it: who spoke from when to when, and what it was.

Every system can be brought into this shape, from samples alone. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Speech:
    """One stretch of the agent's speech."""

    begin_s: float
    end_s: float
    words: int


@dataclass(frozen=True, slots=True)
class UserSound:
    """One sound of the user's side."""

    kind: str
    """turn, interruption, backchannel, noise, side; ``tic`` for coughs and hesitations."""
    begin_s: float
    end_s: float
    voiced_s: tuple[tuple[float, float], ...] = ()
    """Its stretches of voice; between them the user pauses."""

    @property
    def pauses_s(self) -> tuple[tuple[float, float], ...]:
        pairs = zip(self.voiced_s, self.voiced_s[1:], strict=False)
        return tuple((a[1], b[0]) for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Timeline:
    """One conversation."""

    name: str
    family: str
    seconds: float
    user: tuple[UserSound, ...]
    agent: tuple[Speech, ...]

    def agent_at(self, t_s: float) -> Speech | None:
        """What the agent says at a time."""
        return next((s for s in self.agent if s.begin_s <= t_s < s.end_s), None)

    def next_agent(self, t_s: float) -> Speech | None:
        """The first speech that begins at or after a time."""
        return next((s for s in self.agent if s.begin_s >= t_s), None)

    def until(self, index: int) -> float:
        """When the user's next sound begins, or the conversation ends."""
        later = self.user[index + 1 :]
        return later[0].begin_s if later else self.seconds


TICS = ("cough",)


def of(conversation: Mapping[str, Any]) -> Timeline:
    """From ``outcome.judged``."""
    scene = conversation["scene"]
    user = tuple(_sound(sound) for sound in conversation["user"])
    agent = tuple(
        Speech(a["begin_ms"] / 1000, a["end_ms"] / 1000, len((a["heard"] or "many a word").split()))
        for a in conversation["agent"]
    )
    return Timeline(scene["name"], scene["family"], conversation["seconds"], user, agent)


def twin(conversation: Mapping[str, Any]) -> Timeline:
    """The same agent's speech with nobody over it: to the end that each reply has by itself.

    In virtual time nothing else could have happened, so it need not be played."""
    played = of(conversation)
    agent = tuple(
        replace(speech, end_s=max(speech.end_s, a["whole_ms"] / 1000))
        for speech, a in zip(played.agent, conversation["agent"], strict=True)
    )
    return replace(played, user=(), agent=agent)


def _sound(sound: Mapping[str, Any]) -> UserSound:
    voiced: Sequence[Sequence[float]] = sound["voiced_ms"]
    spans = tuple((first / 1000, last / 1000) for first, last in voiced)
    kind = "tic" if sound["text"] in TICS else sound["kind"]
    return UserSound(kind, spans[0][0], spans[-1][1], spans)
