"""Chat-completion chunks in, mind events out; tool calls are collected until they are whole.

A call is whole when the answer ends, or before that when the next call begins: the first of several
tools may run while the model still writes down the second. Half a call is of no use to anybody who
runs tools.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from parley.minds.base import MindEvent, TextDelta, ToolCall
from parley.minds.vllm_messages import is_json_object
from parley.minds.vllm_usage import Usage

DONE = "[DONE]"
MAX_CALLS = 16
MAX_ARGUMENT_CHARS = 32_000


class DeltaError(ValueError):
    """A chunk that is not as the protocol has it, or an error that the server sent in one.
    The message never holds the conversation's words."""


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""


class DeltaReader:
    """Reads one streamed answer. After each chunk, ``progress`` counts what carried content."""

    def __init__(self) -> None:
        self.progress = 0
        self.usage = Usage()
        """As far as it was told."""
        self.reasoned = False
        """The model sent thoughts that nobody hears."""
        self.finished = False
        """The server has said that the answer is complete."""
        self._calls: dict[int, _Call] = {}
        self._given: set[int] = set()
        """Calls that were whole before the answer ended."""

    def feed(self, data: str) -> list[MindEvent]:
        """One event's data. Raises DeltaError."""
        if data.strip() == DONE:
            self.finished = True
            return self._whole_calls()
        chunk = _chunk(data)
        self.usage.note(chunk.get("usage"))
        choice = _choice(chunk)
        if choice is None:
            return []
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise DeltaError(f"'delta' is {_kind(delta)}; expected an object")
        self.reasoned |= bool(delta.get("reasoning_content") or delta.get("reasoning"))
        events: list[MindEvent] = []
        if text := _text(delta, "content"):
            self.progress += 1
            events.append(TextDelta(text))
        if fragments := delta.get("tool_calls"):
            self._collect(fragments)
            events += self._calls_before_the_last()
        if reason := choice.get("finish_reason"):
            self.usage.finish_reason = str(reason)
            self.finished = True
            events += self._whole_calls()
        return events

    def _collect(self, fragments: object) -> None:
        if not isinstance(fragments, list):
            raise DeltaError(f"'tool_calls' is {_kind(fragments)}; expected a list")
        for fragment in fragments:
            if not isinstance(fragment, dict):
                raise DeltaError(f"a tool call is {_kind(fragment)}; expected an object")
            self._fragment(fragment)
            self.progress += 1

    def _fragment(self, fragment: dict[str, object]) -> None:
        index = self._index_of(fragment)
        if index in self._given:
            raise DeltaError("a fragment of a tool call that was complete")
        call = self._calls.setdefault(index, _Call())
        function = fragment.get("function") or {}
        if not isinstance(function, dict):
            raise DeltaError(f"'function' is {_kind(function)}; expected an object")
        call.id = call.id or _text(fragment, "id")
        call.name = call.name or _text(function, "name")
        call.arguments += _text(function, "arguments")
        if len(call.arguments) > MAX_ARGUMENT_CHARS:
            raise DeltaError(f"arguments of more than {MAX_ARGUMENT_CHARS} characters")

    def _index_of(self, fragment: dict[str, object]) -> int:
        """As it says; servers that send none begin a call with its id and go on without."""
        index = fragment.get("index")
        if not isinstance(index, int):
            last = max(self._calls, default=0)
            known = self._calls.get(last)
            begins = known is None or (fragment.get("id") not in (None, "", known.id))
            index = last + 1 if begins else last
        if index not in self._calls and len(self._calls) + len(self._given) >= MAX_CALLS:
            raise DeltaError(f"more than {MAX_CALLS} tool calls in one answer")
        return index

    def _calls_before_the_last(self) -> Iterator[MindEvent]:
        """In their order; where one is not whole, those behind it wait for it."""
        for index in sorted(self._calls)[:-1]:
            call = self._calls[index]
            if not call.name or not is_json_object(call.arguments):
                return
            del self._calls[index]
            self._given.add(index)
            yield ToolCall(call.id or new_call_id(), call.name, call.arguments.strip())

    def _whole_calls(self) -> list[MindEvent]:
        calls, self._calls = self._calls, {}
        events: list[MindEvent] = []
        for _, call in sorted(calls.items()):
            arguments = call.arguments.strip() or "{}"
            if not call.name:
                raise DeltaError("a tool call without a name")
            if not is_json_object(arguments):
                raise DeltaError(
                    f"the arguments of tool {call.name!r} are not a JSON object "
                    f"({len(arguments)} characters)"
                )
            events.append(ToolCall(call.id or new_call_id(), call.name, arguments))
        return events


def new_call_id() -> str:
    """For a server that names none. Unlike that of any other call of the conversation: a result
    finds its call by it."""
    return f"call_{secrets.token_hex(6)}"


def _chunk(data: str) -> dict[str, object]:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        raise DeltaError(f"a chunk of {len(data)} characters that is not JSON") from None
    if not isinstance(chunk, dict):
        raise DeltaError(f"a chunk that is {_kind(chunk)}; expected an object")
    if chunk.get("error"):
        raise DeltaError(f"the server reported {error_kind(chunk)} in mid-stream")
    return chunk


def _choice(chunk: dict[str, object]) -> dict[str, object] | None:
    """The first choice of a chunk; None for one without (usage)."""
    choices = chunk.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise DeltaError("'choices' is not a list of objects")
    return choices[0]


def error_kind(body: object) -> str:
    """Type and code of an OpenAI error object; its message may quote the conversation."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return "an error"
    parts = [str(error[key]) for key in ("type", "code") if isinstance(error.get(key), str | int)]
    return " ".join(part[:60] for part in parts) or "an error"


def _text(holder: dict[str, object], key: str) -> str:
    value = holder.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DeltaError(f"{key!r} is {_kind(value)}; expected a string")
    return value


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
