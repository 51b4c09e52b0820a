"""Recognition with pocketsphinx in supervised child processes (see ``process``).

What it can and cannot do: with a grammar it is dependable on clear voices, on the telephone as
well. Open English is for orientation only: about 30 % of the words are wrong on studio speech at
16 kHz, and on the telephone band (8 kHz) two words of three: do not use it there. A child takes
about 160 MB with its first stream and 75 MB for every other stream at the same time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from parley_speech.asr import lexicon
from parley_speech.asr.process import ChildRecognizer
from parley_speech.types import EngineUnavailable


class PocketsphinxRecognizer(ChildRecognizer):
    """Recognises English for any number of streams, in ``workers`` child processes.

    ``pronunciations`` maps words to phones of the CMU dictionary ("parley": "P AA R L IY"); words
    in no dictionary are guessed, with a warning. ``fwdflat`` adds the decoder's second pass: 0.2
    points less of word errors for ten times the time to a final. ``decoder`` holds further options
    of pocketsphinx.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        fwdflat: bool = False,
        pronunciations: Mapping[str, str] | None = None,
        decoder: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        known = {w.lower(): lexicon.check_phones(w, p) for w, p in (pronunciations or {}).items()}
        options = {"pronunciations": known, "decoder": {"fwdflat": fwdflat, **(decoder or {})}}
        super().__init__("pocketsphinx", options, workers)

    def _check(self) -> None:
        if importlib.util.find_spec("pocketsphinx") is None:
            raise EngineUnavailable("pocketsphinx is not installed: pip install pocketsphinx")
