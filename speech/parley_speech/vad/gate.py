"""From probabilities to speaking or not: two thresholds, a least length, and a hang-over.

Pure: no clock but the frames themselves, each ``FRAME_MS`` long.
"""

from __future__ import annotations

from dataclasses import dataclass

from parley_speech.types import FRAME_MS


@dataclass(frozen=True, slots=True)
class GateState:
    """What the gate knows after one frame. Times are stream time, from the first frame."""

    speaking: bool
    started: bool
    """Speaking began with this frame."""
    ended: bool
    """Speaking ended with this frame."""
    onset_ms: int | None
    """Where the last sound that counted began: before it was decided, by ``min_speech_ms``."""
    offset_ms: int | None
    """Where the last sound that counted ended (before the hang-over); None while it goes on."""
    speech_ms: int
    """Length of the sound so far, 0 when there is none."""
    silence_ms: int
    """Time since the last voiced frame, 0 in a voiced one."""


class SpeechGate:
    """Hysteresis over frame probabilities of one call.

    Opens after ``min_speech_ms`` in a row at or above ``on``; closes after ``hangover_ms`` in a
    row below ``off``.
    """

    def __init__(
        self,
        *,
        on: float = 0.5,
        off: float = 0.35,
        min_speech_ms: int = 0,
        hangover_ms: int = 200,
    ) -> None:
        if not 0.0 < off <= on <= 1.0:
            raise ValueError(f"thresholds must be 0 < off <= on <= 1, got off={off} and on={on}")
        if min_speech_ms < 0 or hangover_ms < 0:
            raise ValueError(
                "min_speech_ms and hangover_ms must be 0 or more, "
                f"got {min_speech_ms} and {hangover_ms}"
            )
        self._on, self._off = on, off
        self._min_speech_ms, self._hangover_ms = min_speech_ms, hangover_ms
        self.reset()

    def reset(self) -> None:
        self._now_ms = 0
        self._speaking = False
        self._run_ms = 0  # voiced time in a row, while closed
        self._last_voiced_ms = 0  # end of the last voiced frame
        self._onset_ms: int | None = None
        self._offset_ms: int | None = None

    def push(self, probability: float) -> GateState:
        """The probability of the next frame, 0..1."""
        self._now_ms += FRAME_MS
        was = self._speaking
        if probability >= (self._off if was else self._on):
            self._last_voiced_ms = self._now_ms
        if was:
            self._maybe_close()
        else:
            self._maybe_open(probability >= self._on)
        return GateState(
            speaking=self._speaking,
            started=self._speaking and not was,
            ended=was and not self._speaking,
            onset_ms=self._onset_ms,
            offset_ms=self._offset_ms,
            speech_ms=self._speech_ms(),
            silence_ms=self._now_ms - self._last_voiced_ms,
        )

    def _maybe_open(self, voiced: bool) -> None:
        self._run_ms = self._run_ms + FRAME_MS if voiced else 0
        if self._run_ms >= max(self._min_speech_ms, FRAME_MS):
            self._speaking = True
            self._onset_ms, self._offset_ms = self._now_ms - self._run_ms, None

    def _maybe_close(self) -> None:
        silence_ms = self._now_ms - self._last_voiced_ms
        if silence_ms >= max(self._hangover_ms, FRAME_MS):
            self._speaking, self._run_ms = False, 0
            self._offset_ms = self._last_voiced_ms

    def _speech_ms(self) -> int:
        if not self._speaking or self._onset_ms is None:
            return self._run_ms
        return self._last_voiced_ms - self._onset_ms
