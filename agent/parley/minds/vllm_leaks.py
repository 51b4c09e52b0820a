"""What a model lets slip that is not speech: its template's tokens, roles, thoughts, tool calls.

A server whose template or parser does not fit its model sends these as ordinary text: the end
token and, behind it, the user's next turn as the model imagines it; ``<think>`` blocks; a call as
``<tool_call>{...}</tool_call>``. Spoken, they are nonsense. Here they are taken out of the stream,
however it is cut into deltas: what could be the beginning of such a mark is held back until it is
one or is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from parley.minds.base import ToolCall
from parley.minds.vllm_deltas import new_call_id

LONGEST_MARK = 40
"""Characters that may be held back in doubt."""
LONGEST_BLOCK = 32_000
"""Characters of a block that is being left out, at most."""

ROLES = ("assistant", "model", "user", "human", "system")
# Tokens of published chat templates: ChatML (Qwen, Yi), Llama 2 and 3, Gemma, Phi, Mistral,
# DeepSeek (whose bars are full-width).
_START = (
    r"<\|(?:im_start|start_header_id|start|assistant|user|system)\|>|<start_of_turn>|<s>|\[INST\]"
)
_END = (
    r"<\|(?:im_end|endoftext|eot_id|eom_id|end_of_text|end|return)\|>|<end_of_turn>|<eos>|</s>"
    r"|\[/INST\]|<\uff5c[^<>\uff5c]{1,30}\uff5c>"
)
_ROLE_ENDS = r"[ \t]*(?::|\n|<\|(?:end_header_id|message)\|>)\s*"
_OWN_HEADER = re.compile(rf"(?:{_START})\s*|(?:assistant|model){_ROLE_ENDS}", re.IGNORECASE)
_FOREIGN_HEADER = re.compile(rf"(?:user|human|system){_ROLE_ENDS}", re.IGNORECASE)
# Behind speech, a start token or a role on a line of its own is the next turn. With other words
# before it on the line it is speech ("your assistant: me").
_MARK = re.compile(
    rf"(?P<end>{_END}|{_START}"
    r"|\n[ \t]*(?:#{1,3} ?)?(?:user|human|assistant|system)[ \t]*(?::|\n))"
    r"|<(?P<block>think|thinking|tool_call)>\s*"
    r"|</(?:think|thinking|tool_call)>\s*",
    re.IGNORECASE,
)
_BEGINS_MARK = re.compile(r"[<\[\n]")
"""Without one of these there is no mark, nor the beginning of one."""
_TOKEN_BEGUN = re.compile(r"(?:<[/|\uff5c]?[\w|\uff5c\u2581 ]*|\[/?[INST]{0,4})\Z")
_HEADER_BEGUN = re.compile(rf"([a-z]*)[ \t]*({_TOKEN_BEGUN.pattern[:-2]})?", re.IGNORECASE)
_ROLE_BEGUN = re.compile(r"\n[ \t]*(?:#{1,3} ?)?([a-z]*)[ \t]*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Block:
    """What stood between two marks."""

    name: str
    """``think``, ``thinking`` or ``tool_call``."""
    text: str


class LeakFilter:
    """Of one answer."""

    def __init__(self, *, goes_on: bool = False) -> None:
        """``goes_on``: the answer continues words that were given already."""
        self.ended = False
        """The agent's turn is over: what the model goes on to write is not to be said."""
        self.blocks: list[Block] = []
        """What was left out."""
        self._held = ""
        self._begun = goes_on
        self._block = ""

    def take(self, text: str) -> str:
        """What is surely speech, of this and of what was held back."""
        in_speech = self._begun and not (self._held or self._block or self.ended)
        if in_speech and _BEGINS_MARK.search(text) is None:
            return text  # as nearly all is
        self._held += text
        return self._speech(last=False)

    def rest(self) -> str:
        """The answer is complete: what was held back in doubt is speech."""
        return self._speech(last=True)

    def _speech(self, *, last: bool) -> str:
        given = ""
        while not self.ended:
            if self._block:
                decided = self._left_out(last=last)
            elif not self._begun:
                decided = self._passed_header(last=last)
            else:
                found = _MARK.search(self._held)
                if found is None:
                    return given + self._release(last=last)
                given, decided = given + self._before(found), True
            if not decided:
                return given
        self._held = ""
        return given

    def _passed_header(self, *, last: bool) -> bool:
        """The beginning of an answer may repeat the header of the agent's turn. False: not to be
        decided yet."""
        self._held = self._held.lstrip()
        while own := _OWN_HEADER.match(self._held):
            self._held = self._held[own.end() :]
        if mark := _MARK.match(self._held):
            self._before(mark)  # behind thoughts, the answer has not begun
        elif _FOREIGN_HEADER.match(self._held):
            self.ended = True
        elif _may_be_header(self._held) and not last:
            return False
        else:
            self._begun = True
        return True

    def _before(self, mark: re.Match[str]) -> str:
        text, self._held = self._held[: mark.start()], self._held[mark.end() :]
        self.ended = mark["end"] is not None
        self._block = (mark["block"] or "").lower()
        return text

    def _left_out(self, *, last: bool) -> bool:
        """Whether the block in hand is complete; its inside is kept apart."""
        closing = f"</{self._block}>"
        end = self._held.lower().find(closing)
        if end < 0 and not last and len(self._held) < LONGEST_BLOCK:
            return False
        end = len(self._held) if end < 0 else end
        self.blocks.append(Block(self._block, self._held[:end]))
        self._held = self._held[end + len(closing) :]
        self._block = ""
        return True

    def _release(self, *, last: bool) -> str:
        keep = len(self._held) if last else self._doubtful_from()
        text, self._held = self._held[:keep], self._held[keep:]
        return text

    def _doubtful_from(self) -> int:
        """Where something begins that could become a mark."""
        tail = max(0, len(self._held) - LONGEST_MARK)
        token = _TOKEN_BEGUN.search(self._held, tail)
        role = _ROLE_BEGUN.search(self._held, tail)
        if role is not None and not any(r.startswith(role[1].lower()) for r in ROLES):
            role = None
        return min([m.start() for m in (token, role) if m is not None], default=len(self._held))


def leaked_calls(blocks: Iterable[Block]) -> list[ToolCall]:
    """The calls among them, as the Hermes and Qwen templates write them: an object with ``name``
    and ``arguments``. What is not one is dropped, since it cannot be said either."""
    calls: list[ToolCall] = []
    for block in blocks:
        call = _object(block.text) if block.name == "tool_call" else {}
        name, arguments = call.get("name"), call.get("arguments", {})
        if isinstance(name, str) and isinstance(arguments, dict):
            calls.append(ToolCall(new_call_id(), name, json.dumps(arguments)))
    return calls


def _object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _may_be_header(text: str) -> bool:
    """Whether more text could make a role, a template token, or both of this."""
    found = _HEADER_BEGUN.fullmatch(text) if len(text) <= LONGEST_MARK else None
    if found is None:
        return False
    word = found[1].lower()
    return word in ("", *ROLES) if found[2] else any(role.startswith(word) for role in ROLES)
