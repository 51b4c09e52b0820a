"""The one way to configure a worker: this model, from the environment (PARLEY_*) or by hand."""

from __future__ import annotations

from pathlib import Path

from livekit.plugins.parley.assembly import Parts
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting, its variable, and what it means. ``parley settings`` prints them."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_", extra="ignore")

    mind: str = Field("flow", description="who answers: flow, vllm, or a third party's engine")
    flow: str | None = Field(None, description="a flow file for mind=flow; unset: the front desk")
    llm_url: str | None = Field(None, description="an OpenAI-compatible server for mind=vllm")
    llm_model: str | None = Field(None, description="its model; unset: the only one it serves")
    instructions: str = Field(
        "You are a friendly assistant on the telephone. Answer in one or two short sentences.",
        description="what a language model is told about its task",
    )
    voice: str = Field(
        "espeak",
        description="who speaks: an engine, or speech servers as http://host:port?voice=name, "
        "several with commas between; their token is PARLEY_SPEECH_TOKEN",
    )
    asr: str = Field(
        "auto",
        description="who recognises: moonshine (understands far more; the extra of that name), "
        "pocketsphinx, or auto: the first of these that is installed",
    )
    vad: str = Field("fusion", description="voice activity: fusion, silero, webrtc")
    turn_end: str = Field("prosody", description="how finished a voice sounds: prosody, smart_turn")
    greet: bool = Field(True, description="the agent speaks first")

    agent_name: str = Field("", description="unset: the worker takes every room")
    max_calls: int = Field(8, ge=1, description="calls at one time in this worker")
    host: str = Field("127.0.0.1", description="address of the worker's health page")
    port: int = Field(8081, ge=0, le=65535, description="its port; 0: any free one")
    drain_s: int = Field(600, ge=0, description="longest wait for running calls at a stop")
    rejoin_s: float = Field(30.0, ge=0, description="how long a caller who dropped out is awaited")
    journal_dir: Path | None = Field(
        None, description="writes each call's events there, words included; unset: nothing"
    )

    def parts(self) -> Parts:
        return Parts(
            mind=self.mind,
            voice=self.voice,
            asr=self.asr,
            vad=self.vad,
            turn_end=self.turn_end,
            flow=self.flow,
            base_url=self.llm_url,
            model=self.llm_model,
        )
