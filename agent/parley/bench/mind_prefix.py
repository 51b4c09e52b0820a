"""How much of each prompt vLLM's prefix cache serves, in calls as they happen.

The calls are held through the ledger, as the engine does it: replies that are cut, a silence that
the agent breaks, a tool, a guess that is thrown away in each turn, and a judgement. The share is
taken from vLLM's own counters, over all that a call sends from its second turn on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import aiohttp

from parley.bench.figures import Figure, Goal
from parley.bench.mind_server import Metrics
from parley.dialogue.ledger import Ledger
from parley.minds.base import (
    Cause,
    Context,
    MindError,
    Said,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from parley.minds.speculation import SpeculativeReply
from parley.minds.vllm import VllmMind, VllmOptions, VllmSession
from parley.minds.vllm_reply import VllmReply
from parley_speech.types import WordMark

MISSED = 0.10
GUESS_S = 2.0
"""Longest life of a guess here."""
WORD = 4800
"""Samples of a word; how fast the agent speaks is of no importance here."""
TURNS: tuple[str, ...] = (
    "hello",
    "what are your opening hours",
    "can you help me with something",
    "what is the weather in Rome",
    "",  # the caller is silent
    "hi how are you",
    "where is my order 12345",
    "what are your opening hours on sunday",
    "thank you very much",
)
CUT_EVERY = 4
"""Replies of which only three words are heard."""
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ORDER = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
TOOLS = (
    ToolSpec("get_weather", "The weather in a city.", CITY),
    ToolSpec("order_status", "Where an order is.", ORDER),
)
INSTRUCTIONS = (
    "You are the voice of a small shop by the sea that sells books, maps and tea. Answer in one or "
    "two short sentences. Never promise a day of delivery; say that the parcel was shipped, if it "
    "was. The shop is open from nine to six, Monday to Saturday. Who asks for the owner is told "
    "that she calls back in the evening."
)


async def hits(
    url: str, calls: int, calibration: Path | None, tell: Callable[[str], None]
) -> Figure:
    options = VllmOptions(
        base_url=url, temperature=0.0, max_tokens=48, context_tokens=960, calibration=calibration
    )
    mind = VllmMind(options)
    await mind.start()
    shares: list[float] = []
    prompts = 0.0
    async with aiohttp.ClientSession() as client:
        metrics = Metrics(client, url)
        for number in range(calls):
            tell(f"prefix cache: call {number + 1} of {calls}")
            asked, served = await _call(mind, metrics)
            shares.append(1 - served / asked)
            prompts += asked
    await mind.aclose()
    return Figure(
        "prefix_missed",
        "share of prompt tokens not served by the prefix cache, from the second turn on",
        "share",
        samples=tuple(shares),
        goals=(Goal("mean", MISSED, "10 %: at least 90 % are served"),),
        notes=(
            f"{calls} calls of {len(TURNS)} turns, {prompts / calls:.0f} prompt tokens a call, "
            "guesses and judgements included; cached in blocks of 32 tokens",
        ),
    )


async def _call(mind: VllmMind, metrics: Metrics) -> tuple[float, float]:
    """(prompt tokens, those of them that were cached) of one call after its first turn."""
    session, ledger = mind.session(), Ledger()
    before = await metrics.read()
    for number, said in enumerate(TURNS):
        if number == 1:
            before = await metrics.read()
        await _turn(session, ledger, number, said)
    after = await metrics.read()
    await session.aclose()
    asked, served = (
        after[f"vllm:prefix_cache_{what}_total"] - before[f"vllm:prefix_cache_{what}_total"]
        for what in ("queries", "hits")
    )
    return asked, served


async def _turn(session: VllmSession, ledger: Ledger, number: int, said: str) -> None:
    words = said.split()
    if len(words) > 2:
        await _thrown_away(session.reply(_context(ledger, " ".join(words[:-1]))))
    if said:
        session.attend(_context(ledger, said), over_agent=False)
        if session.judge is not None:
            await session.judge.ends.answered()
    await _answer(session, ledger, number, _context(ledger, said))


async def _thrown_away(guess: VllmReply | SpeculativeReply) -> None:
    """At its first word; a guess to which the model has nothing to say waits to be wanted."""

    async def first_word() -> None:
        async for event in guess:
            if isinstance(event, TextDelta):
                return

    listening = asyncio.create_task(first_word(), name="guess")
    await asyncio.wait({listening}, timeout=GUESS_S)
    guess.cancel()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await guess.aclose()


async def _answer(session: VllmSession, ledger: Ledger, number: int, context: Context) -> None:
    reply = session.reply(context)
    text, called = "", False
    reply.commit()
    if context.cause is Cause.USER:
        said = context.items[-1]
        assert isinstance(said, Said)
        ledger.user_said(said.text)
    with contextlib.suppress(MindError):  # a tiny model may have nothing to say
        async for event in reply:
            if isinstance(event, TextDelta):
                text += event.text
            elif isinstance(event, ToolCall):
                called = True
                ledger.tool(event)
                ledger.tool(ToolResult(event.id, event.name, "shipped"))
    await reply.aclose()
    _speak(ledger, number * 2 + (context.cause is Cause.TOOL), text, cut=number % CUT_EVERY == 1)
    if called and context.cause is not Cause.TOOL:
        again = replace(_context(ledger, ""), cause=Cause.TOOL)
        await _answer(session, ledger, number, again)


def _speak(ledger: Ledger, reply: int, text: str, *, cut: bool) -> None:
    if not text.strip():
        return
    marks, at = [], 0
    for n, word in enumerate(text.split()):
        at = text.index(word, at)
        marks.append(WordMark(word, at, at + len(word), n * WORD, (n + 1) * WORD))
        at += len(word)
    ledger.begin(reply)
    ledger.said(reply, text)
    ledger.marked(reply, marks)
    if cut:
        ledger.played(reply, 3 * WORD)
        ledger.cut(reply)
    else:
        ledger.played(reply, len(marks) * WORD)
        ledger.end(reply, text)


def _context(ledger: Ledger, said: str) -> Context:
    items = ledger.items()
    return Context(
        Cause.USER if said else Cause.NO_INPUT,
        (*items, Said("user", said)) if said else items,
        instructions=INSTRUCTIONS,
        tools=TOOLS,
        speculative=True,
    )
