"""Sound as arrays: files, rates, frames, levels, and the degradations tests and benches need.

PCM is int16 mono, shape (samples,). Nothing here knows what a sound means.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parley_speech.types import FRAME_MS, Pcm

FULL_SCALE = 32768.0
SILENCE_DBFS = -100.0
"""Level given for digital silence; one step of int16 is about -90 dBFS."""

FloatArray = NDArray[np.float64]


# --- arrays ---------------------------------------------------------------------------------


def check_pcm(pcm: Pcm, what: str, samples: int | None = None) -> Pcm:
    """Gives ``pcm`` back, or raises ValueError that says what was expected.

    ``what`` names the array in the error; ``samples`` is the exact length wanted, None for any.
    """
    wanted = f"({samples},)" if samples is not None else "(samples,)"
    if not isinstance(pcm, np.ndarray) or pcm.dtype != np.int16:
        kind = pcm.dtype if isinstance(pcm, np.ndarray) else type(pcm).__name__
        raise ValueError(f"{what}: expected int16 of shape {wanted}, got {kind}")
    if pcm.ndim != 1 or (samples is not None and pcm.shape[0] != samples):
        raise ValueError(f"{what}: expected int16 of shape {wanted}, got shape {pcm.shape}")
    return pcm


def to_pcm(x: NDArray[np.floating] | FloatArray) -> Pcm:
    """Rounds samples in int16 units to int16, clipping at full scale."""
    return np.clip(np.rint(x), -32768, 32767).astype(np.int16)


def to_mono(pcm: NDArray[np.int16]) -> Pcm:
    """(samples,) or (samples, channels) int16 to mono: the mean of the channels."""
    if pcm.ndim == 1:
        return pcm
    if pcm.ndim != 2 or pcm.shape[1] == 0:
        raise ValueError(f"expected shape (samples,) or (samples, channels), got {pcm.shape}")
    return to_pcm(pcm.mean(axis=1))


def level_dbfs(pcm: Pcm) -> float:
    """RMS level, 0 dBFS being a full-scale square wave; ``SILENCE_DBFS`` for silence or nothing."""
    if pcm.size == 0:
        return SILENCE_DBFS
    x = pcm.astype(np.float64)
    power = float(x @ x) / x.size
    if power == 0.0:
        return SILENCE_DBFS
    return max(SILENCE_DBFS, 10.0 * math.log10(power / FULL_SCALE**2))


def scaled(pcm: Pcm, gain_db: float) -> Pcm:
    return to_pcm(pcm * 10.0 ** (gain_db / 20.0))


def mix_at_snr(signal: Pcm, noise: Pcm, snr_db: float) -> Pcm:
    """``signal`` with ``noise`` (repeated or cut to its length) ``snr_db`` below it.

    Levels are RMS over the whole signal and the noise used, silences included.
    """
    check_pcm(signal, "signal")
    if check_pcm(noise, "noise").size == 0 or not noise.any():
        raise ValueError("noise: expected some sound, got silence")
    bed = np.resize(noise, signal.shape)
    if not signal.any():
        raise ValueError("signal: expected some sound, got silence: an SNR has no meaning")
    gain_db = level_dbfs(signal) - level_dbfs(bed) - snr_db
    return to_pcm(signal + bed * 10.0 ** (gain_db / 20.0))


# --- files ----------------------------------------------------------------------------------


def read(path: Path | str, rate_hz: int) -> Pcm:
    """Reads a file that libsndfile knows (WAV, FLAC, Ogg, …) as mono at ``rate_hz``."""
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no audio file at {path}")
    try:
        data, file_hz = soundfile.read(path, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{path} is not audio that can be read (WAV, FLAC, Ogg): {error}"
        ) from error
    return resample(to_mono(data), file_hz, rate_hz)


def write(path: Path | str, pcm: NDArray[np.int16], rate_hz: int) -> None:
    """Writes (samples,) or (samples, channels) as the format its suffix names (.wav, .flac)."""
    import soundfile

    soundfile.write(Path(path), pcm, rate_hz, subtype="PCM_16")


# --- rates ----------------------------------------------------------------------------------


def resample(pcm: Pcm, from_hz: int, to_hz: int) -> Pcm:
    """A whole recording at another rate, without delay. For live audio use StreamResampler."""
    if from_hz == to_hz or pcm.size == 0:
        return pcm
    import soxr

    out: Pcm = soxr.resample(pcm, from_hz, to_hz)
    return out


class StreamResampler:
    """Resamples live audio with a small constant delay and no state beyond its filter.

    A polyphase FIR filter (Kaiser window, 70 dB, flat to 0.88 of the lower Nyquist frequency).
    Not soxr's stream: that one works in FFT blocks, so that fed with 20 ms frames it keeps back
    6 to 37 ms from 48 to 16 kHz and 12 to 115 ms from 8 to 16 kHz, and gives nothing and two
    frames in turn. Here every frame in is a frame out, and ``delay_ms`` is constant.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz <= 0 or to_hz <= 0:
            raise ValueError(f"rates must be above 0 Hz, got {from_hz} and {to_hz}")
        self.from_hz, self.to_hz = from_hz, to_hz
        divisor = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // divisor, from_hz // divisor
        self._phases = _phases(from_hz, to_hz)  # (up, taps), newest sample first
        self._taps = self._phases.shape[1]
        self.reset()

    @property
    def delay_ms(self) -> float:
        """How much later a sound comes out than it went in, beyond rounding to a sample."""
        if self._up == self._down:
            return 0.0
        return 1000.0 * float(self._up * self._taps - 1) / 2 / (self._up * self.from_hz)

    def reset(self) -> None:
        self._history: FloatArray = np.zeros(self._taps - 1)
        self._next = 0  # position of the next output in 1/up input samples, from the first new one

    def push(self, pcm: Pcm) -> Pcm:
        """Any number of samples; gives all that can be said about the time up to their end."""
        check_pcm(pcm, "pcm")
        if self._up == self._down:
            return pcm
        x: FloatArray = np.concatenate((self._history, pcm))
        end = pcm.size * self._up
        positions = np.arange(self._next, end, self._down)
        self._next += positions.size * self._down - end
        self._history = x[x.size - (self._taps - 1) :]
        if positions.size == 0:
            return np.zeros(0, np.int16)
        windows = np.lib.stride_tricks.sliding_window_view(x, self._taps)
        filters = self._phases[positions % self._up]
        return to_pcm(np.einsum("ij,ij->i", windows[positions // self._up], filters))

    def flush(self) -> Pcm:
        """The rest, ``delay_ms`` long, of a sound that ended; starts afresh."""
        tail = self.push(np.zeros(math.ceil(self.delay_ms * self.from_hz / 1000.0), np.int16))
        self.reset()
        return tail


MAX_FILTER = 1_000_000
"""Coefficients (8 MB); rates with almost no common divisor would need more."""


@functools.lru_cache(maxsize=16)
def _phases(from_hz: int, to_hz: int) -> FloatArray:
    """The FIR filter of every output phase, (up, taps), in the order of the samples in memory."""
    divisor = math.gcd(from_hz, to_hz)
    up = to_hz // divisor
    nyquist = min(from_hz, to_hz) / 2.0
    transition = 0.12 * nyquist
    attenuation_db, beta = 70.0, 6.76  # Kaiser's formulas: beta = 0.1102 (A - 8.7)
    taps = math.ceil((attenuation_db - 7.95) / (14.36 * transition / from_hz))
    if up * taps > MAX_FILTER:
        raise ValueError(
            f"cannot resample {from_hz} Hz to {to_hz} Hz as a stream: the rates share no large "
            "divisor; use a common rate (8, 16, 22.05, 24, 32, 44.1 or 48 kHz)"
        )
    n = np.arange(up * taps) - (up * taps - 1) / 2.0
    cutoff = (nyquist - transition / 2.0) / (up * from_hz)  # cycles per step of the filter
    prototype = 2.0 * cutoff * np.sinc(2.0 * cutoff * n) * np.kaiser(n.size, beta) * up
    return np.ascontiguousarray(prototype.reshape(taps, up).T[:, ::-1])


# --- frames ---------------------------------------------------------------------------------


class Framer:
    """Cuts blocks of any length into exact frames of 20 ms; keeps less than one frame back."""

    def __init__(self, rate_hz: int, frame_ms: int = FRAME_MS) -> None:
        if rate_hz * frame_ms % 1000:
            raise ValueError(f"{frame_ms} ms at {rate_hz} Hz is not a whole number of samples")
        self.frame = rate_hz * frame_ms // 1000
        self._rest: Pcm = np.zeros(0, np.int16)

    @property
    def pending(self) -> int:
        """Samples kept back, below ``frame``."""
        return int(self._rest.size)

    def push(self, pcm: Pcm) -> list[Pcm]:
        joined = np.concatenate((self._rest, check_pcm(pcm, "pcm")))
        whole = joined.size - joined.size % self.frame
        self._rest = joined[whole:].copy()
        return [joined[at : at + self.frame] for at in range(0, whole, self.frame)]

    def flush(self) -> Pcm | None:
        """The last frame of a sound that ended, filled up with silence; None if nothing is left."""
        if self._rest.size == 0:
            return None
        frame = np.zeros(self.frame, np.int16)
        frame[: self._rest.size] = self._rest
        self._rest = np.zeros(0, np.int16)
        return frame

    def reset(self) -> None:
        self._rest = np.zeros(0, np.int16)


def frames(pcm: Pcm, frame: int) -> list[Pcm]:
    """A whole recording in frames of ``frame`` samples, the last filled up with silence."""
    padded = np.zeros(-(-pcm.size // frame) * frame, np.int16)
    padded[: pcm.size] = pcm
    return list(padded.reshape(-1, frame))


# --- the telephone --------------------------------------------------------------------------

TELEPHONE_HZ = 8000
_MU = 255.0
_A = 87.6


def mu_law(pcm: Pcm) -> Pcm:
    """There and back through 8-bit mu-law (ITU-T G.711's curve in its continuous form)."""
    x = check_pcm(pcm, "pcm") / FULL_SCALE
    code = np.rint(127.0 * np.log1p(_MU * np.abs(x)) / math.log1p(_MU))
    return to_pcm(np.sign(x) * np.expm1(code / 127.0 * math.log1p(_MU)) / _MU * FULL_SCALE)


def a_law(pcm: Pcm) -> Pcm:
    """There and back through 8-bit A-law (ITU-T G.711's curve in its continuous form).

    A-law has no zero: silence becomes its smallest step.
    """
    x = check_pcm(pcm, "pcm") / FULL_SCALE
    norm = 1.0 + math.log(_A)
    ax = np.abs(x) * _A
    curve = np.where(ax < 1.0, ax, 1.0 + np.log(np.maximum(ax, 1.0))) / norm
    code = (np.floor(curve * 128.0).clip(0, 127) + 0.5) / 128.0 * norm
    return to_pcm(
        np.where(x < 0.0, -1.0, 1.0)
        * np.where(code < 1.0, code, np.exp(code - 1.0))
        / _A
        * FULL_SCALE
    )


def telephone(pcm: Pcm, rate_hz: int) -> Pcm:
    """What a telephone line leaves of a recording: 300-3400 Hz, 8 kHz, mu-law; at ``rate_hz``.

    The band is cut in the frequency domain over the whole recording (no delay).
    """
    narrow = resample(check_pcm(pcm, "pcm"), rate_hz, TELEPHONE_HZ)
    if narrow.size == 0:
        return narrow
    spectrum = np.fft.rfft(narrow)
    hz = np.fft.rfftfreq(narrow.size, 1.0 / TELEPHONE_HZ)
    # Raised-cosine edges 100 Hz wide, so that the cut does not ring like a brick wall.
    rise = np.clip((hz - 250.0) / 100.0, 0.0, 1.0)
    fall = np.clip((3450.0 - hz) / 100.0, 0.0, 1.0)
    edge = np.sin(np.pi / 2 * np.minimum(rise, fall)) ** 2
    line = mu_law(to_pcm(np.fft.irfft(spectrum * edge, narrow.size)))
    return resample(line, TELEPHONE_HZ, rate_hz)
