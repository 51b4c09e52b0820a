"""A mind that asks a language model: vLLM, or any server that speaks OpenAI's chat completions.

    mind = VllmMind(VllmOptions(base_url="http://127.0.0.1:8000/v1"))
    await mind.start()

The reply of a discarded speculation costs nothing afterwards: cancelling closes its connection, and
vLLM frees what it held within milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

from parley.minds.base import Context, MindError, OverlapOpinion, TextDelta
from parley.minds.budget import Budget
from parley.minds.context import Transcript
from parley.minds.context_summary import Folding
from parley.minds.judgement import Calibration, CalibrationError, load_calibration
from parley.minds.judgement_vllm import Judge
from parley.minds.speculation import Ask, SpeculationStats, SpeculativeReply, TurnBudget
from parley.minds.vllm_http import FAILURES, Connections
from parley.minds.vllm_messages import Message
from parley.minds.vllm_options import VllmOptions
from parley.minds.vllm_refusal import unreachable
from parley.minds.vllm_reply import VllmReply
from parley.minds.vllm_request import Body, Composer, Served
from parley_speech.types import EngineUnavailable, Grammar

logger = logging.getLogger(__name__)

__all__ = ["VllmMind", "VllmOptions", "VllmSession"]

MODELS_S = 5.0
"""Longest wait for the list of models."""
BACKGROUND_S = 60.0
"""Longest wait for a summary, which goes behind everything else."""
UNBOUNDED = 1 << 30


class VllmMind:
    """One endpoint and model for all calls of a worker. Without options: PARLEY_LLM_* variables."""

    def __init__(self, options: VllmOptions | None = None):
        self.options = options or VllmOptions.from_env()
        self.speculation = SpeculationStats()
        """Of all calls."""
        self.served = Served(self.options.model)
        self._calibration: Calibration | None = None
        self._client: Connections | None = None

    async def start(self) -> None:
        """Opens the connections and checks that the model is served. Raises EngineUnavailable
        with what to do."""
        if self._client is not None:
            return
        options = self.options
        client = Connections(
            options.base_url,
            api_key=options.api_key,
            connect_s=options.connect_s,
            most=options.connections,
        )
        try:
            self.served = _chosen(await _served(client, self.options), self.options)
            await self._prepare_judgements(client)
        except BaseException:
            await client.aclose()
            raise
        self._client = client

    async def _prepare_judgements(self, client: Connections) -> None:
        if self.options.calibration is None or not self.served.vllm:
            return
        try:
            self._calibration = load_calibration(self.options.calibration, self.served.model)
        except CalibrationError as error:
            raise EngineUnavailable(str(error)) from error
        if self._calibration is None:
            logger.warning(
                "%s holds nothing about %s: no judgements are made",
                self.options.calibration,
                self.served.model,
            )
            return
        self.served = replace(self.served, end_token=await end_token(client, self.served.model))

    @property
    def client(self) -> Connections | None:
        """The connections, for measurements; None unless it is started."""
        return self._client

    async def learn_end_token(self) -> None:
        """What ends a user's turn, where no calibration has asked for it. Raises
        EngineUnavailable."""
        if self._client is not None and not self.served.end_token:
            token = await end_token(self._client, self.served.model)
            self.served = replace(self.served, end_token=token)

    def session(self) -> VllmSession:
        if self._client is None:
            raise RuntimeError("VllmMind.session() before start(); await mind.start() first")
        return VllmSession(
            self._client, self.served, self.options, self._calibration, self.speculation
        )

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


class VllmSession:
    """The mind of one call: how it is written down, what guesses may cost, what was judged."""

    def __init__(
        self,
        client: Connections,
        served: Served,
        options: VllmOptions,
        calibration: Calibration | None,
        stats: SpeculationStats,
    ):
        self._client, self._served, self._options = client, served, options
        self._compose = Composer(options, served)
        self._transcript = Transcript()
        budget = Budget(_context_tokens(served, options))
        self.folding = Folding(self._transcript, budget, self._complete, options.convention)
        self._guesses = TurnBudget(options.speculative_turn_tokens, options.speculative_tokens)
        self._stats = stats
        self._measured: tuple[VllmReply, int] | None = None
        """The latest request and its prompt's size in characters."""
        self.judge: Judge | None = None
        if calibration is not None:
            self.judge = Judge(client.post, self._judgement, calibration, served.end_token)

    def reply(self, context: Context) -> VllmReply | SpeculativeReply:
        if context.said and not self._served.vllm:
            raise MindError(f"{self._options.base_url} cannot continue a message; vLLM can")
        self._measure()
        written = self.folding.fit(context)
        if context.speculative and self._served.vllm:
            return SpeculativeReply(
                lambda ask: self._leg(written, ask),
                self._guesses,
                self._stats,
                on_commit=lambda: self._transcript.heard(context),
            )
        body = self._body(written, Ask(urgent=True))
        return VllmReply(self._client, body, self._options, lambda: self._transcript.heard(context))

    def grammar(self) -> Grammar | None:
        """Anything may be said."""
        return None

    def attend(self, context: Context, *, over_agent: bool) -> None:
        if self.judge is not None:
            self.judge.attend(context, over_agent=over_agent)

    def completeness(self, text: str) -> float | None:
        """What was judged of these words; None without a calibration, or not yet."""
        return None if self.judge is None else self.judge.ends.get(text)

    def overlap(self, text: str) -> OverlapOpinion | None:
        return None if self.judge is None else self.judge.overlaps.get(text)

    async def aclose(self) -> None:
        """Replies are closed by who asked for them."""
        await self.folding.aclose()
        if self.judge is not None:
            await self.judge.aclose()

    def _leg(self, written: Context, ask: Ask) -> VllmReply:
        leg = VllmReply(self._client, self._body(written, ask), self._options)
        if not ask.said and not written.said:
            self._measured = leg, self.folding.size(written)
        return leg

    def _body(self, written: Context, ask: Ask) -> Body:
        return self._compose.reply(written, ask, self.folding.asked(written))

    def _measure(self) -> None:
        """Learns from the latest request how long this call's words are in tokens."""
        if self._measured is not None:
            leg, size = self._measured
            self.folding.meter.note(size, leg.usage.prompt_tokens)

    def _judgement(self, context: Context) -> Body:
        return self._compose.judgement(self._transcript.written(context))

    async def _complete(self, asked: list[Message], context: Context, max_tokens: int) -> str:
        """An answer in the background. Raises MindError."""
        limits = replace(self._options.limits, first_s=BACKGROUND_S, stall_s=BACKGROUND_S)
        body = self._compose.background(asked, context, max_tokens)
        reply = VllmReply(self._client, body, replace(self._options, limits=limits))
        try:
            return "".join([e.text async for e in reply if isinstance(e, TextDelta)])
        finally:
            await reply.aclose()


