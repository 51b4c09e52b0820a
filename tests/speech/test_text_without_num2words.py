"""The text front end where num2words is not installed."""

from __future__ import annotations

import pytest

from parley_speech.text import Spoken, TextFrontEnd
from parley_speech.types import EngineUnavailable


@pytest.fixture(autouse=True)
def _not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "num2words", None)


def test_it_says_what_to_install() -> None:
    with pytest.raises(EngineUnavailable, match=r"pip install .*parley.text.*normalise=False"):
        TextFrontEnd("en")


@pytest.mark.parametrize(("language", "normalise"), [("en", False), ("zh", True)])
def test_it_works_where_no_figure_is_read(language: str, normalise: bool) -> None:
    front_end = TextFrontEnd(language, normalise=normalise)
    pieces = [*front_end.push("**5** cats "), *front_end.end()]
    assert "".join(p.text for p in pieces if isinstance(p, Spoken)) == "5 cats "
