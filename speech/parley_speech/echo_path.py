"""The way from our loudspeaker into the microphone: how late, how strong, and what it explains.

Three parts, all causal and made of numpy alone:

``DelayTracker`` correlates the last 40 ms of the microphone with the last 640 ms that we played.
The squared normalised correlation is the share of the microphone's energy which one delayed copy
of our voice explains: 1 for a plain copy, above 0.2 in a reverberant room, below 0.15 for another
voice. It needs no learning, so it is right within the first sounds of the first reply.

``LinearEcho`` learns the whole impulse response behind that delay: a partitioned-block
frequency-domain adaptive Kalman filter (Enzner and Vary, "Frequency-domain adaptive Kalman filter
for acoustic echo control in hands-free telephones", Signal Processing 86, 2006; partitioned as in
Kuech, Mabande and Enzner, "State-space architecture of the partitioned-block-based acoustic echo
controller", ICASSP 2014). The Kalman gain falls by itself while the user speaks, so that double
talk needs no detector; and without an echo it learns zero and leaves the user's voice alone.

``EchoPower`` compares powers in bands. A codec keeps the power of hissing sounds but not their
waveform, so that a filter cannot predict them; their level it can.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ

Samples = NDArray[np.float32]
"""Samples in int16 units; single precision halves the cost of the transforms."""
Spectrum = NDArray[np.complex64]
F32 = np.float32
C64 = np.complex64

MAX_DELAY_MS = 600

# --- delay ----------------------------------------------------------------------------------

TRACK_HZ: Final = MIC_HZ // 2
WINDOW_MS: Final = 40
_WINDOW = TRACK_HZ * WINDOW_MS // 1000  # 320 samples
_LAGS = TRACK_HZ * MAX_DELAY_MS // 1000 + 1
_SPAN = _WINDOW + _LAGS - 1  # of the loudspeaker's past, samples
_FFT = 5120  # 2^10 · 5, holds _SPAN
QUIET = 8.0
"""RMS in int16 units after whitening, about -72 dBFS: below it there is nothing to explain."""

MAX_GAIN = 2.0
"""Power gain of the loudest echo believed, +3 dB: what we played in a whisper explains no shout."""

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
        self.forget_sound()
        self.quiet = True
        """In the last 40 ms the microphone held nothing that could be explained."""
        self.delay_ms: float | None = None
        """Of the echo behind what we gave; None until one was found."""
        self._evidence = np.zeros(_LAGS, F32)
        if self._hint_ms is not None:
            self._evidence[self._near(self._hint_ms)] = LOCK / 2

    def forget_sound(self) -> None:
        """What came next does not follow on what came before; what was learnt stays."""
        self._share = np.zeros(_LAGS, F32)
        self._far = np.zeros(_SPAN, F32)
        self._mic = np.zeros(_WINDOW, F32)
        self._far_tail = np.zeros(_KERNEL.size - 1, F32)
        self._mic_tail = np.zeros(_KERNEL.size - 1, F32)

    def push(self, mic: Samples, far: Samples) -> float:
        """One frame of each, (320,); the share of the last 40 ms of the microphone that one
        delayed copy of our voice explains, 0..1."""
        mic8, self._mic_tail = _halve(mic, self._mic_tail)
        far8, self._far_tail = _halve(far, self._far_tail)
        self._mic = np.concatenate((self._mic[mic8.size :], mic8))
        self._far = np.concatenate((self._far[far8.size :], far8))
        mic_energy = float(self._mic @ self._mic)
        self.quiet = mic_energy < _WINDOW * QUIET**2
        if self.quiet:
            self._share = np.zeros(_LAGS, F32)
            return 0.0
        self._evidence *= F32(0.8)
        known = 0.0
        if self.delay_ms is not None:
            # The rest of the lags costs ten times as much, and matters only if this one fails.
            near = self._near(self.delay_ms)
            share = self._correlate_near(near, mic_energy)
            known = float(share.max())
            if known >= SURE:
                self._evidence[near] += F32(0.2) * share
                return known
        share = self._correlate(mic_energy)
        self._evidence += F32(0.2) * share
        twice, self._share = 0.5 * float((share + self._share).max()), share
        self._lock()
        if self.delay_ms is None:
            return twice  # one window alone, of a sound that just begins, resembles too much
        found = float(share.max())
        return found if found >= SURE else known

    def _correlate_near(self, lags: slice, mic_energy: float) -> Samples:
        """Squared normalised correlation at some lags."""
        past = self._far[_LAGS - lags.stop : _SPAN - lags.start]
        windows = np.lib.stride_tricks.sliding_window_view(past, _WINDOW)
        energy = np.maximum(np.einsum("ij,ij->i", windows, windows), mic_energy / MAX_GAIN)
        share: Samples = np.square(windows @ self._mic) / (energy * F32(mic_energy))
        return np.minimum(share, F32(1.0))[::-1]

    def _correlate(self, mic_energy: float) -> Samples:
        """Squared normalised correlation at every lag, (lags,), lag 0 first."""
        spectrum = np.fft.rfft(self._far, _FFT) * np.conj(np.fft.rfft(self._mic, _FFT))
        products = np.fft.irfft(spectrum, _FFT)[:_LAGS]
        sums = np.zeros(_SPAN + 1)  # double: differences of a long sum
        np.cumsum(np.square(self._far), out=sums[1:])
        far_energy = np.maximum(sums[_WINDOW:] - sums[:-_WINDOW], mic_energy / MAX_GAIN)
        share: Samples = (np.square(products) / (far_energy * mic_energy)).astype(F32)
        return np.minimum(share, F32(1.0))[::-1]

    def _lock(self) -> None:
        best = int(np.argmax(self._evidence))
        if self._evidence[best] < LOCK:
            return
        found_ms = best * 1000.0 / TRACK_HZ
        if self.delay_ms is not None:
            # The echo of a room has many delays, and a later one may sound as clear for a while:
            # move only when the old one has clearly lost.
            held = float(self._evidence[self._near(self.delay_ms)].max())
            if abs(found_ms - self.delay_ms) > NEAR_MS and self._evidence[best] < 2.0 * held:
                return
        self.delay_ms = found_ms

    @staticmethod
    def _near(delay_ms: float) -> slice:
        """The lags that count as the same delay."""
        low = int((delay_ms - NEAR_MS) * TRACK_HZ / 1000.0)
        high = math.ceil((delay_ms + NEAR_MS) * TRACK_HZ / 1000.0)
        return slice(max(0, min(low, _LAGS - 1)), min(_LAGS, max(1, high + 1)))


LOCK = 0.35
"""Share, averaged over about 100 ms at one lag, from which an echo counts as found: two or three
frames of it. Other voices reached 0.32 in two minutes."""
SURE = 0.3
"""Share at the known lag from which no other needs to be looked at: no other voice reaches it."""
NEAR_MS = 2.0


def _halve(x: Samples, tail: Samples) -> tuple[Samples, Samples]:
    """16 kHz to 8 kHz, whitened; ``tail`` is what the filter needs of the frame before."""
    joined = np.concatenate((tail, x))
    return np.convolve(joined, _KERNEL, "valid")[::2], joined[-tail.size :]


# --- impulse response -----------------------------------------------------------------------

BLOCKS: Final = 8
"""Partitions of one frame: 160 ms of impulse response, in which a room decays by 20 dB or more."""
CONSTRAINED_EVERY = 4
_FORGET = 0.999  # a frame: how fast the path may drift
_PRIOR = 0.1  # expected power gain of the first block, -10 dB; 1.5 dB less for each one later
_NEAR_SMOOTHING = 0.5  # of the estimate of everything that is not echo, a frame
_CAUTION = 1.0
"""½ is the share of new sound in each transform (overlap-save); the rest stands for what the
spectrum of 40 ms cannot say about an echo that began inside them. Without it the filter becomes
certain, in the first frame of a reply, that there is no echo."""
_FLOOR = 1e3  # power a bin: keeps the gain finite in digital silence


class LinearEcho:
    """Predicts the echo of one call from what we played, sample by sample, and learns meanwhile."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        bins = MIC_FRAME + 1
        self._path: Spectrum = np.zeros((BLOCKS, bins), C64)
        prior = (_PRIOR * 0.7 ** np.arange(BLOCKS)).astype(F32)
        self._doubt: Samples = np.repeat(prior[:, None], bins, axis=1)  # variance of ``_path``
        self._turn = 0
        self.forget_sound()

    def forget_sound(self) -> None:
        bins = MIC_FRAME + 1
        self._spectra: Spectrum = np.zeros((BLOCKS, bins), C64)  # newest first
        self._last = np.zeros(MIC_FRAME, F32)
        self._trust = F32(0.0)
        self._near = np.full(bins, _FLOOR, F32)

    @property
    def far_power(self) -> Samples:
        """Power spectrum, (321,), of the last 40 ms of what was played."""
        return _power(self._spectra[0])

    def push(self, mic: Samples, far: Samples) -> Samples:
        """One frame of each, (320,), ``far`` already delayed; the microphone without the echo."""
        self._spectra[1:] = self._spectra[:-1]
        self._spectra[0] = np.fft.rfft(np.concatenate((self._last, far)))
        self._last = far
        echo = np.fft.irfft((self._path * self._spectra).sum(axis=0))[MIC_FRAME:].astype(F32)
        self._learn(mic - echo)
        # A filter that has not learnt yet can predict too much: it must never add to the sound.
        trust = F32(np.clip(float(mic @ echo) / max(float(echo @ echo), 1.0), 0.0, 1.0))
        ramp = np.linspace(self._trust, trust, MIC_FRAME, dtype=F32)
        self._trust = trust
        error: Samples = mic - ramp * echo
        return error

    def _learn(self, error: Samples) -> None:
        spectrum: Spectrum = np.fft.rfft(np.concatenate((np.zeros(MIC_FRAME, F32), error))).astype(
            np.complex64
        )
        self._near += (1.0 - _NEAR_SMOOTHING) * (_power(spectrum) - self._near)
        expected = (_power(self._spectra) * self._doubt).sum(axis=0) * F32(_CAUTION)
        expected += self._near + F32(_FLOOR)
        gain = self._doubt * np.conj(self._spectra) / expected
        self._path = F32(_FORGET) * (self._path + gain * spectrum)
        self._constrain()
        kept = 1.0 - 0.5 * np.real(gain * self._spectra)
        self._doubt = F32(_FORGET**2) * kept * self._doubt
        self._doubt += F32(1.0 - _FORGET**2) * _power(self._path)

    def _constrain(self) -> None:
        """A block's response is one frame long: takes out what wrapped round in the transforms.

        One block in four a frame: each is in order again before it could do harm.
        """
        turn = slice(self._turn, None, CONSTRAINED_EVERY)
        response = np.fft.irfft(self._path[turn], axis=1)
        response[:, MIC_FRAME:] = 0.0
        self._path[turn] = np.fft.rfft(response, axis=1)
        self._turn = (self._turn + 1) % CONSTRAINED_EVERY


