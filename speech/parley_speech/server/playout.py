"""What a listener's buffer is believed to hold: how far audio may run ahead, and its deadline.

Pure: the time is an argument. Playout is believed to begin with the first audio sent and to go on
in real time; where the client tells how much it has taken, that says how far audio may run ahead,
and the clock still says by when the next chunk is due.
"""

from __future__ import annotations

LATE_S = 0.020
"""A chunk that comes so much after the buffer ran dry has been heard as a gap."""


class Playout:
    """One utterance's.

    Args:
        rate_hz: of its samples.
        ahead_ms: how far the audio sent may be ahead of the listener.
        clocked: the listener is where the clock says; else where ``take`` says.
    """

    def __init__(self, rate_hz: int, *, ahead_ms: int, clocked: bool) -> None:
        self.sent_samples = 0
        self.underruns = 0
        self._rate_hz = rate_hz
        self._ahead = ahead_ms * rate_hz // 1000
        self._clocked = clocked
        self._taken = 0
        self._began: float | None = None  # when sample 0 would have sounded without gaps

    @property
    def deadline(self) -> float:
        """When the buffer runs dry, on the clock of ``sent``; 0 before the first chunk."""
        if self._began is None:
            return 0.0
        return self._began + self.sent_samples / self._rate_hz

    def take(self, samples: int) -> None:
        """The client has taken so many samples in all; more than were sent, or fewer than before,
        say nothing new."""
        self._taken = max(self._taken, min(samples, self.sent_samples))

    def wait_s(self, now: float) -> float | None:
        """How long until more may be sent: 0 now, None until the client takes some."""
        if self.sent_samples == 0:
            return 0.0
        if not self._clocked:
            return 0.0 if self.sent_samples - self._taken < self._ahead else None
        assert self._began is not None
        heard = (now - self._began) * self._rate_hz
        return max(0.0, (self.sent_samples - heard - self._ahead) / self._rate_hz)

    def held(self, now: float) -> None:
        """Audio was ready and had to wait for the listener, until now: what follows is not late."""
        if self._began is not None and now > self.deadline:
            self._began += now - self.deadline

    def sent(self, samples: int, now: float) -> bool:
        """A chunk leaves; True when it comes too late and a gap was heard."""
        late = False
        if self._began is None:
            self._began = now
        elif now > self.deadline:
            late = now > self.deadline + LATE_S
            self._began += now - self.deadline  # the listener waited; the rest is later by that
        self.underruns += late
        self.sent_samples += samples
        return late
