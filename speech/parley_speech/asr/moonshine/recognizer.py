"""Recognition with Moonshine tiny, a neural model for the CPU, in supervised child processes.

The model (Moonshine AI, 27 million parameters, English, MIT licence) comes inside the wheel
``moonshine-voice``, which is found and not imported, or from anywhere as a folder. In open English
it is several times more often right than pocketsphinx and costs a tenth; in a grammar a beam search
finds the likeliest sentence that is allowed. docs/recognition.md has the figures.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from pathlib import Path

from parley_speech.asr.moonshine.model import DECODER
from parley_speech.asr.process import ChildRecognizer
from parley_speech.types import EngineUnavailable
from parley_speech.voices.licences import LicenceRefused, check_licence

VARIABLE = "PARLEY_MOONSHINE"
"""Environment variable with a folder of the model's three files."""
LICENCE = "PARLEY_MOONSHINE_LICENCE"
"""... with the licence of a model that is not the English one of the wheel: Moonshine's models of
other languages have another one, which is not for every use."""
PACKAGE = "moonshine_voice"
INSIDE = "assets/tiny-en"
KNOWN = {"cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0": "MIT"}
"""Licences of decoders, by the SHA-256 of their file: tiny-en of the wheels up to 0.1.0."""
HELP = (
    "the Moonshine model is not here: pip install 'parley[moonshine]', or set "
    f"{VARIABLE} to a folder with encoder_model.ort, decoder_model_merged.ort and tokenizer.bin"
)


class MoonshineRecognizer(ChildRecognizer):
    """Recognises English for any number of streams, in ``workers`` child processes of about
    220 MB; a stream costs next to no memory, and a tenth of a core in a call. None: a worker for
    every four cores, at most four. ``threads``: of each worker. ``licence`` of the model, where it
    is another one than the wheel's."""

    def __init__(
        self,
        *,
        folder: Path | None = None,
        workers: int | None = None,
        threads: int = 1,
        licence: str | None = None,
    ) -> None:
        self._folder = folder or find_model()
        self._licence = licence or os.environ.get(LICENCE, "")
        options = {"folder": str(self._folder), "threads": threads}
        super().__init__("moonshine", options, usual_workers() if workers is None else workers)

    def _check(self) -> None:
        if self._folder is None or not (self._folder / DECODER).is_file():
            raise EngineUnavailable(HELP)
        digest = hashlib.sha256((self._folder / DECODER).read_bytes()).hexdigest()
        try:
            check_licence(KNOWN.get(digest, self._licence), f"the model in {self._folder}")
        except LicenceRefused as refusal:
            raise EngineUnavailable(f"{refusal} ({LICENCE} states it)") from refusal


def usual_workers() -> int:
    """One for every four cores, at least one and at most four."""
    return min(max((os.cpu_count() or 1) // 4, 1), 4)


@functools.cache
def find_model() -> Path | None:
    """Named by the environment, or inside an installed ``moonshine-voice``."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(place) / INSIDE
        if (folder / DECODER).is_file():
            return folder
    return None
