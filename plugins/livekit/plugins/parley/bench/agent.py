"""The agent of the bench: a worker as in production, but for a mind and a voice of zero latency.

``python -m livekit.plugins.parley.bench.agent`` runs it. What a call is about stands in its room's
name (``parley.bench.scenarios.Plan``). Beside the journal each call leaves ``ROOM.agent.json``:
the process's id at its start; the engine's counters and LiveKit's history at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobProcess
from livekit.plugins.parley import worker, worker_process
from livekit.plugins.parley.assembly import Engines, Parts
from livekit.plugins.parley.call import Call
from livekit.plugins.parley.full_duplex import FullDuplex
from livekit.plugins.parley.session import FullDuplexSession
from livekit.plugins.parley.session_fit import full_duplex_session
from livekit.plugins.parley.settings import Settings

from parley.bench import instant
from parley.bench.scenarios import TEXTS, Plan
from parley.dialogue import events as ev
from parley.minds.flow import FlowMind

VOICE = "PARLEY_BENCH_VOICE"
"""The environment variable with the path of the renderings."""
NAME = "bench"
"""A name of its own: it is sent into the rooms of its callers, and not where clicks are timed."""
BETWEEN_REPLIES_S = 1.0
"""In a monologue: the longest echo must be over, so that it is heard in silence, too."""


def agent_file(folder: Path, room: str) -> Path:
    """What the agent tells about a call."""
    return folder / f"{room}.agent.json"


Prewarm = Callable[[JobProcess], None]
Entrypoint = Callable[[JobContext], Coroutine[Any, Any, None]]


def make_server(settings: Settings, prewarm: Prewarm, entrypoint: Entrypoint) -> AgentServer:
    """As ``worker.make_server``, with a bench's own prewarm and entrypoint."""
    server = AgentServer(
        setup_fnc=prewarm,
        load_fnc=_no_load,
        load_threshold=0.99,
        num_idle_processes=1,
        initialize_process_timeout=60.0,
        drain_timeout=5,
        host=settings.host,
        port=settings.port,
        preload_modules=worker.PRELOAD,
    )
    server.rtc_session(entrypoint, agent_name=settings.agent_name)
    return server


def _no_load(_: AgentServer) -> float:
    """The bench must get its calls, however busy the machine is: that is part of the figures."""
    return 0.0


def prewarm(process: JobProcess, *, settings: Settings) -> None:
    worker.quick_loop()
    # As in production with the engines that come with Parley: the recogniser has a flow's grammar.
    mind = instant.InstantMind(hearing=FlowMind().session())
    voice = instant.InstantVoice(instant.load(Path(os.environ[VOICE])))
    parts = Parts(mind=mind, voice=voice, asr=settings.asr, vad=settings.vad)
    engines = parts.engines()
    engines.preload()
    process.userdata.update(settings=settings, mind=mind, voice=voice, engines=engines)


async def entrypoint(ctx: JobContext) -> None:
    """One call, as its plan has it."""
    plan = Plan.of(ctx.job.room.name)
    if plan.kind == "stock":
        from livekit.plugins.parley.bench.stock import stock_call

        await stock_call(ctx, ctx.proc.userdata["voice"], TEXTS[plan.text])
        return
    settings: Settings = ctx.proc.userdata["settings"]
    engines: Engines = ctx.proc.userdata["engines"]
    ctx.proc.userdata["mind"].text = TEXTS[plan.text]
    if plan.kind == "shop":
        engines = settings.parts().engines()
        settings = settings.model_copy(update={"greet": True})
    session, notes = await begin(ctx, engines, settings)
    if plan.kind == "monologue":
        await ctx.wait_for_participant()
        notes.own(_monologue(session, plan.replies))


async def begin(
    ctx: JobContext, engines: Engines, settings: Settings
) -> tuple[AgentSession[Any], Notes]:
    """The call goes on by itself; its notes are closed with it."""
    await asyncio.gather(ctx.connect(), engines.start())
    model = FullDuplex(parts=engines.parts, engines=engines)
    session = full_duplex_session(model)
    notes = Notes(ctx, session, settings)
    model.observers.append(notes.on_event)
    call = Call(ctx, session, model, settings)
    ctx.add_shutdown_callback(call.aclose)
    ctx.add_shutdown_callback(notes.aclose)
    await call.begin(Agent(instructions=settings.instructions))
    return session, notes


async def _monologue(session: AgentSession[Any], replies: int) -> None:
    for _ in range(replies):
        await session.generate_reply(instructions="go on").wait_for_playout()
        await asyncio.sleep(BETWEEN_REPLIES_S)


class Notes:
    """Writes the agent's file of one call."""

    def __init__(self, ctx: JobContext, session: AgentSession[Any], settings: Settings) -> None:
        assert settings.journal_dir is not None, "the bench sets PARLEY_JOURNAL_DIR"
        self._path = agent_file(settings.journal_dir, ctx.job.room.name)
        self._session = session
        self._duplex: FullDuplexSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._write({"pid": os.getpid(), "over": False})

    def on_event(self, duplex: FullDuplexSession, _: ev.EngineEvent) -> None:
        self._duplex = duplex

    def own(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work, name="parley-bench"))

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._write({"pid": os.getpid(), "over": True, "stats": self._stats(), **self._history()})

    def _stats(self) -> dict[str, Any]:
        engine = self._duplex.engine if self._duplex is not None else None
        if engine is None:
            return {}
        stats = engine.stats
        return {
            "ticks": stats.ticks,
            "late_ticks": stats.late_ticks,
            "worst_late_ms": round(stats.worst_late_ms, 1),
            "mic_overflow": stats.mic_overflow,
            "dry_frames": engine.replies.dry_frames,
        }

    def _history(self) -> dict[str, Any]:
        """What LiveKit's own context holds of the agent's words, oldest first."""
        return {
            "history": [
                {"text": item.text_content or "", "interrupted": item.interrupted}
                for item in self._session.history.items
                if item.type == "message" and item.role == "assistant"
            ]
        }

    def _write(self, about: dict[str, Any]) -> None:
        """At once or not at all: somebody waits for it."""
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(about), encoding="utf-8")
        draft.replace(self._path)


# --- running ------------------------------------------------------------------------------------


def main() -> int:
    worker.configure_logging(dev=False)
    settings = Settings(greet=False, rejoin_s=0.0, agent_name=NAME)
    return serve(make_server(settings, partial(prewarm, settings=settings), entrypoint))


def serve(server: AgentServer) -> int:
    """Until SIGTERM. The exit status."""
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_serve(server))
    return 0


async def _serve(server: AgentServer) -> None:
    server.on("worker_registered", lambda *_: print(worker_process.READY, flush=True))
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await server.run(devmode=False)
    finally:
        await server.aclose()


if __name__ == "__main__":
    # The processes of the calls find prewarm and entrypoint by the name of their module, which
    # must not be __main__.
    from livekit.plugins.parley.bench.agent import main as run

    sys.exit(run())
