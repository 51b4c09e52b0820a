"""What a language model would answer in the restaurant, as a function of what it is asked."""

from __future__ import annotations

import itertools
import json
from typing import Any

from livekit.agents import llm
from livekit.agents.types import APIConnectOptions

from agent.fake_openai import Exchange, call_delta
from agent.fakes import Script
from parley.minds.base import Context, ToolCall
from parley.minds.vllm_messages import messages

WELCOME = "Welcome to the Harbour Bistro."
WHEN = "For how many people, and when?"
NAME = "There is a table for four. What is your name?"
BOOKED = "It is booked. See you soon."
_ANSWERS = {"find_table": NAME, "book_table": BOOKED}
_ARGUMENTS: dict[str, dict[str, object]] = {
    "to_reservations": {},
    "find_table": {"people": 4, "time": "19:30"},
    "book_table": {"name": "Ada"},
}

_CALLS = itertools.count()

Answer = str | ToolCall


def answer(asked: list[dict[str, Any]], offered: set[str]) -> Answer:
    """To these messages, with these tools. The same ones always get the same answer."""
    last = asked[-1]
    words = str(last["content"])
    called = [
        call["function"]["name"]
        for message in asked
        if message["role"] == "assistant"
        for call in message.get("tool_calls") or []
    ]
    if last["role"] == "tool":
        return _ANSWERS[called[-1]]
    if "Greet the caller" in words:
        return WELCOME
    if "Ask for how many" in words:
        return WHEN
    due = _ANSWERS.get(called[-1]) if called else None
    if due is not None and not any(due in said for said in _said(asked)):
        return due  # the caller spoke over it
    wanted = next((name for name in _ARGUMENTS if name in offered and name not in called), None)
    if wanted is None:
        return "Goodbye."
    return ToolCall(f"call_{wanted}_{len(asked)}", wanted, json.dumps(_ARGUMENTS[wanted]))


def _said(asked: list[dict[str, Any]]) -> list[str]:
    return [str(message.get("content")) for message in asked if message["role"] == "assistant"]


def mind(context: Context) -> Script:
    """For ``ScriptedMind``."""
    offered = {str(spec.name) for spec in context.tools}
    return Script([answer(messages(context), offered)])


def names(body: dict[str, Any]) -> set[str]:
    return {tool["function"]["name"] for tool in body.get("tools", [])}


async def server(exchange: Exchange) -> None:
    """For ``fake_openai``."""
    given = answer(exchange.body["messages"], names(exchange.body))
    await exchange.head()
    if isinstance(given, str):
        await exchange.say(*(f"{word} " for word in given.split()))
        await exchange.end()
        return
    call_id = f"{given.id}_{next(_CALLS)}"  # no two calls have the same, as with a real server
    await exchange.event(call_delta(0, id=call_id, name=given.name, arguments=""))
    for at in range(0, len(given.arguments), 4):
        await exchange.event(call_delta(0, arguments=given.arguments[at : at + 4]))
    await exchange.end("tool_calls")


class StockLlm(llm.LLM):
    """For a stock session."""

    def chat(self, *, chat_ctx: llm.ChatContext, tools: list[Any] | None = None, **_: Any) -> Any:
        return _Stream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=APIConnectOptions())


class _Stream(llm.LLMStream):
    async def _run(self) -> None:
        asked, _ = self._chat_ctx.to_provider_format("openai")
        given = answer(asked, set(llm.ToolContext(self._tools).function_tools))
        if isinstance(given, str):
            delta = llm.ChoiceDelta(role="assistant", content=given)
        else:
            call = llm.FunctionToolCall(
                call_id=given.id, name=given.name, arguments=given.arguments
            )
            delta = llm.ChoiceDelta(role="assistant", tool_calls=[call])
        self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=delta))
