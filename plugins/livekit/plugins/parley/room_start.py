"""Starts a session in a room with the shortest way in and out."""

from __future__ import annotations

import contextlib
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.voice.room_io import AudioInputOptions, RoomOptions, TextOutputOptions
from livekit.plugins.parley.full_duplex import FullDuplex
from livekit.plugins.parley.room_output import RoomOutput

from parley_speech.types import FRAME_MS, MIC_HZ


def room_options(**more: Any) -> RoomOptions:
    """RoomIO as the engine wants it: 16 kHz in 20 ms frames, no gain control before the echo
    canceller, captions as they are heard, and a caller who drops out may come back."""
    options: dict[str, Any] = {
        "audio_input": AudioInputOptions(
            sample_rate=MIC_HZ, frame_size_ms=FRAME_MS, auto_gain_control=False
        ),
        "audio_output": False,
        "text_output": TextOutputOptions(sync_transcription=False),
        "close_on_disconnect": False,
    }
    return RoomOptions(**{**options, **more})


async def start(
    session: AgentSession[Any], agent: Agent, *, room: rtc.Room, **more: Any
) -> RoomOutput:
    """``session.start`` with our own audio output. ``more`` overrides ``room_options``."""
    model = session.llm
    if not isinstance(model, FullDuplex):
        raise TypeError(
            f"parley.start serves sessions of parley.FullDuplex; this one has llm={model!r}. "
            "Use session.start(agent, room=room)."
        )
    model.bind(session)
    output = RoomOutput(room, model.heard)
    await output.start()
    session.output.audio = output
    session.on("close", lambda _: _close(output))
    await session.start(agent, room=room, room_options=room_options(**more))
    return output


_closing: set[Any] = set()


def _close(output: RoomOutput) -> None:
    import asyncio

    with contextlib.suppress(RuntimeError):  # no loop: the process ends anyway
        task = asyncio.get_running_loop().create_task(output.aclose(), name="parley-output-close")
        _closing.add(task)
        task.add_done_callback(_closing.discard)
