"""Which recogniser is taken where nobody names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from parley_speech.asr import child, choice
from parley_speech.asr.moonshine import recognizer


@pytest.mark.parametrize(
    ("model", "engine"), [(Path("some/folder"), "moonshine"), (None, "pocketsphinx")]
)
def test_moonshine_where_its_model_is(
    monkeypatch: pytest.MonkeyPatch, model: Path | None, engine: str
) -> None:
    monkeypatch.setattr(recognizer, "find_model", lambda: model)
    assert choice.usual() == engine
    assert choice.resolved(choice.AUTO) == engine
    assert engine in child.ENGINES


@pytest.mark.parametrize("name", ["moonshine", "pocketsphinx", "somebody's own"])
def test_a_name_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(recognizer, "find_model", lambda: pytest.fail("nobody asked"))
    assert choice.resolved(name) == name
