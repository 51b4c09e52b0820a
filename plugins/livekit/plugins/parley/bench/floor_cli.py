"""``parley bench floor``."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from livekit.plugins.parley.assembly import Engines, Parts
from rich.console import Console
from rich.progress import Progress

from parley.dialogue.engine import Engine
from parley.dialogue.events import EngineEvent
from parley.dialogue.policy import FloorPolicy
from parley.minds.base import Mind
from parley_speech.asr.choice import resolved
from parley_speech.types import Recognizer, Synthesizer

if TYPE_CHECKING:
    from livekit.plugins.parley.bench.floor_live import LiveStage

    from parley.bench.floor.run import Setting

console = Console(highlight=False)

SYSTEMS = {
    "parley": "Parley",
    "stock": "LiveKit AgentSession, defaults",
    "stock-tuned": "LiveKit AgentSession, tuned",
    "pipecat": "Pipecat, defaults",
    "pipecat-tuned": "Pipecat, tuned",
}
NO_PIPECAT = (
    "Pipecat is not installed. It wants older versions of some of our libraries, so give it an "
    "environment of its own, and there: pip install 'parley[bench-pipecat,espeak,report]'"
)


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
    policy: Annotated[
        list[str] | None,
        typer.Option(help="a number of the floor's policy, as wait_unsure_ms=500; may be repeated"),
    ] = None,
    told: Annotated[
        bool, typer.Option("--told", help="a recogniser that is never wrong: the floor alone")
    ] = False,
    asr: Annotated[
        str, typer.Option(help="who recognises: moonshine, pocketsphinx, auto")
    ] = "auto",
    every: Annotated[int, typer.Option(help="only every so many-th conversation")] = 1,
    system: Annotated[
        str,
        typer.Option(
            help="parley; or in real time: LiveKit's session (stock, stock-tuned), pipecat, "
            "pipecat-tuned"
        ),
    ] = "parley",
    room: Annotated[
        bool, typer.Option("--room", help="in real rooms and real time, over a bad network")
    ] = False,
    loss: Annotated[float, typer.Option(help="with --room: percent of packets lost")] = 3.0,
    delay: Annotated[float, typer.Option(help="with --room: ms of delay, each way")] = 60.0,
    jitter: Annotated[float, typer.Option(help="with --room: up to so many ms more")] = 20.0,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="play nothing: two folders of runs, before and after"),
    ] = None,
) -> None:
    """Who has the floor: hundreds of conversations in virtual time (about 8 minutes)."""
    if compare is not None:
        _compare(*compare)
        return
    from livekit.plugins.parley.bench.floor_live import play_all

    from parley.bench.floor import families
    from parley.bench.floor.run import Setting, run
    from parley.bench.floor.scene import SPLITS

    if system not in SYSTEMS:
        raise typer.BadParameter(f"--system is one of {', '.join(SYSTEMS)}, not {system!r}")
    if split not in SPLITS:
        raise typer.BadParameter(f"--split is one of {', '.join(SPLITS)}, not {split!r}")
    try:
        scenes = families.scenes(split, seed, only or ())[::every]
        numbers = _policy(policy or [])
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e
    if room:
        if system != "parley" or told or numbers:
            raise typer.BadParameter("--room plays Parley as it is: no --system, --told, --policy")
        from livekit.plugins.parley.bench import floor_room_cli as rooms
        from livekit.plugins.parley.bench.floor_room import Place

        place = Place(rooms.folder_of(out, split), out / "cache", clips)
        network = rooms.impairment(loss, delay, jitter)
        found, ran = rooms.play(
            scenes, place, network, console, seed=seed, minutes=minutes, fresh=fresh
        )
        about = {"system": SYSTEMS[system], "split": split, "seed": seed, "setting": ran.words()}
        console.print(_report(place.folder, found, of_all=len(scenes), live=True, **about))
        return
    folder = out / (split if system == "parley" else f"{split}-{system}")
    results = folder / "results.jsonl"
    if fresh:
        results.unlink(missing_ok=True)
    setting = Setting(
        product_engine,
        out / "cache",
        clips,
        folder / "calls",
        numbers,
        told=told,
        asr=resolved(asr),
    )
    with Progress(console=console) as progress:
        task = progress.add_task("conversations", total=len(scenes))
        seconds = None if minutes is None else minutes * 60

        def tell(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        if system == "parley":
            found = run(scenes, setting, results, jobs=jobs, seconds=seconds, tell=tell)
        else:
            stage = _live_stage(system, setting)
            playing = play_all(system, stage, scenes, setting, results, seconds=seconds, tell=tell)
            found = asyncio.run(playing)
            told = True
    unusual = ["the recogniser is never wrong"] * told + list(policy or [])
    console.print(
        _report(
            folder,
            found,
            system=SYSTEMS[system],
            split=split,
            seed=seed,
            of_all=len(scenes),
            setting=", ".join(unusual),
            live=system != "parley",
        )
    )


def _live_stage(system: str, setting: Setting) -> LiveStage:
    """Raises typer.BadParameter where its library is not installed."""
    from parley.bench.floor.run import renderings
    from parley.bench.floor.utterances import Studio

    about = Studio(setting.cache, setting.clips), renderings(setting.cache)
    if system.startswith("stock"):
        from livekit.plugins.parley.bench.floor_stock import StockStage

        return StockStage(system, *about)  # type: ignore[arg-type]
    try:
        from livekit.plugins.parley.bench.floor_pipecat import PipecatStage
    except ModuleNotFoundError as e:
        raise typer.BadParameter(f"{NO_PIPECAT} (there is no {e.name})") from e
    return PipecatStage(system, *about)  # type: ignore[arg-type]


def _policy(given: list[str]) -> FloorPolicy | None:
    """Raises ValueError for what is no number of the policy."""
    if not given:
        return None
    known = {field.name: field for field in dataclasses.fields(FloorPolicy)}
    numbers: dict[str, Any] = {}
    for one in given:
        key, _, value = one.partition("=")
        if key not in known or not value:
            raise ValueError(
                f"--policy {one}: expected NAME=NUMBER, with one of {', '.join(known)}"
            )
        numbers[key] = float(value) if "." in value else int(value)
    return FloorPolicy(**numbers)


def _report(folder: Path, found: list[dict[str, Any]], *, of_all: int, **about: Any) -> str:
    """Writes it and shows its table; gives what there is to see."""
    from parley.bench.floor import page
    from parley.bench.floor.goals import table
    from parley.bench.floor.summary import summary
    from parley.bench.floor.table import shown
    from parley.report.timeline import DrawingUnavailable

    figures = table(found)
    console.print(shown(figures, found))
    run = summary(found, of_all=of_all, **about)
    try:
        written = page.write(folder, run, found)
    except DrawingUnavailable as e:
        console.print(f"[yellow]{e}[/]")
        written = [folder / "floor.json"]
    if len(found) < of_all:
        console.print(f"[yellow]{of_all - len(found)} conversations are left: run this again[/]")
    names = ", ".join(figure.name for figure in figures if figure.verdict == "MISS")
    console.print(f"[bold red]MISS:[/] {names}" if names else "every goal that was measured is met")
    return "see " + ", ".join(map(str, written))


def _compare(before: Path, after: Path) -> None:
    from parley.bench.floor import compare

    try:
        first, second = compare.read(before), compare.read(after)
        console.print(compare.table(first, second))
    except (FileNotFoundError, ValueError) as e:
        raise typer.BadParameter(str(e)) from e
    for name, was, now in compare.changed(*map(compare.conversations, (before, after))):
        console.print(f"{name}: {was} wrong before, {now} after")
