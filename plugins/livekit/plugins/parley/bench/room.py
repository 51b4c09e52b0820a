"""Runs the bench of the room: a server, a worker, callers; then judges, table, files.

Scenarios that measure latencies have the machine to themselves. Those that only count stops share
it, two calls at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import soundfile
from livekit.plugins.parley.bench import agent as bench_agent
from livekit.plugins.parley.bench.clips import Clips
from livekit.plugins.parley.bench.cost import CpuMeter
from livekit.plugins.parley.bench.sizes import FULL, Results, Size
from livekit.plugins.parley.bench.trials import Talk, Tick, listen_to_monologue
from livekit.plugins.parley.caller import Caller
from livekit.plugins.parley.room_trip import room_trip
from livekit.plugins.parley.script import SHOP, JournalTail, perform
from livekit.plugins.parley.server import LiveKitServer
from livekit.plugins.parley.worker_process import WorkerProcess
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from parley.bench import instant
from parley.bench.records import CallRecord
from parley.bench.scenarios import ECHO_DELAYS_MS, ECHO_GAIN_DB, OFFSETS_S, TEXTS, Plan
from parley_speech.tts.espeak import EspeakSynthesizer
from parley_speech.types import SPEAKER_HZ

SCENARIOS = ("interruptions", "sounds", "echo", "cost", "stock")
ANSWERS = ("harbour", "garden", "workshop")
LANES = 2
CORES = 2
"""... of this machine for each: a call with its caller and server on one core measures the core."""
"""Calls at one time where only stops are counted."""
AGENT_FILE_S = 15.0
CALL_S = 400.0


async def measure(
    out: Path,
    clips: Clips,
    console: Console,
    *,
    size: Size = FULL,
    only: str | None = None,
    seed: int = 1,
) -> tuple[Results, instant.Renderings]:
    """All calls. Raises ServerUnavailable without a livekit-server."""
    renderings = await _render()
    voice = instant.save(out / "voice.npz", renderings)
    folder = out / "calls"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("bench-*"):
        old.unlink()
    results = Results()
    async with LiveKitServer(console=console, log_file=out / "livekit-server.log") as server:
        environment = {
            **server.environment(),
            "PARLEY_JOURNAL_DIR": str(folder.resolve()),
            bench_agent.VOICE: str(voice.resolve()),
        }
        arguments = ("-m", bench_agent.__name__)
        worker = WorkerProcess(environment, log_file=out / "worker.log", arguments=arguments)
        async with worker:
            with _progress(console) as progress:
                bench = Bench(server, folder, clips, renderings, size, seed, progress, results)
                await bench.run(SCENARIOS if only is None else (only,))
    return results, renderings


async def _render() -> instant.Renderings:
    synthesizer = EspeakSynthesizer()
    await synthesizer.start()
    try:
        return await instant.render(TEXTS.values(), synthesizer)
    finally:
        await synthesizer.aclose()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


class Bench:
    """The calls of one run."""

    def __init__(
        self,
        server: LiveKitServer,
        folder: Path,
        clips: Clips,
        renderings: instant.Renderings,
        size: Size,
        seed: int,
        progress: Progress,
        results: Results,
    ) -> None:
        self._server = server
        self._folder = folder
        self._clips = clips
        self._renderings = renderings
        self._size = size
        self._seed = seed
        self._progress = progress
        self._results = results
        self._over: list[Callable[[], Awaitable[None]]] = []

    async def run(self, names: tuple[str, ...]) -> None:
        await self._trip()
        if "interruptions" in names:
            await self._interruptions()
        lanes = [work for name in ("sounds", "echo") if name in names for work in self._many(name)]
        await _in_lanes(lanes)
        if "cost" in names:
            await self._cost()
        if "stock" in names:
            await self._stock()
        await self._trip()
        for keep in self._over:
            await keep()

    # --- scenarios --------------------------------------------------------------------------

    async def _trip(self) -> None:
        task = self._progress.add_task("the room's own round trip", total=1)
        trip = await room_trip(self._server.url, self._server.token, clicks=self._size.clicks)
        self._results.trips.append(trip)
        self._progress.advance(task)

    async def _interruptions(self) -> None:
        tick = self._task("interruptions", self._size.interruptions)
        rng = self._rng("interruptions")
        clips = self._clips.interruptions(self._size.interruptions, rng)
        for number in range(self._size.calls):
            mine = clips[number :: self._size.calls]

            async def talk(caller: Caller, plan: Plan, kept: list[Any], mine: Any = mine) -> None:
                talk = self._talk(caller, plan, rng, tick, kept)
                await talk.interrupt(mine, OFFSETS_S)

            await self._call("interruptions", Plan("answer", ANSWERS[number]), talk)

    def _many(self, name: str) -> list[Callable[[], Awaitable[None]]]:
        return self._sounds() if name == "sounds" else self._echoes()

    def _sounds(self) -> list[Callable[[], Awaitable[None]]]:
        tick = self._task("backchannels and noises", self._size.sounds)
        rng = self._rng("sounds")

        async def work() -> None:
            clips = await self._clips.sounds(self._size.sounds, rng)

            async def talk(caller: Caller, plan: Plan, kept: list[Any]) -> None:
                await self._talk(caller, plan, rng, tick, kept).sound_over(clips)

            await self._call("sounds", Plan("answer", "everything"), talk)

        return [work]

    def _echoes(self) -> list[Callable[[], Awaitable[None]]]:
        each = self._size.echoes // len(ECHO_DELAYS_MS)
        tick = self._task("replies with echo", each * len(ECHO_DELAYS_MS))
        jobs = []
        for delay_ms in ECHO_DELAYS_MS:
            for number in range(self._size.echo_calls):
                replies = len(range(number, each, self._size.echo_calls))
                jobs.append(self._echo(delay_ms, replies, tick))
        return jobs

    def _echo(self, delay_ms: int, replies: int, tick: Tick) -> Callable[[], Awaitable[None]]:
        plan = Plan("monologue", "notice", replies)
        reply_s = len(self._rendering(plan).pcm) / SPEAKER_HZ

        async def listen(caller: Caller, plan: Plan, kept: list[Any]) -> None:
            await listen_to_monologue(caller, replies, reply_s)
            for _ in range(replies):
                tick()

        return lambda: self._call("echo", plan, listen, echo_ms=delay_ms)

    async def _cost(self) -> None:
        steps = SHOP[:-1] * self._size.shop_rounds  # without the goodbye, which ends the call
        tick = self._task("the cost of a call", 1)

        async def talk(caller: Caller, plan: Plan, _: list[Any]) -> None:
            folder = self._clips.folder
            await perform(caller, steps, folder, lambda *_: None)
            tick()

        await self._call("cost", Plan("shop"), talk)

    async def _stock(self) -> None:
        size = self._size
        tick = self._task(
            "a stock session, for comparison", size.stock_interruptions + size.stock_sounds
        )
        rng = self._rng("stock")
        clips = self._clips.interruptions(size.stock_interruptions, rng)
        noises = await self._clips.sounds(size.stock_sounds, rng)

        async def interrupt(caller: Caller, plan: Plan, kept: list[Any]) -> None:
            await self._talk(caller, plan, rng, tick, kept).interrupt(clips, OFFSETS_S)

        async def sound_over(caller: Caller, plan: Plan, kept: list[Any]) -> None:
            await self._talk(caller, plan, rng, tick, kept).sound_over(noises)

        await self._call("stock interruptions", Plan("stock", "harbour"), interrupt)
        await self._call("stock sounds", Plan("stock", "everything"), sound_over)

    # --- a call -----------------------------------------------------------------------------

    async def _call(
        self,
        scenario: str,
        plan: Plan,
        talk: Callable[[Caller, Plan, list[Any]], Awaitable[None]],
        *,
        echo_ms: int | None = None,
    ) -> None:
        """One call, kept whatever becomes of it: a call that failed is a result, too."""
        room = plan.room()
        caller = Caller(
            self._server.url, self._server.token("caller", room, agent=bench_agent.NAME)
        )
        talks: list[Talk] = []
        meter: CpuMeter | None = None
        try:
            async with asyncio.timeout(CALL_S), caller:
                if echo_ms is not None:
                    caller.echo(echo_ms, ECHO_GAIN_DB)
                await caller.wait_agent()
                meter = CpuMeter.of(self._agent(room))
                await talk(caller, plan, talks)
                if meter is not None:
                    meter.stop()
        except Exception as e:
            self._results.failures.append(f"{scenario} ({room}): {type(e).__name__}: {e}")
            self._progress.console.print(f"[red]{self._results.failures[-1]}[/]")
        self._over.append(lambda: self._keep(scenario, plan, room, caller, talks, meter, echo_ms))

    async def _keep(
        self,
        scenario: str,
        plan: Plan,
        room: str,
        caller: Caller,
        talks: list[Talk],
        meter: CpuMeter | None,
        echo_ms: int | None,
    ) -> None:
        """What is left of a call; done when all are over, as it is work that others would feel."""
        try:
            recording = await asyncio.to_thread(caller.recording)
        except ValueError:  # it did not get as far as a sound
            return
        agent = {} if plan.kind == "stock" else await self._agent_over(room)
        tail = JournalTail(self._folder / f"{room}.jsonl")
        events = [{**e, "t": e["t"] + tail.started_at} for e in tail.read()]
        trials = tuple(trial for talk in talks for trial in talk.trials)
        cpu = meter.percent if meter is not None else None
        record = CallRecord(
            plan, room, recording, trials, tuple(events), agent, cpu, echo_ms, caller.lateness_ms
        )
        self._results.calls.setdefault(scenario, []).append(record)
        await asyncio.to_thread(self._leave, record)

    def _leave(self, record: CallRecord) -> None:
        """The evidence, for people: what was heard, and what the caller did when."""
        recording = record.recording
        path = self._folder / f"{record.room}.flac"
        soundfile.write(path, recording.pcm, recording.rate_hz)
        about = {
            "started_at": recording.started_at,
            "echo_ms": record.echo_ms,
            "cpu_percent": record.cpu_percent,
            "caller_late_ms": record.caller_late_ms,
            "trials": [asdict(trial) for trial in record.trials],
        }
        path.with_suffix(".caller.json").write_text(json.dumps(about), encoding="utf-8")

    def _agent(self, room: str) -> dict[str, Any]:
        path = bench_agent.agent_file(self._folder, room)
        about: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return about

    async def _agent_over(self, room: str) -> dict[str, Any]:
        """What the agent writes at the end of a call: it is another process, so one looks."""
        for _ in range(round(AGENT_FILE_S / 0.1)):
            about = self._agent(room)
            if about.get("over"):
                return about
            await asyncio.sleep(0.1)
        self._results.failures.append(f"{room}: the agent did not end its call properly")
        return self._agent(room)

    # --- small things -----------------------------------------------------------------------

    def _talk(
        self, caller: Caller, plan: Plan, rng: random.Random, tick: Tick, kept: list[Any]
    ) -> Talk:
        talk = Talk(caller, self._clips.question, self._rendering(plan), rng, tick)
        kept.append(talk)
        return talk

    def _rendering(self, plan: Plan) -> instant.Rendering:
        return self._renderings[TEXTS[plan.text]]

    def _rng(self, scenario: str) -> random.Random:
        return random.Random(f"{self._seed} {scenario}")

    def _task(self, what: str, total: int) -> Tick:
        task = self._progress.add_task(what, total=total)
        return lambda: self._progress.advance(task)


async def _in_lanes(jobs: list[Callable[[], Awaitable[None]]]) -> None:
    """Runs them, LANES at a time, in their order."""
    gate = asyncio.Semaphore(max(1, min(LANES, (os.cpu_count() or 1) // CORES)))

    async def one(job: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            await job()

    await asyncio.gather(*(one(job) for job in jobs))
