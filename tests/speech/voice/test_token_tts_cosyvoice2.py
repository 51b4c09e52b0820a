"""CosyVoice 2 as one engine: a tiny checkpoint in the published layout, from folder to sound.

The golden sets are joined to one folder. Their speech vocabulary has 150 ids and the tokenizer's
6561, so the reference's tokens are folded; the tiny LM has no text tokenizer, so one is made.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
pytest.importorskip("num2words")

from parley_speech.codec.cosyvoice2 import flow_stream  # noqa: E402
from parley_speech.token_voice import DecoderWork  # noqa: E402
from parley_speech.tts.cosyvoice2 import CosyVoice2Synthesizer  # noqa: E402
from parley_speech.tts.cosyvoice2_settings import CosyVoice2Settings  # noqa: E402
from parley_speech.types import EngineUnavailable, WordMark  # noqa: E402
from parley_speech.voices import conditioning  # noqa: E402
from parley_speech.voices.encoders import SpeechTokenizer  # noqa: E402
from parley_speech.voices.library import UnknownVoice, VoiceLibrary  # noqa: E402
from parley_speech.voices.licences import LicenceRefused  # noqa: E402
from speech.voice.golden_files import GOLDEN  # noqa: E402
from speech.voice.recordings import saved, speech  # noqa: E402

VOCABULARY = 150
TEXT = "Hello there, it costs $5 today."


def _write_text_tokenizer(folder: Path) -> None:
    """One id per printable ASCII character: the tiny LM knows 160, marks included."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = {chr(code): code - 33 for code in range(33, 127)} | {"Ġ": 94}
    made = Tokenizer(models.BPE(vocab=letters, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("checkpoint") / "CosyVoice2-tiny"
    shutil.copytree(GOLDEN / "cosyvoice2-llm" / "CosyVoice-BlankEN", folder / "CosyVoice-BlankEN")
    _write_text_tokenizer(folder / "CosyVoice-BlankEN")
    for part, name in (
        ("cosyvoice2-llm", "cosyvoice2.yaml"),
        ("cosyvoice2-llm", "llm.pt"),
        ("cosyvoice2-flow", "flow.pt"),
        ("cosyvoice2-hift", "hift.pt"),
        ("campplus", "campplus.onnx"),
        ("s3tokenizer-v2", "speech_tokenizer_v2.onnx"),
    ):
        shutil.copy(GOLDEN / part / name, folder / name)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home: Path = tmp_path_factory.mktemp("voices")
    library = VoiceLibrary(home)
    for name, seconds in (("anna", 3.2), ("bert", 3.6)):
        library.add(
            name,
            saved(home.parent / "recordings", speech(seconds), name=f"{name}.wav"),
            text="And it is worth mention in passing that,",
            language="en",
            licence="public domain",
            consent="LJ Speech, public domain",
        )
    return home


class _Folded(SpeechTokenizer):
    def __call__(self, samples: Any) -> tuple[int, ...]:
        return tuple(token % VOCABULARY for token in super().__call__(samples))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(conditioning, "SpeechTokenizer", _Folded)


def _engine(checkpoint: Path, voices: Path, cache: Path, **more: Any) -> CosyVoice2Synthesizer:
    settings = CosyVoice2Settings(warm_up=False)
    options: dict[str, Any] = {"voices": voices, "engine": "transformers", "settings": settings}
    options["cache"] = cache
    return CosyVoice2Synthesizer(checkpoint, **{**options, "device": "cpu", **more})


async def test_from_a_folder_to_sound_and_words(
    checkpoint: Path, voices: Path, tmp_path: Path
) -> None:
    engine = _engine(checkpoint, voices, tmp_path, voice="bert")
    await engine.start()
    await engine.start()
    assert engine.voices() == ["bert", "anna"]
    kept: list[list[int]] = []
    assert engine._engine is not None
    decoder = engine._engine.decoder
    step = decoder.step

    def listening(work: Any) -> Any:
        kept.extend(list(part.tokens) for part in work)
        return step(work)

    decoder.step = listening  # type: ignore[method-assign]
    try:
        stream = engine.stream()
        for delta in (TEXT[:7], TEXT[7:20], TEXT[20:]):
            stream.push(delta)
        stream.end()
        chunks = [chunk async for chunk in stream]
    finally:
        del decoder.step
    marks = [mark for chunk in chunks for mark in chunk.marks]
    _check_marks(marks)
    tokens = [token for piece in kept for token in piece]
    pcm = np.concatenate([chunk.pcm for chunk in chunks])
    assert len(tokens) >= 2
    assert abs(len(pcm) - 960 * len(tokens)) <= 120
    assert marks[-1].end == len(pcm)

    whole = await asyncio.wrap_future(engine._engine.decoding.do(lambda: _decoded(engine, tokens)))
    middle = slice(240, min(len(pcm), len(whole)) - 240)
    assert np.abs(pcm[middle] / 32767 - whole[middle]).max() < 2e-3
    assert await _samples(engine, voice="anna") > 0
    assert await _samples(engine, instructions="speak calmly") > 0
    with pytest.raises(KeyError, match="there are: bert, anna"):
        engine.stream(voice="carl")
    await engine.aclose()
    with pytest.raises(RuntimeError, match="await start"):
        engine.stream()


def _check_marks(marks: list[WordMark]) -> None:
    assert [mark.text for mark in marks] == TEXT.split()
    for mark in marks:
        assert TEXT[mark.char_start : mark.char_end] == mark.text
    assert all(a.end <= b.start for a, b in pairwise(marks))


def _decoded(engine: CosyVoice2Synthesizer, tokens: list[int]) -> Any:
    """All tokens in one step of the same decoder."""
    assert engine._engine is not None
    decoder = engine._engine.decoder
    call = decoder.open(engine._engine.prompt)
    try:
        return decoder.step([DecoderWork(call, tokens, last=True)])[0]
    finally:
        decoder.close(call)


async def _samples(engine: CosyVoice2Synthesizer, **voice: str) -> int:
    stream = engine.stream(**voice)
    stream.push("Yes.")
    stream.end()
    return sum([len(chunk.pcm) async for chunk in stream])


async def test_cancelled_streams_give_everything_back(
    checkpoint: Path, voices: Path, tmp_path: Path
) -> None:
    engine = _engine(checkpoint, voices, tmp_path)
    await engine.start()
    assert engine._engine is not None
    for number in range(6):
        stream = engine.stream()
        stream.push("Some words that are never heard to their end, are they? ")
        if number % 2:
            await anext(aiter(stream))
        await stream.aclose()
    load = engine._engine.lm.load  # type: ignore[attr-defined]
    assert load.running == 0, load
    await asyncio.wrap_future(engine._engine.decoding.do(lambda: None))
    assert engine._engine.decoding.calls == 0
    await engine.aclose()


async def test_the_first_caller_finds_everything_warm(
    checkpoint: Path, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the end of the start both voices are decoded, and a chunk has been made and thrown away:
    a caller's own first chunk is all that is computed for him."""
    warm = _engine(checkpoint, voices, tmp_path, settings=CosyVoice2Settings())
    await warm.start()
    passes = 0
    advance = flow_stream.advance

    def counted(flow: Any, calls: Any, **options: Any) -> Any:
        nonlocal passes
        passes += len(calls)
        return advance(flow, calls, **options)

    assert warm._engine is not None
    decoding, decoder = warm._engine.decoding, warm._engine.decoder
    await asyncio.wrap_future(decoding.do(lambda: None))  # what was cancelled is closed by now
    assert decoding.calls == 0
    monkeypatch.setattr(flow_stream, "advance", counted)
    for voice in ("anna", "bert"):
        ready = partial(decoder.prepare, warm._prompt(voice))  # type: ignore[attr-defined]
        await asyncio.wrap_future(decoding.do(ready))
    assert passes == 0
    await warm.aclose()

    cold = _engine(checkpoint, voices, tmp_path)
    await cold.start()
    assert passes == 1  # the reference of the first voice: three whole seconds in one go
    await cold.aclose()


async def test_what_fails_at_the_start_leaves_no_engine_behind(
    checkpoint: Path, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _engine(checkpoint, voices, tmp_path, settings=CosyVoice2Settings())

    async def failing(*_: Any) -> None:
        raise EngineUnavailable("no warm-up today")

    monkeypatch.setattr(engine, "_warm_up", failing)
    with pytest.raises(EngineUnavailable, match="no warm-up today"):
        await engine.start()
    assert not [t for t in threading.enumerate() if t.name == "token-decoder"]
    with pytest.raises(RuntimeError, match="await start"):
        engine.stream()


# --- what is missing ------------------------------------------------------------------------


async def test_without_a_voice_it_says_how_to_add_one(checkpoint: Path, tmp_path: Path) -> None:
    engine = _engine(checkpoint, tmp_path / "none", tmp_path)
    with pytest.raises(EngineUnavailable, match="parley voices add"):
        await engine.start()


async def test_an_unknown_voice_and_an_unknown_engine(
    checkpoint: Path, voices: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownVoice, match="there are: anna, bert"):
        await _engine(checkpoint, voices, tmp_path, voice="carl").start()
    with pytest.raises(ValueError, match="expected auto, vllm or transformers"):
        _engine(checkpoint, voices, tmp_path, engine="magic")


async def test_a_voice_under_a_licence_that_forbids_it(
    checkpoint: Path, voices: Path, tmp_path: Path
) -> None:
    home = tmp_path / "voices"
    shutil.copytree(voices, home)
    card = home / "bert" / "voice.yaml"
    card.write_text(card.read_text().replace("public domain", "CC-BY-NC-4.0", 1))
    with pytest.raises(LicenceRefused, match=r"voice 'bert'.*excludes commercial use"):
        await _engine(checkpoint, home, tmp_path).start()


async def test_weights_of_another_model_are_named(
    checkpoint: Path, voices: Path, tmp_path: Path
) -> None:
    for name in ("flow.pt", "hift.pt", "llm.pt"):
        folder = tmp_path / name
        shutil.copytree(checkpoint, folder)
        torch.save({"something.weight": torch.zeros(3)}, folder / name)
        with pytest.raises((EngineUnavailable, RuntimeError), match=name.replace(".", r"\.")):
            await _engine(folder, voices, tmp_path / "cache").start()


async def test_a_damaged_speech_tokenizer_is_named(
    checkpoint: Path, voices: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(checkpoint, folder)
    broken = folder / "speech_tokenizer_v2.onnx"
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"speech_tokenizer_v2\.onnx .*truncated"):
        await _engine(folder, voices, tmp_path / "cache").start()


def test_the_tiny_tokenizer_fits_the_tiny_model(checkpoint: Path) -> None:
    from parley_speech.lm.words import COSYVOICE2_MARKS, TextTokenizer

    loaded = TextTokenizer.load(checkpoint / "CosyVoice-BlankEN", COSYVOICE2_MARKS)
    assert loaded is not None
    config = json.loads((checkpoint / "CosyVoice-BlankEN" / "config.json").read_text())
    assert max(loaded.encode("Hello <|endofprompt|>[mn] world~")) < config["vocab_size"]
