"""One LiveKit session of ``FullDuplex``: an engine, dressed as a ``RealtimeSession``.

Engine events become LiveKit events: a committed reply is a *generation* whose audio frames come
at the pace of playing and whose text comes word by word as it is heard, so that what LiveKit
writes into its history is what the caller heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from livekit import rtc
from livekit.agents import llm, utils
from livekit.agents.types import NOT_GIVEN, NotGivenOr
from livekit.plugins.parley.assembly import Engines
from livekit.plugins.parley.contexts import answered_in, extra_instructions, items_of, specs_of
from livekit.plugins.parley.cuts import Cuts
from livekit.plugins.parley.generation import Generation
from livekit.plugins.parley.metrics import reply_metrics
from livekit.plugins.parley.offers import Offers, taken
from livekit.plugins.parley.owed import Turn
from livekit.plugins.parley.tool_wait import TELL, ToolWait

from parley.dialogue import events as ev
from parley.dialogue.engine import Engine
from parley.dialogue.floor import State
from parley.minds.base import Cause
from parley_speech.text import shown
from parley_speech.types import MIC_HZ, SPEAKER_HZ, Pcm

if TYPE_CHECKING:
    from livekit.plugins.parley.full_duplex import FullDuplex

logger = logging.getLogger("livekit.plugins.parley")

_numbers = itertools.count()
_Created = asyncio.Future[llm.GenerationCreatedEvent]
_Text = str | AsyncIterator[str] | None
_Asked = tuple[str, _Text, _Created]


class FullDuplexSession(llm.RealtimeSession[str]):
    """Made by ``FullDuplex.session``; runs until ``aclose``."""

    def __init__(self, model: FullDuplex, engines: Engines) -> None:
        super().__init__(model)
        self.number = next(_numbers)
        self._model = model
        self._engines = engines
        self._engine: Engine | None = None
        self._ready = asyncio.Event()
        self._chat_ctx = llm.ChatContext.empty()
        self._tools = llm.ToolContext.empty()
        self._instructions = ""
        self._extra = ""
        self._resampler: rtc.AudioResampler | None = None
        self._resampler_rate = 0
        self._turn_id = utils.shortuuid("item_")
        self._offers = Offers(self._rewrite, busy=lambda: bool(self._asked))
        self._cuts = Cuts(lambda: model.agent_session, cancelled=self._tools_cancelled)
        self._tools_run = ToolWait(
            model.filler, busy=lambda: bool(self._asked), give_up=self._gave_up
        )
        self._generations: dict[int, Generation] = {}
        self._asked: dict[int, _Created] = {}
        self._waiting: list[_Asked] = []
        self._closed = False
        self._task = asyncio.create_task(self._run(), name="parley-session")

    # --- life ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            engine = await self._engines.engine(self._on_event, policy=self._model.policy)
        except Exception as e:  # whatever is missing, the application must hear of it
            logger.exception("the engine could not be made")
            self._emit_error(e, recoverable=False)
            return
        self._engine = engine
        self._tools_run.use(engine)
        self._offers.use(engine)
        self._configure()
        engine.ledger.replace(items_of(self._chat_ctx))
        for instructions, text, future in self._waiting:
            self._ask(engine, instructions, text, future)
        self._waiting.clear()
        self._ready.set()
        await engine.run()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._tools_run.close()
        self._offers.close()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for generation in self._generations.values():
            generation.close()
        for future in [*self._asked.values(), *(f for _, _, f in self._waiting)]:
            if not future.done():
                future.set_exception(llm.RealtimeError("the session was closed"))
                future.exception()  # nobody may be waiting any more: that is not an error
        await self._cuts.aclose()

    @property
    def engine(self) -> Engine | None:
        """None until everything is loaded."""
        return self._engine

    async def ready(self) -> None:
        """Waits until the engine runs."""
        await self._ready.wait()

    # --- what LiveKit asks ---------------------------------------------------------------------

    @property
    def chat_ctx(self) -> llm.ChatContext:
        return self._chat_ctx.copy()

    @property
    def tools(self) -> llm.ToolContext:
        return self._tools.copy()

    async def update_instructions(self, instructions: str) -> None:
        self._instructions = instructions
        self._configure()

    async def update_tools(self, tools: list[llm.Tool]) -> None:
        self._tools = llm.ToolContext(tools)
        self._configure()

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext) -> None:
        """LiveKit's history is the authority for everything that is over; what is being said just
        now stays where it is."""
        self._chat_ctx = chat_ctx.copy()
        self._extra = extra_instructions(chat_ctx)
        self._configure()
        self._tools_run.answered(answered_in(chat_ctx))
        self._rewrite()

    def update_options(self, *, tool_choice: NotGivenOr[llm.ToolChoice | None] = NOT_GIVEN) -> None:
        if self._engine is None or tool_choice is NOT_GIVEN:
            return
        self._engine.tool_choice = tool_choice if tool_choice in ("none", "required") else "auto"

    def _configure(self) -> None:
        if self._engine is None:
            return
        self._engine.instructions = "\n\n".join(t for t in (self._instructions, self._extra) if t)
        self._engine.tools = specs_of(self._tools.flatten())
        self._offers.soon()  # perhaps it is the new agent that is being set up

    def _rewrite(self) -> None:
        """The ledger as our chat context has it, and what is offered beyond it."""
        if self._engine is None:
            return
        self._engine.ledger.replace(items_of(self._chat_ctx, self._tools_run.running))
        for text in self._offers.words:
            self._engine.ledger.user_said(text)

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        if self._engine is None:
            return  # still loading: the caller was not greeted yet
        for pcm in self._mono_16k(frame):
            self._engine.push_mic(pcm)

    def _mono_16k(self, frame: rtc.AudioFrame) -> list[Pcm]:
        """Any rate and number of channels, as microphones come."""
        pcm = np.frombuffer(frame.data, np.int16)
        if frame.num_channels > 1:
            pcm = pcm.reshape(-1, frame.num_channels).mean(axis=1).astype(np.int16)
        if frame.sample_rate == MIC_HZ:
            return [pcm]
        if self._resampler is None or self._resampler_rate != frame.sample_rate:
            self._resampler_rate = frame.sample_rate
            self._resampler = rtc.AudioResampler(frame.sample_rate, MIC_HZ, num_channels=1)
        mono = rtc.AudioFrame(pcm.tobytes(), frame.sample_rate, 1, len(pcm))
        return [np.frombuffer(f.data, np.int16) for f in self._resampler.push(mono)]

    def push_video(self, frame: rtc.VideoFrame) -> None:
        """Parley listens; it does not look."""

    def generate_reply(
        self,
        *,
        instructions: NotGivenOr[str] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        tools: NotGivenOr[list[llm.Tool]] = NOT_GIVEN,
    ) -> _Created:
        asked = instructions if isinstance(instructions, str) else ""
        return self._request(asked, None)

    def say(self, text: str | AsyncIterable[str]) -> _Created:
        return self._request("", text if isinstance(text, str) else aiter(text))

    def _request(self, instructions: str, text: _Text) -> _Created:
        future: _Created = asyncio.Future()
        if self._engine is None:
            self._waiting.append((instructions, text, future))
        else:
            self._ask(self._engine, instructions, text, future)
        return future

    def _ask(self, engine: Engine, instructions: str, text: _Text, future: _Created) -> None:
        number = engine.request(Cause.INSTRUCTED, instructions=instructions, text=text)
        self._asked[number] = future
        future.add_done_callback(lambda f: self._withdraw(number) if f.cancelled() else None)

    def _withdraw(self, number: int) -> None:
        if self._asked.pop(number, None) is not None and self._engine is not None:
            self._engine.withdraw(number)

    def commit_audio(self) -> None:
        """The floor ends turns itself."""

    def clear_audio(self) -> None:
        """What the user has said is never thrown away."""

    def interrupt(self) -> None:
        """The application stops the agent; LiveKit also calls it when there is nothing to stop."""
        if self._engine is None:
            return
        self._engine.interrupt()
        if self._generations:
            self._generations[max(self._generations)].stopped_by_application = True

    def truncate(
        self,
        *,
        message_id: str,
        modalities: list[Literal["text", "audio"]],
        audio_end_ms: int,
        audio_transcript: NotGivenOr[str] = NOT_GIVEN,
    ) -> None:
        """LiveKit tells how much of a message its output really played."""
        for number, generation in self._generations.items():
            if generation.message_id == message_id and self._engine is not None:
                self._engine.ledger.correct(number, audio_end_ms * SPEAKER_HZ // 1000)

    def heard(self, samples: int) -> str:
        """What the first ``samples`` of the reply that plays now, or played last, have sounded."""
        if self._engine is None or not self._generations:
            return ""
        turn = self._engine.ledger.turn(max(self._generations))
        return shown(turn.heard_text(samples)) if turn is not None else ""

    # --- what the engine tells -----------------------------------------------------------------

    def _on_event(self, event: ev.EngineEvent) -> None:
        match event:
            case ev.ReplyFrame(reply=n, pcm=pcm):
                if not self._generations[n].play(pcm):
                    self.interrupt()
            case ev.ReplyWords(reply=n, delta=delta):
                self._generations[n].tell(shown(delta))
            case ev.ReplyCommitted():
                self._committed(event)
            case ev.FloorMoved(state=State.IDLE):
                self._tools_run.nobody_speaks()
            case ev.ReplyEnded():
                self._ended(event)
            case ev.ToolCalled():
                self._tool_called(event)
            case ev.UserStarted():
                self.emit("input_speech_started", llm.InputSpeechStartedEvent())
            case ev.UserStopped():
                self.emit("input_speech_stopped", llm.InputSpeechStoppedEvent(False))
            case ev.UserText(text=text):
                self._transcribed(Turn(self._turn_id, text), final=False)
            case ev.UserTurn(text=text):
                self._offers.ended(Turn(self._next_turn_id(), text))
            case ev.Failed(where=where, error=error):
                self._emit_error(RuntimeError(f"{where}: {error}"), recoverable=True)
            case _:
                pass
        for observer in self._model.observers:
            observer(self, event)

    def _committed(self, event: ev.ReplyCommitted) -> None:
        future = self._asked.pop(event.request, None) if event.request is not None else None
        generation = self._generations[event.reply] = Generation()
        turns = self._offers.answered(event)
        self._tools_run.begun(event.request)
        if future is None:
            is_taken = not self._asked and self._offered(generation)
        else:
            is_taken = not future.done()
        if not is_taken:
            self._refused(event.reply, generation, turns)
            return
        for turn in turns:
            self._transcribed(turn, final=True)
        if future is not None:
            session = self._model.agent_session
            # LiveKit asks for a reply on behalf of the speech that it plays now.
            generation.speech = session.current_speech if session is not None else None
            future.set_result(generation.event(user_initiated=True))

    def _offered(self, generation: Generation) -> bool:
        event = generation.event(user_initiated=False)
        session = self._model.agent_session
        return taken(session, generation, lambda: self.emit("generation_created", event))

    def _refused(self, number: int, generation: Generation, turns: tuple[Turn, ...]) -> None:
        """Nobody would hear this reply. It never happened; the words it answers are owed one."""
        assert self._engine is not None, "its engine has just told us"
        generation.refused = True
        self._engine.refuse(number)
        self._offers.refused(turns)

    def _ended(self, event: ev.ReplyEnded) -> None:
        generation = self._generations[event.reply]
        if generation.refused:
            generation.close()
            return
        self._offers.soon()
        if event.heard:
            message = self._chat_ctx.add_message(
                role="assistant", content=shown(event.heard), id=generation.message_id
            )
            message.interrupted = event.cut
        self.emit("metrics_collected", reply_metrics(self._model, generation, event))
        if event.cut and generation.sounded and not generation.stopped_by_application:
            self._cuts.cut(generation, self._tools_run.running)
        else:
            generation.close()
        self._forget_old()

    def _forget_old(self) -> None:
        """A late truncate may name the last few replies; older ones are history."""
        for number in sorted(self._generations)[:-8]:
            self._generations.pop(number).close()

    def _tool_called(self, event: ev.ToolCalled) -> None:
        call = llm.FunctionCall(
            call_id=event.call.id, name=event.call.name, arguments=event.call.arguments
        )
        generation = self._generations[event.reply]
        self._cuts.called(generation)
        self._chat_ctx.insert(call)
        self._tools_run.called(event.call.id)
        generation.call(call)

    def _tools_cancelled(self, call_ids: set[str]) -> None:
        """Of these, the ones that still ran will give no result."""
        cancelled = call_ids & self._tools_run.running
        if cancelled:
            logger.info("%d tools were cancelled with their speech", len(cancelled))
            self._tools_run.answered(cancelled)
            self._rewrite()

    def _gave_up(self, call_ids: tuple[str, ...], output: str) -> None:
        """These tools have run for too long: the mind is told, and tells the caller. What they
        give later comes as any result does."""
        assert self._engine is not None, "nobody waits before there is one"
        called = [e for e in self._chat_ctx.items if isinstance(e, llm.FunctionCall)]
        late = [call for call in called if call.call_id in call_ids]
        for call in late:
            logger.warning("the tool %r has given no result and is given up", call.name)
            failed = llm.FunctionCallOutput(
                name=call.name, call_id=call.call_id, output=output, is_error=True
            )
            self._chat_ctx.insert(failed)
        self._rewrite()
        if late:
            names = ", ".join(dict.fromkeys(call.name for call in late))
            self._engine.request(Cause.INSTRUCTED, instructions=TELL.format(names=names))

    def _next_turn_id(self) -> str:
        """Ends the turn that was being transcribed; gives its id."""
        item_id, self._turn_id = self._turn_id, utils.shortuuid("item_")
        return item_id

    def _transcribed(self, turn: Turn, *, final: bool) -> None:
        if final and not turn.text:
            return
        if final:
            self._chat_ctx.add_message(role="user", content=turn.text, id=turn.item_id)
        completed = llm.InputTranscriptionCompleted(turn.item_id, turn.text, is_final=final)
        self.emit("input_audio_transcription_completed", completed)

    def _emit_error(self, error: Exception, *, recoverable: bool) -> None:
        event = llm.RealtimeModelError(
            timestamp=time.time(),
            label=self._model.label,
            error=error,
            recoverable=recoverable,
        )
        self.emit("error", event)
