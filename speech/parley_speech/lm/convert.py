"""From the published checkpoint to a folder that vLLM loads; done once and kept.

    python -m parley_speech.lm.convert CHECKPOINT [FOLDER]

The folder holds ``config.json``, ``model.safetensors`` (merged vocabulary, layout of upstream's
own export) and the tokenizer's files where there are any. Its name holds the sizes and times of
the files it was made from, so a changed checkpoint is converted anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parley_speech.lm.checkpoint import BACKBONE, WEIGHTS, LmCheckpoint
from parley_speech.lm.errors import CheckpointError
from parley_speech.lm.vocabulary import CONFIG_KEY

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
"""Raise when what is written changes."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
Progress = Callable[[int, int, str], None]
"""(bytes written, bytes in all, what is being written)"""


def merged_folder(checkpoint: Path, *, cache: Path | None = None) -> Path:
    """Where the conversion of this checkpoint is kept."""
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parley"
    made_from = hashlib.sha256(f"{FORMAT} {checkpoint.resolve()}".encode())
    names = (f"{BACKBONE}/{name}" for name in ("config.json", *TOKENIZER_FILES))
    for name in (WEIGHTS, *names):
        path = checkpoint / name
        if path.is_file():
            made_from.update(f"{name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return cache / "lm" / f"{checkpoint.resolve().name}-{made_from.hexdigest()[:16]}"


def is_merged(folder: Path) -> bool:
    """Whether this is what `convert` writes."""
    try:
        return CONFIG_KEY in json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False


def merged(
    checkpoint: Path, *, cache: Path | None = None, progress: Progress | None = None
) -> Path:
    """The converted checkpoint: as it is, from the cache, or converted now.

    Raises `CheckpointError` naming the file that is missing, truncated or foreign.
    """
    if is_merged(checkpoint):
        return checkpoint
    folder = merged_folder(checkpoint, cache=cache)
    if not is_merged(folder):
        convert(checkpoint, folder, progress=progress)
    return folder


def convert(checkpoint: Path, folder: Path, *, progress: Progress | None = None) -> None:
    """Writes ``folder`` in one step: it is there complete or not at all."""
    if not checkpoint.is_dir():
        raise CheckpointError(f"{checkpoint} is no folder: expected one with {WEIGHTS} in it")
    source = LmCheckpoint.open(checkpoint)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
        _write(source, Path(made), progress or (lambda done, total, name: None))
        if folder.exists():
            shutil.rmtree(folder)
        Path(made).chmod(0o755)
        Path(made).rename(folder)
        Path(made).mkdir()  # for the context manager to remove


def _write(source: LmCheckpoint, folder: Path, progress: Progress) -> None:
    write_safetensors(
        folder / "model.safetensors", source.merged_names(), source.merged, progress=progress
    )
    for name in TOKENIZER_FILES:
        if (source.folder / BACKBONE / name).is_file():
            shutil.copyfile(source.folder / BACKBONE / name, folder / name)
    (folder / "config.json").write_text(json.dumps(source.merged_config(), indent=1))


DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def write_safetensors(
    path: Path, names: list[str], tensor: Callable[[str], Tensor], *, progress: Progress
) -> None:
    """The safetensors format (a JSON header, then the tensors), one tensor in memory at a time."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        value = tensor(name)
        kind = DTYPES.get(str(value.dtype).removeprefix("torch."))
        if kind is None:
            raise CheckpointError(f"{name} is of type {value.dtype}: expected {', '.join(DTYPES)}")
        start, end = end, end + value.numel() * value.element_size()
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    done = 0
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            progress(done, end, name)
            done += file.write(_bytes(tensor(name)))
    progress(end, end, "done")


def _bytes(value: Tensor) -> memoryview:
    import torch

    whole: Any = value.contiguous().view(torch.uint8).numpy().reshape(-1)
    return memoryview(whole)


def main() -> None:
    from rich.progress import BarColumn, DownloadColumn
    from rich.progress import Progress as Bar

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help=f"folder with {WEIGHTS} and {BACKBONE}")
    parser.add_argument("folder", type=Path, nargs="?", help="default: in the user's cache")
    arguments = parser.parse_args()
    folder = arguments.folder or merged_folder(arguments.checkpoint)
    with Bar("{task.description}", BarColumn(), DownloadColumn()) as bar:
        task = bar.add_task("reading")

        def show(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        try:
            convert(arguments.checkpoint, folder, progress=show)
        except CheckpointError as error:
            parser.exit(1, f"{error}\n")
    print(folder)


if __name__ == "__main__":
    main()
