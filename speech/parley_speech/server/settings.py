"""How a speech server is configured: this model, from the environment (PARLEY_SPEECH_*) or the
command line."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from parley_speech.server.catalogue import VoiceSpec

PORT = 8880


class ServerSettings(BaseSettings):
    """Every setting and what it means."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_SPEECH_", extra="ignore")

    voices: Annotated[tuple[str, ...], NoDecode] = Field(
        ("espeak",), description="ENGINE, NAME=ENGINE or NAME=ENGINE:VOICE; the first is default"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(PORT, ge=0, le=65535, description="its port; 0: any free one")
    tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="access tokens, separated by commas; none: one is made and printed"
    )
    no_token: bool = Field(False, description="let everybody in; on loopback addresses only")

    max_calls: int = Field(32, ge=1, le=10_000, description="utterances spoken at one time")
    max_waiting: int = Field(16, ge=0, le=10_000, description="utterances that may wait for that")
    patience_ms: int = Field(250, ge=0, le=60_000, description="how long one waits at most")
    max_connections: int = Field(512, ge=1, description="HTTP and WebSocket, at one time")
    max_text_chars: int = Field(50_000, ge=100, description="text of one utterance")
    max_http_chars: int = Field(4_096, ge=100, description="input of one HTTP request")
    idle_s: float = Field(60.0, gt=0, description="an utterance without any progress is ended")
    drain_s: float = Field(60.0, ge=0, description="longest wait for utterances at a stop")

    @field_validator("voices", "tokens", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("voices")
    @classmethod
    def _voices_can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("a speech server needs at least one voice")
        for text in value:
            VoiceSpec.parse(text)
        return value

    @field_validator("tokens")
    @classmethod
    def _tokens_are_long(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(token.get_secret_value()) < 16 for token in value):
            raise ValueError("an access token has at least 16 characters")
        return value

    @model_validator(mode="after")
    def _open_only_to_ourselves(self) -> ServerSettings:
        if self.no_token and self.tokens:
            raise ValueError("no_token and tokens contradict each other")
        if self.no_token and not is_loopback(self.host):
            raise ValueError(
                f"no_token is for loopback addresses only, and host is {self.host!r}: "
                "set PARLEY_SPEECH_TOKENS, or let a token be made"
            )
        return self


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
