"""The mixer: one reply's PCM in, one loudspeaker frame a tick out, without clicks.

Gains move along raised-cosine ramps, sample by sample. A mixer gives exactly one frame of 20 ms
when asked, so the pace is the caller's tick and nothing is ever ahead of it by more than the
frame in hand; a decision to duck or stop is audible in the next frame.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from parley_speech.types import SPEAKER_FRAME, SPEAKER_HZ, Pcm


class Fade(Enum):
    """Ramps: target gain and length in ms."""

    FULL = (1.0, 120)  # back up slowly: a sudden loudness startles
    DUCK = (0.178, 20)  # -15 dB: clearly lower, still understood
    STOP = (0.0, 20)


AUDIBLE = 0.05
"""Gain (-26 dB) below which a sample does not count as heard."""

_DRY_RAMP = SPEAKER_HZ * 3 // 1000  # samples over which a starved output glides to zero and back


@dataclass(frozen=True, slots=True)
class Mixed:
    """One frame for the loudspeaker."""

    pcm: Pcm
    """(480,) int16, 24 kHz."""
    audible: int
    """Samples of the reply in it that were played audibly, counted from its start."""
    dry: bool
    """The reply had less than a frame to give, though it is not over."""


_SILENCE = Mixed(np.zeros(SPEAKER_FRAME, np.int16), audible=0, dry=False)


class Mixer:
    """Plays one reply at a time. ``open`` it, ``feed`` it, take ``frame`` a tick."""

    def __init__(self) -> None:
        self._blocks: deque[Pcm] = deque()
        self._waiting = 0
        self._ended = True
        self._gain = 1.0
        self._ramp: NDArray[np.float32] = np.empty(0, np.float32)
        self._stopping = False
        self._last = 0.0
        self._was_dry = False
        self._overlay: Pcm = np.empty(0, np.int16)

    # --- the reply in hand ---------------------------------------------------------------------

    def open(self) -> None:
        """A new reply, at full level."""
        self._blocks.clear()
        self._waiting = 0
        self._ended = self._stopping = False
        self._gain, self._ramp = 1.0, np.empty(0, np.float32)
        self._was_dry = False

    def feed(self, pcm: Pcm) -> None:
        if not self._ended and not self._stopping and len(pcm):
            self._blocks.append(pcm)
            self._waiting += len(pcm)

    def finish(self) -> None:
        """Everything was fed."""
        self._ended = True

    @property
    def waiting_ms(self) -> int:
        """Audio fed and not yet played."""
        return self._waiting * 1000 // SPEAKER_HZ

    @property
    def done(self) -> bool:
        """Nothing is left to play of a finished or stopped reply."""
        return self._ended and not self._waiting

    def to(self, fade: Fade) -> None:
        """Move the gain to where ``fade`` says; STOP also ends the reply when it gets there."""
        if self._stopping:
            return
        target, ms = fade.value
        now = float(self._ramp[0]) if len(self._ramp) else self._gain
        n = SPEAKER_HZ * ms // 1000
        shape = (1 - np.cos(np.linspace(0, np.pi, n + 1, dtype=np.float32)[1:])) / 2
        self._ramp = (now + (target - now) * shape).astype(np.float32)
        self._gain = target
        self._stopping = fade is Fade.STOP

    def overlay(self, pcm: Pcm) -> None:
        """A listener's word over whatever plays; it does not belong to any reply."""
        self._overlay = pcm

    # --- a tick --------------------------------------------------------------------------------

    def frame(self) -> Mixed:
        """The next 20 ms."""
        if self._silent:
            return _SILENCE
        if self._plain:
            pcm = self._take(SPEAKER_FRAME)
            self._last = float(pcm[-1])
            return Mixed(pcm, audible=SPEAKER_FRAME, dry=False)
        wanted = SPEAKER_FRAME
        if self._stopping:
            wanted = min(wanted, len(self._ramp))
        raw = self._take(wanted).astype(np.float32)
        gains = self._gains(len(raw))
        if self._was_dry and len(raw):
            m = min(_DRY_RAMP, len(raw))
            raw[:m] *= np.linspace(0, 1, m, dtype=np.float32)
        out = np.zeros(SPEAKER_FRAME, np.float32)
        out[: len(raw)] = raw * gains
        dry = self._was_dry = len(raw) < wanted and not self._ended
        if len(raw) < SPEAKER_FRAME:
            self._glide(out, len(raw))
        self._last = float(out[-1])
        if self._stopping and not len(self._ramp):
            self._close()
        mixed = self._with_overlay(out)
        audible = int(np.count_nonzero(gains >= AUDIBLE))
        return Mixed(np.clip(np.rint(mixed), -32768, 32767).astype(np.int16), audible, dry)

    @property
    def _silent(self) -> bool:
        """Nothing to play, and nothing that rings on."""
        return self.done and not self._stopping and self._last == 0.0 and not len(self._overlay)

    @property
    def _plain(self) -> bool:
        """A whole frame at full level with nothing over it, which is most of them."""
        changed = self._gain != 1.0 or len(self._ramp) or self._was_dry or len(self._overlay)
        return not changed and self._waiting >= SPEAKER_FRAME

    def _take(self, n: int) -> Pcm:
        """The next ``n`` samples, or what there is of them; the caller's own."""
        parts: list[Pcm] = []
        left = min(n, self._waiting)
        self._waiting -= left
        while left:
            block = self._blocks.popleft()
            if len(block) > left:
                self._blocks.appendleft(block[left:])
                block = block[:left]
            parts.append(block)
            left -= len(block)
        if not parts:
            return np.empty(0, np.int16)
        return np.concatenate(parts)

    def _gains(self, n: int) -> NDArray[np.float32]:
        ramp, self._ramp = self._ramp[:n], self._ramp[n:]
        rest = np.full(n - len(ramp), self._gain, np.float32)
        return np.concatenate([ramp, rest])

    def _glide(self, out: NDArray[np.float32], n: int) -> None:
        """The audio ends inside this frame: go to zero in 3 ms instead of jumping there."""
        last = float(out[n - 1]) if n else self._last
        m = min(_DRY_RAMP, SPEAKER_FRAME - n)
        out[n : n + m] = last * np.linspace(1, 0, m + 1, dtype=np.float32)[1:]

    def _with_overlay(self, out: NDArray[np.float32]) -> NDArray[np.float32]:
        head, self._overlay = self._overlay[:SPEAKER_FRAME], self._overlay[SPEAKER_FRAME:]
        if len(head):
            out[: len(head)] += head
        return out

    def _close(self) -> None:
        self._blocks.clear()
        self._waiting = 0
        self._ended = True
