"""One conversation of the bench as data: who says what, when, over which line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Split = Literal["train", "validation", "test"]
Kind = Literal["turn", "interruption", "backchannel", "noise", "side"]
"""What a sound of the user's side is. ``side``: speech that is not for the agent."""
Anchor = Literal["start", "request", "agent", "agent_left", "answered"]
"""What a cue waits for, before its seconds count:

``start``       the conversation's first sample
``request``     the application has just asked the agent to speak (with the next cue of this kind)
``agent``       the agent has been speaking for these seconds
``agent_left``  so many seconds of the agent's reply are left
``answered``    the user's sound before this one is over and the agent has answered it, or had the
                time for it; then so many seconds of silence on both sides
"""
Hearing = Literal["desk", "open"]
"""``desk``: the recogniser has the grammar of ``scenarios/desk.flow.yaml`` and knows when words are
complete. ``open``: open English, and nobody knows."""
Agent = Literal["answers", "talks"]
"""``answers``: only when the user has said something. ``talks``: whenever nobody speaks, too."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice of a synthesiser, named ``ENGINE:VOICE``, or ``clip`` for a recording."""

    voice: str
    pitch: int = 50
    rate_wpm: int = 175


@dataclass(frozen=True, slots=True)
class Cue:
    """One sound of the user's side."""

    kind: Kind
    anchor: Anchor
    s: float
    say: str
    """Words, "|" where the speaker pauses; or the name of a clip or a noise."""
    speaker: Speaker
    pauses_s: tuple[float, ...] = ()
    gain_db: float = 0.0
    into_frame: int = 0
    """Samples (of 320) by which it begins later: sounds know nothing of frames."""

    @property
    def pieces(self) -> tuple[str, ...]:
        return tuple(piece.strip() for piece in self.say.split("|"))


@dataclass(frozen=True, slots=True)
class Background:
    """What sounds all the time."""

    noise: str
    snr_db: float
    """Below a voice of -20 dBFS."""


@dataclass(frozen=True, slots=True)
class EchoPath:
    """How the agent's voice comes back."""

    gain_db: float
    delay_ms: float
    drift_ppm: float = 0.0
    """How much faster the far clock runs."""
    room_ms: float = 120.0
    """Time in which the room's sound falls by 60 dB."""


@dataclass(frozen=True, slots=True)
class Telephone:
    """8 kHz, A-law, packets of 20 ms through a jitter buffer that conceals what is lost."""

    loss: float = 0.03
    jitter_ms: int = 60


@dataclass(frozen=True, slots=True)
class Scene:
    """One conversation. Everything in it is decided: played twice, it sounds the same."""

    name: str
    family: str
    split: Split
    seed: int
    hearing: Hearing
    agent: Agent
    reply: str
    """Name of the text with which the agent answers."""
    cues: tuple[Cue, ...]
    tail_s: float = 3.0
    """How long it goes on after the last sound and its answer."""
    background: Background | None = None
    echo: EchoPath | None = None
    telephone: Telephone | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of(data: dict[str, Any]) -> Scene:
        """What ``as_json`` gave, read back."""
        fields = dict(data)
        fields["cues"] = tuple(_cue(cue) for cue in data["cues"])
        for name, kind in (
            ("background", Background),
            ("echo", EchoPath),
            ("telephone", Telephone),
        ):
            if data[name] is not None:
                fields[name] = kind(**data[name])
        return Scene(**fields)


def _cue(data: dict[str, Any]) -> Cue:
    return Cue(
        **{
            **data,
            "speaker": Speaker(**data["speaker"]),
            "pauses_s": tuple(data["pauses_s"]),
        }
    )


KINDS: tuple[str, ...] = get_args(Kind)
ANCHORS: tuple[str, ...] = get_args(Anchor)
SPLITS: tuple[Split, ...] = get_args(Split)
