"""LiveKit's own ``AgentSession`` around the same instant parts, for comparison.

Silero VAD with its defaults, turn detection by VAD, RoomIO as it comes; a recogniser, a language
model and a voice that take no time. What is measured is LiveKit's way of taking turns alone.
"""

from __future__ import annotations

from typing import Any

from livekit.agents import Agent, AgentSession, JobContext, LanguageCode, llm, stt, utils
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)
from livekit.plugins.parley.tts import TTS

from parley_speech.types import Synthesizer

WORDS = "I would like to ask something else"
"""What the instant recogniser hears whenever the VAD has heard a voice."""


async def stock_call(ctx: JobContext, voice: Synthesizer, text: str) -> None:
    """One call. Raises ImportError without livekit-plugins-silero."""
    from livekit.plugins import silero

    await ctx.connect()
    session: AgentSession[Any] = AgentSession(
        vad=silero.VAD.load(),
        stt=InstantSTT(),
        llm=InstantLLM(text),
        tts=TTS(voice),
        turn_handling={"turn_detection": "vad"},
    )
    ctx.room.on("participant_disconnected", lambda _: ctx.shutdown(reason="the caller left"))
    await session.start(Agent(instructions=""), room=ctx.room)


class InstantSTT(stt.STT[Any]):
    """Knows at once what was said: always the same."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        heard = stt.SpeechData(language=LanguageCode("en"), text=WORDS)
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[heard])


class InstantLLM(llm.LLM[Any]):
    """One answer to everything, at once."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        **_: Any,
    ) -> llm.LLMStream:
        return _Answer(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Answer(llm.LLMStream):
    async def _run(self) -> None:
        assert isinstance(self._llm, InstantLLM)
        delta = llm.ChoiceDelta(role="assistant", content=self._llm.text)
        self._event_ch.send_nowait(llm.ChatChunk(id=utils.shortuuid(), delta=delta))
