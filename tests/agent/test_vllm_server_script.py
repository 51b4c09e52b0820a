"""The supervisor of the model server, with a small server in vLLM's place."""

from __future__ import annotations

import hashlib
import importlib.util
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "vllm_cpu.py"

SERVER = """
import http.server, pathlib, sys
port, lives = int(sys.argv[1]), pathlib.Path(sys.argv[2])
healthy_answers = int(sys.argv[3])
lives.write_text(lives.read_text() + "x" if lives.exists() else "x")
print("a server is born", flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    count = 0
    def do_GET(self):
        Handler.count += 1
        ill = healthy_answers and Handler.count > healthy_answers
        self.send_response(503 if ill else 200)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("vllm_cpu", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def supervisor(script, tmp_path: Path, healthy_answers: int = 0):
    port = script.free_port()
    argv = [sys.executable, "-c", SERVER, str(port), str(tmp_path / "lives"), str(healthy_answers)]
    return script.Supervisor(argv, {}, port, tmp_path / "log")


def lives(tmp_path: Path) -> int:
    path = tmp_path / "lives"
    return len(path.read_text()) if path.exists() else 0


def test_runs_until_it_is_stopped(script, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    watched = supervisor(script, tmp_path)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(watched.run(restarts=3)))
    thread.start()
    until, said = time.monotonic() + 20, ""
    while time.monotonic() < until and not said:
        said = capsys.readouterr().out
        time.sleep(0.05)
    watched.stopping.set()
    thread.join(20)
    assert codes == [0]
    assert lives(tmp_path) == 1
    assert not script.healthy(watched.port)
    assert said == f"ready http://127.0.0.1:{watched.port}/v1\n"


def test_an_ill_server_is_started_again_and_given_up_in_the_end(
    script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    watched = supervisor(script, tmp_path, healthy_answers=1)
    assert watched.run(restarts=1) == 1
    assert lives(tmp_path) == 2
    said = capsys.readouterr().out
    assert said.count("ready http") == 2
    assert "died or did not start (2)" in said and "a server is born" in said


def test_a_server_that_dies_at_once(script, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = [sys.executable, "-c", "raise SystemExit('no such model')"]
    watched = script.Supervisor(argv, {}, script.free_port(), tmp_path / "log")
    assert watched.run(restarts=0) == 1
    assert "no such model" in capsys.readouterr().out


def test_no_checkpoint(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "expected a config.json" in done.stderr


def test_no_vllm(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    bare = [sys.executable, "-I", "-S", str(SCRIPT), str(tmp_path)]  # without installed packages
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "vllm-cpu is not installed" in done.stderr


def test_it_asks_for_what_a_cpu_needs(script):
    argv = script.command(Path("model"), "tiny", 1, ["--seed", "1"])
    assert argv[argv.index("--dtype") + 1] == "float32"
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert argv[argv.index("--scheduling-policy") + 1] == "priority"
    assert argv[-2:] == ["--seed", "1"]


def test_without_a_model_the_cached_tiny_one_is_served(
    script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    version = hashlib.sha256(SCRIPT.with_name("train_tiny_chat.py").read_bytes()).hexdigest()[:12]
    folder = tmp_path / "parley" / f"tiny-chat-{version}"
    folder.mkdir(parents=True)
    (folder / "tokenizer_config.json").write_text("{}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert script.tiny_chat() == folder


def test_a_server_that_is_only_slow_is_left_alone(
    script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Busy for two questions, well again, then mute until the patience is at its end."""
    answers = iter([None, None, True, *[None] * script.MOST_MUTE])
    monkeypatch.setattr(script, "health", lambda port: next(answers))
    monkeypatch.setattr(script, "WATCH_S", 0)
    watched = supervisor(script, tmp_path)
    watched._watch()
    assert list(answers) == []


def test_health_tells_the_mute_from_the_dead(script, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(script, "HEALTH_S", 0.1)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        assert script.health(mute.getsockname()[1]) is None
        assert not script.healthy(mute.getsockname()[1])
    assert script.health(script.free_port()) is False


def test_a_model_that_cannot_be_made_says_why_and_leaves_nothing(
    script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(script, "__file__", str(tmp_path / "vllm_cpu.py"))
    trainer = tmp_path / "train_tiny_chat.py"
    trainer.write_text("import sys; sys.exit('no torch here')")
    with pytest.raises(SystemExit, match="no torch here"):
        script.tiny_chat(sys.executable)
    assert [path.suffix for path in (tmp_path / "parley").iterdir()] == [".lock"]
    trainer.write_text(
        "import pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1]); folder.mkdir()\n"
        "(folder / 'tokenizer_config.json').write_text('{}')\n"
    )
    made = script.tiny_chat(sys.executable)
    assert (made / "tokenizer_config.json").is_file()
    trainer_made = made.stat().st_mtime_ns
    assert script.tiny_chat("/there/is/no/python") == made, "it is made once"
    assert made.stat().st_mtime_ns == trainer_made
