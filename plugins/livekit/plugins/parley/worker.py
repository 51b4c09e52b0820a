"""The agent worker: LiveKit dispatches calls to it, each runs in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from functools import partial

import psutil
from livekit.agents import Agent, AgentServer, JobContext, JobProcess
from livekit.plugins.parley.assembly import Engines
from livekit.plugins.parley.call import Call
from livekit.plugins.parley.full_duplex import FullDuplex
from livekit.plugins.parley.session_fit import full_duplex_session
from livekit.plugins.parley.settings import Settings

from parley_speech import heap, loops

logger = logging.getLogger("livekit.plugins.parley")

PRELOAD = [
    "livekit.plugins.parley.call",
    "livekit.plugins.parley.session",
    "parley.minds.flow",
    "parley_speech.echo",
    "parley_speech.overlap",
    "parley_speech.turn_end.finality",
    "parley_speech.vad.fusion",
]
"""Imported once, before the processes of the calls are forked off."""


def make_server(settings: Settings, *, dev: bool = False) -> AgentServer:
    """The worker. Run it with ``run``, or ``await server.run()``. ``dev``: a machine that does
    other work too is no reason to refuse a call."""
    server = AgentServer(
        setup_fnc=partial(prewarm, settings=settings),
        load_fnc=partial(load, most=settings.max_calls, look_at_cpu=not dev),
        load_threshold=TARGET,
        num_idle_processes=1,
        initialize_process_timeout=30.0,
        drain_timeout=settings.drain_s,
        host=settings.host,
        port=settings.port,
        preload_modules=PRELOAD,
    )
    server.rtc_session(entrypoint, agent_name=settings.agent_name)
    return server


TARGET = 0.7
"""From this load on livekit-server asks a worker for nothing more (its own ``target_load``)."""
BUSY = 0.95
"""Share of all processors in use from which another call would harm those that run."""


def load(server: AgentServer, *, most: int, look_at_cpu: bool) -> float:
    """0..1: whichever is scarcer, places for calls or CPU. A worker without any call is never
    full, whatever else its machine does."""
    calls = len(server.active_jobs)
    if calls >= most:
        return 1.0
    if look_at_cpu and calls and psutil.cpu_percent(interval=0.5) / 100 >= BUSY:
        return 1.0
    return 0.95 * TARGET * calls / most


def prewarm(process: JobProcess, *, settings: Settings) -> None:
    """Before a call comes: read what is slow to read, so that the greeting is at once."""
    quick_loop()
    process.userdata["settings"] = settings
    engines = settings.parts().engines()
    engines.preload()
    process.userdata["engines"] = engines


def quick_loop() -> None:
    """A call's process makes its event loop after this: uvloop's where it is installed, which saves
    a tenth of what a call costs in Python."""
    if loops.factory() is not None:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    settings: Settings = ctx.proc.userdata["settings"]
    engines: Engines = ctx.proc.userdata["engines"]
    await asyncio.gather(ctx.connect(), engines.start())
    heap.settle()
    model = FullDuplex(parts=settings.parts(), engines=engines)
    call = Call(ctx, full_duplex_session(model), model, settings)
    ctx.add_shutdown_callback(call.aclose)
    await call.begin(Agent(instructions=settings.instructions))


# --- running ------------------------------------------------------------------------------------


def run(settings: Settings, *, dev: bool = False, ready: Callable[[], None] | None = None) -> int:
    """Runs until SIGTERM or Ctrl-C: then takes no more calls, lets the running ones end, stops.
    A second signal stops at once. The exit status: 0, or 1 with the reason on standard error."""
    try:
        asyncio.run(_run(settings, dev=dev, ready=ready))
    except KeyboardInterrupt:
        return 130
    except (RuntimeError, ValueError, OSError) as e:
        print(f"parley: {e}", file=sys.stderr)
        return 1
    return 0


async def _run(settings: Settings, *, dev: bool, ready: Callable[[], None] | None) -> None:
    server = make_server(settings, dev=dev)
    if ready is not None:
        server.on("worker_registered", lambda *_: ready())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, _on_signal, stop)
    running = asyncio.create_task(server.run(devmode=dev), name="parley-worker")
    stopping = asyncio.create_task(stop.wait(), name="parley-stop")
    try:
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            logger.info("no more calls; waiting for %d to end", len(server.active_jobs))
            with contextlib.suppress(TimeoutError):
                await server.drain(settings.drain_s)
    finally:
        stopping.cancel()
        await server.aclose()
    await running


def _on_signal(stop: asyncio.Event) -> None:
    if stop.is_set():
        raise KeyboardInterrupt
    stop.set()


def configure_logging(*, dev: bool) -> None:
    """One line a record on standard error; what callers say is never logged."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("livekit.plugins.parley").setLevel(logging.DEBUG if dev else logging.INFO)
