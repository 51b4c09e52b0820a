"""One reply as LiveKit sees it: streams of frames, words and tool calls."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal

from livekit import rtc
from livekit.agents import llm, utils

from parley_speech.types import FRAME_MS, SPEAKER_HZ, Pcm

if TYPE_CHECKING:
    from livekit.agents.voice import SpeechHandle

_MOST_FRAMES = 10_000 // FRAME_MS
"""Audio that may wait for LiveKit (10 s); more means that nobody takes it."""


class Generation:
    """The streams of one reply. The message appears with the first frame."""

    def __init__(self) -> None:
        self.response_id = utils.shortuuid("resp_")
        self.message_id = utils.shortuuid("item_")
        self.created_at = time.time()
        self.first_frame_at: float | None = None
        self.stopped_by_application = False
        self.refused = False
        """LiveKit did not take it: it never happened."""
        self.speech: SpeechHandle | None = None
        """What LiveKit made of it, as far as it is known."""
        self.calls: set[str] = set()
        """Ids of the tools that it has called."""
        self._messages = utils.aio.Chan[llm.MessageGeneration]()
        self._calls = utils.aio.Chan[llm.FunctionCall]()
        self._text = utils.aio.Chan[str]()
        self._audio = utils.aio.Chan[rtc.AudioFrame](maxsize=_MOST_FRAMES)

    def event(self, *, user_initiated: bool) -> llm.GenerationCreatedEvent:
        return llm.GenerationCreatedEvent(
            message_stream=self._messages,
            function_stream=self._calls,
            user_initiated=user_initiated,
            response_id=self.response_id,
        )

    @property
    def sounded(self) -> bool:
        return self.first_frame_at is not None

    def play(self, pcm: Pcm) -> bool:
        """A frame at 24 kHz. False when nobody takes the audio."""
        if self._audio.closed:
            return True
        if not self.sounded:
            self._open()
        frame = rtc.AudioFrame(pcm.tobytes(), SPEAKER_HZ, 1, len(pcm))
        try:
            self._audio.send_nowait(frame)
        except utils.aio.channel.ChanFull:
            return False
        return True

    def _open(self) -> None:
        self.first_frame_at = time.time()
        modalities: asyncio.Future[list[Literal["text", "audio"]]] = asyncio.Future()
        modalities.set_result(["audio", "text"])
        self._messages.send_nowait(
            llm.MessageGeneration(
                message_id=self.message_id,
                text_stream=self._text,
                audio_stream=self._audio,
                modalities=modalities,
            )
        )

    def tell(self, delta: str) -> None:
        if not self._text.closed:
            self._text.send_nowait(delta)

    def call(self, call: llm.FunctionCall) -> None:
        if not self._calls.closed:
            self.calls.add(call.call_id)
            self._calls.send_nowait(call)

    async def drained(self) -> None:
        """Everything given so far was taken (or nobody takes it for half a second)."""
        for _ in range(50):
            if self._audio.empty() and self._text.empty():
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)

    def close(self) -> None:
        """No more. Idempotent."""
        for chan in (self._text, self._audio, self._messages, self._calls):
            chan.close()
