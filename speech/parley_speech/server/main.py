"""``parley-speech``: the speech server's command line."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any

import typer
import uvicorn
from pydantic import ValidationError

from parley_speech import heap, loops
from parley_speech.server import protocol as wire
from parley_speech.server.app import SpeechService, make_app
from parley_speech.server.catalogue import Catalogue, VoiceSpec
from parley_speech.server.settings import ServerSettings
from parley_speech.types import EngineUnavailable

logger = logging.getLogger("parley_speech.server")

READY = "parley-speech: ready on "
"""Begins the line that is printed when utterances are taken; the address follows."""
PING_S = 10.0
"""A client that answers no ping for so long is gone."""
BACKLOG = 256
SWITCH_S = 0.0001
"""Longest time that one thread computes while another wants to (the interpreter's default is 5 ms).
An engine's thread and the event loop wait for each other that long several times a chunk: with 1 ms
each first chunk made the next one 1 ms later, with this none does."""


app = typer.Typer(
    help="Parley's voices as a server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


@app.callback()
def parley_speech() -> None:
    """Parley's voices as a server."""


@app.command()
def serve(
    voice: Annotated[
        list[str] | None, typer.Option(help="ENGINE, NAME=ENGINE or NAME=ENGINE:VOICE; repeatable")
    ] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="0: any free one")] = None,
    max_calls: Annotated[int | None, typer.Option(help="utterances spoken at one time")] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="loopback addresses only")] = False,
) -> None:
    """Serve voices over WebSocket and OpenAI's speech API. Every setting can also come from the
    environment (PARLEY_SPEECH_VOICES, _HOST, _PORT, _TOKENS, _MAX_CALLS, ...)."""
    given: dict[str, Any] = {
        "voices": tuple(voice) if voice else None,
        "host": host,
        "port": port,
        "max_calls": max_calls,
        "no_token": no_token or None,
    }
    try:
        settings = ServerSettings(**{k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            where = ".".join(map(str, problem["loc"]))
            print(f"parley-speech: {where}: {problem['msg']}", file=sys.stderr)
        raise typer.Exit(2) from None
    raise typer.Exit(run(settings))


def run(settings: ServerSettings) -> int:
    """Serves until SIGTERM or Ctrl-C, then lets what is spoken end. Gives the exit status."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    sys.setswitchinterval(SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=loops.factory()) as runner:
            return runner.run(_serve(settings))
    except (EngineUnavailable, ValueError, LookupError, OSError) as error:
        print(f"parley-speech: {error}", file=sys.stderr)
        return 1


async def _serve(settings: ServerSettings) -> int:
    catalogue = Catalogue.load([VoiceSpec.parse(text) for text in settings.voices])
    service = SpeechService(settings, catalogue)
    tokens = _tokens(settings)
    listener = listen(settings.host, settings.port)
    server = _Server(uvicorn_config(settings, service, tokens))
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="serving")
    loading = asyncio.create_task(service.load(), name="loading")
    ending = asyncio.create_task(server.asked.wait(), name="ending")
    try:
        await asyncio.wait({loading, ending, serving}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done() and not serving.done():
            loading.result()  # raises what kept a voice from loading
            heap.settle()
            print(f"{READY}{address_of(settings.host, listener)}", flush=True)
            await asyncio.wait({ending, serving}, return_when=asyncio.FIRST_COMPLETED)
        await _drain(service, settings.drain_s)
    finally:
        for task in (loading, ending):
            task.cancel()
        server.should_exit = True
        await asyncio.wait({loading, ending, serving})
        await service.aclose()
    serving.result()
    return 0


async def _drain(service: SpeechService, drain_s: float) -> None:
    speaking = service.admission.speaking
    logger.info("nothing new is begun; %d utterances may end within %g s", speaking, drain_s)
    try:
        async with asyncio.timeout(drain_s):
            await service.drain()
    except TimeoutError:
        logger.warning("%d utterances had to be cut off", service.admission.speaking)


class _Server(uvicorn.Server):
    """Uvicorn, but the first signal only says that an end is asked for; the second ends it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.asked.is_set():
            self.should_exit = self.force_exit = True
        self._loop.call_soon_threadsafe(self.asked.set)


def uvicorn_config(
    settings: ServerSettings, service: SpeechService, tokens: Sequence[str]
) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(settings, service, tokens),
        ws="websockets-sansio",
        ws_max_size=wire.MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # audio does not shrink, and it would cost every chunk
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=2,
    )


def _tokens(settings: ServerSettings) -> tuple[str, ...]:
    """Those that were set, or one that is made now and printed once."""
    if settings.no_token:
        return ()
    tokens = tuple(token.get_secret_value() for token in settings.tokens)
    if not tokens:
        made = secrets.token_urlsafe(24)
        print(f"parley-speech: access token {made}", flush=True)
        tokens = (made,)
    return tokens


def listen(host: str, port: int) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host} port {port}: {error}") from error
    return listener


def address_of(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def main() -> None:
    app()


if __name__ == "__main__":
    main()
