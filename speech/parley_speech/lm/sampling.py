"""Drawing the next token of many utterances at once: a pure function of scores and numbers.

Both engines sample here, so one seed gives one utterance on either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from parley_speech.lm.dice import numbers
from parley_speech.lm.segments import Allowed, Dice, Rule

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance's part of a step."""

    rule: Rule
    allowed: Allowed
    dice: Dice
    step: int
    """Number of the token to draw, counted from the start of the utterance."""
    recent: Sequence[int]
    """Tokens so far, at least the last `Rule.window`; all of them where a penalty needs them."""


def draw(logits: Tensor, rows: Sequence[Row], *, base: int = 0) -> Tensor:
    """Draws one id for each row.

    logits: (rows, ids) float; column 0 is id ``base``. Not modified.
    Returns ids, (rows,) int64, on the same device.
    """
    import torch

    chosen = torch.empty(len(rows), dtype=torch.int64, device=logits.device)
    order = sorted(range(len(rows)), key=lambda n: _kind(rows[n]))
    for _, group in groupby(order, key=lambda n: _kind(rows[n])):
        picked = list(group)
        index = torch.tensor(picked, device=logits.device)
        chosen[index] = _draw_alike(logits[index].float(), [rows[n] for n in picked], base)
    return chosen


def _kind(row: Row) -> tuple[object, ...]:
    """Rows of one kind are drawn together."""
    a, r = row.allowed, row.rule
    early = a.not_before if row.step < a.from_step else ()
    return (
        *(r.greedy, r.top_p, r.top_k, r.temperature, r.repetition_penalty, r.window, r.tau),
        *(a.low, a.width, a.cycle, a.ends, a.never, early),
    )


def _draw_alike(logits: Tensor, rows: Sequence[Row], base: int) -> Tensor:
    """`draw` for rows of one rule and one set of ids. logits: (n, ids) float32."""
    import torch

    rule, allowed = rows[0].rule, rows[0].allowed
    if rule.repetition_penalty != 1.0:
        logits = _penalise(logits, rows, rule.repetition_penalty, base)
    early = allowed.not_before if rows[0].step < allowed.from_step else ()
    ids, closed = _candidates(allowed, early, str(logits.device))
    phase = torch.tensor([row.step % allowed.cycle for row in rows], device=logits.device)
    ids = ids[phase]  # (n, candidates)
    scores = logits.gather(1, ids - base).masked_fill(closed[phase], float("-inf"))
    if rule.greedy:
        column = scores.argmax(dim=1, keepdim=True)
    else:
        column = _nucleus_then_ras(scores / rule.temperature, ids, rows, rule)
    return ids.gather(1, column).squeeze(1)


@lru_cache(maxsize=256)
def _candidates(
    allowed: Allowed, early: tuple[int, ...], device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids that may be drawn in each phase of the cycle, and which of them are closed there.

    Returns (cycle, candidates) int64, ascending in the range, and the same shape of bool.
    """
    phases = np.arange(allowed.cycle)[:, None]
    spoken = allowed.low + phases * allowed.width + np.arange(allowed.width)
    ends = np.broadcast_to(
        np.array(allowed.ends, dtype=np.int64), (allowed.cycle, len(allowed.ends))
    )
    ids = np.concatenate([spoken, ends], axis=1)
    closed = np.isin(ids, [*allowed.never, *early])
    closed[1:, allowed.width :] = True  # an end is possible only at the start of a cycle
    import torch

    return torch.from_numpy(ids).to(device), torch.from_numpy(closed).to(device)


def _nucleus_then_ras(scores: Tensor, ids: Tensor, rows: Sequence[Row], rule: Rule) -> Tensor:
    """Columns drawn, (n, 1); scores (n, candidates) with -inf where closed."""
    import torch

    drawn = torch.tensor(
        [numbers(row.dice, row.step) for row in rows], dtype=torch.float64, device=scores.device
    )
    column = _from_nucleus(scores.softmax(dim=1), rule, drawn[:, :1])
    if not rule.window or not rule.tau:
        return column
    recent = torch.tensor([_window(row, rule.window) for row in rows], device=scores.device)
    times = (recent == ids.gather(1, column)).sum(dim=1, keepdim=True)
    again = times >= rule.window * rule.tau
    if scores.device.type == "cpu" and not bool(again.any()):
        return column  # on a GPU asking would cost more than the second draw
    others = scores.scatter(1, column, float("-inf")).softmax(dim=1)
    # Where one single id may be drawn, striking it out leaves nothing: then it stays.
    again &= others.isfinite().all(dim=1, keepdim=True)
    return torch.where(again, _invert(others.double(), drawn[:, 1:]), column)


def _from_nucleus(p: Tensor, rule: Rule, u: Tensor) -> Tensor:
    """One draw from the most likely ids: those before which less than ``top_p`` is gathered."""
    import torch

    count = min(rule.top_k or p.shape[1], p.shape[1])
    if count < p.shape[1]:
        top, columns = torch.topk(p, count, dim=1)
    else:
        top, columns = torch.sort(p, dim=1, descending=True, stable=True)
    top = top.double()
    before = top.cumsum(dim=1) - top
    kept = top * (before < rule.top_p)
    return columns.gather(1, _invert(kept, u))


def _invert(weights: Tensor, u: Tensor) -> Tensor:
    """The inverse of the cumulated weights: how many cumulated shares are at or below ``u``.

    weights: (n, m) float64, not normalised; u: (n, 1) in [0, 1). Returns (n, 1) int64.
    """
    total = weights.cumsum(dim=1)
    below = (total / total[:, -1:] <= u).sum(dim=1, keepdim=True)
    # Rounding may leave the last share just under 1: never go beyond the last weight above 0.
    last = (total < total[:, -1:]).sum(dim=1, keepdim=True)
    return below.minimum(last)


def _window(row: Row, length: int) -> list[int]:
    recent = list(row.recent[-length:])
    return recent + [-1] * (length - len(recent))


def _penalise(logits: Tensor, rows: Sequence[Row], penalty: float, base: int) -> Tensor:
    import torch

    seen = [sorted(set(row.recent)) for row in rows]
    longest = max(map(len, seen))
    if not longest:
        return logits
    # Padded with an id of the same row, so that writing it twice writes the same.
    padded = [(ids + ids[:1] * longest)[:longest] if ids else [] for ids in seen]
    some = torch.tensor([n for n, ids in enumerate(padded) if ids], device=logits.device)
    index = torch.tensor([ids for ids in padded if ids], device=logits.device) - base
    picked = logits[some].gather(1, index)
    picked = torch.where(picked > 0, picked / penalty, picked * penalty)
    logits = logits.clone()
    logits[some] = logits[some].scatter(1, index, picked)
    return logits
