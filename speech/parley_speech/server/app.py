"""The speech server's surface: which path does what. Made once per process by `make_app`.

/v1/speech (WebSocket)   /v1/audio/speech   /v1/audio/voices   /v1/models
/healthz  the process lives    /readyz  it takes new utterances    /metrics  Prometheus
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from parley_speech.server import metrics as prometheus
from parley_speech.server import protocol as wire
from parley_speech.server.admission import Admission
from parley_speech.server.auth import Guard
from parley_speech.server.catalogue import Catalogue
from parley_speech.server.connection import Connection
from parley_speech.server.errors import api_error
from parley_speech.server.openai import OpenAiSpeech
from parley_speech.server.settings import ServerSettings
from parley_speech.server.utterance import Services


class SpeechService:
    """Voices, slots, metrics and connections of one server."""

    def __init__(self, settings: ServerSettings, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.admission = Admission(
            settings.max_calls,
            waiting=settings.max_waiting,
            patience_s=settings.patience_ms / 1000,
        )
        self.metrics = prometheus.Metrics(self.admission)
        self.services = Services(
            catalogue, self.admission, self.metrics, settings.max_text_chars, settings.idle_s
        )
        self._connections: set[Connection] = set()

    async def load(self) -> None:
        """Loads the voices; from then on utterances are begun. Raises what an engine raises."""
        await self.catalogue.start()
        self.admission.open()

    async def drain(self) -> None:
        """Begins nothing new, tells every client, and returns when nothing is spoken any more."""
        self.admission.drain()
        for connection in list(self._connections):
            await connection.drain()
        await self.admission.drained()

    async def aclose(self) -> None:
        await self.catalogue.aclose()

    # --- endpoints ------------------------------------------------------------------------------

    async def websocket(self, socket: WebSocket) -> None:
        """`wire.PATH`. A client that asks for a subprotocol must ask for ours."""
        if socket.scope["subprotocols"] and wire.SUBPROTOCOL not in socket.scope["subprotocols"]:
            said = f"this server speaks the subprotocol {wire.SUBPROTOCOL} only"
            await socket.send_denial_response(api_error(400, said, code="unknown_subprotocol"))
            return
        chosen = wire.SUBPROTOCOL if socket.scope["subprotocols"] else None
        await socket.accept(chosen)
        connection = Connection(socket, self.services)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    async def health(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(self, _: Request) -> Response:
        """200 while utterances are begun, else 503 with the reason."""
        closed = self.admission.closed
        body = {
            "ready": closed is None,
            "reason": closed,
            "speaking": self.admission.speaking,
            "slots": self.admission.slots,
            "waiting": self.admission.waiting,
        }
        return JSONResponse(body, 200 if closed is None else 503)

    async def prometheus(self, _: Request) -> Response:
        return Response(self.metrics.page(), media_type=prometheus.CONTENT_TYPE)


def make_app(settings: ServerSettings, service: SpeechService, tokens: Sequence[str]) -> Starlette:
    """The ASGI app. ``tokens``: who is let in; none: everybody."""
    openai = OpenAiSpeech(service.services, max_chars=settings.max_http_chars)
    routes = [
        WebSocketRoute(wire.PATH, service.websocket),
        Route("/v1/audio/speech", openai.speech, methods=["POST"]),
        Route("/v1/audio/voices", openai.voices),
        Route("/v1/models", openai.models),
        Route("/healthz", service.health),
        Route("/readyz", service.ready),
        Route("/metrics", service.prometheus),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, tokens=tuple(tokens))],
        exception_handlers={HTTPException: _not_so},
    )


async def _not_so(request: Request, error: Exception) -> Response:
    """No such path, or no such method, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    said = f"{request.method} {request.url.path}: {error.detail}"
    response = api_error(error.status_code, said)
    response.headers.update(error.headers or {})
    return response
