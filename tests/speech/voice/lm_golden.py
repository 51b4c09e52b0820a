"""The tiny CosyVoice 2 token LM and what upstream's code made of it (tests/data/golden)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parley_speech.lm.cosyvoice2 import CosyVoice2Lm, SpeechOptions
from parley_speech.lm.interleave import Quirks
from parley_speech.lm.segments import GREEDY, RAS

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "golden" / "cosyvoice2-llm"


@cache
def cases() -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    return dict(load_file(GOLDEN / "cases.safetensors"))


def ids(name: str) -> list[int]:
    return [int(token) for token in cases()[f"lm/{name}"].reshape(-1)]


def pieces() -> list[list[int]]:
    """The text of the cases in pieces of the stored sizes."""
    text, cut = iter(ids("in/text")), ids("in/pieces")
    return [[next(text) for _ in range(size)] for size in cut]


def draws_by_token(case: str, uniforms: str, *, window: int = 10) -> list[tuple[float, ...]]:
    """The stored random numbers, dealt to the tokens that took them.

    Walks upstream's rule over the case's own logits: a slow loop over one row at a time, written
    from the README, so it also is the reference that `sampling.draw` is checked against.
    """
    stream = iter(cases()[f"lm/in/{uniforms}"].tolist())
    dealt: list[tuple[float, ...]] = []
    for _, _, _, used in reference_ras(case, lambda: next(stream)):
        dealt.append(used)
    return dealt


def reference_ras(
    case: str, draw: Any
) -> list[tuple[int, NDArray[np.float64], list[int], tuple[float, ...]]]:
    """(token, scores, tokens before it, numbers used) for every LM call of a case that sampled.

    A call whose token was forced gives the fill token and uses no number.
    """
    logits = cases()[f"lm/{case}/logits"].astype(np.float64)
    eos = logits.shape[1] - 3
    fill = eos + 2
    interleaved = "bi" in case
    text = len(ids("in/text"))
    blocks = text // 5 if interleaved else 0
    said: list[int] = []
    result = []
    fills, room = 0, 15
    for row in logits:
        last = fills == blocks if interleaved else True
        scores = row.copy()
        if (interleaved and not last) or (not interleaved and len(said) < 2 * text):
            scores[eos] = -np.inf
        if interleaved and not last and room == 0:
            token, used = fill, ()
        else:
            token, used = one_draw(scores, said, draw)
        result.append((token, scores, list(said), used))
        said.append(token)
        room -= 1
        if token == fill:
            fills, room = fills + 1, 15
    return result


def one_draw(
    scores: NDArray[np.float64], said: Sequence[int], draw: Any
) -> tuple[int, tuple[float, ...]]:
    p = softmax(scores)
    order = np.argsort(-p, kind="stable")
    kept, gathered = [], 0.0
    for token in order:
        if gathered >= 0.8 or len(kept) >= 25:
            break
        kept.append(int(token))
        gathered += p[token]
    first = draw()
    token = kept[pick(p[kept], first)]
    if list(said[-10:]).count(token) < 1:
        return token, (first,)
    others = scores.copy()
    others[token] = -np.inf
    second = draw()
    return pick(softmax(others), second), (first, second)


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(scores - scores.max())
    return e / e.sum()


def pick(p: NDArray[np.float64], u: float) -> int:
    return int((np.cumsum(p / p.sum()) <= u).sum())


@dataclass(frozen=True)
class Case:
    """One stored case, and how to come by it."""

    name: str
    options: SpeechOptions
    prompt: bool = False
    text: int = 23
    uniforms: str = ""

    @property
    def pieces(self) -> list[list[int]]:
        """One id at a time, as upstream's front end gives them, or the stored pieces."""
        return pieces() if self.name == "bi_pieces" else [[i] for i in ids("in/text")[: self.text]]


UPSTREAM = Quirks(stale_token=True, one_block_per_piece=True, drop_prompt=True)
WHOLE = SpeechOptions(rule=GREEDY, whole_text=True)
INTERLEAVED = SpeechOptions(rule=GREEDY)
INTERLEAVED_AS_UPSTREAM = SpeechOptions(rule=GREEDY, quirks=UPSTREAM)
CASES = (
    Case("uni", WHOLE, prompt=True),
    Case("uni_noprompt", WHOLE),
    Case("bi_fixed", INTERLEAVED, prompt=True),
    Case("bi_noprompt_fixed", INTERLEAVED),
    Case("bi_short", INTERLEAVED, text=3),
    Case("bi", INTERLEAVED_AS_UPSTREAM, prompt=True),
    Case("bi_noprompt", INTERLEAVED_AS_UPSTREAM),
    Case("bi_pieces", INTERLEAVED_AS_UPSTREAM),
    Case("ras", SpeechOptions(rule=RAS, whole_text=True), prompt=True, uniforms="ras_u"),
    Case("ras_bi", SpeechOptions(rule=RAS, quirks=UPSTREAM), uniforms="ras_bi_u"),
)


async def speak(lm: CosyVoice2Lm, case: Case) -> list[int]:
    """All tokens of a case."""
    prompt = (ids("in/prompt_text"), ids("in/prompt_speech")) if case.prompt else ((), ())
    draws = draws_by_token(case.name, case.uniforms) if case.uniforms else ()
    stream = lm.utterance_of_ids(*prompt, draws=draws)
    for piece in case.pieces:
        stream.push_ids(piece)
    stream.end()
    try:
        return [token async for tokens in stream for token in tokens]
    finally:
        await stream.aclose()


def tensors(folder: Path) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    return dict(load_file(folder / "model.safetensors"))
