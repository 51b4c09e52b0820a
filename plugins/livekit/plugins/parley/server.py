"""A livekit-server of our own, for as long as a block of code runs.

``async with LiveKitServer() as server:`` starts one on free loopback ports with keys made for this
run, waits until it answers, and stops it at the end, whatever happens in between. Nothing listens
on another address than 127.0.0.1, and nothing outlives this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import httpx
from livekit import api
from livekit.protocol.agent_dispatch import RoomAgentDispatch
from livekit.protocol.room import RoomConfiguration
from rich.console import Console

from .leash import leashed
from .server_binary import ServerUnavailable, ensure_server

__all__ = ["LiveKitServer", "ServerCrashed", "ServerUnavailable", "make_token"]

log = logging.getLogger("parley.livekit")

START_TIMEOUT_S = 20.0  # it answers within one or two seconds; a busy machine may need more
HEALTH_POLL_S = 0.05
START_ATTEMPTS = 3  # another process may take a port between our look and the server's bind
LOG_LINES_IN_ERRORS = 15

# (signal, seconds to wait for the end). After the first, livekit-server waits until every
# participant has left; the second SIGTERM ends it at once.
STOP_STEPS = (
    (signal.SIGTERM, 0.5),
    (signal.SIGTERM, 3.0),
    (getattr(signal, "SIGKILL", signal.SIGTERM), 3.0),
)

Kind = Literal["standard", "egress", "ingress", "sip", "agent"]


class ServerCrashed(RuntimeError):
    """The livekit-server ended by itself; the message holds its last log lines."""


class LiveKitServer:
    """One livekit-server process on loopback; an asynchronous context manager, used once.

    ``path``: the program; None looks for one and builds it if need be (see ``server_binary``).
    ``log_file``: where the server's output goes; None keeps it in a temporary file.
    Entering raises ServerUnavailable (none found, none built) or ServerCrashed (it did not start).
    Leaving raises ServerCrashed if the server ended in between.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        log_file: str | Path | None = None,
        console: Console | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._path = path
        self._console = console
        self._start_timeout_s = start_timeout_s
        self._folder = contextlib.ExitStack()
        self._log_file = Path(log_file) if log_file is not None else None
        self._process: asyncio.subprocess.Process | None = None
        self._port = self._udp_port = 0
        self.api_key = "parley" + secrets.token_hex(6)
        self.api_secret = secrets.token_hex(32)

    # --- what a client needs ----------------------------------------------------------------

    @property
    def url(self) -> str:
        """The address for participants and workers: ws://127.0.0.1:port."""
        if not self._port:
            raise RuntimeError("This server is not running: use it within 'async with'.")
        return f"ws://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """Of signalling (TCP)."""
        return self._port

    @property
    def udp_port(self) -> int:
        """Of all media."""
        return self._udp_port

    @property
    def http_url(self) -> str:
        return self.url.replace("ws:", "http:", 1)

    @property
    def log_file(self) -> Path:
        if self._log_file is None:
            raise RuntimeError("This server has no log yet: use it within 'async with'.")
        return self._log_file

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def token(
        self,
        identity: str,
        room: str,
        *,
        kind: Kind = "standard",
        attributes: Mapping[str, str] | None = None,
        agent: str | None = None,
    ) -> str:
        """A token that lets ``identity`` into ``room``; see ``make_token``."""
        return make_token(
            self.api_key, self.api_secret, identity, room,
            kind=kind, attributes=attributes, agent=agent,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The variables that LiveKit's clients and workers read."""
        return {
            "LIVEKIT_URL": self.url,
            "LIVEKIT_API_KEY": self.api_key,
            "LIVEKIT_API_SECRET": self.api_secret,
        }

    def check(self) -> None:
        """Raises ServerCrashed if the server has ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            raise self._crashed("ended by itself")

    # --- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._process is not None:
            raise RuntimeError("A LiveKitServer runs once; make another one.")
        program = await ensure_server(self._path, console=self._console)
        folder = Path(self._folder.enter_context(tempfile.TemporaryDirectory(prefix="parley-")))
        if self._log_file is None:
            self._log_file = folder / "livekit-server.log"
        try:
            await self._start(program, folder)
        except BaseException:
            await self._stop()
            self._folder.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        crashed: ServerCrashed | None = None
        try:
            self.check()
        except ServerCrashed as found:
            crashed = found
        await self._stop()
        self._folder.close()
        self._port = 0
        if crashed is None:
            return
        if error is not None and not isinstance(error, Exception):
            log.error("%s", crashed)  # a cancellation goes on as it is
            return
        # What failed in the block failed, most likely, because the server was gone.
        raise crashed from error

    async def _start(self, program: Path, folder: Path) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            ports = free_ports()
            self._port, self._udp_port = ports
            config = _write_config(folder, self.api_key, self.api_secret, *ports)
            await self._launch(program, config)
            try:
                await self._wait_healthy()
            except ServerCrashed as crash:
                if attempt == START_ATTEMPTS or "address already in use" not in str(crash):
                    raise
                log.info("a port of livekit-server was taken meanwhile; trying others")
            else:
                return
            finally:
                config.unlink()  # it holds the secret, and the server has read it

    async def _launch(self, program: Path, config: Path) -> None:
        command = leashed([str(program), "--config", str(config)])
        with self.log_file.open("ab") as output:
            # A session of its own: Ctrl-C in a terminal reaches us, and we stop it in order.
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    async def _wait_healthy(self) -> None:
        """Until GET / answers 200; ServerCrashed if it ends or is not ready in time."""
        deadline = asyncio.get_running_loop().time() + self._start_timeout_s
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            while True:
                if self._process is None or self._process.returncode is not None:
                    raise self._crashed("did not start")
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(self.http_url)).status_code == httpx.codes.OK:
                        return
                if asyncio.get_running_loop().time() > deadline:
                    raise self._crashed(f"did not answer within {self._start_timeout_s:g} s")
                await asyncio.sleep(HEALTH_POLL_S)

    async def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        for number, grace_s in STOP_STEPS:
            if process.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace_s)

    def _crashed(self, how: str) -> ServerCrashed:
        code = self._process.returncode if self._process else None
        status = "" if code is None else f" (status {code})"
        lines = self.log_file.read_text(errors="replace").splitlines()[-LOG_LINES_IN_ERRORS:]
        text = "\n  ".join(line.replace(self.api_secret, "***") for line in lines) or "(nothing)"
        return ServerCrashed(f"livekit-server {how}{status}. Its last log lines:\n  {text}")


def make_token(
    api_key: str,
    api_secret: str,
    identity: str,
    room: str,
    *,
    kind: Kind = "standard",
    attributes: Mapping[str, str] | None = None,
    agent: str | None = None,
    ttl: datetime.timedelta = datetime.timedelta(hours=1),
) -> str:
    """A token that lets ``identity`` join ``room``, publish, subscribe and change its attributes.

    ``kind``: what the others see it as ("sip": a telephone caller). ``agent``: dispatch the worker
    with this name into the room when this participant joins ("": any worker without a name).
    """
    grants = api.VideoGrants(
        room_join=True, room=room, can_update_own_metadata=True, agent=kind == "agent"
    )
    token = (
        api.AccessToken(api_key, api_secret)
        .with_identity(identity)
        .with_kind(kind)
        .with_grants(grants)
        .with_ttl(ttl)
    )
    if attributes:
        token = token.with_attributes(dict(attributes))
    if agent is not None:
        dispatch = RoomAgentDispatch(agent_name=agent)
        token = token.with_room_config(RoomConfiguration(agents=[dispatch]))
    return token.to_jwt()


def free_ports() -> tuple[int, int]:
    """A TCP port and a UDP port of 127.0.0.1 that nothing listens on right now."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        return tcp.getsockname()[1], udp.getsockname()[1]


def _write_config(folder: Path, key: str, secret: str, port: int, udp_port: int) -> Path:
    """The server's configuration in a file that only this user can read."""
    config = {
        "port": port,
        "bind_addresses": ["127.0.0.1"],
        "rtc": {
            "tcp_port": 0,  # it would listen on every address; loopback needs no fallback to TCP
            "udp_port": udp_port,
            "use_external_ip": False,
            "node_ip": "127.0.0.1",
            "enable_loopback_candidate": True,
            "interfaces": {"includes": ["lo0" if sys.platform == "darwin" else "lo"]},
        },
        "keys": {key: secret},
    }
    path = folder / "livekit.yaml"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(config, file)  # JSON is YAML
    return path
