"""What is asked of the server: one chat completion's body, for a reply, a guess or a judgement.

vLLM takes more than OpenAI's protocol has, and what it takes is used only where the server is
vLLM: a priority (``--scheduling-policy priority``; lower goes first, and without that flag it is
ignored), a salt that keeps one call's cached prompt from being probed by another one, counts of
tokens in every chunk of a guess, and the continuation of a message.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import IntEnum

from parley.minds.base import Context
from parley.minds.speculation import Ask
from parley.minds.vllm_messages import Message, messages, tools
from parley.minds.vllm_options import VllmOptions

Body = dict[str, object]


class Priority(IntEnum):
    """Of requests in vLLM's queue; lower goes first."""

    JUDGEMENT = -10  # one token, of no use after 120 ms
    REPLY = 0  # somebody waits
    GUESS = 10  # somebody may come to wait
    BACKGROUND = 20  # nobody waits


@dataclass(frozen=True, slots=True)
class Served:
    """What answers behind the endpoint."""

    model: str
    vllm: bool = False
    max_model_len: int | None = None
    """Tokens of prompt and answer together; None: not told."""
    end_token: str = ""
    """What ends a user's turn in the model's template; empty: not known."""


class Composer:
    """Makes the requests of one call."""

    def __init__(self, options: VllmOptions, served: Served) -> None:
        self._options, self._served = options, served
        salted = served.vllm and options.isolate_cache
        self._salt = secrets.token_urlsafe(16) if salted else ""

    def reply(self, written: Context, ask: Ask, asked: list[Message] | None = None) -> Body:
        """``asked``: the context's messages, where they are at hand."""
        if asked is None:
            asked = messages(written, self._options.convention)
        body = self._body(asked, written)
        if ask.max_tokens is not None:
            body["max_tokens"] = min(ask.max_tokens, self._options.max_tokens)
        if self._served.vllm:
            body["priority"] = Priority.REPLY if ask.urgent else Priority.GUESS
            if not ask.urgent:  # it may be thrown away, and what it has cost is to be known
                body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        if said := written.said + ask.said:
            begun: Message = {"role": "assistant", "content": said}
            body["messages"] = [*asked, begun]
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        return {**body, **self._options.extra_body}

    def judgement(self, written: Context) -> Body:
        body = self._body(messages(written, self._options.convention), written)
        return {**body, **self._options.extra_body, "priority": Priority.JUDGEMENT}

    def background(self, asked: list[Message], context: Context, max_tokens: int) -> Body:
        body = self._body(asked, context)
        if context.tools:
            body["tool_choice"] = "none"  # they stay in the prompt, which thus stays the same
        if self._served.vllm:
            body["priority"] = Priority.BACKGROUND
        return {**body, **self._options.extra_body, "max_tokens": max_tokens}

    def _body(self, asked: list[Message], context: Context) -> Body:
        body: Body = {
            "model": self._served.model,
            "messages": asked,
            "max_tokens": self._options.max_tokens,
            "stream": True,
        }
        if self._options.temperature is not None:
            body["temperature"] = self._options.temperature
        if context.tools:
            body["tools"] = tools(context.tools)
            body["tool_choice"] = context.tool_choice
        if self._served.vllm:
            body["stream_options"] = {"include_usage": True}
        if self._salt:
            body["cache_salt"] = self._salt
        return body
