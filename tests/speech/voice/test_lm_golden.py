"""The token LM on transformers against upstream's loop: tokens identical, logits to 1e-4."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import lm_golden as golden  # noqa: E402

from parley_speech.lm.convert import merged  # noqa: E402
from parley_speech.lm.cosyvoice2 import SpeechOptions  # noqa: E402
from parley_speech.lm.errors import LmError, UtteranceTooLong  # noqa: E402
from parley_speech.lm.segments import RAS, Rule  # noqa: E402
from parley_speech.lm.transformers_engine import (  # noqa: E402
    CausalLm,
    TransformersOptions,
    TransformersTokenLm,
)
from parley_speech.token_voice import TokenPrompt  # noqa: E402

NOBODY = TokenPrompt("", "", (), np.zeros((0, 80), np.float32), np.zeros(0, np.float32))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


async def started(speech: SpeechOptions | None = None, **options: Any) -> TransformersTokenLm:
    lm = TransformersTokenLm(golden.GOLDEN, TransformersOptions(**options), speech)
    await lm.start()
    return lm


def record_logits(lm: TransformersTokenLm) -> tuple[list[int], list[Any]]:
    """Lengths fed and scores given in every call of the model from now on."""
    weights: Any = lm._engine.weights  # type: ignore[union-attr]
    forward, fed, scores = weights.forward, [], []

    def watched(ids: Sequence[int], cache: Any) -> Any:
        row, grown = forward(ids, cache)
        fed.append(len(ids))
        scores.append(row[0].numpy().copy())
        return row, grown

    weights.forward = watched
    return fed, scores


@pytest.mark.parametrize("case", golden.CASES, ids=lambda case: case.name)
async def test_tokens_calls_and_logits(case: golden.Case):
    lm = await started(case.options)
    fed, scores = record_logits(lm)
    got = await golden.speak(lm, case)
    await lm.aclose()
    assert got == golden.ids(f"{case.name}/tokens")
    assert fed == golden.ids(f"{case.name}/step_input_len")
    want = golden.cases()[f"lm/{case.name}/logits"]
    assert np.abs(np.array(scores) - want).max() / np.abs(want).max() < 1e-4


async def test_the_merged_checkpoint_in_plain_transformers(tmp_path: Any):
    """What the converter writes is upstream's export; its prefix and tokens are the stored ones."""
    folder = merged(golden.GOLDEN, cache=tmp_path)
    weights = CausalLm(folder, "cpu", "float32")
    fed: Sequence[int] = golden.ids("merged/prefix_ids")
    cache, got = None, []
    bias = torch.from_numpy(golden.tensors(folder)["lm_head.bias"])
    while len(got) < len(golden.ids("merged/tokens")):
        scores, cache = weights.forward(fed, cache)
        scores = scores + bias  # stock Qwen 2 has no bias in its head
        if len(got) < 2 * len(golden.ids("in/text")):
            scores[0, 310] = -torch.inf  # eos
        got.append(int(scores.argmax()))
        fed = got[-1:]
    assert got == golden.ids("merged/tokens")


async def test_utterances_side_by_side_are_as_alone():
    lm = await started(golden.CASES[2].options)
    greedy = [case for case in golden.CASES if case.options == golden.CASES[2].options]
    got = await asyncio.gather(*(golden.speak(lm, case) for case in [*greedy, *greedy]))
    await lm.aclose()
    assert got == [golden.ids(f"{case.name}/tokens") for case in [*greedy, *greedy]]


async def test_a_seed_gives_one_utterance_and_another_another():
    lm = await started(SpeechOptions(rule=RAS))

    async def said(seed: int) -> list[int]:
        stream = lm.utterance_of_ids((), (), seed=seed)
        stream.push_ids(golden.ids("in/text"))
        stream.end()
        return [token async for tokens in stream for token in tokens]

    once, again, other = await said(7), await said(7), await said(8)
    await lm.aclose()
    assert once == again != other


async def test_speech_begins_before_the_text_ends():
    lm = await started(SpeechOptions(rule=Rule(greedy=True)))
    stream = lm.utterance_of_ids((), ())
    stream.push_ids(golden.ids("in/text")[:5])
    tokens = aiter(stream)
    first = await asyncio.wait_for(anext(tokens), 60)
    await stream.aclose()
    await lm.aclose()
    assert list(first) == golden.ids("bi_noprompt/tokens")[: len(first)]


async def test_an_utterance_longer_than_the_context_says_so_after_what_fits():
    lm = await started(SpeechOptions(rule=Rule(greedy=True)), context=64)
    stream = lm.utterance_of_ids((), ())
    stream.push_ids(golden.ids("in/text") * 2)
    stream.end()
    got: list[int] = []
    with pytest.raises(UtteranceTooLong, match="context holds 64 tokens"):
        async for tokens in stream:
            got += tokens
    assert len(got) >= 30
    await stream.aclose()
    assert lm.load.running == 0
    await lm.aclose()


async def test_without_tokenizer_files_text_is_refused_and_ids_are_not():
    lm = await started()
    with pytest.raises(LmError, match="tokenizer"):
        lm.utterance(NOBODY)
    stream = lm.utterance_of_ids((), ())
    with pytest.raises(LmError, match="push_ids"):
        stream.push("hello")
    await stream.aclose()
    await lm.aclose()


async def test_a_voice_of_another_speech_tokenizer_is_refused():
    lm = await started()
    with pytest.raises(ValueError, match=r"150 is no speech token: expected 0\.\.149"):
        lm.utterance_of_ids(golden.ids("in/prompt_text"), [150])
    await lm.aclose()


async def test_cancelling_gives_place_and_cache_back():
    lm = await started(SpeechOptions(rule=RAS), slots=1)
    for _ in range(5):
        stream = lm.utterance_of_ids((), ())
        stream.push_ids(golden.ids("in/text"))
        stream.end()
        await asyncio.wait_for(anext(aiter(stream)), 60)
        assert lm.load.running == 1 and lm.load.kv_used > 0
        stream.cancel()
        stream.cancel()
        assert [tokens async for tokens in stream] == []
        await stream.aclose()
        assert lm.load.running == 0 and lm.load.kv_used == 0
    await lm.aclose()
