"""Hearing and speaking: voice activity, echo, recognition, synthesis.

This floor knows no dialogue and no LiveKit rooms (it may use ``livekit.rtc``'s audio
processing as a library). See ``parley_speech.types`` for the contracts every engine meets.
"""

from __future__ import annotations
