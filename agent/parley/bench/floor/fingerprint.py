"""Of the code that a conversation runs through: a changed floor plays its conversations anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import parley
import parley_speech

OF_THE_AGENT = ("dialogue/*.py", "minds/flow*.py", "minds/agreement.py", "bench/instant.py")
OF_THE_BENCH = (
    "scene", "play", "played", "line", "echo_room", "lockstep", "utterances", "noises", "outcome",
    "follow", "texts", "told",
)  # fmt: skip
OF_SPEECH = (
    "*.py", "vad/*.py", "asr/**/*.py", "turn_end/*.py", "data/*.npz", "data/**/*.onnx",
    "data/*.json",
)  # fmt: skip


@cache
def fingerprint() -> str:
    """The same as long as none of these files changes."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _files() -> Iterator[Path]:
    agent = Path(next(iter(parley.__path__)))
    speech = Path(next(iter(parley_speech.__path__)))
    for pattern in OF_THE_AGENT:
        yield from sorted(agent.glob(pattern))
    for name in OF_THE_BENCH:
        yield agent / "bench" / "floor" / f"{name}.py"
    yield agent / "bench" / "floor" / "scenarios" / "desk.flow.yaml"
    for pattern in OF_SPEECH:
        yield from sorted(speech.glob(pattern))
