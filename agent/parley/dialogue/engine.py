"""The engine: the 20 ms tick that joins ears, floor, mind, voice and mixer in one call.

A thin asyncio shell. Each tick it hears what the microphone brought, asks the floor what to do,
has it done, and gives one loudspeaker frame. It decides nothing itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from parley.dialogue import events as ev
from parley.dialogue.acts import (
    Act,
    Backchannel,
    Commit,
    Discard,
    Duck,
    Listen,
    Speak,
    Speculate,
    Unduck,
    Yield,
)
from parley.dialogue.beat import TICK_S, Beat
from parley.dialogue.ears import Ears, Heard
from parley.dialogue.floor import Floor, State
from parley.dialogue.ledger import Ledger
from parley.dialogue.mixer import Fade
from parley.dialogue.percepts import Percept
from parley.dialogue.policy import FloorPolicy
from parley.dialogue.reference import FarEnd
from parley.dialogue.replies import FixedReply, Replies
from parley.minds.base import (
    Attentive,
    Cause,
    Context,
    Item,
    MindSession,
    Reply,
    Said,
    ToolResult,
    ToolSpec,
)
from parley.minds.judgement import weigh
from parley_speech.types import FRAME_MS, MIC_FRAME, OverlapEvidence, Pcm, Synthesizer

logger = logging.getLogger("parley.dialogue")

MIC_BACKLOG = 250
"""Microphone frames that may wait (5 s); more means that the process stood still."""
MIC_GONE_TICKS = 3
"""Ticks without a frame after which the microphone is taken to be silent."""


@dataclass(frozen=True, slots=True)
class Request:
    """The application asks for a reply."""

    number: int
    cause: Cause
    instructions: str = ""
    text: str | AsyncIterator[str] | None = None
    """Say exactly this; the mind is not asked."""
    tools: tuple[ToolSpec, ...] | None = None


@dataclass(slots=True)
class EngineStats:
    ticks: int = 0
    late_ticks: int = 0
    """Ticks that began more than one tick late."""
    worst_late_ms: float = 0.0
    mic_overflow: int = 0
    """Microphone frames lost because the process stood still for seconds."""


class Engine:
    """One call. ``run`` it in a task of its owner; everything else is called from its loop."""

    def __init__(
        self,
        ears: Ears,
        mind: MindSession,
        voice: Synthesizer,
        on_event: Callable[[ev.EngineEvent], None],
        *,
        policy: FloorPolicy | None = None,
        instructions: str = "",
        items: tuple[Item, ...] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.floor = Floor(policy)
        self.ledger = Ledger(items)
        self.stats = EngineStats()
        self.instructions = instructions
        self.tools: tuple[ToolSpec, ...] = ()
        self.tool_choice: Literal["auto", "none", "required"] = "auto"
        self.t_ms = 0
        self.started_at = 0.0
        """Wall-clock time of stream time 0."""
        self.replies = Replies(voice, self.ledger, on_event, lambda: self.t_ms)
        self._clock = clock
        self._ears = ears
        self._mind = mind
        self._emit = on_event
        self._beat = Beat()
        self._far = FarEnd()
        self._mic: deque[Pcm] = deque()
        self._mic_rest = np.empty(0, np.int16)
        self._mic_missing = MIC_GONE_TICKS
        self._requests: deque[Request] = deque()
        self._next_request = 0
        self._bound: dict[int, Request] = {}
        self._stop = False
        self._heard = Heard(False, 0.0, 0.0, None)
        self._ask_ms: int | None = None
        """Silence after which the recogniser is asked for its final words."""
        self._user_speaks = False
        self._onset_ms = 0
        self._guessed_with: tuple[str, tuple[ToolSpec, ...]] | None = None
        """Instructions and tools of the latest guess: a hand-off may change them under it."""
        self._awaited_since_ms = 0
        """Since when somebody waits for the reply in hand: the end of the turn it answers."""

    # --- from outside --------------------------------------------------------------------------

    def push_mic(self, pcm: Pcm) -> None:
        """Microphone audio, 16 kHz mono int16, any length."""
        pcm = np.concatenate([self._mic_rest, pcm]) if len(self._mic_rest) else pcm
        whole = len(pcm) // MIC_FRAME * MIC_FRAME
        self._mic.extend(pcm[:whole].reshape(-1, MIC_FRAME))
        self._mic_rest = pcm[whole:].copy()
        if whole:
            self._beat.arrived(asyncio.get_running_loop().time())
        lost = len(self._mic) - MIC_BACKLOG
        if lost > 0:
            self.stats.mic_overflow += lost
            self._fail("ears", f"{lost} microphone frames lost: the process stood still")
            for _ in range(lost):
                self._mic.popleft()

    def request(
        self,
        cause: Cause,
        *,
        instructions: str = "",
        text: str | AsyncIterator[str] | None = None,
        tools: tuple[ToolSpec, ...] | None = None,
    ) -> int:
        """Ask for a reply; ``ReplyCommitted`` with this number announces it."""
        number = self._next_request
        self._next_request += 1
        self._requests.append(Request(number, cause, instructions, text, tools))
        return number

    def withdraw(self, number: int) -> None:
        """A request that was not served yet is no longer wanted."""
        self._requests = deque(r for r in self._requests if r.number != number)

    def interrupt(self) -> None:
        """Stop the agent's reply, if it has one now; one asked for later is not meant.
        Idempotent."""
        self._stop = self._stop or self.floor.has_agent

    def refuse(self, number: int) -> None:
        """Nobody can play this reply, which has just been committed: it ends without a sample
        and without consequences. To be called while ``ReplyCommitted`` tells of it."""
        self.replies.refuse(number)

    def tool_result(self, result: ToolResult) -> None:
        self.ledger.tool(result)

    # --- the tick ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ticks until cancelled, then lets go of everything."""
        loop = asyncio.get_running_loop()
        self.started_at = self._clock()
        self._expect()
        self._beat.begin(loop.time())
        try:
            while True:
                self.tick()
                self._note_lateness(self._beat.ticked(loop.time()))
                await asyncio.sleep(max(0.0, self._beat.due_s - loop.time()))
        finally:
            await self.replies.aclose()
            await self._mind.aclose()
            await self._ears.aclose()

    def _note_lateness(self, behind_s: float) -> None:
        self.stats.ticks += 1
        if behind_s > TICK_S:
            self.stats.late_ticks += 1
            self.stats.worst_late_ms = max(self.stats.worst_late_ms, behind_s * 1000)

    def tick(self) -> None:
        """20 ms."""
        self.t_ms += FRAME_MS
        self._hear()
        self._decide()
        self._far.put(self.replies.play())
        self.replies.calls()
        if not self.floor.has_agent and self.replies.let_go():
            self._expect()

    def _hear(self) -> None:
        """All frames that came; silence when the microphone has gone."""
        frames: list[Pcm] = list(self._mic)
        self._mic.clear()
        self._mic_missing = 0 if frames else self._mic_missing + 1
        if self._mic_missing >= MIC_GONE_TICKS:
            frames = [np.zeros(MIC_FRAME, np.int16)]
        for frame in frames:
            over = self.floor.has_agent
            self._heard = self._ears.hear(
                frame, self._far.take(), self.t_ms, over_agent=over, ask_ms=self._ask_ms
            )
        if self._heard.voice and not self._user_speaks:
            self._onset_ms = self.t_ms
            if self.floor.state is State.ALERT:
                self._measure("duck", 0.0)  # it was before anybody knew
        if self._ears.listen() and self._ears.text:
            self._attend()
            if not self.floor.has_agent:
                self._emit(ev.UserText(self.t_ms, self._ears.text))

    def _attend(self) -> None:
        """Lets the mind think about the words so far."""
        if isinstance(self._mind, Attentive):
            context = self._context(Cause.USER, self._ears.text)
            self._mind.attend(context, over_agent=self.floor.has_agent)

    def _decide(self) -> None:
        before = self.floor.state
        percept = self._percept()
        self._ask_ms = self.floor.policy.ask_ms(self.floor.wait_ms(percept))
        acts = self.floor.step(percept)
        self._stop = False
        for act in acts:
            self._do(act)
        if acts or self.floor.state is not before:
            self._emit(ev.FloorMoved(self.t_ms, self.floor.state, tuple(acts)))
        self._track_user()
        if self.floor.state is State.IDLE is not before and not self._ears.text:
            self._ears.take()  # nothing was said: three coughs are not a mumbled turn
        if self.floor.state is State.AGENT and self._ears.final and not self.floor.keeps_words:
            self._put_aside()

    def _percept(self) -> Percept:
        text = self._ears.text
        completeness = self._completeness(text)
        number, sound, remaining_ms = self.replies.in_hand()
        return Percept(
            t_ms=self.t_ms,
            voice=self._heard.voice,
            stir=self._heard.stir,
            silence_ms=self._heard.silence_ms,
            text=text,
            final=self._ears.final,
            voiced_ms=self._ears.voiced_ms,
            unclear=self._ears.unclear,
            completeness=completeness,
            finality=self._heard.finality,
            wording=self._ears.wording if completeness is None else None,
            unjudged=bool(text) and completeness is None and self._ears.open_speech,
            stale=self._guessed_with not in (None, (self.instructions, self.tools)),
            overlap=self._overlap(text),
            reply=number,
            sound=sound,
            remaining_ms=remaining_ms,
            request=self._requests[0].cause if self._requests else None,
            stop=self._stop,
        )

    def _completeness(self, text: str) -> float | None:
        """P(finished) by the words; by those that are in doubt, too, as far as they can tell."""
        words = text or self._ears.doubted
        p = self._mind.completeness(words) if words else None
        sure = bool(text) and self._ears.believed
        return p if sure or p is None else self.floor.policy.doubted(p)

    def _overlap(self, text: str) -> OverlapEvidence | None:
        """Of the sound, and of the words where the mind has an opinion about them."""
        evidence = self._heard.overlap
        if evidence is None or not text or not isinstance(self._mind, Attentive):
            return evidence
        opinion = self._mind.overlap(text)
        return evidence if opinion is None else weigh(evidence, opinion)

    # --- acts ----------------------------------------------------------------------------------

    def _do(self, act: Act) -> None:
        match act:
            case Listen():
                pass  # the user is always listened to; FloorMoved tells the outside
            case Speculate():
                self._speculate(act)
            case Commit():
                self._commit(act)
            case Discard():
                self._discard(act.reply)
            case Speak():
                self.replies.speak(act.reply)
                self._expect()
                self._measure("reply", self.t_ms - self._awaited_since_ms)
            case Backchannel():
                self.replies.nod(act.text)
            case Duck():
                self.replies.fade(Fade.DUCK)
                if self._heard.voice:
                    self._measure("duck", self.t_ms - self._onset_ms)
            case Unduck():
                self.replies.fade(Fade.FULL)
                if act.heard != "nothing":
                    self._decided(act.heard)
            case Yield():
                self.replies.cut(act.reply)
                if act.by == "user":
                    self._measure("stop", self.t_ms - self._onset_ms)
                    self._decided("interruption")

    def _speculate(self, act: Speculate) -> None:
        self._guessed_with = (self.instructions, self.tools)
        request: Request | None = None
        if act.cause not in (Cause.USER, Cause.NO_INPUT) and self._requests:
            request = self._bound[act.reply] = self._requests.popleft()
        self.replies.speculate(
            act.reply,
            self._ask(act, request),
            must_answer=act.cause is not Cause.NO_INPUT,
            may_call=self.tool_choice != "none",
        )

    def _ask(self, act: Speculate, request: Request | None) -> Reply:
        if request is not None and request.text is not None:
            return FixedReply(request.text)
        return self._mind.reply(self._context(act.cause, act.text, request))

    def _context(self, cause: Cause, text: str, request: Request | None = None) -> Context:
        """What a reply to ``text`` may depend on, were it asked for now."""
        items = self.ledger.items()
        if text:
            items = (*items, Said("user", text))
        return Context(
            cause=_cause(cause, items, request),
            items=items,
            instructions=self.instructions,
            request=request.instructions if request else "",
            tools=self.tools if request is None or request.tools is None else request.tools,
            tool_choice=self.tool_choice,
            speculative=True,  # the commit tells when it is none any more
        )

    def _commit(self, act: Commit) -> None:
        self.replies.commit(act.reply)
        self._awaited_since_ms = self.t_ms - act.waited_ms
        if act.cause is Cause.USER:
            text = self._ears.take() or act.text
            self.ledger.user_said(text)
            self._emit(ev.UserTurn(self.t_ms, text))
            self._measure("reply_waited", act.waited_ms)
        request = self._bound.pop(act.reply, None)
        number = None if request is None else request.number
        self._emit(ev.ReplyCommitted(self.t_ms, act.reply, act.cause, number))

    def _discard(self, number: int) -> None:
        request = self._bound.pop(number, None)
        if request is not None:
            self._requests.appendleft(request)
        self.replies.discard(number)

    # --- small things --------------------------------------------------------------------------

    def _track_user(self) -> None:
        speaks = self._heard.voice or self.floor.state is State.USER
        if speaks != self._user_speaks:
            self._user_speaks = speaks
            self._emit(ev.UserStarted(self.t_ms) if speaks else ev.UserStopped(self.t_ms))

    def _put_aside(self) -> None:
        text = self._ears.take()
        if text:
            self.ledger.aside(text)
            self._emit(ev.UserAside(self.t_ms, text))

    def _decided(self, kind: Literal["interruption", "aside", "turn"]) -> None:
        o = self._heard.overlap
        if o is not None:
            decided = ev.OverlapDecided(
                self.t_ms, kind, o.p_interruption, o.p_noise, o.since_onset_ms
            )
            self._emit(decided)

    def _expect(self) -> None:
        self._ears.expect(self._mind.grammar())

    def _measure(self, name: str, ms: float) -> None:
        self._emit(ev.Measured(self.t_ms, name, ms))

    def _fail(self, where: Literal["ears", "engine"], error: str) -> None:
        logger.warning("%s: %s", where, error)
        self._emit(ev.Failed(self.t_ms, where, error))


def _cause(cause: Cause, items: tuple[Item, ...], request: Request | None) -> Cause:
    """What an application's bare "reply now" means follows from where the conversation stands."""
    if cause is not Cause.INSTRUCTED or (request is not None and request.instructions):
        return cause
    match items[-1] if items else None:
        case None:
            return Cause.OPENING
        case ToolResult():
            return Cause.TOOL
        case Said(role="user"):
            return Cause.USER
        case _:
            return cause
