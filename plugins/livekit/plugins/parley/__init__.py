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
    from livekit.plugins.parley.room_start import start
    from livekit.plugins.parley.session_fit import (
        SessionWouldFight,
        full_duplex_session,
        session_options,
    )
    from livekit.plugins.parley.stt import STT
    from livekit.plugins.parley.tts import TTS
    from livekit.plugins.parley.vad import VAD

# No module may be named as what it offers: importing it would put the module in its place here.
_WHERE = {
    "FullDuplex": "full_duplex",
    "RoomOutput": "room_output",
    "SessionWouldFight": "session_fit",
    "full_duplex_session": "session_fit",
    "session_options": "session_fit",
    "start": "room_start",
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
    """Loads what is asked for: neither should the VAD alone cost a whole engine, nor the command
    line the seconds that importing livekit.agents takes."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    import_module(f"{__name__}.plugin")  # LiveKit must know the plugin before it is used
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
