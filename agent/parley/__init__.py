"""Parley: a full-duplex spoken-dialogue agent that listens while it speaks.

This package is the conversation itself (no LiveKit, no HTTP server, no model weights).
LiveKit users import ``livekit.plugins.parley`` instead.
"""

from __future__ import annotations

__version__ = "0.1.0"
