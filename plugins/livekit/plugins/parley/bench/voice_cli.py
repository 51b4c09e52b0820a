"""``parley bench voice``: each part of a codec-token voice, measured in a process of its own.

The parts are modules that anybody can run alone (``python -m parley.bench.voice_decoder ...``);
here they follow each other, so that none feels another, and their figures go into one file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

console = Console(highlight=False)

PARTS: dict[str, tuple[str, ...]] = {
    "chunk": ("parley.bench.voice_decoder", "chunk", "--left", "4"),
    "total": ("parley.bench.voice_total", "--left", "4", "--pieces", "{out}/voice_total.json"),
    "lm": ("parley.bench.voice_lm", "{checkpoint}"),
    "server": ("parley.bench.voice_server",),
    "memory": ("parley.bench.voice_past", "memory"),
    "gpu": ("parley.bench.voice_load", "--device", "{device}"),
}
WHAT = {
    "chunk": "the decoder's cost of a chunk at 30 s of speech and at 3 s (full size, as served)",
    "total": "decoding 20 s of speech, against recomputing the prefix (full size, as served)",
    "lm": "the token LM on vLLM: cancelling, what is left of 1,000 cancelled utterances",
    "server": "what the speech server adds to the first chunk, and cancelling",
    "memory": "what a call holds while it grows old (full size)",
    "gpu": "first chunks, underruns and throughput at 1, 4, 16 and 64 calls (full size)",
}


def voice(
    out: Annotated[Path, typer.Option(help="where the figures go")] = Path("out/bench"),
    only: Annotated[str | None, typer.Option(help=f"one part: {', '.join(PARTS)}")] = None,
    checkpoint: Annotated[
        Path, typer.Option(help="the token LM's checkpoint; the tiny one of the tests by default")
    ] = Path("tests/data/golden/cosyvoice2-llm"),
    device: Annotated[
        str, typer.Option(help="where 'gpu' runs, as torch names it: cuda, cuda:1")
    ] = "cuda",
) -> None:
    """The figures of the codec-token voice (20 minutes on two cores without a GPU)."""
    if only is not None and only not in PARTS:
        raise typer.BadParameter(f"--only is one of {', '.join(PARTS)}, not {only!r}")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "voice.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    for part in PARTS if only is None else (only,):
        console.print(f"[bold]{part}[/]: {WHAT[part]}")
        found[part] = _measured(part, checkpoint=str(checkpoint), device=device, out=str(out))
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
        console.print(_table(found[part]))
    console.print(where(found.get("gpu", {})))
    console.print(f"see {path}")


def where(gpu: dict[str, Any]) -> str:
    """What the figures were measured on, in a sentence."""
    device = gpu.get("device")
    if device is None:
        return "No GPU was used: all of this ran on the processor's cores."
    return f"'gpu' ran on {device}, everything else on the processor's cores."


def _measured(part: str, **names: str) -> dict[str, Any]:
    """What the part's process prints; its progress goes to the terminal."""
    module, *arguments = (word.format(**names) for word in PARTS[part])
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        console.print(f"[red]{part} could not be measured[/] (its process says why, above)")
        raise typer.Exit(done.returncode)
    return figures_of(done.stdout)


def figures_of(printed: str) -> dict[str, Any]:
    """The JSON at the end of what a part prints; before it libraries may have logged anything."""
    lines = printed.splitlines()
    if "{" not in lines:
        raise ValueError("the part printed no figures")
    first = len(lines) - 1 - lines[::-1].index("{")
    figures: dict[str, Any] = json.loads("\n".join(lines[first:]))
    return figures


def _table(figures: dict[str, Any]) -> Table:
    table = Table("figure", "value")
    for name, value in figures.items():
        shown = json.dumps(value) if isinstance(value, dict | list) else str(value)
        table.add_row(name, shown if len(shown) < 120 else shown[:117] + "...")
    return table
