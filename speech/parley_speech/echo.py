"""Our own voice in the microphone: taken out, and told apart from the user's.

A voice that the microphone brings may be ours, out of the caller's loudspeaker and back. Where the
caller wears a headset, or the caller's browser has cancelled the echo already, there is none, and
whoever looks for echo must not touch the user's voice. And between us and that loudspeaker lie two
networks: their codecs keep the levels of a sound but not its waveform, and their jitter buffers
stretch it, repeat it and move it by hundreds of milliseconds after every stall. So nothing here
relies on samples that can be predicted:

    far silent for a while      the microphone, untouched
    no echo found so far        the microphone, untouched
    otherwise                   each band is lowered by the share that our voice explains of it

``EchoLikelihood`` judges how much of the microphone is ours, ``BandGate`` takes that out.
"""

from __future__ import annotations

import numpy as np

from parley_speech.audio import check_pcm
from parley_speech.echo_delay import MAX_DELAY_MS, SURE, DelayTracker
from parley_speech.echo_gate import BandGate
from parley_speech.echo_power import BANDS, EchoPower
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, Cleaned, Pcm

ECHO_THRESHOLD = 0.5
"""A voice in a frame with ``echo`` at or above this is the agent's own."""

IDLE_MS = MAX_DELAY_MS + 400
"""After this long without a sound from us no echo can be left: delay, and the room's decay."""
SOUNDING = 32
"""Peak from which a loudspeaker frame counts as sound, -60 dBFS."""

DOUBT_FRAMES = 10
"""An echo is found within three frames of its sound: after this many without, there is none."""
UNHEARD_FRAMES = MAX_DELAY_MS // FRAME_MS
"""Frames in which we sounded and the microphone was quiet: after as many as the longest way takes,
there is no echo until one is found, and no sound of the user is doubted."""
_MEMORY = 0.6  # a frame, of the energies compared: about 50 ms
_FLOOR_SHARE = 0.4  # a reverberant echo before the gains are learnt: share explained
_LEARN_SHARE = 0.05  # a frame
HOLD_MS = 200
"""For so long a sound may be our own voice with another delay than the known one; by then a delay
that has moved is found again."""
HELD = 0.8
"""Likelihood meanwhile."""
CALM = 0.75
"""Likelihood from which a known echo explains a sound well enough."""
LATELY_SHARE = 0.7
"""Share of the microphone that must be explained by the levels of what was played lately."""
GONE_FRAMES = 50
"""Frames in which an echo was due and none was found, after which there is none any more: the
caller has put on a headset. Where it comes back, it is found as on the first day."""


