"""A real livekit-server for the tests that are marked ``room``, one for the whole session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from livekit.plugins.parley.server import LiveKitServer
from livekit.plugins.parley.server_binary import ServerUnavailable, ensure_server


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds the server before the first test where it must be built: that takes a minute or two,
    shows its progress, and must not count against a test's own time limit."""
    config = session.config
    if config.option.collectonly or not any(i.get_closest_marker("room") for i in session.items):
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            asyncio.run(ensure_server())
        except ServerUnavailable as error:
            # Each room test fails with the whole message; the others run all the same.
            print(f"\nroom tests will fail: {error}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def livekit_server() -> AsyncIterator[LiveKitServer]:
    """A running livekit-server on loopback, shared: use a room name of your own."""
    async with LiveKitServer() as server:
        yield server
