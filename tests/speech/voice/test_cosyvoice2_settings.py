"""How CosyVoice 2 is served: the settings, and what they make of a checkpoint's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

pytest.importorskip("torch")

from parley_speech.text import Spoken
from parley_speech.tts.cosyvoice2 import CosyVoice2Synthesizer
from parley_speech.tts.cosyvoice2_settings import (
    SERVED_LEFT_CHUNKS,
    CosyVoice2Settings,
    left_chunks_of,
    read_pronunciations,
)
from speech.voice.golden_files import GOLDEN

PUBLISHED = GOLDEN / "cosyvoice2-flow"  # its YAML says -1, as the published one does


@pytest.mark.parametrize(("said", "chunks"), [("all", -1), ("-1", -1), ("0", 0), ("7", 7)])
def test_the_past_is_set_by_number_or_word(
    said: str, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_COSYVOICE2_LEFT_CHUNKS", said)
    assert CosyVoice2Settings().left_chunks == chunks


@pytest.mark.parametrize(
    ("name", "value"), [("LEFT_CHUNKS", "-2"), ("LEFT_CHUNKS", "some"), ("DTYPE", "float16")]
)
def test_what_makes_no_sense_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"PARLEY_COSYVOICE2_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        CosyVoice2Synthesizer()


def test_the_environment_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_COSYVOICE2_MODEL", "/models/mine")
    assert CosyVoice2Synthesizer().model == "/models/mine"
    assert CosyVoice2Synthesizer("/models/other").model == "/models/other"


def test_a_bound_of_the_checkpoint_itself_is_kept(tmp_path: Path) -> None:
    assert left_chunks_of(PUBLISHED, SERVED_LEFT_CHUNKS) == SERVED_LEFT_CHUNKS
    assert left_chunks_of(PUBLISHED, -1) == -1
    text = (PUBLISHED / "cosyvoice2.yaml").read_text()
    bounded = text.replace("num_decoding_left_chunks: -1", "num_decoding_left_chunks: 2")
    assert bounded != text
    (tmp_path / "cosyvoice2.yaml").write_text(bounded)
    assert left_chunks_of(tmp_path, SERVED_LEFT_CHUNKS) == 2
    assert left_chunks_of(tmp_path, -1) == 2


def test_pronunciations_come_from_a_file_and_the_caller_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("num2words")
    listed = tmp_path / "said.yaml"
    listed.write_text("SQL: sequel\nnew york: Noo York\n'404': four oh four\n")
    monkeypatch.setenv("PARLEY_COSYVOICE2_PRONUNCIATIONS", str(listed))
    front_end = CosyVoice2Synthesizer(overrides={"SQL": "S Q L"})._front_end("en")
    items = [*front_end.push("SQL in New York gave 404."), *front_end.end()]
    said = "".join(item.text for item in items if isinstance(item, Spoken))
    assert said == "S Q L in Noo York gave four oh four."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("404: not found\n", "404 is not as expected"),
        ("- a\n- b\n", "is not as expected"),
        ("a: [1\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_pronunciations_that_is_none_is_named(
    text: str | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "said.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=rf"said\.yaml.*{words}"):
        read_pronunciations(path)
