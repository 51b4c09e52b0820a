"""The house keeps its shape: arrows go down, the core does no I/O, light imports stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"speech": "parley_speech", "agent": "parley", "plugins": "livekit.plugins.parley"}
ABOVE = {
    "speech": ("parley", "livekit"),
    "agent": ("livekit",),
    "plugins": (),
}
MAY = {"speech": ("livekit.rtc",), "agent": ()}
"""livekit.rtc's audio processing serves the speech floor as a library."""

PURE = ("floor", "acts", "percepts", "ledger", "mixer", "diagram", "reference")
IO = {"asyncio", "socket", "ssl", "http", "httpx", "aiohttp", "urllib", "subprocess", "threading"}
IO |= {"time", "random", "secrets", "logging", "os", "sys", "pathlib", "multiprocessing"}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Full names of what a module imports, wherever in it, type checking included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("floor", list(ABOVE))
def test_no_module_imports_upwards(floor: str) -> None:
    assert modules(floor), f"{floor}/ has no modules: is the house still where it was?"
    climbing = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(floor)
        for name in imports(path)
        if any(within(name, package) for package in ABOVE[floor])
        and not any(within(name, package) for package in MAY.get(floor, ()))
    ]
    assert climbing == []


@pytest.mark.parametrize("name", PURE)
def test_the_core_imports_no_io(name: str) -> None:
    path = ROOT / "agent" / "parley" / "dialogue" / f"{name}.py"
    touched = {module.split(".")[0] for module in imports(path)} & IO
    assert touched == set()


def test_no_task_is_left_to_itself() -> None:
    """A bare create_task is collected while it runs: every task is kept by its owner."""
    bare = []
    for folder in FLOORS:
        for path in modules(folder):
            for node in ast.walk(ast.parse(path.read_text())):
                call = node.value if isinstance(node, ast.Expr) else None
                if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(
                    ("create_task", "ensure_future")
                ):
                    bare.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert bare == []


@pytest.mark.parametrize(
    "unwanted",
    ["torch", "livekit", "onnxruntime", "httpx", "aiohttp", "matplotlib", "transformers"],
)
def test_importing_parley_brings_nothing_heavy(unwanted: str) -> None:
    code = f"import sys, parley, parley.dialogue.floor; sys.exit({unwanted!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_plugin_is_in_a_namespace() -> None:
    """A file livekit/__init__.py of ours would hide LiveKit's own packages."""
    assert not (ROOT / "plugins" / "livekit" / "__init__.py").exists()
    assert not (ROOT / "plugins" / "livekit" / "plugins" / "__init__.py").exists()


def test_the_locks_name_no_host() -> None:
    for lock in (ROOT / "locks").glob("*.txt"):
        assert "://" not in lock.read_text(), f"{lock.name} names a host"