class EchoLikelihood:
    """How much of the microphone is explained by our own loudspeaker, in one call.

    Each frame's share is the larger of two: what one delayed copy explains (right at once, but
    low in a reverberant room and while a jitter buffer stretches), and what the powers in bands
    explain (for all that a codec, a room and a jitter buffer do). All are energies after
    pre-emphasis, summed over about 60 ms, so that the quiet end of an echo does not count as much
    as its body. The share is then given relative to what an echo alone has been getting in this
    room lately: 1 is an echo alone, about ½ an equally loud user over it.

    A delay that has moved by more than a little needs two or three frames of sound to be found.
    Until then the levels say whether the sound could be ours at all; if so, it is held to be, for
    HOLD_MS at most. A user who is louder than the echo is never held up by that.
    """

    def __init__(self, delay_hint_ms: float | None = None) -> None:
        self._tracker = DelayTracker(delay_hint_ms)
        self.power = EchoPower()
        self.reset()

    def reset(self) -> None:
        """A new call."""
        self._tracker.reset()
        self.power.reset()
        self._usual = _FLOOR_SHARE
        self._unheard = 0  # frames that we sounded and the microphone was quiet, without an echo
        self._missed = 0  # frames in a row in which an echo was due, but not found
        self.forget_sound()

    def forget_sound(self) -> None:
        """The next frame does not follow on the last; what was learnt of the room stays."""
        self._tracker.forget_sound()
        self.power.forget_sound()
        self._explained = self._energy = 0.0
        self._unfound = 0  # frames with a sound in which no echo has been found
        self._calm = False  # the last frame was explained
        self._held_ms = 0
        self._echo = 0.0

    @property
    def delay_ms(self) -> float | None:
        """How much later than handed out our voice comes back; None when it never has."""
        return self._tracker.delay_ms

    def push(self, mic: Pcm, far: Pcm) -> float:
        """One microphone frame (320,) and all that was handed out for playing since the last,
        (320·k,), both at 16 kHz; 0..1."""
        near = check_pcm(mic, "mic", MIC_FRAME).astype(np.float32)
        played = check_far(far).astype(np.float32)
        if played.size:
            self._tracker.play(played)
            self.power.play(played)
        copy = self._tracker.push(near, calm=self._calm)
        if self._tracker.quiet and played.size and np.abs(played).max() > SOUNDING:
            self._unheard += 1
        if self.delay_ms is None:
            self.power.skip(near)
            then = lately = 0.0
        else:
            then, lately = self.power.push(near, self.delay_ms)
        echo = self._weigh(max(copy, then), copy)
        self._calm = self.delay_ms is not None and echo >= CALM
        self._miss(copy)
        return self._hold(echo, lately)

    def _weigh(self, share: float, copy: float) -> float:
        quiet = self._tracker.quiet
        if self._tracker.moved:  # what could not be explained was ours all the same
            self._explained = self._energy = 0.0
        if not quiet:
            energy = self._tracker.energy
            self._explained = _MEMORY * self._explained + share * energy
            self._energy = _MEMORY * self._energy + energy
        total = self._explained / max(self._energy, 1.0)
        if self.delay_ms is None:
            self._unfound += not quiet
            if self._unfound > DOUBT_FRAMES or self._unheard > UNHEARD_FRAMES:
                return 0.0
        elif copy >= SURE and total >= ECHO_THRESHOLD * self._usual:
            self._usual = max(_FLOOR_SHARE, self._usual + _LEARN_SHARE * (total - self._usual))
            self.power.learn()
        return min(1.0, total / self._usual)

    def _hold(self, echo: float, lately: float) -> float:
        if self._tracker.quiet:
            self._held_ms = 0
            return self._echo  # a voice detector may still be at the sound before
        if echo >= ECHO_THRESHOLD:
            self._held_ms = 0
        elif lately >= LATELY_SHARE and self._held_ms < HOLD_MS:
            self._held_ms += FRAME_MS
            echo = HELD
        self._echo = echo
        return echo

    def _miss(self, copy: float) -> None:
        """Gives an echo up that does not come any more, or else its levels would go on being
        taken for ours, whoever has them."""
        if copy >= SURE:
            self._missed = 0
        elif self.power.expects:
            self._missed += 1
        if self._missed > GONE_FRAMES:
            self._missed = self._unheard = 0
            self._tracker.forget_echo()
            self.power.forget_echo()


_NONE = np.zeros(BANDS, np.float32)


class EchoCanceller:
    """Takes the agent's voice out of the microphone of one call.

    ``delay_hint_ms``: how late the echo is expected (playout and the way there and back), if
    known: it is then found a little sooner.
    """

    def __init__(self, delay_hint_ms: float | None = None) -> None:
        if delay_hint_ms is not None and not 0 <= delay_hint_ms <= MAX_DELAY_MS:
            raise ValueError(
                f"delay_hint_ms must be between 0 and {MAX_DELAY_MS}, got {delay_hint_ms}"
            )
        self._likelihood = EchoLikelihood(delay_hint_ms)
        self._gate = BandGate()
        self.reset()

    def reset(self) -> None:
        """A new call."""
        self._likelihood.reset()
        self._gate.reset()
        self._silent_ms, self._idle = IDLE_MS, True

    @property
    def delay_ms(self) -> float | None:
        """How much later than handed out our voice comes back; None when it never has."""
        return self._likelihood.delay_ms

    def process(self, mic: Pcm, far: Pcm) -> Cleaned:
        """One microphone frame (320,) at 16 kHz, and everything that was handed out for playing
        since the last call (zeros while silent), (320·k,): none when the microphone brings two
        frames at once, more when it has paused. Nothing may be left out or put in between."""
        check_pcm(mic, "mic", MIC_FRAME)
        sounding = bool(np.abs(check_far(far).astype(np.int32)).max(initial=0) > SOUNDING)
        was_idle = self._idle
        # In time of the loudspeaker: a microphone that was held up brings seconds at once.
        self._silent_ms = 0 if sounding else self._silent_ms + far.size * 1000 // MIC_HZ
        self._idle = self._silent_ms >= IDLE_MS and self._gate.open
        if self._idle:
            return Cleaned(mic, 0.0)
        if was_idle:
            self._likelihood.forget_sound()
        echo = self._likelihood.push(mic, far)
        power = self._likelihood.power
        expected = power.echo if self._silent_ms < IDLE_MS else _NONE
        return Cleaned(self._gate.process(mic, power.heard, expected), echo)


def check_far(far: Pcm) -> Pcm:
    """Raises ValueError unless it is int16 PCM of whole frames."""
    if far.dtype != np.int16 or far.ndim != 1 or far.size % MIC_FRAME:
        raise ValueError(
            f"far: expected int16 of shape (320·k,), got {far.dtype} of shape {far.shape}"
        )
    return far
