"""``parley bench mind``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(highlight=False)


def mind(
    out: Annotated[Path, typer.Option(help="where figures, picture and page go")] = Path(
        "out/bench"
    ),
    url: Annotated[
        str | None, typer.Option(help="a vLLM that runs already; none: one is started on the CPU")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="a few trials of each")] = False,
    only: Annotated[
        str | None,
        typer.Option(help="one part: judgements, latency, aborts, prefix, guessing"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of everything that is drawn by lot")] = 1,
    clips: Annotated[Path, typer.Option(help="folder of recorded speech")] = Path(
        "tests/data/audio"
    ),
) -> None:
    """The figures of the mind on a real vLLM (8 minutes)."""
    from parley.bench import mind as bench
    from parley.bench import mind_report
    from parley.bench.mind_server import ServerUnavailable
    from parley.report.timeline import DrawingUnavailable
    from parley_speech.types import EngineUnavailable

    try:
        with console.status("the bench of the mind") as status:
            run = bench.run(
                out, url=url, only=only, quick=quick, seed=seed, clips=clips, tell=status.update
            )
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e
    except (ServerUnavailable, EngineUnavailable) as e:
        console.print(f"[red]This bench needs a vLLM.[/] {e}")
        raise typer.Exit(1) from e
    console.print(mind_report.table(run))
    try:
        written = mind_report.write(out, run)
    except DrawingUnavailable as e:
        console.print(f"[yellow]{e}[/]")
        written = [out / "mind.json"]
    names = ", ".join(figure.name for figure in run.missed)
    console.print(f"[bold red]MISS:[/] {names}" if names else "every goal that was measured is met")
    console.print("see " + ", ".join(map(str, written)))
