"""``parley bench mind``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from parley.bench.mind_report import MindRun

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
    """The figures of the mind on a real vLLM (8 minutes).

    Figures of parts that were run earlier into the same folder stay in the report."""
    from parley.bench import mind as bench
    from parley.bench.mind_server import ServerUnavailable

    try:
        with _quiet_minds(out), console.status("the bench of the mind") as status:
            progress = bench.Progress(lambda now: status.update(escape(now)), _line)
            run = bench.run(
                out, url=url, only=only, quick=quick, seed=seed, clips=clips, progress=progress
            )
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e
    except ServerUnavailable as e:
        console.print("[red]This bench needs a vLLM.[/]", escape(str(e)))
        raise typer.Exit(1) from e
    _show(out, run.with_earlier(out))
    if run.failed:
        raise typer.Exit(1)


def _show(out: Path, run: MindRun) -> None:
    from parley.bench import mind_report
    from parley.report.timeline import DrawingUnavailable

    console.print(mind_report.table(run))
    for note in mind_report.notes(run):
        console.print(f"[dim]{escape(note)}[/]")
    try:
        written = mind_report.write(out, run)
    except DrawingUnavailable as e:
        console.print(f"[yellow]{e}[/]")
        written = [out / "mind.json"]
    for part, why in run.failed.items():
        console.print(f"[bold red]{part} could not be measured:[/]", escape(why))
    names = ", ".join(figure.name for figure in run.missed)
    if names:
        console.print(f"[bold red]MISS:[/] {names}")
    elif run.figures:
        console.print("every goal that was measured is met")
    console.print("see " + ", ".join(map(str, written)))


def _line(done: str) -> None:
    console.print(f"[dim]{escape(done)}[/]")


@contextmanager
def _quiet_minds(out: Path) -> Iterator[None]:
    """What the mind has to say about the tiny model's answers goes into a file, not into the
    table: a model of 0.4 M parameters has nothing to say rather often."""
    out.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("parley.minds")
    handler = logging.FileHandler(out / "mind.log", mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
        handler.close()
