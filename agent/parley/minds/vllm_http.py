"""The connections to one endpoint.

HTTP is aiohttp's, whose parser is in C: a reply of twenty chunks costs a sixth of what it costs
with a parser in Python, and where eight callers are answered at once, that is milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

import aiohttp

FAILURES = (aiohttp.ClientError, OSError)
"""Of a request that was not answered, or not to its end. Times that run out are among them."""
NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""... because there was no connection."""
KEEPALIVE_S = 4.0
"""An idle connection is dropped before uvicorn, which vLLM runs on, drops it after 5 s."""
COMPLETIONS = "chat/completions"
_JSON = {"Content-Type": "application/json"}


class Connections:
    """Made inside of a running event loop; shared by all calls of a worker."""

    def __init__(
        self, base_url: str, *, api_key: str = "", connect_s: float = 2.0, most: int = 256
    ) -> None:
        """``most``: requests at one time; one more waits for its turn."""
        self.base_url = base_url.rstrip("/") + "/"
        # Text that is not packed need not be unpacked, and no proxy holds it back for packing.
        headers = {"Accept-Encoding": "identity"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=most, keepalive_timeout=KEEPALIVE_S),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Reading is bounded by MindLimits, event by event.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
            # A proxy of the environment has no business between us and our own machine.
            trust_env=urlsplit(base_url).hostname not in ("127.0.0.1", "localhost", "::1"),
        )
        self._completions = self.at(COMPLETIONS)

    def at(self, path: str) -> str:
        """Relative to the base URL, which ends in ``/v1/``."""
        return urljoin(self.base_url, path)

    async def complete(self, body: Mapping[str, object]) -> aiohttp.ClientResponse:
        """Asks for a chat completion; what comes is to be read from ``content``. ``close`` before
        its end closes the connection, at which the server stops. Raises FAILURES."""
        return await self._session.post(
            self._completions, data=_packed(body), headers=_JSON, allow_redirects=False
        )

    async def post(self, path: str, body: Mapping[str, object]) -> tuple[int, bytes]:
        """Status and content. Raises FAILURES."""
        asked = self._session.post(
            self.at(path), data=_packed(body), headers=_JSON, allow_redirects=False
        )
        async with asked as answer:
            return answer.status, await answer.read()

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and content. Raises FAILURES."""
        async with self._session.get(self.at(path), allow_redirects=False) as answer:
            return answer.status, await answer.read()

    async def aclose(self) -> None:
        await self._session.close()


# Escaped (\u00e4), which takes half the time and can write down whatever a string may hold.
_written = json.JSONEncoder(separators=(",", ":")).encode


def _packed(body: Mapping[str, object]) -> bytes:
    return _written(body).encode()
