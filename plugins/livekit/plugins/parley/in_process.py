"""A line within the process: the same engine without any room.

Two uses: ``parley console`` (this machine's microphone and loudspeaker), and the demonstration
where there is no livekit-server. The conversation is the same; what is missing is the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
from livekit.plugins.parley import demo
from livekit.plugins.parley.caller_ears import Pulse, SoundGate
from livekit.plugins.parley.caller_microphone import ClipMixer, Utterance
from livekit.plugins.parley.script import JournalTail, Step, perform
from livekit.plugins.parley.settings import Settings
from rich.console import Console

from parley.dialogue import events as ev
from parley.dialogue.engine import Engine
from parley.minds.base import Cause
from parley.report.journal import Journal
from parley.report.recording import Recorder, Recording
from parley_speech.audio import read
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, SPEAKER_HZ, EngineUnavailable, Pcm


@contextlib.asynccontextmanager
async def engine(
    settings: Settings, on_event: Callable[[ev.EngineEvent], None]
) -> AsyncIterator[Engine]:
    """A running engine of the configured parts, which greets when the settings say so."""
    engines = settings.parts().engines()
    made = await engines.engine(on_event)
    running = asyncio.create_task(made.run(), name="parley-engine")
    made.instructions = settings.instructions
    if settings.greet:
        made.request(Cause.INSTRUCTED)
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await engines.aclose()


# --- a scripted caller --------------------------------------------------------------------------


class InProcessCaller:
    """What ``script.perform`` asks of a caller, without a room."""

    def __init__(self) -> None:
        self._mixer = ClipMixer(MIC_HZ)
        self._gate = SoundGate()
        self._pulse = Pulse()
        self._recorder = Recorder()
        self._caller_run = self._recorder.caller_run(MIC_HZ)
        self._agent_run = self._recorder.agent_run(SPEAKER_HZ)
        self._zero_at = self.now()
        self._next = 0

    def now(self) -> float:
        return time.time()

    def microphone_frame(self) -> Pcm:
        """The next 20 ms of the caller."""
        if not self._next:
            self._zero_at = self.now()
        pcm = self._mixer.frame(self._next, MIC_FRAME, self._zero_at)
        self._caller_run.append(pcm, self._zero_at + self._next / MIC_HZ)
        self._next += MIC_FRAME
        return pcm

    def hear(self, pcm: Pcm) -> None:
        """20 ms of the agent, silence included."""
        at = self.now()
        self._agent_run.append(pcm, at)
        half = len(pcm) // 2
        self._gate.push(pcm[:half], at)
        self._gate.push(pcm[half:], at + FRAME_MS / 2000)
        self._pulse.beat()

    def say(self, clip: Pcm | str | Path) -> Utterance:
        pcm = clip if isinstance(clip, np.ndarray) else read(clip, MIC_HZ)
        return self._mixer.add(pcm.astype(np.float32), None)

    async def wait_agent(self) -> str:
        return "agent"

    async def wait_speech(self, *, after: float | None = None, timeout_s: float = 30) -> float:
        since = self.now() if after is None else after
        return await self._until(lambda: self._gate.sound_since(since), timeout_s)

    async def wait_silence(self, ms: float, *, timeout_s: float = 30) -> float:
        began = self.now()

        def silent() -> float | None:
            since = self._gate.silent_since() or began
            return since if self.now() - since >= ms / 1000 else None

        return await self._until(silent, timeout_s)

    async def _until(self, found: Callable[[], float | None], timeout_s: float) -> float:
        async with asyncio.timeout(timeout_s):
            while (result := found()) is None:
                await self._pulse.wait(timeout_s)
            return result

    def recording(self) -> Recording:
        return self._recorder.recording()


async def run_demo(
    out: Path, clips: Path, console: Console, steps: tuple[Step, ...]
) -> demo.Outcome:
    """The demonstration without a room."""
    demo.make_folder(out)
    caller = InProcessCaller()
    journal = Journal(out / "line.jsonl")
    tail = JournalTail(journal.path)
    silence = np.zeros(SPEAKER_HZ * FRAME_MS // 1000, np.int16)
    played: list[Pcm] = []

    def on_event(event: ev.EngineEvent) -> None:
        journal.note(event)
        if isinstance(event, ev.ReplyFrame):
            played.append(event.pcm)

    async with engine(Settings(), on_event) as made:
        line = asyncio.create_task(_line(made, caller, played, silence), name="parley-line")
        show = asyncio.create_task(demo.print_live(tail, console), name="parley-transcript")
        try:
            async with asyncio.timeout(demo.CALL_S):
                await perform(caller, steps, clips)
        finally:
            for task in (line, show):
                task.cancel()
            await asyncio.gather(line, show, return_exceptions=True)
    journal.close()
    for _ in tail.read():
        pass
    return demo.leave(out, caller.recording(), tail, console)


async def _line(made: Engine, caller: InProcessCaller, played: list[Pcm], silence: Pcm) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        made.push_mic(caller.microphone_frame())
        frames, played[:] = list(played), []
        for pcm in frames or [silence]:
            caller.hear(pcm)
        due += FRAME_MS / 1000
        await asyncio.sleep(max(0.0, due - loop.time()))


# --- this machine's microphone and loudspeaker --------------------------------------------------


async def run_console(settings: Settings, console: Console) -> None:
    """Until the flow ends the call, or Ctrl-C."""
    sound = _sounddevice()
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    played: asyncio.Queue[Pcm] = asyncio.Queue(maxsize=10)

    def on_event(event: ev.EngineEvent) -> None:
        match event:
            case ev.ReplyFrame(pcm=pcm):
                with contextlib.suppress(asyncio.QueueFull):  # the device stalls: keep the pace
                    played.put_nowait(pcm)
            case ev.UserTurn(text=text):
                console.print(f"[bold cyan]you  [/] {text}")
            case ev.ReplyEnded(heard=heard, cut=cut) if heard:
                console.print(f"[bold green]agent[/] {heard}{' [red]— cut[/]' if cut else ''}")
            case ev.Failed(where=where, error=error):
                console.print(f"[red]{where}: {error}[/]")
            case ev.HungUp() | ev.HandedOver():
                over.set()
            case _:
                pass

    async with engine(settings, on_event) as made:

        def on_input(data: Any, *_: object) -> None:
            pcm = np.frombuffer(data, np.int16).copy()
            loop.call_soon_threadsafe(made.push_mic, pcm)

        def on_output(data: Any, frames: int, *_: object) -> None:
            try:
                pcm = played.get_nowait()
            except asyncio.QueueEmpty:
                pcm = np.zeros(frames, np.int16)
            data[:] = pcm.tobytes()

        with (
            sound.RawInputStream(MIC_HZ, MIC_FRAME, None, 1, "int16", callback=on_input),
            sound.RawOutputStream(
                SPEAKER_HZ, SPEAKER_HZ * FRAME_MS // 1000, None, 1, "int16", callback=on_output
            ),
        ):
            console.print("speak; Ctrl-C ends")
            await over.wait()
            await asyncio.sleep(0.5)  # the device's own buffer


def _sounddevice() -> Any:
    try:
        import sounddevice
    except (ImportError, OSError) as e:
        raise EngineUnavailable(
            f"no sound device can be used ({e}). The console needs: pip install parley[console], "
            "and the PortAudio library (Debian: apt install libportaudio2)."
        ) from e
    return sounddevice
