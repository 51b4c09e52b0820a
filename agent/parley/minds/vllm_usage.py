"""What an answer cost, as the server counts it: tokens of the prompt and tokens made.

For a guess, vLLM puts its counts into every chunk (``stream_options.continuous_usage_stats``), so
the tokens of one that is thrown away in its middle are known too. Chunks must not be counted
instead: one may carry several tokens. The counts cost vLLM's front a twentieth of its work on a
reply. So a reply that somebody waits for is told its counts at its end, and one that is cut before
that has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Usage:
    """Of one request. All zero with a server that does not tell."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    """``stop``, ``length``, ``tool_calls``; empty while the answer is being made."""

    def note(self, counts: object) -> None:
        """A chunk's ``usage``, if it has one."""
        if isinstance(counts, Mapping):
            self.prompt_tokens = _count(counts, "prompt_tokens", self.prompt_tokens)
            self.completion_tokens = _count(counts, "completion_tokens", self.completion_tokens)


def _count(counts: Mapping[str, object], name: str, before: int) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) else before
