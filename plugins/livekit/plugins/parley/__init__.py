"""Parley for LiveKit: a full-duplex agent as the model of an ordinary AgentSession.

    from livekit.agents import AgentSession
    from livekit.plugins import parley

    session = AgentSession(llm=parley.FullDuplex(), **parley.session_options())

``VAD``, ``STT`` and ``TTS`` are ordinary plugins, usable alone in a stock session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livekit.plugins.parley.version import __version__

if TYPE_CHECKING:
    from livekit.plugins.parley.full_duplex import FullDuplex
    from livekit.plugins.parley.room_output import RoomOutput
    from livekit.plugins.parley.session_options import (
        SessionWouldFight,
        full_duplex_session,
        session_options,
    )
    from livekit.plugins.parley.start import start
    from livekit.plugins.parley.stt import STT
    from livekit.plugins.parley.tts import TTS
    from livekit.plugins.parley.vad import VAD

_WHERE = {
    "FullDuplex": "full_duplex",
    "RoomOutput": "room_output",
    "SessionWouldFight": "session_options",
    "full_duplex_session": "session_options",
    "session_options": "session_options",
    "start": "start",
    "STT": "stt",
    "TTS": "tts",
    "VAD": "vad",
}

__all__ = [
    "STT",
    "TTS",
    "VAD",
    "FullDuplex",
    "RoomOutput",
    "SessionWouldFight",
    "__version__",
    "full_duplex_session",
    "session_options",
    "start",
]


def __getattr__(name: str) -> Any:
    """Loads what is asked for: the VAD alone should not cost a whole engine."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def _register() -> None:
    """Announce the plugin, so that ``python -m livekit.agents download-files`` knows it."""
    from livekit.agents import Plugin

    from livekit.plugins.parley.log import logger

    class ParleyPlugin(Plugin):
        def __init__(self) -> None:
            super().__init__(__name__, __version__, __package__ or __name__, logger)

    Plugin.register_plugin(ParleyPlugin())


_register()
