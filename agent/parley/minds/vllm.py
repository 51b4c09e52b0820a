"""A mind that asks a language model: vLLM, or any server that speaks OpenAI's chat completions.

    mind = VllmMind(VllmOptions(base_url="http://127.0.0.1:8000/v1"))
    await mind.start()

The reply of a discarded speculation costs nothing afterwards: cancelling closes its connection, and
vLLM frees what it held within milliseconds.
"""

from __future__ import annotations

import json

import httpx

from parley.minds.base import Context
from parley.minds.vllm_messages import messages, tools
from parley.minds.vllm_options import VllmOptions
from parley.minds.vllm_reply import VllmReply, unreachable
from parley_speech.types import EngineUnavailable, Grammar

__all__ = ["VllmMind", "VllmOptions", "VllmSession"]

MODELS_S = 5.0
"""Longest wait for the list of models."""
KEEPALIVE_S = 4.0
"""An idle connection is dropped before uvicorn, which vLLM runs on, drops it after 5 s."""


class VllmMind:
    """One endpoint and model for all calls of a worker. Without options: PARLEY_LLM_* variables."""

    def __init__(self, options: VllmOptions | None = None):
        self.options = options or VllmOptions.from_env()
        self._client: httpx.AsyncClient | None = None
        self._model = self.options.model

    async def start(self) -> None:
        """Opens the connections and checks that the model is served. Raises EngineUnavailable
        with what to do."""
        if self._client is not None:
            return
        client = _client(self.options)
        try:
            self._model = _chosen(await _served(client, self.options), self.options)
        except BaseException:
            await client.aclose()
            raise
        self._client = client

    def session(self) -> VllmSession:
        if self._client is None:
            raise RuntimeError("VllmMind.session() before start(); await mind.start() first")
        return VllmSession(self._client, self._model, self.options)

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


class VllmSession:
    """The mind of one call. Holds nothing: each reply depends on its context alone."""

    def __init__(self, client: httpx.AsyncClient, model: str, options: VllmOptions):
        self._client, self._model, self._options = client, model, options

    def reply(self, context: Context) -> VllmReply:
        return VllmReply(self._client, self._body(context), self._options)

    def grammar(self) -> Grammar | None:
        """Anything may be said."""
        return None

    def completeness(self, text: str) -> float | None:
        """No opinion: the model is asked for answers only."""
        return None

    async def aclose(self) -> None:
        """Nothing to release; each reply is closed by who asked for it."""

    def _body(self, context: Context) -> dict[str, object]:
        body: dict[str, object] = {
            "model": self._model,
            "messages": messages(context, self._options.convention),
            "max_tokens": self._options.max_tokens,
            "stream": True,
        }
        if self._options.temperature is not None:
            body["temperature"] = self._options.temperature
        if context.tools:
            body["tools"] = tools(context.tools)
            body["tool_choice"] = context.tool_choice
        return {**body, **self._options.extra_body}


def _client(options: VllmOptions) -> httpx.AsyncClient:
    base_url = options.base_url.rstrip("/") + "/"
    headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
    return httpx.AsyncClient(
        base_url=base_url,
        headers=headers,
        # Reading is bounded by MindLimits, event by event.
        timeout=httpx.Timeout(None, connect=options.connect_s),
        limits=httpx.Limits(
            max_connections=options.connections,
            max_keepalive_connections=options.connections,
            keepalive_expiry=KEEPALIVE_S,
        ),
        # A proxy of the environment has no business between us and our own machine.
        trust_env=httpx.URL(base_url).host not in ("127.0.0.1", "localhost", "::1"),
    )


async def _served(client: httpx.AsyncClient, options: VllmOptions) -> list[str]:
    """Names of the models behind the endpoint."""
    where = options.base_url
    try:
        answer = await client.get("models", timeout=MODELS_S)
    except httpx.TimeoutException as error:
        raise EngineUnavailable(
            f"{where} did not list its models within {MODELS_S:g} s; "
            "is it still loading? Its /health tells"
        ) from error
    except httpx.RequestError as error:
        raise EngineUnavailable(str(unreachable(options, error))) from error
    if answer.status_code in (401, 403):
        raise EngineUnavailable(
            f"{where} refused the key ({answer.status_code}); set PARLEY_LLM_API_KEY"
        )
    try:
        return [str(model["id"]) for model in json.loads(answer.content)["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineUnavailable(
            f"{where}/models answered {answer.status_code} and no list of models; "
            "expected an OpenAI-compatible server whose base_url ends in /v1"
        ) from error


def _chosen(served: list[str], options: VllmOptions) -> str:
    if not options.model and len(served) == 1:
        return served[0]
    if options.model in served:
        return options.model
    names = ", ".join(served) or "none"
    wanted = f"model {options.model!r} is not served" if options.model else "no model was chosen"
    raise EngineUnavailable(
        f"{wanted} at {options.base_url}; set PARLEY_LLM_MODEL to what it serves: {names}"
    )
