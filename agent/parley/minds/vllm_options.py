"""Where the language model is, and how it is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from parley.minds.base import MindLimits

CONVENTION = (
    "You are speaking with a caller; answer in plain spoken sentences without lists or markup. "
    "A turn of yours that ends in — was interrupted there: the caller heard no more of it. "
    "Text in (parentheses) is a stage direction, not the caller's words; never read it out."
)
"""Tells the model how a spoken conversation is written down for it (see ``vllm_messages``)."""


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """An OpenAI-compatible endpoint and one model behind it."""

    base_url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    """Empty: the only one that is served there."""
    api_key: str = field(default="", repr=False)
    temperature: float | None = None
    """None: the server's default, which vLLM takes from the model's own generation_config."""
    max_tokens: int = 400
    """About two minutes of speech."""
    extra_body: Mapping[str, object] = field(default_factory=dict)
    """More fields of the request: seed, priority, chat_template_kwargs, ..."""
    limits: MindLimits = field(default_factory=MindLimits)
    convention: str = CONVENTION
    """Written before the instructions; always the same, so that the prefix cache serves it."""
    vllm: bool | None = None
    """Whether the server takes what only vLLM takes (priorities, cache salts, continuations);
    None: as its list of models says."""
    isolate_cache: bool = True
    """A salt for each call, so that no call can find out by its speed what another one's prompt
    was. False lets calls share the cached instructions: faster first replies among your own."""
    context_tokens: int | None = None
    """Longest prompt; longer conversations are summed up. None: what the model takes, less
    ``max_tokens``; no bound where the server does not tell."""
    speculative_tokens: int = 64
    """Tokens that one reply on a guess may have before it is wanted."""
    speculative_turn_tokens: int = 192
    """... and all guesses of one turn together. 0: no guesses at the model's cost."""
    calibration: Path | None = None
    """Of judgements (``scripts/calibrate_judgements.py``); None: none are made."""
    connect_s: float = 2.0
    """Longest wait for a connection."""
    connections: int = 256
    """Most requests at one time from one worker; one more waits, and then fails with MindError."""

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"base_url is {self.base_url!r}; expected http://HOST:PORT/v1 or https://HOST/v1"
            )
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ValueError("api_key holds a line break or another character no header can carry")
        if self.speculative_tokens < 0 or self.speculative_turn_tokens < 0:
            raise ValueError("speculative_tokens and speculative_turn_tokens must not be negative")
        if self.context_tokens is not None and self.context_tokens < 1:
            raise ValueError("context_tokens must be above zero, or None")
        if self.max_tokens < 1 or self.connect_s <= 0 or self.connections < 1:
            raise ValueError("max_tokens, connect_s and connections must be above zero")

    @staticmethod
    def from_env() -> VllmOptions:
        """PARLEY_LLM_URL, _MODEL, _API_KEY and _CALIBRATION over the defaults."""
        calibration = os.environ.get("PARLEY_LLM_CALIBRATION", "")
        return VllmOptions(
            base_url=os.environ.get("PARLEY_LLM_URL", "") or "http://127.0.0.1:8000/v1",
            model=os.environ.get("PARLEY_LLM_MODEL", ""),
            api_key=os.environ.get("PARLEY_LLM_API_KEY", ""),
            calibration=Path(calibration) if calibration else None,
        )
