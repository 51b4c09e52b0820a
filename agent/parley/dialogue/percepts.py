"""What the floor perceives: one frozen record a tick, nothing but facts up to that tick."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from parley.minds.base import Cause
from parley_speech.types import OverlapEvidence


class Sound(Enum):
    """How far the sound of a reply is."""

    NONE = "none"  # there is no reply
    MAKING = "making"  # asked for, no sample yet
    READY = "ready"  # its first samples wait to be played
    PLAYING = "playing"  # being played
    ENDED = "ended"  # played to its last sample, or ended without any


@dataclass(frozen=True, slots=True)
class Percept:
    """The world at the end of one 20 ms tick."""

    t_ms: int
    """Stream time; the only clock the floor knows. Strictly growing."""

    voice: bool = False
    """A user's voice sounds now (the agent's own echo discounted, no hangover)."""

    stir: bool = False
    """A sound is there that may turn out to be a voice: louder than what was before, and not our
    own. Comes before ``voice``, and is often wrong."""

    silence_ms: int = 0
    """Since the user's voice really ended, which a detector notices late; 0 while it sounds. What
    is not known (0) counts from the last percept with a voice."""

    text: str = ""
    """The user's words since the last committed turn, as far as recognised."""

    final: bool = True
    """The recogniser has nothing left to say about the sound so far."""

    voiced_ms: int = 0
    """How much voice there was since the last committed turn."""

    unclear: bool = False
    """Words were heard in it that the recogniser is not sure enough of to tell them."""

    completeness: float | None = None
    """P(the user's turn is finished | ``text``, or the words that are not clear) by grammar or
    model; None: no opinion."""

    wording: float | None = None
    """P(the user's turn is finished | ``text``) as a small judge of open English guesses it, which
    counts where ``completeness`` is None; None: it has no opinion either."""

    finality: float | None = None
    """P(the user's turn is finished | how the voice sounded before this silence); None while it
    sounds and where nobody judges it."""

    unjudged: bool = False
    """The words are open speech, and nobody says how complete they are."""

    stale: bool = False
    """The guess in hand was made with other instructions or tools than those of now."""

    overlap: OverlapEvidence | None = None
    """About the user's sound while the agent has the floor; None when there is none."""

    reply: int = -1
    """The reply in hand (the committed one, else the speculated one), -1: none."""

    sound: Sound = Sound.NONE
    """Of the reply in hand."""

    remaining_ms: int | None = None
    """Audio of the reply not yet played; None while its end is not known."""

    request: Cause | None = None
    """The application asks for a reply (say, generate_reply, tool results, opening)."""

    stop: bool = False
    """The application interrupts the agent (session.interrupt())."""
