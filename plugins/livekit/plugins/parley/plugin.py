"""Announces the plugin to LiveKit. Import it on the main thread, as LiveKit asks."""

from __future__ import annotations

from livekit.agents import Plugin
from livekit.plugins.parley.log import logger
from livekit.plugins.parley.version import __version__


class ParleyPlugin(Plugin):
    def __init__(self) -> None:
        super().__init__("livekit.plugins.parley", __version__, "livekit.plugins.parley", logger)


Plugin.register_plugin(ParleyPlugin())
