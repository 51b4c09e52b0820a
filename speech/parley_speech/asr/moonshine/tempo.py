"""Does a sentence fit the time for which somebody spoke?

A text decoder may stop early or run on, and a grammar that allows "hello" finds it in a whole
question that was misheard. So sentences that would have been said far too slowly or too quickly
lose nats. People and synthesisers speak 10 to 20 letters a second, digits half as fast.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from parley_speech.types import FRAME_MS, MIC_FRAME

SLOWEST_MS, FASTEST_MS = 140, 30
"""A letter."""
SPARE_MS = 450
"""What a slow sentence may take besides: a hesitation, the length of a single word."""
NATS_PER_S = 4.0
LOUD_DB = 30.0
"""Below the loudest frames, and 6 dB above the quietest: what sounds there is the voice."""
QUIETEST_DB = -65.0
"""A line that is muted has no voice."""
ABOVE_QUIET_DB = 6.0


def log_fit(letters: int, sounding_ms: float) -> float:
    """Nats, 0 or below, for so many letters in a voice that sounded so long."""
    late = sounding_ms - SLOWEST_MS * letters - SPARE_MS
    early = FASTEST_MS * letters - sounding_ms
    return -NATS_PER_S * max(late, early, 0.0) / 1000


def levels_db(pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """RMS of each whole frame of 20 ms, in dB below full scale."""
    whole = pcm[: len(pcm) // MIC_FRAME * MIC_FRAME].astype(np.float64).reshape(-1, MIC_FRAME)
    power = np.mean(whole**2, axis=1)
    out: npt.NDArray[np.float64] = 10 * np.log10(power + 1.0) - 90.3
    return out


def sounding(levels: npt.NDArray[np.float64], loudest_db: float = -100.0) -> npt.NDArray[np.bool_]:
    """Which of these frames hold the voice. ``loudest_db``: of what the same voice said before."""
    if not len(levels):
        return np.zeros(0, bool)
    loudest = max(loud_db(levels), loudest_db)
    bar = max(loudest - LOUD_DB, float(np.percentile(levels, 5)) + ABOVE_QUIET_DB)
    out: npt.NDArray[np.bool_] = levels >= max(min(bar, loudest), QUIETEST_DB)
    return out


def loud_db(levels: npt.NDArray[np.float64]) -> float:
    """The level of the loudest twentieth of these frames."""
    return float(np.percentile(levels, 95))


def sounding_ms(loud: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(loud)) * FRAME_MS
