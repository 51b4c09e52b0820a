"""The lines that a sound may come through on its way to the microphone path: for fit_overlap.py.

``r`` is the random generator of one run everywhere; sounds are float, 16 kHz, any level.
"""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
import soxr
from fit_overlap_noises import Rng, Sound, resonance
from scipy.signal import fftconvolve, lfilter

from parley_speech.audio import telephone, to_pcm
from parley_speech.types import MIC_FRAME
from parley_speech.types import MIC_HZ as HZ

BEFORE_S, AFTER_S = 0.5, 1.2
"""Length of a scene before and after the onset."""
SCENE = int((BEFORE_S + AFTER_S) * HZ) // MIC_FRAME * MIC_FRAME  # samples
SCENE_FRAMES = SCENE // MIC_FRAME
OPUS_BITRATES = (16_000, 24_000, 32_000, 48_000)


def rms(x: Sound) -> float:
    return float(np.sqrt(np.mean(x * x) + 1e-12))


def hiss(r: Rng) -> Sound:
    """White, pink or brown noise, one scene long."""
    colour = r.integers(3)
    x = r.standard_normal(SCENE).astype(np.float32)
    if colour == 0:
        return x
    spectrum = np.fft.rfft(x)
    fall = np.maximum(1, np.arange(len(spectrum))) ** (-0.5 * colour)
    return np.fft.irfft(spectrum * fall, SCENE).astype(np.float32)


def microphone(r: Rng, x: Sound) -> Sound:
    """A tilted spectrum, and sometimes a broad peak or dip."""
    pole = r.uniform(-0.5, 0.6)
    y = lfilter([1, -pole], [1], x)
    if r.random() < 0.4:
        hz = r.uniform(200, 5000)
        y = y + r.uniform(-0.6, 1.5) * resonance(y, hz, hz * 0.5)
    return y


def room(r: Rng, x: Sound) -> Sound:
    n = int(HZ * r.uniform(0.03, 0.25))
    h = r.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n)
    h[0] = r.uniform(3, 12)
    h /= np.abs(h).max()
    return fftconvolve(x, h)[: len(x) + n // 2]


def scene(
    r: Rng, x: Sound, onset: int, agents: Sequence[Sound], *, stretch: bool
) -> tuple[Sound, int, int]:
    """A sound on a line: (SCENE,) with full scale 1, and the samples of its onset and end.

    Through a microphone and a room, at -36 to -8 dBFS, with hiss and with what an echo canceller
    leaves of the agent's voice (12 to 35 dB below), often through a room's codec, sometimes over
    a telephone. ``stretch`` moves pitch, formants and tempo by up to 17 %.
    """
    x = x.astype(np.float32)
    if stretch and r.random() < 0.6:
        factor = r.uniform(0.86, 1.17)
        x, onset = soxr.resample(x, 16000, 16000 * factor), int(onset * factor)
    if r.random() < 0.5:
        x = microphone(r, x)
    if r.random() < 0.25:
        x = room(r, x)
    starts = int(BEFORE_S * HZ) - int(r.integers(0, MIC_FRAME))  # any place within a frame
    lead = min(onset, int(0.15 * HZ))
    piece = x[onset - lead :][: SCENE - starts + lead]
    out = np.zeros(SCENE, np.float32)
    out[starts - lead : starts - lead + len(piece)] = piece
    loud = np.abs(piece) > 0.02 * np.abs(piece).max()
    ends = starts - lead + len(loud) - int(np.argmax(loud[::-1]))
    level = 10 ** (r.uniform(-36, -8) / 20)
    out *= level / rms(piece[loud])
    if r.random() < 0.7:
        noise = hiss(r)
        out += noise / rms(noise) * level * 10 ** (-r.uniform(10, 45) / 20)
    if r.random() < 0.4:
        out += residual_echo(r, agents, level)
    kind = r.random()
    if kind < 0.35:
        out = opus(out, int(r.choice(OPUS_BITRATES)))
    elif kind < 0.5:
        line = telephone(to_pcm(np.clip(out, -1, 1) * 32767), HZ)[:SCENE]
        out = line.astype(np.float32) / 32768
    out = np.clip(np.rint(out * 32768), -32768, 32767) / 32768
    return out.astype(np.float32), starts, ends


def residual_echo(r: Rng, agents: Sequence[Sound], level: float) -> Sound:
    echo = agents[r.integers(len(agents))].astype(np.float32)
    echo = np.resize(np.roll(echo, int(r.integers(len(echo)))), SCENE)
    if r.random() < 0.5:
        echo = np.convolve(echo, np.ones(4) / 4)[:SCENE]
    echo = echo / rms(echo) * level * 10 ** (-r.uniform(12, 35) / 20)
    t = np.arange(SCENE) / HZ
    # A canceller does not leave the same amount all the time.
    return echo * (0.5 + 0.5 * np.sin(2 * np.pi * r.uniform(0.5, 4) * t + r.uniform(0, 6)))


def opus(x: Sound, bitrate: int) -> Sound:
    """As a room carries it: coded in frames of 20 ms, and back; 6.5 ms later."""
    coder = av.CodecContext.create("libopus", "w")
    decoder = av.CodecContext.create("libopus", "r")
    for context in (coder, decoder):
        context.sample_rate, context.layout, context.format = HZ, "mono", "s16"
    coder.bit_rate = bitrate
    coder.options = {"application": "voip", "compression_level": "2"}
    samples, out = to_pcm(x * 32767), []
    for at in range(0, len(samples) - MIC_FRAME + 1, MIC_FRAME):
        frame = av.AudioFrame.from_ndarray(samples[None, at : at + MIC_FRAME], "s16", "mono")
        frame.sample_rate, frame.pts = HZ, at
        for packet in coder.encode(frame):
            out += [np.ravel(f.to_ndarray()) for f in decoder.decode(packet)]
    coded = np.concatenate(out)
    scale = 32768 if coded.dtype == np.int16 else 1
    heard = soxr.resample(coded.astype(np.float32) / scale, decoder.sample_rate, HZ)
    return np.pad(heard, (0, max(0, len(x) - len(heard))))[: len(x)]