def _power(spectrum: Spectrum) -> Samples:
    power: Samples = np.square(spectrum.real) + np.square(spectrum.imag)
    return power


# --- power ----------------------------------------------------------------------------------

_EDGES = np.array([2, 6, 10, 14, 20, 28, 38, 50, 66, 86, 112, 146, 190, 250])  # bins of 25 Hz
_HZ_WEIGHT = np.abs(1.0 - 0.9 * np.exp(-1j * np.pi * np.arange(MIC_FRAME + 1) / MIC_FRAME)) ** 2
_DECAY = 0.55  # a frame: power of the room's tail, -2.6 dB (60 dB in 0.46 s)
_RATIO_MEMORY = 0.97  # a frame of echo: the path's power gains are a mean of about 0.7 s
_ENOUGH = 5  # frames of echo before the gains are trusted


class EchoPower:
    """What share of the microphone's power in each band our voice accounts for."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._mic_sum = np.zeros(_EDGES.size, F32)
        self._far_sum = np.zeros(_EDGES.size, F32)
        self._learnt = 0
        self.forget_sound()

    def forget_sound(self) -> None:
        self._heard = np.zeros(_EDGES.size, F32)
        self._played = np.zeros(_EDGES.size, F32)
        self._last = np.zeros(MIC_FRAME, F32)

    def push(self, mic: Samples, far_power: Samples) -> float:
        """One microphone frame (320,) and the power spectrum (321,) of the last 40 ms of what
        was played, already delayed; the share explained, 0..1, 0 while nothing is learnt."""
        window = np.concatenate((self._last, mic))
        self._last = mic
        self._heard = _bands(_power(np.fft.rfft(window).astype(np.complex64)))
        self._played = np.maximum(_bands(far_power), F32(_DECAY) * self._played)
        if self._learnt < _ENOUGH:
            return 0.0
        predicted = self._played * self._mic_sum / np.maximum(self._far_sum, F32(1.0))
        explained = np.minimum(self._heard, predicted).sum()
        return float(explained / max(self._heard.sum(), 1.0))

    def learn(self) -> None:
        """The last frame was echo: its band powers tell the path's gains."""
        self._mic_sum = F32(_RATIO_MEMORY) * self._mic_sum + self._heard
        self._far_sum = F32(_RATIO_MEMORY) * self._far_sum + self._played
        self._learnt += 1


def _bands(power: Samples) -> Samples:
    sums: Samples = np.add.reduceat(power * _WEIGHTS, _EDGES)
    return sums


_WEIGHTS: Samples = _HZ_WEIGHT.astype(F32)


class DelayLine:
    """The loudspeaker's past, to be read some milliseconds late."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._past = np.zeros(MIC_HZ * (MAX_DELAY_MS + 2 * FRAME_MS) // 1000, F32)

    def push(self, far: Samples) -> None:
        self._past = np.concatenate((self._past[far.size :], far))

    def read(self, delay_ms: float) -> Samples:
        """The frame that ended ``delay_ms`` before the newest one, (320,)."""
        late = min(max(0, round(delay_ms * MIC_HZ / 1000.0)), self._past.size - MIC_FRAME)
        return self._past[self._past.size - MIC_FRAME - late : self._past.size - late]
