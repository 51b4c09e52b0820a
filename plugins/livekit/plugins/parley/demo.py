"""The main job, on real input: livekit-server, worker and caller, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livekit.plugins.parley.caller import Caller, CallerError
from livekit.plugins.parley.script import SHOP, JournalTail, Step, perform
from livekit.plugins.parley.server import LiveKitServer
from livekit.plugins.parley.worker_process import WorkerProcess
from rich.console import Console
from rich.table import Table

from parley.report.page import write_report
from parley.report.recording import Recording

CALL_S = 180.0
"""Longest call of a demonstration."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened, as the journal tells it."""

    turns: list[str]
    asides: list[str]
    agent: list[dict[str, Any]]
    yields: int
    ducks: int
    latencies: list[dict[str, Any]]
    errors: list[dict[str, Any]]

    @staticmethod
    def of(events: list[dict[str, Any]]) -> Outcome:
        def kind(name: str) -> list[dict[str, Any]]:
            return [e for e in events if e["kind"] == name]

        acts = [e["name"] for e in kind("act")]
        return Outcome(
            turns=[e["text"] for e in kind("user_turn")],
            asides=[e["text"] for e in kind("aside")],
            agent=kind("agent_turn"),
            yields=acts.count("Yield"),
            ducks=acts.count("Duck"),
            latencies=kind("latency"),
            errors=kind("error"),
        )


async def run(out: Path, clips: Path, console: Console, steps: tuple[Step, ...] = SHOP) -> Outcome:
    """A call in a real room; leaves recording, events, picture and page in ``out``.

    Raises ServerUnavailable when there is no livekit-server to be had."""
    make_folder(out)
    room = f"demo-{secrets.token_hex(4)}"
    async with room_with_agent(out, console) as server:
        tail = JournalTail(out / f"{room}.jsonl")
        token = server.token("caller", room, agent="")
        console.print("a caller joins the room; the conversation:\n")
        caller = Caller(server.url, token)
        await caller.join()
        printer = asyncio.create_task(print_live(tail, console), name="parley-transcript")
        try:
            async with asyncio.timeout(CALL_S):
                await perform(caller, steps, clips)
            await asyncio.sleep(0.5)  # the tail of the last word, for the recording
        except CallerError:
            if not tail.has("hang_up"):  # the agent may end the call: it closes the room
                raise
        finally:
            printer.cancel()
            await asyncio.gather(printer, return_exceptions=True)
            await caller.leave()
        _print(tail, console)
    return leave(out, caller.recording(), tail, console)


def make_folder(out: Path) -> None:
    """The folder of a call's results; what an earlier call left there is replaced."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.jsonl"):
        old.unlink()


@contextlib.asynccontextmanager
async def room_with_agent(out: Path, console: Console) -> AsyncIterator[LiveKitServer]:
    """A livekit-server and a worker that is ready for calls."""
    async with contextlib.AsyncExitStack() as stack:
        began = time.monotonic()
        server = LiveKitServer(console=console, log_file=out / "livekit-server.log")
        await stack.enter_async_context(server)
        console.print(f"livekit-server runs at {server.url} ({time.monotonic() - began:.1f} s)")
        began = time.monotonic()
        environment = {**server.environment(), "PARLEY_JOURNAL_DIR": str(out)}
        with console.status("the agent's worker starts"):
            worker = WorkerProcess(environment, log_file=out / "worker.log")
            await stack.enter_async_context(worker)
        console.print(f"the worker is ready ({time.monotonic() - began:.1f} s)")
        yield server


async def print_live(tail: JournalTail, console: Console) -> None:
    while True:
        _print(tail, console)
        await asyncio.sleep(0.1)


def _print(tail: JournalTail, console: Console) -> None:
    for event in tail.read():
        line = _line(event)
        if line:
            console.print(f"[dim]{event['t']:7.2f} s[/]  {line}")


def _line(event: dict[str, Any]) -> str:
    """A line of the transcript for people; empty for what they need not see."""
    match event["kind"]:
        case "user_turn":
            return f"[bold cyan]caller[/]  {event['text'] or '(words that were not understood)'}"
        case "agent_turn" if event["heard"]:
            cut = " [red]— cut[/]" if event["cut"] else ""
            return f"[bold green]agent [/]  {event['heard']}{cut}"
        case "aside":
            return f"[cyan]caller[/]  ({event['text']}, while the agent speaks)"
        case "overlap":
            return f"        [dim]over the agent's voice: {event['class']}[/]"
        case "act" if event["name"] in ("Duck", "Unduck", "Yield"):
            does = {"Duck": "lowers its voice", "Unduck": "goes on", "Yield": "stops"}
            return f"        [dim]the agent {does[event['name']]}[/]"
        case "hang_up":
            return "        [dim]the agent ends the call[/]"
        case "error":
            return f"[red]error[/]   {event.get('where')}: {event.get('text')}"
        case _:
            return ""


def leave(out: Path, recording: Recording, tail: JournalTail, console: Console) -> Outcome:
    """Recording, events, picture and page; the journal's times become the recording's."""
    shift = tail.started_at - recording.started_at if tail.started_at else 0.0
    with (out / "events.jsonl").open("w", encoding="utf-8") as file:
        for event in tail.events:
            if event["kind"] == "start":
                event = {**event, "wall": recording.started_at}
            else:
                event = {**event, "t": round(event["t"] + shift, 4)}
            file.write(json.dumps(event, ensure_ascii=False) + "\n")
    recording.save(out / "conversation.wav")
    with console.status("drawing the report"):
        write_report(out, recording, out / "events.jsonl", title="Parley: a conversation")
    outcome = Outcome.of(tail.events)
    console.print(_summary(outcome))
    names = ("conversation.wav", "events.jsonl", "timeline.png", "report.html")
    console.print("see " + ", ".join(str(out / name) for name in names))
    return outcome


def _summary(outcome: Outcome) -> Table:
    table = Table(title="latencies, at the engine", title_justify="left")
    for heading in ("what", "times", "median ms", "worst ms"):
        table.add_column(heading, justify="right" if heading != "what" else "left")
    names = {
        "reply": "end of the caller's voice → first sample of the reply",
        "reply_waited": "… of which the floor chose to wait",
        "duck": "onset of a sound → the agent's voice lowered",
        "stop": "onset of an interruption → the agent stops",
    }
    for name, what in names.items():
        ms = sorted(e["ms"] for e in outcome.latencies if e["name"] == name)
        if ms:
            table.add_row(what, str(len(ms)), f"{ms[len(ms) // 2]:.0f}", f"{ms[-1]:.0f}")
    return table


def faults(outcome: Outcome) -> list[str]:
    """What the demonstration should have shown and did not; empty when all is well."""
    heard = " ".join(e["heard"] for e in outcome.agent)
    wrong = [
        ("the agent never found order 12345", "I have found it" not in heard),
        ("the agent did not stop for the interruption", outcome.yields < 1),
        ("the agent never lowered its voice", outcome.ducks < 2),
        ("the interruption did not become a turn", len(outcome.turns) < 4),
        ("the agent did not say goodbye", "Goodbye" not in heard),
        (f"errors: {outcome.errors}", bool(outcome.errors)),
    ]
    return [text for text, is_wrong in wrong if is_wrong]


def remarks(outcome: Outcome) -> list[str]:
    """What was not as good as it should be, without breaking the conversation."""
    if outcome.yields > 1:
        return [f"the agent stopped {outcome.yields} times, and only one was an interruption"]
    return []
