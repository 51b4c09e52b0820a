"""``FullDuplex``: the whole of Parley as the model of an ordinary LiveKit ``AgentSession``.

It is a ``RealtimeModel`` that says of itself that it and the caller may speak at once, that it
detects turns, and that its messages can be truncated: the public seam on which LiveKit leaves
turn-taking entirely to the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from livekit.agents import AgentSession, get_job_context, llm
from livekit.plugins.parley.assembly import Engines, Parts
from livekit.plugins.parley.session import FullDuplexSession
from livekit.plugins.parley.session_fit import require_session_that_fits

from parley.dialogue import events as ev
from parley.dialogue.policy import FloorPolicy
from parley.minds.base import Mind
from parley.minds.filler import FillerPolicy
from parley_speech.asr.choice import AUTO
from parley_speech.types import Synthesizer

logger = logging.getLogger("livekit.plugins.parley")

Observer = Callable[["FullDuplexSession", ev.EngineEvent], None]


class FullDuplex(llm.RealtimeModel):
    """A full-duplex agent out of local parts.

    Args:
        mind: who answers: ``"flow"`` (a dialogue in YAML), ``"vllm"`` (any OpenAI-compatible
            server), or a ``Mind`` of your own.
        voice: who speaks: an engine's name (``"espeak"``, ``"cosyvoice2"``), the address of speech
            servers (``"http://host:8880?voice=anna"``), or a ``Synthesizer`` of your own.
        asr: the recogniser's name.
        vad: the voice activity engine's name.
        flow: path of a flow file for ``mind="flow"``; None: the shipped front desk.
        base_url, model_name: for ``mind="vllm"``.
        policy: every number the floor decides by.
        filler: what is said while a tool is slow; ``FillerPolicy(lines=())`` for nothing.
        observer: told every engine event, for recordings and dashboards.
        parts: all that a call is made of, instead of the names above.
        engines: the loaded parts, made elsewhere and shared by the calls of a process.
    """

    def __init__(
        self,
        *,
        mind: str | Mind = "flow",
        voice: str | Synthesizer = "espeak",
        asr: str = AUTO,
        vad: str = "fusion",
        flow: str | None = None,
        base_url: str | None = None,
        model_name: str | None = None,
        policy: FloorPolicy | None = None,
        filler: FillerPolicy | None = None,
        observer: Observer | None = None,
        parts: Parts | None = None,
        engines: Engines | None = None,
    ) -> None:
        super().__init__(
            capabilities=llm.RealtimeCapabilities(
                message_truncation=True,
                turn_detection=True,
                user_transcription=True,
                auto_tool_reply_generation=False,
                audio_output=True,
                manual_function_calls=True,
                supports_overlapping_speech=True,
                mutable_chat_context=True,
                mutable_instructions=True,
                mutable_tools=True,
                per_response_tool_choice=False,  # LiveKit sets the session's for the reply
                supports_say=True,
            )
        )
        self.parts = parts or Parts(
            mind=mind, voice=voice, asr=asr, vad=vad, flow=flow, base_url=base_url, model=model_name
        )
        self.policy = policy
        self.filler = filler
        self.observers: list[Observer] = [observer] if observer else []
        self._engines = engines
        self._agent_session: AgentSession[Any] | None = None
        self._sessions: WeakSet[FullDuplexSession] = WeakSet()

    @property
    def model(self) -> str:
        return f"parley/{self.parts.mind_name}"

    @property
    def provider(self) -> str:
        return "parley"

    async def prewarm(self) -> None:
        """Load everything now, so that the first call does not wait for it."""
        await self._warm().start()

    def bind(self, session: AgentSession[Any]) -> None:
        """The session this model serves; lets it mark what was interrupted."""
        self._agent_session = session

    def session(self, *, turn_detection_disabled: bool = False) -> FullDuplexSession:
        require_session_that_fits(self.agent_session)
        duplex = FullDuplexSession(self, self._warm())
        self._sessions.add(duplex)
        return duplex

    @property
    def agent_session(self) -> AgentSession[Any] | None:
        """The session that runs this model, when it is known: bound, or the job's own."""
        if self._agent_session is not None:
            return self._agent_session
        job = get_job_context(required=False)
        if job is None:
            return None
        try:
            primary = job.primary_session
        except RuntimeError:  # none was started yet
            return None
        return primary if primary.llm is self else None

    def heard(self, samples: int) -> str:
        """What the first ``samples`` (24 kHz) of the reply that plays now or played last have
        sounded, in the newest call of this model. The audio output puts it into LiveKit's
        history when a reply is cut."""
        return self.newest.heard(samples) if self.newest is not None else ""

    @property
    def newest(self) -> FullDuplexSession | None:
        """The call that began last."""
        return max(self._sessions, key=lambda s: s.number, default=None)

    def _warm(self) -> Engines:
        if self._engines is None:
            self._engines = self.parts.engines()
        return self._engines

    async def aclose(self) -> None:
        engines, self._engines = self._engines, None
        if engines is not None:
            await engines.aclose()
