"""The command line: ``parley --help``."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from livekit.plugins.parley import cli_voices
from livekit.plugins.parley.bench import command as bench_commands
from livekit.plugins.parley.bench import floor_cli, mind_cli, voice_cli
from rich.console import Console

if TYPE_CHECKING:
    from livekit.plugins.parley.demo import Outcome
    from livekit.plugins.parley.script import Step

app = typer.Typer(
    help="Parley: a full-duplex spoken-dialogue agent for LiveKit. It listens while it speaks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
bench_app = typer.Typer(help="Measurements that anyone can repeat.", no_args_is_help=True)
bench_app.command("room")(bench_commands.room)
bench_app.command("mind")(mind_cli.mind)
bench_app.command("voice")(voice_cli.voice)
bench_app.command("floor")(floor_cli.floor)
app.add_typer(bench_app, name="bench")
app.add_typer(cli_voices.app, name="voices")
console = Console(highlight=False)

Out = Annotated[Path, typer.Option(help="where recording, events, picture and page go")]


@app.command()
def start() -> None:
    """Take calls: run an agent worker (LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET)."""
    raise typer.Exit(_worker(dev=False))


@app.command()
def dev() -> None:
    """As start, for development: no load limit, more log."""
    raise typer.Exit(_worker(dev=True))


def _worker(*, dev: bool) -> int:
    from livekit.plugins.parley import preflight, worker, worker_process
    from livekit.plugins.parley.settings import Settings

    worker.configure_logging(dev=dev)
    try:
        asyncio.run(preflight.check_livekit())
    except preflight.NotReachable as e:
        print(f"parley: {e}", file=sys.stderr)
        return 1
    ready = worker_process.READY
    return worker.run(Settings(), dev=dev, ready=lambda: print(ready, flush=True))


@app.command()
def demo(
    out: Out = Path("out/demo"),
    clips: Annotated[Path, typer.Option(help="folder of recorded speech")] = Path(
        "tests/data/audio"
    ),
) -> None:
    """A whole conversation with a recorded caller, in a real room."""
    from livekit.plugins.parley import demo as main_job
    from livekit.plugins.parley.script import SHOP

    if not clips.is_dir():
        raise typer.BadParameter(f"{clips} is no folder; run this in the repository's root")
    outcome = _in_room_or_process(out, clips, SHOP)
    for remark in main_job.remarks(outcome):
        console.print(f"[yellow]not as good as it should be:[/] {remark}")
    wrong = main_job.faults(outcome)
    for fault in wrong:
        console.print(f"[red]not as it should be:[/] {fault}")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def talk(
    wav: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="the caller's voice")],
    out: Out = Path("out/talk"),
) -> None:
    """Let the agent talk with a recording of yours, in a real room."""
    from livekit.plugins.parley.script import Step

    steps = (Step(str(wav.resolve()), "silence", 0.6, f"says {wav.name}"),)
    _in_room_or_process(out, wav.parent, steps)


def _in_room_or_process(out: Path, clips: Path, steps: tuple[Step, ...]) -> Outcome:
    """The call in a real room, or without one where no livekit-server is to be had."""
    from livekit.plugins.parley import demo as main_job
    from livekit.plugins.parley import in_process
    from livekit.plugins.parley.caller import CallerError
    from livekit.plugins.parley.server import ServerCrashed
    from livekit.plugins.parley.server_binary import ServerUnavailable
    from livekit.plugins.parley.worker_process import WorkerCrashed

    logging.getLogger("livekit").setLevel(logging.CRITICAL)  # closing a room is no error to tell
    try:
        return asyncio.run(main_job.run(out, clips, console, steps))
    except ServerUnavailable as e:
        console.print("[yellow]No livekit-server: this runs over a line within the process.[/]")
        console.print(str(e), markup=False)
    except (CallerError, ServerCrashed, WorkerCrashed, TimeoutError) as e:
        console.print(f"the call failed: {e}", markup=False)
        console.print(f"see {out / 'worker.log'} and {out / 'livekit-server.log'}")
        raise typer.Exit(1) from e
    return asyncio.run(in_process.run_demo(out, clips, console, steps))


@app.command("console")
def console_() -> None:
    """Talk to the agent through this machine's microphone and loudspeaker."""
    from livekit.plugins.parley import in_process
    from livekit.plugins.parley.settings import Settings

    from parley_speech.types import EngineUnavailable

    try:
        asyncio.run(in_process.run_console(Settings(), console))
    except (EngineUnavailable, OSError) as e:
        print(f"parley: {e}", file=sys.stderr)
        raise typer.Exit(1) from e
    except KeyboardInterrupt:
        pass


@app.command()
def settings() -> None:
    """Every setting with its variable, value and meaning."""
    from livekit.plugins.parley.settings import Settings
    from rich.table import Table

    now = Settings()
    table = Table("variable", "value", "meaning")
    for name, field in Settings.model_fields.items():
        value = getattr(now, name)
        table.add_row(
            f"PARLEY_{name.upper()}", "" if value is None else str(value), field.description
        )
    console.print(table)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
