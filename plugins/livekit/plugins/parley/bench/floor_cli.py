"""``parley bench floor``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from livekit.plugins.parley.assembly import Engines, Parts
from rich.console import Console
from rich.progress import Progress

from parley.dialogue.engine import Engine
from parley.dialogue.events import EngineEvent
from parley.dialogue.floor import FloorPolicy
from parley.minds.base import Mind
from parley_speech.types import Recognizer, Synthesizer

console = Console(highlight=False)


async def product_engine(
    mind: Mind,
    voice: Synthesizer,
    recognizer: Recognizer,
    on_event: Callable[[EngineEvent], None],
    policy: FloorPolicy | None,
) -> Engine:
    """An engine as a call has it, around the bench's mind, voice and recogniser."""
    engines = Engines(Parts(mind=mind, voice=voice, asr=recognizer))
    return await engines.engine(on_event, policy=policy)


def floor(
    out: Annotated[Path, typer.Option(help="where results, pictures and page go")] = Path(
        "out/bench/floor"
    ),
    split: Annotated[str, typer.Option(help="train, validation or test")] = "test",
    only: Annotated[
        list[str] | None, typer.Option(help="a family of conversations; may be repeated")
    ] = None,
    seed: Annotated[int, typer.Option(help="of everything that is drawn by lot")] = 1,
    jobs: Annotated[int, typer.Option(help="processes")] = 2,
    minutes: Annotated[
        float | None,
        typer.Option(help="stop after about so long; the same command goes on where it stopped"),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="play everything anew")] = False,
    clips: Annotated[Path, typer.Option(help="folder of recorded speech")] = Path(
        "tests/data/audio"
    ),
) -> None:
    """Who has the floor: hundreds of conversations in virtual time (5 minutes on two cores)."""
    from parley.bench.floor import families
    from parley.bench.floor.goals import table
    from parley.bench.floor.run import Setting, run
    from parley.bench.floor.scene import SPLITS
    from parley.bench.floor.table import shown

    if split not in SPLITS:
        raise typer.BadParameter(f"--split is one of {', '.join(SPLITS)}, not {split!r}")
    try:
        scenes = families.scenes(split, seed, only or ())  # type: ignore[arg-type]
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e
    results = out / split / "results.jsonl"
    if fresh:
        results.unlink(missing_ok=True)
    setting = Setting(product_engine, out / "cache", clips, out / split / "calls")
    with Progress(console=console) as progress:
        task = progress.add_task("conversations", total=len(scenes))
        found = run(
            scenes,
            setting,
            results,
            jobs=jobs,
            seconds=None if minutes is None else minutes * 60,
            tell=lambda done, of: progress.update(task, completed=done, total=of),
        )
    console.print(shown(table(found), found))
    if len(found) < len(scenes):
        console.print(f"{len(scenes) - len(found)} conversations are left: run this again")
