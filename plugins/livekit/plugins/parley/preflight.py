"""Looks, before a worker starts, whether LiveKit is there and takes its keys."""

from __future__ import annotations

import os

import aiohttp
from livekit import api

GET_ONE = (
    "Get a server in one of three ways: run 'make demo' (it brings one for the demonstration), "
    "install livekit-server and start it with --dev, or use a hosted one."
)


class NotReachable(RuntimeError):
    """Why calls cannot come, and what to do."""


async def check_livekit(
    url: str | None = None, key: str | None = None, secret: str | None = None
) -> None:
    """Raises NotReachable. None: from LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET."""
    url = url or os.environ.get("LIVEKIT_URL", "")
    key = key or os.environ.get("LIVEKIT_API_KEY", "")
    secret = secret or os.environ.get("LIVEKIT_API_SECRET", "")
    missing = [
        name
        for name, value in (
            ("LIVEKIT_URL", url),
            ("LIVEKIT_API_KEY", key),
            ("LIVEKIT_API_SECRET", secret),
        )
        if not value
    ]
    if missing:
        raise NotReachable(f"{', '.join(missing)} must be set. {GET_ONE}")
    try:
        async with api.LiveKitAPI(
            url, key, secret, timeout=aiohttp.ClientTimeout(total=5)
        ) as livekit:
            await livekit.room.list_rooms(api.ListRoomsRequest())
    except api.TwirpError as e:
        if e.status in (401, 403):
            raise NotReachable(
                f"the LiveKit server at {url} refuses these keys: LIVEKIT_API_KEY and "
                "LIVEKIT_API_SECRET must be a pair of its configuration."
            ) from e
        raise NotReachable(f"the LiveKit server at {url} answers {e.status}: {e.message}") from e
    except (aiohttp.ClientError, TimeoutError, ValueError) as e:
        raise NotReachable(f"no LiveKit server answers at {url} ({e}). {GET_ONE}") from e
