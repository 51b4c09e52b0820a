"""Between LiveKit's chat context and Parley's ledger: two ways to write the same conversation."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from livekit.agents import llm

from parley.minds.base import Item, Said, ToolCall, ToolResult, ToolSpec


def items_of(chat_ctx: llm.ChatContext, running: Collection[str] = ()) -> tuple[Item, ...]:
    """What was said and done in a chat context; instructions are kept apart from it. A call
    without a result is left out unless its tool is ``running``: LiveKit never answers the call
    that handed over, in the history that was copied by it."""
    known = {*answered_in(chat_ctx), *running}
    return tuple(
        item
        for entry in chat_ctx.items
        if (item := _item(entry)) is not None
        and not (isinstance(item, ToolCall) and item.id not in known)
    )


def _item(entry: llm.ChatItem) -> Item | None:
    if isinstance(entry, llm.FunctionCall):
        return ToolCall(entry.call_id, entry.name, entry.arguments)
    if isinstance(entry, llm.FunctionCallOutput):
        return ToolResult(entry.call_id, entry.name, entry.output, entry.is_error)
    if isinstance(entry, llm.ChatMessage) and entry.role in ("user", "assistant"):
        text = entry.text_content or ""
        if not text.strip():
            return None
        role = "user" if entry.role == "user" else "agent"
        return Said("user" if role == "user" else "agent", text.strip(), cut=entry.interrupted)
    return None


def answered_in(chat_ctx: llm.ChatContext) -> set[str]:
    """Ids of the calls that have a result."""
    return {e.call_id for e in chat_ctx.items if isinstance(e, llm.FunctionCallOutput)}


def extra_instructions(chat_ctx: llm.ChatContext) -> str:
    """System and developer messages that an application put into the context."""
    texts = [
        entry.text_content or ""
        for entry in chat_ctx.items
        if isinstance(entry, llm.ChatMessage) and entry.role in ("system", "developer")
    ]
    return "\n".join(t for t in texts if t)


def specs_of(tools: Iterable[llm.Tool]) -> tuple[ToolSpec, ...]:
    """The function tools of an agent, as a mind is told of them. Provider tools (which run inside
    a vendor's model) have no meaning here and are left out."""
    context = llm.ToolContext(list(tools))
    return tuple(
        ToolSpec(f["name"], f.get("description") or "", f.get("parameters") or {})
        for spec in context.parse_function_tools("openai", strict=False)
        if (f := spec.get("function")) is not None
    )
