"""A worker that cannot get calls says so before it starts, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from livekit.plugins.parley.preflight import NotReachable, check_livekit
from livekit.plugins.parley.server import LiveKitServer, free_ports


async def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NotReachable, match="LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET"):
        await check_livekit()


async def test_no_server_says_how_to_get_one() -> None:
    port, _ = free_ports()
    with pytest.raises(NotReachable, match=r"no LiveKit server answers.*make demo"):
        await check_livekit(f"ws://127.0.0.1:{port}", "key", "s" * 32)


@pytest.mark.room
@pytest.mark.asyncio(loop_scope="session")
async def test_right_keys_pass_and_wrong_keys_are_named(livekit_server: LiveKitServer) -> None:
    s = livekit_server
    await check_livekit(s.url, s.api_key, s.api_secret)
    with pytest.raises(NotReachable, match="refuses these keys"):
        await check_livekit(s.url, s.api_key, "wrong" * 8)


def test_the_command_line_ends_with_the_reason() -> None:
    port, _ = free_ports()
    environment = {
        **os.environ,
        "LIVEKIT_URL": f"ws://127.0.0.1:{port}",
        "LIVEKIT_API_KEY": "key",
        "LIVEKIT_API_SECRET": "s" * 32,
    }
    done = subprocess.run(
        [sys.executable, "-m", "livekit.plugins.parley.cli", "start"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "no LiveKit server answers" in done.stderr
    assert "Traceback" not in done.stderr
