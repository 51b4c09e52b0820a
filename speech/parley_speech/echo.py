"""Our own voice in the microphone: taken out, and told apart from the user's.

WebRTC's canceller (``livekit.rtc.AudioProcessingModule``) takes nearly all of an echo out from the
first sample on, but on the premise that there is one: where the caller wears a headset, or the
caller's browser has cancelled the echo already, it takes the user's voice for echo and suppresses
it while the agent speaks (by 10 to 19 dB, and a detector then misses more than half of what is
said). So it has a say only while the microphone really is explained by our loudspeaker:

    far silent for a while      the microphone, untouched
    no echo found so far        the microphone, untouched
    the user dominates          the microphone less the linear prediction of the echo
    our echo dominates          WebRTC's output

``EchoLikelihood`` judges which of these holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parley_speech.audio import check_pcm, to_pcm
from parley_speech.echo_path import (
    MAX_DELAY_MS,
    DelayLine,
    DelayTracker,
    EchoPower,
    LinearEcho,
    Samples,
)
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, Cleaned, EngineUnavailable, Pcm

if TYPE_CHECKING:
    from livekit import rtc

ECHO_THRESHOLD = 0.5
"""A voice in a frame with ``echo`` at or above this is the agent's own."""

IDLE_MS = MAX_DELAY_MS + 400
"""After this long without a sound from us no echo can be left: delay, and the room's decay."""
SOUNDING = 32
"""Peak from which a loudspeaker frame counts as sound, -60 dBFS."""

LEAD_MS = 5.0
"""The filter starts this long before the delay found, for what arrives earlier."""
DOUBT_FRAMES = 10
"""An echo is found within three frames of its sound: after this many without, there is none."""
_MEMORY = 0.7  # a frame, of the energies compared: about 60 ms
WET_FROM, WET_TO = 0.5, 0.7
"""Likelihoods between which the output fades from the linear filter's to WebRTC's."""
WET_STEP = 0.1
"""Most that WebRTC's part may grow in a frame."""
HALF = MIC_FRAME // 2  # samples: WebRTC works on 10 ms
_FLOOR_SHARE = 0.4  # a reverberant echo before the filter has learnt: share explained
_LEARN_SHARE = 0.05  # a frame


class EchoLikelihood:
    """How much of the microphone is explained by our own loudspeaker, in one call.

    Each frame's share is the largest of three: what one delayed copy explains (right at once, but
    low in a reverberant room), what the learnt impulse response explains (near 1 after half a
    second), and what the powers in bands explain (for what a codec has changed). All are energies
    after pre-emphasis, summed over about 60 ms, so that the quiet end of an echo does not count as
    much as its body. The share is then given relative to what an echo alone has been getting in
    this room lately: 1 is an echo alone, about ½ an equally loud user over it.
    """

    def __init__(self, delay_hint_ms: float | None = None) -> None:
        self._tracker = DelayTracker(delay_hint_ms)
        self._filter = LinearEcho()
        self._power = EchoPower()
        self._line = DelayLine()
        self.reset()

    def reset(self) -> None:
        """A new call."""
        self._tracker.reset()
        self._filter.reset()
        self._power.reset()
        self._aligned_ms: float | None = None
        self._usual = _FLOOR_SHARE
        self.forget_sound()

    def forget_sound(self) -> None:
        """The next frame does not follow on the last; what was learnt of the room stays."""
        self._tracker.forget_sound()
        self._filter.forget_sound()
        self._power.forget_sound()
        self._line.reset()
        self._explained = self._energy = 0.0
        self._unfound = 0  # frames with a sound in which no echo has been found
        self._before = (0.0, 0.0)
        self.error: Samples = np.zeros(MIC_FRAME, np.float32)
        """The microphone without the linear echo, of the last frame."""
        self.far: Samples = np.zeros(MIC_FRAME, np.float32)
        """What we played, delayed so that it meets its echo, of the last frame."""

    @property
    def delay_ms(self) -> float | None:
        """How much later than given our voice comes back; None when it never has."""
        return self._tracker.delay_ms

    def push(self, mic: Pcm, far: Pcm) -> float:
        """One frame of each at 16 kHz, (320,), taken at the same moment; 0..1."""
        near = check_pcm(mic, "mic", MIC_FRAME).astype(np.float32)
        played = check_pcm(far, "far", MIC_FRAME).astype(np.float32)
        self._line.push(played)
        copy_share = self._tracker.push(near, played)
        self._align()
        power_share = 0.0
        if self._aligned_ms is None:
            self.error, self.far = near, played
        else:
            self.far = self._line.read(self._aligned_ms)
            self.error = self._filter.push(near, self.far)
            power_share = self._power.push(near, self._filter.far_power)
        return self._weigh(near, max(copy_share, power_share))

    def _align(self) -> None:
        """Starts the filter, and starts it again when the delay has moved out of its reach."""
        found = self._tracker.delay_ms
        if found is None:
            return
        if self._aligned_ms is None or not -LEAD_MS < found - LEAD_MS - self._aligned_ms < 60.0:
            self._aligned_ms = max(0.0, found - LEAD_MS)
            self._filter.reset()

    def _weigh(self, near: Samples, share: float) -> float:
        energy = _white_energy(near, self._before[0])
        left = _white_energy(self.error, self._before[1])
        self._before = (float(near[-1]), float(self.error[-1]))
        quiet = self._tracker.quiet
        if not quiet:
            share = max(share, 1.0 - left / max(energy, 1.0))
            self._explained = _MEMORY * self._explained + share * energy
            self._energy = _MEMORY * self._energy + energy
        total = self._explained / max(self._energy, 1.0)
        if self.delay_ms is None:
            self._unfound += not quiet
            if self._unfound > DOUBT_FRAMES:
                return 0.0
        elif not quiet and total >= ECHO_THRESHOLD * self._usual:
            self._usual = max(_FLOOR_SHARE, self._usual + _LEARN_SHARE * (total - self._usual))
            self._power.learn()
        return min(1.0, total / self._usual)


