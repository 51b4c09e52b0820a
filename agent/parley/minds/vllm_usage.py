"""What an answer cost, as the server counts it: tokens of the prompt and tokens made.

vLLM puts its counts into every chunk (``stream_options.continuous_usage_stats``), so the tokens of
an answer that is thrown away in its middle are known too. Chunks must not be counted instead: one
may carry several tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# The chunk is parsed as JSON elsewhere; once more for each token would cost more than this. In a
# model's own words the quotation marks are escaped, so they cannot be mistaken for these fields.
_COUNT = re.compile(r'"(prompt_tokens|completion_tokens)":\s*(\d+)')
_REASON = re.compile(r'"finish_reason":\s*"(\w+)"')


@dataclass(slots=True)
class Usage:
    """Of one request. All zero with a server that does not tell."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    """``stop``, ``length``, ``tool_calls``; empty while the answer is being made."""

    def note(self, data: str) -> None:
        """One chunk's data."""
        if '"usage"' in data:
            for name, count in _COUNT.findall(data):
                setattr(self, name, int(count))
        if (found := _REASON.search(data)) is not None:
            self.finish_reason = found[1]
