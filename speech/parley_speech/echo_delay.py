"""How late our own voice comes back, found again whenever it moves.

``DelayTracker`` correlates the last 40 ms of the microphone with the last two seconds that we
played. The squared normalised correlation is the share of the microphone's energy which one
delayed copy of our voice explains: 1 for a plain copy, above 0.2 in a reverberant room, below 0.15
for another voice. It needs no learning, so it is right within the first sounds of the first reply.

Microphone and loudspeaker are counted apart, and what is tracked is the difference of the counts:
it stays the same when this process stood still and then gets five frames at once. What does move
it are the jitter buffers on the way, and they do it in two ways: by a pitch period at a time while
they play faster or slower to catch up, by any amount after a stall. So the known lag is followed,
then looked for around, and now and then everywhere.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from parley_speech.echo_tape import Samples, Tape
from parley_speech.types import FRAME_MS, MIC_HZ

F32 = np.float32

TRACK_HZ: Final = MIC_HZ // 2
PER_MS: Final = TRACK_HZ // 1000
WINDOW_MS: Final = 40
_WINDOW = PER_MS * WINDOW_MS  # 320 samples
_FFT = 16_384  # of the loudspeaker's past, samples: two seconds
_LAGS = _FFT - _WINDOW + 1
MAX_DELAY_MS: Final = 2000
"""Rooms and networks need 20 to 400 ms; a jitter buffer behind a stall has been seen at 1400."""
QUIET = 8.0
"""RMS in int16 units after whitening, about -72 dBFS: below it there is nothing to explain."""
ABOVE_BACKGROUND = 3.0
"""Energy over the line's own noise (5 dB) up to which there is nothing to explain either: what is
looked for is a sound, from its beginning, and a noise that was there before is not ours."""
BLOCK = 25
"""Frames. The noise is the least energy of this block and the one before: speech has gaps."""

MAX_GAIN = 2.0
"""Power gain of the loudest echo believed, +3 dB: what we played in a whisper explains no shout."""

LOCK = 0.35
"""Share, averaged over about 60 ms at one lag, from which an echo counts as found: two or three
frames of it. Other voices reached 0.32 in two minutes."""
SURE = 0.3
"""Share at the known lag from which no other needs to be looked at: no other voice reaches it."""
NEAR_MS = 2.0
REACH_MS = 25.0
"""How far a jitter buffer moves the delay at a time when it stretches: a pitch period or two."""
_NEW = 0.3
"""Weight of a window in the evidence for its lags."""
_RIVAL = 1.5
"""The echo of a room has many delays, and a later one may sound as clear for a while: another
one is believed when it is this much clearer than the known one."""
PATIENCE = 10
"""Windows with a sound but without an echo, after which all lags are searched less often."""
LOOK_EVERY = 4
"""Frames between two searches then."""

# Low-pass to 3.4 kHz for the step to 8 kHz, with pre-emphasis: it whitens speech, without which
# any two voiced sounds would resemble each other.
_n = np.arange(-11, 12)
_LOW_PASS = 0.43 * np.sinc(0.43 * _n) * np.hamming(_n.size)
_KERNEL: Samples = np.convolve(_LOW_PASS, [1.0, 0.0, -0.9]).astype(F32)  # 2 steps: 1 at 8 kHz


class DelayTracker:
    """Finds our own voice in the microphone, and how late it comes."""

    def __init__(self, hint_ms: float | None = None) -> None:
        self._hint_ms = hint_ms
        self.reset()

    def reset(self) -> None:
        """A new call."""
        self.moved = False
        """The last frame has shown that the delay is another one."""
        self.energy = 0.0
        """Of the last 40 ms of the microphone, whitened."""
        self.quiet = True
        """In the last 40 ms the microphone held nothing that could be explained."""
        self._far = Tape(_FFT)
        self._heard = 0
        self._least = self._least_before = np.inf  # energy, of a block of frames
        self.forget_echo()
        if self._hint_ms is not None:
            self._evidence[self._near(round(self._hint_ms * PER_MS))] = LOCK / 2
        self.forget_sound()

    def forget_echo(self) -> None:
        """There is none any more."""
        self.lag: int | None = None
        """Samples at 8 kHz by which the microphone's count is ahead of the loudspeaker's when
        they bring the same sound; None until an echo was found."""
        self._evidence = np.zeros(_LAGS, F32)
        self._held = 0.0  # evidence for the known lag

    def forget_sound(self) -> None:
        """What came next does not follow on what came before; what was learnt stays."""
        self._share = np.zeros(_LAGS, F32)
        self._origin = self._heard - self._far.end  # the lag that index 0 stands for
        self._far.clear()
        self._mic = np.zeros(_WINDOW, F32)
        self._far_tail = np.zeros(_KERNEL.size - 1, F32)
        self._mic_tail = np.zeros(_KERNEL.size - 1, F32)
        self._unfound = 0  # windows in a row that nothing explained
        self._frames = 0  # of the microphone since then

    @property
    def delay_ms(self) -> float | None:
        """How long before the newest that we played the sound of the newest microphone frame was
        given; None while no echo was found."""
        return None if self.lag is None else (self.lag - self._heard + self._far.end) / PER_MS

    def play(self, far: Samples) -> None:
        """What was handed out for playing, (320·k,)."""
        far8, self._far_tail = _halve(far, self._far_tail)
        self._far.write(far8)

    def push(self, mic: Samples, *, calm: bool = False) -> float:
        """One microphone frame, (320,); the share of the last 40 ms of the microphone that one
        delayed copy of our voice explains, 0..1. ``calm``: the sound is explained anyhow, so that
        there is no hurry to look for another delay."""
        mic8, self._mic_tail = _halve(mic, self._mic_tail)
        self._mic = np.concatenate((self._mic[mic8.size :], mic8))
        self._heard += mic8.size
        self.moved = False
        energy = self.energy = float(self._mic @ self._mic)
        self.quiet = energy < max(_WINDOW * QUIET**2, ABOVE_BACKGROUND * self._noise(energy))
        if self.quiet:
            self._share[:] = 0.0
            self._unfound = 0
            return 0.0
        share = 0.0 if self.lag is None else self._follow(self.lag, NEAR_MS, energy)
        self._held += _NEW * (share - self._held)
        if share < SURE and self.lag is not None:
            share = self._follow(self.lag, REACH_MS, energy)
        self._unfound = 0 if share >= SURE else self._unfound + 1
        hurry = not calm and self._unfound <= PATIENCE
        if self._unfound == 0 or not (hurry or self._unfound % LOOK_EVERY == 0):
            return share
        return max(share, self._search(energy))

    def _noise(self, energy: float) -> float:
        """Of the line, as energy of 40 ms; 0 while too little of it was heard."""
        self._frames += 1
        if self._frames * FRAME_MS < WINDOW_MS:
            return 0.0
        if self._frames % BLOCK == 0:
            self._least, self._least_before = np.inf, self._least
        self._least = min(self._least, energy)
        return min(self._least, self._least_before)

    # --- where it was last ---------------------------------------------------------------------

    def _follow(self, lag: int, reach_ms: float, energy: float) -> float:
        """The best share around the known lag, which moves there if that is an echo."""
        share, at = self._best_around(lag, round(reach_ms * PER_MS), energy)
        if share >= SURE:
            self.lag = at
        return share

    def _best_around(self, lag: int, reach: int, energy: float) -> tuple[float, int]:
        """The best share at lags within ``reach`` samples of ``lag``, and its lag."""
        origin = self._heard - self._far.end
        low = min(max(lag - reach, origin), origin + _LAGS - 1)
        high = min(max(lag + reach, origin), origin + _LAGS - 1)
        past = self._far.read(self._heard - high - _WINDOW, self._heard - low)
        products = np.correlate(past, self._mic, "valid")  # the latest lag first
        sums = np.cumsum(np.square(past), dtype=np.float64)
        energies = sums[_WINDOW - 1 :] - np.concatenate(((0.0,), sums[:-_WINDOW]))
        share = np.square(products) / np.maximum(energies, energy / MAX_GAIN)
        best = int(np.argmax(share))
        return min(1.0, float(share[best]) / energy), high - best

    # --- anywhere ------------------------------------------------------------------------------

    def _search(self, energy: float) -> float:
        """Looks at every lag; the share that its best one explains, as far as that is credible."""
        self._shift(self._heard - self._far.end)
        share = self._correlate(energy)
        self._evidence += F32(_NEW) * (share - self._evidence)
        twice, self._share = 0.5 * float((share + self._share).max()), share
        self._lock()
        if self.lag is None:
            return twice  # one window alone, of a sound that just begins, resembles too much
        return float(share[self._near(self.lag - self._origin)].max())

    def _shift(self, origin: int) -> None:
        """What is known of each lag goes where that lag is now."""
        by, self._origin = origin - self._origin, origin
        if by:
            self._evidence, self._share = _moved(self._evidence, by), _moved(self._share, by)

    def _correlate(self, energy: float) -> Samples:
        """Squared normalised correlation at every lag, (lags,), the least lag first."""
        far = self._far.read(self._far.end - _FFT, self._far.end)
        spectrum = np.fft.rfft(far) * np.conj(np.fft.rfft(self._mic, _FFT))
        products = np.fft.irfft(spectrum, _FFT)[:_LAGS]
        sums = np.zeros(_FFT + 1)  # double: differences of a long sum
        np.cumsum(np.square(far), out=sums[1:])
        far_energy = np.maximum(sums[_WINDOW:] - sums[:-_WINDOW], energy / MAX_GAIN)
        share: Samples = (np.square(products) / (far_energy * energy)).astype(F32)
        return np.minimum(share, F32(1.0))[::-1]

    def _lock(self) -> None:
        best = int(np.argmax(self._evidence))
        found = float(self._evidence[best])
        if found < LOCK or (self.lag is not None and found < _RIVAL * self._held):
            return
        at = self._origin + best
        self.moved = self.lag is not None and abs(at - self.lag) > NEAR_MS * PER_MS
        self.lag, self._held = at, found

    @staticmethod
    def _near(index: int) -> slice:
        """The lags that count as the same delay."""
        reach = round(NEAR_MS * PER_MS)
        at = min(max(index, 0), _LAGS - 1)
        return slice(max(0, at - reach), at + reach + 1)


def _moved(x: Samples, by: int) -> Samples:
    """``x[by:]`` in the place of ``x``, zeros for what is not known."""
    out = np.zeros_like(x)
    if 0 <= by < x.size:
        out[: x.size - by] = x[by:]
    elif -x.size < by < 0:
        out[-by:] = x[:by]
    return out


def _halve(x: Samples, tail: Samples) -> tuple[Samples, Samples]:
    """16 kHz to 8 kHz, whitened; ``tail`` is what the filter needs of the frame before."""
    joined = np.concatenate((tail, x))
    return np.convolve(joined, _KERNEL, "valid")[::2], joined[-tail.size :]
