"""Random numbers by position instead of by order.

A draw depends on the utterance's seed, the number of its token and the number of the draw for that
token, on nothing else: so it is the same on every engine, whatever else is in the batch, after a
pre-emption, and when an engine computes a step ahead and throws it away.
"""

from __future__ import annotations

from parley_speech.lm.segments import Dice

_MASK = (1 << 64) - 1
DRAWS = 2
"""The most that one token takes: one from the nucleus, one from the whole distribution."""


def _mix(value: int) -> int:
    """The output function of SplitMix64 (Steele, Lea, Flood 2014)."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)


def uniform(seed: int, step: int, draw: int) -> float:
    """A number in [0, 1), 53 bits."""
    stream = _mix((seed & _MASK) + 0x9E3779B97F4A7C15 & _MASK)
    state = (stream + 0x9E3779B97F4A7C15 * (step * DRAWS + draw + 1)) & _MASK
    return (_mix(state) >> 11) / (1 << 53)


def numbers(dice: Dice, step: int) -> tuple[float, float]:
    """Both numbers for token ``step``."""
    if dice.table:
        # A step computed ahead of its stop token may look beyond the recording.
        row = dice.table[step] if step < len(dice.table) else ()
        return (row[0] if row else 0.5, row[1] if len(row) > 1 else 0.5)
    return (uniform(dice.seed, step, 0), uniform(dice.seed, step, 1))
