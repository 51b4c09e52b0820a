"""Who is let in: an ASGI layer that wants a bearer token for everything under /v1."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from parley_speech.server.errors import api_error

GUARDED = "/v1/"


class Guard:
    """Lets a request through whose ``Authorization: Bearer`` token is one of ``tokens``.

    No tokens: everybody. Health pages and metrics are open: they hold counts and voice names.
    """

    def __init__(self, app: ASGIApp, tokens: Sequence[str]) -> None:
        self._app = app
        self._tokens = tuple(token.encode() for token in tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] in {"http", "websocket"} and scope["path"].startswith(GUARDED)
        if not guarded or not self._tokens or self._knows(HTTPConnection(scope)):
            await self._app(scope, receive, send)
            return
        response = api_error(
            401,
            "a valid access token is needed: Authorization: Bearer TOKEN",
            code="invalid_api_key",
        )
        response.headers["WWW-Authenticate"] = "Bearer"
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(response)
        else:
            await response(scope, receive, send)

    def _knows(self, connection: HTTPConnection) -> bool:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        given = token.strip().encode()
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        return any(matches)  # of all, each compared in constant time: timing tells nothing
