"""A voice that speaks on speech servers: `RemoteSynthesizer`, and `voice_of` a name or address.

What the connection needs (the extra ``remote``) is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parley_speech import registry
from parley_speech.types import EngineUnavailable, Synthesizer

if TYPE_CHECKING:
    from parley_speech.remote.synthesizer import RemoteSynthesizer

__all__ = ["RemoteSynthesizer", "is_url", "voice_of"]


def is_url(voice: str) -> bool:
    """Is this the address of speech servers rather than the name of an engine?"""
    return "://" in voice


def voice_of(voice: str) -> Synthesizer:
    """The voice that a setting names: an engine's name, or the address of speech servers as
    `RemoteSynthesizer.from_url` takes it.

    Raises EngineUnavailable for what is not installed, ValueError for a bad address."""
    if is_url(voice):
        return _remote().from_url(voice)
    engine: Synthesizer = registry.load("tts", voice)()
    return engine


def _remote() -> type[RemoteSynthesizer]:
    try:
        from parley_speech.remote.synthesizer import RemoteSynthesizer
    except ImportError as error:
        raise EngineUnavailable(
            f"a voice on a speech server needs {error.name}: pip install parley[remote]"
        ) from error
    return RemoteSynthesizer


def __getattr__(name: str) -> Any:
    if name == "RemoteSynthesizer":
        return _remote()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
