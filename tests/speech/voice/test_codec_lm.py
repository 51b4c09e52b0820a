"""A codec LM is a recipe of data: Orpheus' on a tiny Llama, and its tokens through SNAC."""

from __future__ import annotations

import asyncio
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from codec_lm_tiny import RECIPE, TEXT, make_llama, said  # noqa: E402

from parley_speech.codec_lm.engine import CodecLm, PromptPlan, TemplateText  # noqa: E402
from parley_speech.codec_lm.recipe import ORPHEUS, RECIPES, levels  # noqa: E402
from parley_speech.lm.errors import LmError, UtteranceTooLong  # noqa: E402
from parley_speech.lm.sampling import Row, draw  # noqa: E402
from parley_speech.lm.segments import Dice  # noqa: E402
from parley_speech.lm.transformers_engine import (  # noqa: E402
    TransformersEngine,
    TransformersOptions,
)
from parley_speech.token_voice import TokenPrompt  # noqa: E402

SNAC = Path(__file__).resolve().parents[2] / "data" / "golden" / "snac-orpheus"
ENDING = (0, 1, 2, 5)
"""Seeds with which the tiny model comes to an end within its context."""
VOICE = TokenPrompt("tara", "", (), np.zeros((0, 80), np.float32), np.zeros(0, np.float32))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_llama(tmp_path_factory.mktemp("llama"))


async def started(folder: Path, context: int = 256) -> CodecLm:
    lm = CodecLm(RECIPE, folder, TransformersEngine(folder, TransformersOptions(context=context)))
    await lm.start()
    return lm


def test_orpheus_as_published():
    assert RECIPES["orpheus"] is ORPHEUS
    assert ORPHEUS.slots == 7 and ORPHEUS.window == (3, 3)
    assert ORPHEUS.layout == (0, 1, 2, 2, 1, 2, 2)
    assert ORPHEUS.allowed.low == 128266 and ORPHEUS.allowed.width == 4096
    # The last id of its vocabulary of 156,940 lies behind the last code.
    assert ORPHEUS.audio_offset + ORPHEUS.slots * ORPHEUS.codes == 156_938
    with pytest.raises(FrozenInstanceError):
        ORPHEUS.codes = 1  # type: ignore[misc]


def test_the_prompt_is_its_template_with_voice_and_text():
    asked: list[str] = []

    def encode(text: str) -> list[int]:
        asked.append(text)
        return [7, 8]

    text = TemplateText(ORPHEUS, ORPHEUS.voice("leo"), encode)
    assert text.push("Hel") == text.push("lo {you}") == []
    assert text.end() == [128259, 128000, 7, 8, 128009, 128260, 128261, 128257]
    assert asked == ["leo: Hello {you}"]
    assert TemplateText(ORPHEUS, "leo", encode).end() == []


def test_voices_of_a_recipe():
    assert ORPHEUS.voice("") == "tara"
    with pytest.raises(ValueError, match=r"no voice 'nobody'.*tara"):
        ORPHEUS.voice("nobody")
    assert replace(ORPHEUS, voices=()).voice("anyone") == "anyone"


async def test_whole_frames_only_each_code_of_its_slot(llama: Path):
    lm = await started(llama)
    spoken = await asyncio.gather(*(said(lm, TEXT, seed) for seed in ENDING))
    again = await said(lm, TEXT, ENDING[2])
    await lm.aclose()
    assert spoken[2] == again
    assert len({tuple(tokens) for tokens in spoken}) > 1
    for tokens in spoken:
        assert tokens and len(tokens) % 7 == 0
        assert all(0 <= code < RECIPE.codes for code in tokens)
        assert [len(level) * 7 // len(tokens) for level in levels(tokens, RECIPE.layout)] == [
            1,
            2,
            4,
        ]


async def test_nothing_to_say_says_nothing(llama: Path):
    lm = await started(llama)
    assert await said(lm, [], 1) == []
    await lm.aclose()


async def test_a_full_context_is_an_error_after_what_fits(llama: Path):
    lm = await started(llama, context=len(TEXT) + 12)
    stream = lm.utterance_of_ids(seed=2)
    stream.push_ids(TEXT)
    stream.end()
    got: list[int] = []
    with pytest.raises(UtteranceTooLong, match="split the text"):
        async for tokens in stream:
            got += tokens
    assert 7 <= len(got) <= 12
    with pytest.raises(UtteranceTooLong, match="no room"):
        await said(lm, TEXT + [1] * 10, 2)
    await lm.aclose()


async def test_text_needs_a_tokenizer(llama: Path):
    lm = await started(llama)
    with pytest.raises(LmError, match=r"tokenizer\.json"):
        lm.utterance(VOICE)
    await lm.aclose()


def test_a_plan_waits_for_the_end_of_the_text():
    plan = PromptPlan(RECIPE, 100)
    plan.feed([1, 2])
    assert plan.next() is None
    plan.feed([3])
    plan.end()
    segment = plan.next()
    assert segment is not None and segment.last
    assert segment.feed == (1, 2, 3) and segment.max_tokens == 97
    assert plan.take(RECIPE.audio_offset) == 0
    assert plan.take(RECIPE.audio_offset + RECIPE.codes + 5) == 5
    assert plan.take(RECIPE.ends[0]) is None and plan.finished


def test_the_end_can_be_drawn_between_frames_only():
    width = RECIPE.audio_offset + 7 * RECIPE.codes
    logits = torch.zeros(1, width)
    logits[0, RECIPE.ends[0]] = 50.0
    for step in range(15):
        row = Row(RECIPE.rule, RECIPE.allowed, Dice(1), step, ())
        (token,) = draw(logits, [row]).tolist()
        if step % 7 == 0:
            assert token == RECIPE.ends[0]
        else:
            assert 0 <= RECIPE.code(token, step) < RECIPE.codes


def test_the_repetition_penalty_is_ctrls():
    """With 1.3, a score of 13 becomes 10 and one of -10 becomes -13: both decide the argmax."""
    rule = replace(RECIPE.rule, greedy=True)
    low, width = RECIPE.audio_offset, RECIPE.audio_offset + 7 * RECIPE.codes
    logits = torch.full((2, width), -20.0)
    logits[0, low], logits[0, low + 1] = 13.0, 10.1
    logits[1, low], logits[1, low + 1] = -10.0, -12.9

    def best(recent: tuple[int, ...]) -> list[int]:
        rows = [Row(rule, RECIPE.allowed, Dice(1), 0, recent) for _ in range(2)]
        return draw(logits, rows).tolist()

    assert best(()) == [low, low]
    assert best((low,)) == [low + 1, low + 1]
    assert best((low, low + 1, low)) == [low, low]


async def test_tokens_become_sound(llama: Path):
    """The tiny model's codes through the golden SNAC: every frame sounds."""
    from parley_speech.codec_lm.snac_decoder import SnacDecoder
    from parley_speech.token_voice import DecoderWork

    lm, decoder = await started(llama), SnacDecoder(SNAC, ORPHEUS)
    stream = lm.utterance_of_ids(seed=5)
    stream.push_ids(TEXT)
    stream.end()
    call, samples, count = decoder.open(VOICE), 0, 0
    async for tokens in stream:
        count += len(tokens)
        samples += len(decoder.step([DecoderWork(call, tokens)])[0])
    samples += len(decoder.step([DecoderWork(call, (), last=True)])[0])
    await stream.aclose()
    await lm.aclose()
    assert samples == count // 7 * 2048
