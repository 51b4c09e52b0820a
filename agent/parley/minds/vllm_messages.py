"""Writes a conversation down as chat messages.

Only what was heard is written. A turn that was cut ends in an em dash, and what is not anybody's
words (the call begins, the caller is silent, the application asks for something) stands in
parentheses in the user's role, because many chat templates take no system message but the first.
The model is told both in ``VllmOptions.convention``.

Servers and templates refuse histories that are not tidy, so they are made tidy: turns of one role
are joined, each result stands right behind its call whatever was said in between, and a call
without a result (the conversation went on without it) is left out, as is a result without a call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from parley.minds.base import Cause, Context, Item, Said, ToolCall, ToolResult, ToolSpec

Message = dict[str, object]

CUT = "—"
_DIRECTIONS = {
    Cause.OPENING: "(The call begins. Greet the caller.)",
    Cause.NO_INPUT: "(The caller has been silent for a while.)",
}


def messages(context: Context, convention: str = "") -> list[Message]:
    system = "\n\n".join(part for part in (convention, context.instructions) if part)
    written: list[Message] = [{"role": "system", "content": system}] if system else []
    written += _turns(context.items)
    direction = direction_of(context)
    if direction:
        _add(written, "user", direction)
    return written


def tools(specs: Iterable[ToolSpec]) -> list[Message]:
    return [
        {
            "type": "function",
            "function": {
                "name": spec.name,
                "description": spec.description,
                "parameters": dict(spec.parameters),
            },
        }
        for spec in specs
    ]


def is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _turns(items: tuple[Item, ...]) -> list[Message]:
    results = {item.id: item for item in items if isinstance(item, ToolResult)}
    written: list[Message] = []
    for kind, group in groupby(items, key=type):
        if kind is Said:
            for said in group:
                assert isinstance(said, Said)
                role = "user" if said.role == "user" else "assistant"
                _add(written, role, _words(said))
        elif kind is ToolCall:
            calls = [c for c in group if isinstance(c, ToolCall) and c.id in results]
            written += _exchange(calls, results)
    return written


def _words(said: Said) -> str:
    text = said.text.strip()
    if not said.cut:
        return text
    # Nothing was heard: no turn at all, rather than a bare dash for the model to imitate.
    return f"{text.rstrip('.,;:')}{CUT}" if text else ""


def _exchange(calls: list[ToolCall], results: Mapping[str, ToolResult]) -> Iterator[Message]:
    """One assistant message with all calls, then one message for each result."""
    if not calls:
        return
    yield {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    # A server parses these again and refuses the whole request on broken JSON.
                    "arguments": call.arguments if is_json_object(call.arguments) else "{}",
                },
            }
            for call in calls
        ],
    }
    for call in calls:
        result = results[call.id]
        output = f"error: {result.output}" if result.error else result.output
        yield {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": output}


def direction_of(context: Context) -> str:
    """What the model is told besides everybody's words; empty when there is nothing."""
    if context.cause is Cause.INSTRUCTED:
        return f"({context.request})" if context.request else ""
    return _DIRECTIONS.get(context.cause, "")


def _add(written: list[Message], role: str, text: str) -> None:
    """A turn, joined to the one before when the same side goes on."""
    if not text:
        return
    last = written[-1] if written else None
    if last is not None and last["role"] == role and isinstance(last["content"], str):
        last["content"] = f"{last['content']} {text}"
    else:
        written.append({"role": role, "content": text})
