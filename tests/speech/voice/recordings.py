"""Recordings for the voice tests, made from the repository's read speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parley_speech.audio import read, write

AUDIO = Path(__file__).parents[2] / "data" / "audio"
HZ = 24_000
Pcm = NDArray[np.int16]


def speech(seconds: float = 8.0) -> Pcm:
    """Read speech at 24 kHz, repeated where more is wanted than there is."""
    clip = read(AUDIO / "read_lj001_0006.flac", HZ)
    return np.resize(clip, round(seconds * HZ))


def noisy(pcm: Pcm, snr_db: float) -> Pcm:
    """White noise so far below the speech's own level, silences not counted."""
    from parley_speech.audio import to_pcm
    from parley_speech.voices.reference import assess

    level = 10 ** ((assess(pcm, HZ).level_dbfs - snr_db) / 20) * 32768
    return to_pcm(pcm + np.random.default_rng(7).standard_normal(pcm.size) * level)


def saved(folder: Path, pcm: NDArray[np.int16], rate_hz: int = HZ, name: str = "it.wav") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / name, pcm, rate_hz)
    return folder / name
