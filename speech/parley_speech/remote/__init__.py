"""A voice that speaks on a speech server: `RemoteSynthesizer`, and `voice_of` a name or URL."""

from __future__ import annotations

from parley_speech.remote.synthesizer import RemoteSynthesizer, is_url, voice_of

__all__ = ["RemoteSynthesizer", "is_url", "voice_of"]