def _context_tokens(served: Served, options: VllmOptions) -> int:
    if options.context_tokens is not None:
        return options.context_tokens
    if served.max_model_len is None:
        return UNBOUNDED
    return max(1, served.max_model_len - options.max_tokens)


async def end_token(client: Connections, model: str) -> str:
    """What the template puts behind a user's words: the difference between a closed turn and an
    open one. Raises EngineUnavailable."""

    async def tokens(**how: bool) -> list[str]:
        asked = {"model": model, "messages": [{"role": "user", "content": "hello"}], **how}
        asked |= {"add_generation_prompt": False, "return_token_strs": True}
        async with asyncio.timeout(MODELS_S):
            _, content = await client.post("../tokenize", asked)
        return [str(token) for token in json.loads(content)["token_strs"]]

    try:
        closed = await tokens()
        opened = await tokens(continue_final_message=True)
    except (*FAILURES, ValueError, KeyError, TypeError) as error:
        raise EngineUnavailable(
            "the server cannot tell what ends a turn in its chat template "
            f"({type(error).__name__}); judgements need vLLM's /tokenize"
        ) from error
    if closed[: len(opened)] != opened or len(closed) == len(opened):
        raise EngineUnavailable(
            f"the chat template of {model} marks no end of a user's turn; "
            "unset the calibration to do without judgements"
        )
    return closed[len(opened)]


async def _served(client: Connections, options: VllmOptions) -> list[Served]:
    """The models behind the endpoint."""
    where = options.base_url
    try:
        async with asyncio.timeout(MODELS_S):
            status, content = await client.get("models")
    except TimeoutError as error:
        raise EngineUnavailable(
            f"{where} did not list its models within {MODELS_S:g} s; "
            "is it still loading? Its /health tells"
        ) from error
    except FAILURES as error:
        raise EngineUnavailable(str(unreachable(options, error))) from error
    if status in (401, 403):
        raise EngineUnavailable(f"{where} refused the key ({status}); set PARLEY_LLM_API_KEY")
    try:
        return [_model(entry) for entry in json.loads(content)["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineUnavailable(
            f"{where}/models answered {status} and no list of models; "
            "expected an OpenAI-compatible server whose base_url ends in /v1"
        ) from error


def _model(entry: dict[str, object]) -> Served:
    longest = entry.get("max_model_len")
    return Served(
        str(entry["id"]),
        vllm=entry.get("owned_by") == "vllm",
        max_model_len=longest if isinstance(longest, int) else None,
    )


def _chosen(models: list[Served], options: VllmOptions) -> Served:
    found = [model for model in models if model.model == options.model]
    if not options.model and len(models) == 1:
        found = models
    if found:
        vllm = found[0].vllm if options.vllm is None else options.vllm
        return replace(found[0], vllm=vllm)
    names = ", ".join(model.model for model in models) or "none"
    wanted = f"model {options.model!r} is not served" if options.model else "no model was chosen"
    raise EngineUnavailable(
        f"{wanted} at {options.base_url}; set PARLEY_LLM_MODEL to what it serves: {names}"
    )
