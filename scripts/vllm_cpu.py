#!/usr/bin/env python3
"""Runs a vLLM server on a machine without a GPU, and keeps it running.

    python scripts/vllm_cpu.py [MODEL_DIR] [--name tiny] [--port 8000] [--log FILE] [vLLM's own ...]

Without MODEL_DIR it serves the tiny chat model of train_tiny_chat.py, which is made in a minute
when there is none of this version in ~/.cache/parley yet.

Starts ``python -m vllm.entrypoints.openai.api_server`` with the settings that work on a CPU, waits
for /health, prints one line ``ready http://127.0.0.1:PORT/v1`` and then watches /health: a server
whose engine died answers 503 for seconds and then exits with code 0, so the exit code says nothing.
One that does not answer in time is busy rather than dead, and only given up after a minute of it.
A dead server is started again, at most --restarts times. SIGINT, SIGTERM or, with
--until-stdin-closes, the end of standard input stop it, so that it cannot outlive who started it.

Why these settings (vllm-cpu 0.32):
  float32                        bfloat16 kills the engine (SIGILL) when the first prompt is short
  --kv-cache-memory-bytes        else 92 % of the machine's memory is reserved
  --block-size 32                the smallest on a CPU; prefix-cache hits come in steps of it
  --scheduling-policy priority   replies that are wanted go before speculations and summaries
  --enable-prompt-tokens-details tells how much of a prompt the prefix cache served
  VLLM_ENABLE_V1_MULTIPROCESSING=0   one process less: half the start-up time and memory
  a metadata file for "vllm"     the package is named vllm-cpu, and vLLM looks itself up as vllm
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.metadata
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

START_S = 600.0
"""Longest start: 15 s on two free cores; with seven others at them it took more than 200 s."""
POLL_S = 0.25
WATCH_S = 1.0
HEALTH_S = 10.0
"""Longest wait for an answer of /health."""
MOST_MUTE = 6
"""So many of them in a row without any answer, and the server hangs."""
STOP_S = 10.0
KV_BYTES = 64 << 20
PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections, one of which could take the port between
its choice and the server's start."""


def free_port() -> int:
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit(f"none of a hundred ports of {PORTS} is free: give one with --port")


def tiny_chat(python: str = sys.executable) -> Path:
    """The tiny chat model of this version of its script, made now by ``python`` if need be. Who
    comes while it is being made waits for it. Raises SystemExit with what the script said."""
    script = Path(__file__).with_name("train_tiny_chat.py")
    version = hashlib.sha256(script.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parley"
    folder = cache / f"tiny-chat-{version}"
    if not _is_whole(folder):
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_whole(folder):
                _make(python, script, folder)
    return folder


def _is_whole(folder: Path) -> bool:
    return (folder / "tokenizer_config.json").is_file()


def _make(python: str, script: Path, folder: Path) -> None:
    """Beside its place first, so that what is in its place is always whole."""
    print("making the tiny chat model, once: about a minute", flush=True)
    with tempfile.TemporaryDirectory(prefix="tiny-chat-", dir=folder.parent) as making:
        made = Path(making) / "model"
        command = [python, str(script), str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-2000:]
            raise SystemExit(f"the tiny chat model could not be made ({done.returncode}):\n{said}")
        made.rename(folder)


def installed_version() -> str:
    """Of vllm-cpu. Raises SystemExit where it is not installed."""
    try:
        return importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(
            f"vllm-cpu is not installed for {sys.executable}: install locks/full.txt, or run this "
            "with a Python that has it"
        ) from None


def metadata_shim(folder: Path) -> Path:
    """Makes ``importlib.metadata.version("vllm")`` answer where only vllm-cpu is installed."""
    # vLLM chooses its CPU platform by the "+cpu" of its version.
    version = installed_version().removesuffix("+cpu") + "+cpu"
    info = folder / f"vllm-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    return folder


def environment(shim: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(shim), os.environ.get("PYTHONPATH", "")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


def command(model: Path, name: str, port: int, extra: list[str]) -> list[str]:
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--served-model-name", name),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--enforce-eager"),
        *("--kv-cache-memory-bytes", str(KV_BYTES), "--block-size", "32"),
        *("--max-model-len", "1024", "--max-num-seqs", "16"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        *("--scheduling-policy", "priority", "--enable-prompt-tokens-details"),
        *extra,
    ]


def health(port: int) -> bool | None:
    """None: it does not answer in time, but somebody is there."""
    try:
        url = f"http://127.0.0.1:{port}/health"
        with urllib.request.urlopen(url, timeout=HEALTH_S) as answer:
            return bool(answer.status == 200)
    except TimeoutError:
        return None
    except urllib.error.URLError as error:
        return None if isinstance(error.reason, TimeoutError) else False
    except OSError:
        return False


def healthy(port: int) -> bool:
    return health(port) is True


class Supervisor:
    """One server process at a time; ``stopping`` ends it from any thread or signal."""

    def __init__(self, argv: list[str], env: dict[str, str], port: int, log: Path):
        self.argv, self.env, self.port, self.log = argv, env, port, log
        self.stopping = threading.Event()
        self._server: subprocess.Popen[bytes] | None = None

    def run(self, restarts: int) -> int:
        for attempt in range(restarts + 1):
            if self._start():
                print(f"ready http://127.0.0.1:{self.port}/v1", flush=True)
                self._watch()
            self._stop()
            if self.stopping.is_set():
                return 0
            print(f"vLLM died or did not start ({attempt + 1}); the end of its log:", flush=True)
            print(self._log_tail(), flush=True)
        return 1

    def _watch(self) -> None:
        """Until it is ill, or is to stop."""
        mute = 0
        while mute < MOST_MUTE and not self.stopping.wait(WATCH_S):
            answer = health(self.port)
            if answer is False:
                return
            mute = mute + 1 if answer is None else 0

    def _log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _start(self) -> bool:
        with self.log.open("ab") as log:
            # Its own process group: the server's children die with it.
            self._server = subprocess.Popen(
                self.argv,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._server.poll() is None:
            if healthy(self.port):
                return True
            if self.stopping.wait(POLL_S):
                return False
        return False

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(server.pid, number)
                server.wait(STOP_S)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        server.wait(STOP_S)


def stop_when_stdin_closes(stopping: threading.Event) -> None:
    def watch() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        stopping.set()

    threading.Thread(target=watch, daemon=True, name="stdin").start()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "model", type=Path, nargs="?", help="folder of a checkpoint; none: the tiny chat model"
    )
    parser.add_argument("--name", default="tiny", help="name under which it is served")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--log", type=Path, default=None)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--until-stdin-closes", action="store_true")
    arguments, extra = parser.parse_known_args()
    if arguments.model is None:
        installed_version()  # before a minute is spent on the model
        arguments.model = tiny_chat()
    if not (arguments.model / "config.json").is_file():
        parser.error(f"no checkpoint in {arguments.model}: expected a config.json there")
    with tempfile.TemporaryDirectory(prefix="vllm-cpu-") as folder:
        port = arguments.port or free_port()
        supervisor = Supervisor(
            command(arguments.model, arguments.name, port, extra),
            environment(metadata_shim(Path(folder) / "shim")),
            port,
            arguments.log or Path(folder) / "vllm.log",
        )

        def stop(number: int, frame: FrameType | None) -> None:
            supervisor.stopping.set()

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        if arguments.until_stdin_closes:
            stop_when_stdin_closes(supervisor.stopping)
        return supervisor.run(arguments.restarts)


if __name__ == "__main__":
    sys.exit(main())