def _white_energy(x: Samples, before: float) -> float:
    """Energy after pre-emphasis; ``before`` is the sample in front of the frame."""
    white = x.copy()
    white[1:] -= np.float32(0.9) * x[:-1]
    white[0] -= 0.9 * before
    return float(white @ white)


class EchoCanceller:
    """Takes the agent's voice out of the microphone of one call.

    ``delay_hint_ms``: how late the echo is expected (playout and the way there and back), if
    known: it is then found a little sooner. ``noise_suppression`` acts on echo only.
    """

    def __init__(
        self, delay_hint_ms: float | None = None, *, noise_suppression: bool = False
    ) -> None:
        if delay_hint_ms is not None and not 0 <= delay_hint_ms <= MAX_DELAY_MS:
            raise ValueError(
                f"delay_hint_ms must be between 0 and {MAX_DELAY_MS}, got {delay_hint_ms}"
            )
        self._noise_suppression = noise_suppression
        self._likelihood = EchoLikelihood(delay_hint_ms)
        self.reset()

    def reset(self) -> None:
        """A new call."""
        self._likelihood.reset()
        # Made here, not when the first echo is found: it takes longer than a frame.
        self._suppressor = _Suppressor(self._noise_suppression)
        self._silent_ms, self._idle = IDLE_MS, True
        self._wet = 0.0

    @property
    def delay_ms(self) -> float | None:
        """How much later than given our voice comes back; None when it never has."""
        return self._likelihood.delay_ms

    def process(self, mic: Pcm, far: Pcm) -> Cleaned:
        """One frame of each at 16 kHz, (320,): what the microphone heard in the same 20 ms in
        which ``far`` was handed out for playing (zeros while silent)."""
        check_pcm(mic, "mic", MIC_FRAME)
        sounding = bool(np.abs(check_pcm(far, "far", MIC_FRAME).astype(np.int32)).max() > SOUNDING)
        was_idle = self._idle
        self._silent_ms = 0 if sounding else self._silent_ms + FRAME_MS
        self._idle = self._silent_ms >= IDLE_MS and self._wet == 0.0
        if self._idle:
            return Cleaned(mic, 0.0)
        if was_idle:
            self._likelihood.forget_sound()
        echo = self._likelihood.push(mic, far)
        return Cleaned(self._mix(mic, echo), echo)

    def _mix(self, mic: Pcm, echo: float) -> Pcm:
        """The linear filter's output, faded over into WebRTC's as far as echo dominates."""
        dry = self._likelihood.error
        if self._likelihood.delay_ms is None:
            return to_pcm(dry)
        wet = float(np.clip((echo - WET_FROM) / (WET_TO - WET_FROM), 0.0, 1.0))
        if self._silent_ms >= IDLE_MS:
            wet = 0.0  # nothing of ours can be in it: back to the microphone itself
        suppressed = self._suppressor.process(mic, self._likelihood.far)
        # In slowly, out at once: no word is chopped where the echo is louder for a moment.
        wet = min(wet, self._wet + WET_STEP)
        ramp = np.linspace(self._wet, wet, MIC_FRAME, dtype=np.float32)
        self._wet = wet
        return to_pcm(dry + ramp * (suppressed - dry))


class _Suppressor:
    """WebRTC's canceller; output 8 ms late, everything below 90 Hz cut."""

    def __init__(self, noise_suppression: bool) -> None:
        try:
            from livekit import rtc
        except ImportError as error:
            raise EngineUnavailable(
                f"echo cancellation needs livekit.rtc ({error}): pip install livekit"
            ) from error
        self._frame = rtc.AudioFrame
        self._apm = rtc.AudioProcessingModule(
            echo_cancellation=True, noise_suppression=noise_suppression
        )

    def process(self, mic: Pcm, far: Samples) -> Pcm:
        """One frame of each, (320,), ``far`` already delayed."""
        played, out = to_pcm(far), []
        for at in range(0, MIC_FRAME, HALF):
            self._apm.process_reverse_stream(self._wrap(played[at : at + HALF]))
            near = self._wrap(mic[at : at + HALF])
            self._apm.set_stream_delay_ms(round(LEAD_MS))
            self._apm.process_stream(near)  # in place
            out.append(np.frombuffer(near.data, np.int16))
        return np.concatenate(out)

    def _wrap(self, pcm: Pcm) -> rtc.AudioFrame:
        return self._frame(bytearray(pcm.tobytes()), MIC_HZ, 1, HALF)
