"""Which recogniser to take where nobody names one."""

from __future__ import annotations

from parley_speech.asr.moonshine import recognizer

AUTO = "auto"


def usual() -> str:
    """Moonshine where its model is, which understands far more; else pocketsphinx, which is in
    every installation."""
    return "moonshine" if recognizer.find_model() is not None else "pocketsphinx"


def resolved(name: str) -> str:
    """``auto`` as the name of an engine; any other name as it is."""
    return usual() if name == AUTO else name
