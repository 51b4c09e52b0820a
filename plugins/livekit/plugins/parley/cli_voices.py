"""``parley voices``: the library of voices, from the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from parley_speech.voices.library import UnknownVoice, VoiceLibrary
from parley_speech.voices.reference import ReferenceReport, UnfitReference, assess_file

app = typer.Typer(
    help="Voices: recordings that a codec-token voice speaks like.", no_args_is_help=True
)
console = Console(highlight=False)

Library = Annotated[
    Path, typer.Option("--voices", envvar="PARLEY_VOICES", help="the folder of voices")
]
_HERE = Path("voices")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="lower-case letters, digits, - and _")],
    recording: Annotated[Path, typer.Argument(help="3-30 s of clean speech; 5-15 s are best")],
    text: Annotated[str, typer.Option(help="what it says, word for word")],
    language: Annotated[str, typer.Option(help="a tag such as en or en-US")],
    licence: Annotated[str, typer.Option(help="of the recording, e.g. CC0-1.0 or 'own recording'")],
    consent: Annotated[str, typer.Option(help="who agreed to what and when")],
    instruction: Annotated[str, typer.Option(help="how it should speak, in words")] = "",
    source: Annotated[str, typer.Option(help="where the recording is from")] = "",
    allow_non_commercial: Annotated[
        bool, typer.Option("--allow-non-commercial", help="take such a licence")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="renew a voice of this name")] = False,
    voices: Library = _HERE,
) -> None:
    """Check a recording and make it a voice."""
    try:
        added, report = VoiceLibrary(voices).add(
            name,
            recording,
            text=text,
            language=language,
            licence=licence,
            consent=consent,
            instruction=instruction,
            source=source,
            allow_non_commercial=allow_non_commercial,
            replace=replace,
        )
    except (ValueError, OSError) as error:
        _fail(error)
    _print_report(report)
    console.print(f"voice {added.name!r} is in {added.reference.parent}")


@app.command("list")
def list_voices(voices: Library = _HERE) -> None:
    """The voices there are."""
    library, damaged = VoiceLibrary(voices), False
    for name in library.names():
        try:
            voice = library.get(name)
        except (ValueError, OSError) as error:
            console.print(f"{name}: {error}", style="red")
            damaged = True
            continue
        style = f', "{voice.instruction}"' if voice.instruction else ""
        console.print(f"{name}: {voice.language}, {voice.licence}{style}")
    if not library.names():
        console.print(f"no voice in {voices}; add one with: parley voices add")
    raise typer.Exit(1 if damaged else 0)


@app.command()
def check(
    what: Annotated[str, typer.Argument(help="a voice's name or a recording")],
    voices: Library = _HERE,
) -> None:
    """Judge a recording, or the reference of a voice."""
    try:
        recording = Path(what)
        if os.sep not in what and not recording.is_file():
            recording = VoiceLibrary(voices).get(what).reference
        report = assess_file(recording)
    except (ValueError, OSError, UnknownVoice) as error:
        _fail(error)
    _print_report(report)
    raise typer.Exit(0 if report.usable else 1)


def _print_report(report: ReferenceReport) -> None:
    console.print(
        f"{report.duration_s:.1f} s at {report.sample_rate_hz} Hz, {report.speech_s:.1f} s of it "
        f"speech at {report.level_dbfs:.0f} dBFS, {report.snr_db:.0f} dB above the noise"
    )
    for finding in report.findings:
        console.print(f"- {finding}", style="red" if finding.fatal else "yellow")


def _fail(error: Exception) -> NoReturn:
    faults = error if isinstance(error, UnfitReference) else f"parley: {error}"
    typer.echo(str(faults), err=True)
    raise typer.Exit(1) from error
