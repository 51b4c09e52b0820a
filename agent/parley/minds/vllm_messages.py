"""Writes a conversation down as chat messages.

Only what was heard is written. A turn that was cut ends in an em dash, and what is not anybody's
words (the call begins, the caller is silent, the application asks for something) stands in
parentheses in the user's role, because many chat templates take no system message but the first.
The model is told both in ``VllmOptions.convention``.

Servers and templates refuse histories that are not tidy, so they are made tidy: turns of one role
are joined, each result stands right behind its call whatever was said in between, and a call
without a result is left out, as is a result without a call. That a tool still runs is told in
parentheses, else the model would call it once more; so is the result of one that was given up
before, because a call has one result in every template.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import groupby

from parley.minds.base import Cause, Context, Item, Said, ToolCall, ToolResult, ToolSpec

Message = dict[str, object]

CUT = "—"
_DIRECTIONS = {
    Cause.OPENING: "(The call begins. Greet the caller.)",
    Cause.NO_INPUT: "(The caller has been silent for a while.)",
}

_UNCLEAR = (
    "(The caller said something that could not be understood. Ask them in a few words, in the "
    "language of this conversation, to say it again.)"
)
_RUNNING = "({names} is still running; its result will come. Do not call it again.)"
_LATE = "({name} has answered after all: {output})"


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
    """An exchange with a tool stands where its result came: what was said in between came before
    anybody knew the result, and a prompt in which the call was left out only grows at its end."""
    written: list[Message] = []
    calls: dict[str, ToolCall] = {}
    results: dict[str, ToolResult] = {}
    answered: dict[str, ToolResult] = {}
    late: list[str] = []
    for kind, group in groupby(items, key=type):
        for item in group:
            if isinstance(item, Said):
                _add(written, "user" if item.role == "user" else "assistant", _words(item))
            elif isinstance(item, ToolCall):
                calls.setdefault(item.id, item)
            elif (before := answered.get(item.id) or results.get(item.id)) is None:
                results[item.id] = item
            elif before != item:
                late.append(_LATE.format(name=item.name, output=_output(item)))
        if kind is not Said:
            known = [call for call in calls.values() if call.id in results]
            _exchange(written, known, results)
            for call in known:
                answered[call.id] = results.pop(call.id)
                del calls[call.id]
            for text in late:
                _add(written, "user", text)
            late.clear()
    return written


def _words(said: Said) -> str:
    text = said.text.strip()
    if not said.cut:
        return text
    # Nothing was heard: no turn at all, rather than a bare dash for the model to imitate.
    return f"{text.rstrip('.,;:')}{CUT}" if text else ""


def _exchange(
    written: list[Message], calls: list[ToolCall], results: Mapping[str, ToolResult]
) -> None:
    """One assistant message with all calls, behind its words if it has just spoken; then one
    message for each result, in the order of the calls."""
    if not calls:
        return
    last = written[-1] if written else None
    if last is None or last["role"] != "assistant" or "tool_calls" in last:
        last = {"role": "assistant", "content": None}
        written.append(last)
    last["tool_calls"] = [
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
    ]
    for call in calls:
        result = results[call.id]
        answer: Message = {"role": "tool", "tool_call_id": call.id, "name": call.name}
        written.append({**answer, "content": _output(result)})


def _output(result: ToolResult) -> str:
    return f"error: {result.output}" if result.error else result.output


def _running(context: Context) -> list[str]:
    """Names of tools that were called and have not answered yet."""
    calls = [item for item in context.items if isinstance(item, ToolCall)]
    if not calls:
        return []
    answered = {item.id for item in context.items if isinstance(item, ToolResult)}
    return list(dict.fromkeys(call.name for call in calls if call.id not in answered))


def direction_of(context: Context) -> str:
    """What the model is told besides everybody's words; empty when there is nothing."""
    parts = [_RUNNING.format(names=", ".join(names)) if (names := _running(context)) else ""]
    if context.cause is Cause.INSTRUCTED:
        parts.append(f"({context.request})" if context.request else "")
    elif context.cause is Cause.USER and not context.user_text:
        parts.append(_UNCLEAR)
    else:
        parts.append(_DIRECTIONS.get(context.cause, ""))
    return " ".join(part for part in parts if part)


def _add(written: list[Message], role: str, text: str) -> None:
    """A turn, joined to the one before when the same side goes on."""
    if not text:
        return
    last = written[-1] if written else None
    if last is not None and last["role"] == role and isinstance(last["content"], str):
        last["content"] = f"{last['content']} {text}"
    else:
        written.append({"role": role, "content": text})
