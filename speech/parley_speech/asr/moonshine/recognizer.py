"""Recognition with Moonshine tiny, a neural model for the CPU, in supervised child processes.

The model (Moonshine AI, 27 million parameters, English, MIT licence) comes inside the wheel
``moonshine-voice``, which is found and not imported, or from anywhere as a folder. In open English
it is several times more often right than pocketsphinx and costs a tenth; in a grammar a beam search
finds the likeliest sentence that is allowed. docs/recognition.md has the figures.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path

from parley_speech.asr.moonshine.model import DECODER
from parley_speech.asr.process import ChildRecognizer
from parley_speech.types import EngineUnavailable

VARIABLE = "PARLEY_MOONSHINE"
"""Environment variable with a folder of the model's three files."""
PACKAGE = "moonshine_voice"
INSIDE = "assets/tiny-en"
HELP = (
    "the Moonshine model is not here: pip install 'parley[moonshine]', or set "
    f"{VARIABLE} to a folder with encoder_model.ort, decoder_model_merged.ort and tokenizer.bin"
)


class MoonshineRecognizer(ChildRecognizer):
    """Recognises English for any number of streams, in ``workers`` child processes of about
    200 MB; a stream costs next to no memory. ``threads``: of each worker."""

    def __init__(self, *, folder: Path | None = None, workers: int = 1, threads: int = 1) -> None:
        self._folder = folder or find_model()
        super().__init__("moonshine", {"folder": str(self._folder), "threads": threads}, workers)

    def _check(self) -> None:
        if self._folder is None or not (self._folder / DECODER).is_file():
            raise EngineUnavailable(HELP)


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
