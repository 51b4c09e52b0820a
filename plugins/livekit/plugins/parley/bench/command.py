"""``parley bench ...``: the commands."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from parley.bench import report

console = Console(highlight=False)

SEED = 1


def room(
    out: Annotated[Path, typer.Option(help="where figures, picture and page go")] = Path(
        "out/bench"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="a few trials of each, in 3 minutes")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(help="one scenario: interruptions, sounds, echo, cost, stock"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of everything that is drawn by lot")] = SEED,
    clips: Annotated[Path, typer.Option(help="folder of recorded speech")] = Path(
        "tests/data/audio"
    ),
) -> None:
    """The figures of a conversation as a caller in a real room hears it (12 minutes)."""
    from livekit.plugins.parley.bench import room as bench
    from livekit.plugins.parley.bench.clips import Clips
    from livekit.plugins.parley.bench.sizes import FULL, QUICK
    from livekit.plugins.parley.server_binary import ServerUnavailable

    from parley.bench import report
    from parley.bench.judge import figures
    from parley.bench.stolen import Stolen

    if only is not None and only not in bench.SCENARIOS:
        raise typer.BadParameter(f"--only is one of {', '.join(bench.SCENARIOS)}, not {only!r}")
    began = time.monotonic()
    size = QUICK if quick else FULL
    about, stolen = report.machine(), Stolen()
    try:
        folder = Clips(clips)
        measured = bench.measure(out, folder, console, size=size, only=only, seed=seed)
        results, renderings = asyncio.run(measured)
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e
    except ServerUnavailable as e:
        console.print(f"[red]This bench needs a livekit-server.[/] {e}")
        raise typer.Exit(1) from e
    about["host"] = stolen.note()
    with console.status("listening to the recordings"):
        found = figures(results.calls, renderings, results.clicks_ms)
    seconds = time.monotonic() - began
    run = report.Run(found, seed, seconds, results.failures, quick, about)
    _show(out, run)


def _show(out: Path, run: report.Run) -> None:
    from parley.bench import report
    from parley.report.timeline import DrawingUnavailable

    console.print(report.table(run))
    if (comparison := report.comparison(run)) is not None:
        console.print(comparison)
    try:
        written = report.write(out, run)
    except DrawingUnavailable as e:
        console.print(f"[yellow]{e}[/]")
        written = [out / "room.json"]
    if run.disturbed:
        console.print(f"[bold yellow]{run.disturbed}[/]")
    for failure in run.failures:
        console.print(f"[red]a call failed:[/] {failure}")
    names = ", ".join(figure.name for figure in run.missed)
    console.print(f"[bold red]MISS:[/] {names}" if names else "every goal that was measured is met")
    console.print("see " + ", ".join(map(str, written)) + f", and the calls in {out / 'calls'}")
