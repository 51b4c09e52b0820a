"""Two detectors as one: opens as fast as the quicker, holds as the surer.

The quick one (webrtc) hears a sound within 10 ms but takes any loud noise for a voice; the sure
one (silero) needs about 50 ms and is hardly ever wrong. So the quick one gives *credit*: when it
fires after a pause, the probability rises to CREDIT at once, for at most ``credit_ms``. Within
that time the sure one must confirm, or the credit is refused until the quick one has been quiet
for ``regain_ms``, doubled with every refusal up to MAX_REGAIN_MS: noise cannot go on borrowing.
A confirmation restores the credit's good name.

    p = p_sure                        while confirmed, or without credit
    p = max(p_sure, CREDIT · quick)   on credit

    idle ──quick fires──▶ credit ──p_sure ≥ 0.5──▶ confirmed ──both quiet for regain_ms──▶ idle
                            └── credit_ms over ──▶ refused ──quick quiet for regain_ms·2ⁿ──▶ idle
"""

from __future__ import annotations

from enum import Enum

from parley_speech.types import FRAME_MS, Pcm, Vad
from parley_speech.vad.silero import SileroVad
from parley_speech.vad.webrtc import WebRtcVad

CREDIT = 0.6
"""Above the 0.5 at which a gate opens, below what silero says of a voice (0.9 and more)."""
CONFIRMED = 0.5
MAX_REGAIN_MS = 4800


class _State(Enum):
    IDLE = "idle"
    CREDIT = "credit"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


class FusionVad:
    """Voice activity of one call, from a quick and a sure detector."""

    def __init__(
        self,
        *,
        quick: Vad | None = None,
        sure: Vad | None = None,
        credit_ms: int = 100,
        regain_ms: int = 300,
    ) -> None:
        if credit_ms < 0 or regain_ms < FRAME_MS:
            raise ValueError(
                f"credit_ms must be 0 or more and regain_ms at least {FRAME_MS}, "
                f"got {credit_ms} and {regain_ms}"
            )
        self._quick = quick or WebRtcVad()
        self._sure = sure or SileroVad()
        self._credit_ms, self._regain_ms = credit_ms, regain_ms
        self._forget()

    def reset(self) -> None:
        self._quick.reset()
        self._sure.reset()
        self._forget()

    def _forget(self) -> None:
        self._state = _State.IDLE
        self._age_ms = 0  # of the credit
        self._quiet_ms = 0  # since either detector fired
        self._refusals = 0  # since the sure one last confirmed

    def push(self, frame: Pcm) -> float:
        """One microphone frame (320,); P(a voice sounds), 0..1."""
        quick, sure = self._quick.push(frame), self._sure.push(frame)
        self._step(quick >= CONFIRMED, sure >= CONFIRMED)
        return max(sure, CREDIT * quick) if self._state is _State.CREDIT else sure

    def _step(self, quick: bool, sure: bool) -> None:
        """Moves the state machine by one frame."""
        self._quiet_ms = 0 if quick or sure else self._quiet_ms + FRAME_MS
        if sure:
            self._state, self._refusals = _State.CONFIRMED, 0
        elif self._state is _State.CREDIT:
            self._age_ms += FRAME_MS
            if self._age_ms > self._credit_ms:
                self._state, self._refusals = _State.REFUSED, self._refusals + 1
        elif self._state is not _State.IDLE and self._quiet_ms >= self._wait_ms():
            self._state = _State.IDLE
        if quick and self._state is _State.IDLE and self._credit_ms > 0:
            self._state, self._age_ms = _State.CREDIT, FRAME_MS

    def _wait_ms(self) -> int:
        """How long both must be quiet before there is credit again."""
        doublings = max(0, self._refusals - 1)
        return min(MAX_REGAIN_MS, self._regain_ms << min(doublings, 10))
