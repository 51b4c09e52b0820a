"""Figures in words, by the library num2words (LGPL-2.1, a separate package)."""

from __future__ import annotations

import importlib
import re
from decimal import Decimal
from functools import cache
from typing import Any

from parley_speech.types import EngineUnavailable

MAX_CARDINAL_DIGITS = 15  # longer ones are read digit by digit


class Figures:
    """Figures in the words of one language.

    Raises EngineUnavailable where num2words is not installed, ValueError for a language that it
    does not know (`knows` says so beforehand).
    """

    def __init__(self, language: str) -> None:
        if not self.knows(language):
            raise ValueError(f"num2words has no figures in {language!r}")
        self.language = language

    @staticmethod
    def knows(language: str) -> bool:
        return language in _library().CONVERTER_CLASSES

    def cardinal(self, digits: str) -> str:
        """A whole number, with a sign if need be; over-long ones digit by digit."""
        if len(digits) > MAX_CARDINAL_DIGITS:
            return self.each(digits)
        return self._words(int(digits), "cardinal")

    def ordinal(self, digits: str) -> str:
        return self._words(int(digits), "ordinal")

    def year(self, digits: str) -> str:
        return self._words(int(digits), "year")

    def decimal(self, whole: str, fraction: str, point: str) -> str:
        """Digits after the point are read one by one: 2.05 is "two point zero five"."""
        return f"{self.cardinal(whole)} {point} {self.each(fraction)}"

    def each(self, digits: str) -> str:
        return " ".join(self._words(int(d), "cardinal") for d in digits if d.isdigit())

    def _words(self, number: int, kind: str) -> str:
        return _words(self.language, number, kind)


@cache
def _words(language: str, number: int, kind: str) -> str:
    try:
        text = str(_library().num2words(Decimal(number), lang=language, to=kind))
    except (NotImplementedError, ValueError, TypeError):  # a form that this language has not
        text = str(_library().num2words(Decimal(number), lang=language))
    return re.sub(r"\s+", " ", text.replace(",", "")).strip()


def _library() -> Any:
    try:
        return importlib.import_module("num2words")
    except ImportError as error:
        raise EngineUnavailable(
            "the text front end needs num2words to read figures out: pip install "
            "'parley[text]' (or give the voice normalise=False: figures are then left to the model)"
        ) from error
