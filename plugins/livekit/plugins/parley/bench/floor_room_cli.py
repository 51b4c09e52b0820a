"""``parley bench floor --room``: what the command does with its rooms."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from livekit.plugins.parley.bench import floor_room
from livekit.plugins.parley.server import ServerUnavailable
from rich.console import Console
from rich.progress import Progress

from parley.bench.floor.scene import Scene
from parley.bench.relay import Impairment


def impairment(loss_percent: float, delay_ms: float, jitter_ms: float) -> Impairment:
    """Raises typer.BadParameter."""
    try:
        return Impairment(loss_percent / 100, delay_ms, jitter_ms)
    except ValueError as e:
        raise typer.BadParameter(
            f"--loss {loss_percent:g} --delay {delay_ms:g} --jitter {jitter_ms:g}: "
            "expected percent from 0 to below 100, and milliseconds from 0 on"
        ) from e


def play(
    scenes: Sequence[Scene],
    place: floor_room.Place,
    network: Impairment,
    console: Console,
    *,
    seed: int,
    minutes: float | None,
    fresh: bool,
) -> tuple[list[dict[str, Any]], floor_room.RoomRun]:
    """With a progress bar. Raises typer.Exit where this machine cannot do it."""
    place.folder.mkdir(parents=True, exist_ok=True)
    if fresh:
        place.results.unlink(missing_ok=True)
    with Progress(console=console) as progress:
        task = progress.add_task("conversations in rooms", total=len(scenes))

        def tell(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        playing = floor_room.play_all(
            scenes,
            place,
            network,
            seed=seed,
            seconds=None if minutes is None else minutes * 60,
            console=console,
            tell=tell,
        )
        try:
            found, run = asyncio.run(playing)
        except ServerUnavailable as e:
            console.print(f"[red]Rooms need a livekit-server.[/] {e}")
            raise typer.Exit(1) from e
        except floor_room.NoBadNetwork as e:
            console.print(f"[red]Rooms over a bad network need network namespaces.[/] {e}")
            raise typer.Exit(1) from e
    (place.folder / "room.json").write_text(json.dumps(run.told(), indent=1), encoding="utf-8")
    for failure in run.failures:
        console.print(f"[red]a call could not be measured:[/] {failure}")
    console.print(run.words())
    return found, run


def folder_of(out: Path, split: str) -> Path:
    """Runs in rooms are kept apart from those in virtual time."""
    return out / f"{split}-room"
