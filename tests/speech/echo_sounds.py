"""The agent's voice and its echo, for tests of the echo canceller."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from parley_speech import audio
from parley_speech.types import Pcm

DATA = Path(__file__).parents[1] / "data" / "audio"
START_MS = 500
"""Where the agent begins."""


def voice(*names: str, seconds: float) -> Pcm:
    """Clips in a row at -22 dBFS after START_MS of silence, silence to the end."""
    out = np.zeros(int(16000 * seconds), np.int16)
    said = np.concatenate([audio.read(DATA / f"{name}.flac", 16000) for name in names])
    said = audio.scaled(said, -22.0 - audio.level_dbfs(said))[: out.size - 16 * START_MS]
    out[16 * START_MS : 16 * START_MS + said.size] = said
    return out


def agent(seconds: float = 5.0) -> Pcm:
    return voice("read_lj001_0006", "human_vm_intro", seconds=seconds)


def echo_of(far: Pcm, delay_ms: int, gain_db: float, *, room: bool = False) -> Pcm:
    """``far`` out of the loudspeaker and back, with a microphone's own faint noise."""
    rng = np.random.default_rng(delay_ms)
    response = np.zeros(16 * delay_ms + 6400)
    response[16 * delay_ms] = 1.0
    if room:  # 60 dB in 0.4 s, direct sound 2 dB over the rest
        tail = rng.standard_normal(6400) * 10.0 ** (-3 * np.arange(6400) / 6400)
        response[16 * delay_ms :] += tail * np.sqrt(10**-0.2 / np.square(tail).sum())
    response *= 10 ** (gain_db / 20) / np.sqrt(np.square(response).sum())
    size = far.size + response.size
    wet = np.fft.irfft(np.fft.rfft(far, size) * np.fft.rfft(response, size), size)[: far.size]
    return audio.to_pcm(wet + 5 * rng.standard_normal(far.size))


def user_over(mic: Pcm, name: str, at_ms: int, level_dbfs: float) -> Pcm:
    said = audio.read(DATA / f"{name}.flac", 16000)
    said = audio.scaled(said, level_dbfs - audio.level_dbfs(said))[: mic.size - 16 * at_ms]
    out = mic.astype(np.float64)
    out[16 * at_ms : 16 * at_ms + said.size] += said
    return audio.to_pcm(out)
