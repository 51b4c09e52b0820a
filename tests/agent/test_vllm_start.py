"""What a wrong endpoint, key or model says when the worker starts."""

from __future__ import annotations

import asyncio
import socket

import pytest

from agent.fake_openai import fake_openai
from parley.minds import vllm
from parley.minds.base import Cause, Context, Said
from parley.minds.vllm import VllmMind, VllmOptions
from parley_speech.types import EngineUnavailable


async def start(**options) -> VllmMind:
    mind = VllmMind(VllmOptions(**options))
    await mind.start()
    return mind


async def test_the_only_model_is_taken_and_start_is_idempotent():
    async with fake_openai() as fake:
        mind = await start(base_url=fake.url)
        await mind.start()
        reply = mind.session().reply(Context(Cause.USER, (Said("user", "hi"),)))
        assert [event async for event in reply]
        assert fake.completions[0].body["model"] == "tiny"
        await mind.aclose()
        await mind.aclose()


async def test_no_server_tells_how_to_start_one():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(EngineUnavailable, match=f"vllm serve MODEL --port {port}"):
        await start(base_url=f"http://127.0.0.1:{port}/v1")


async def test_wrong_model_lists_what_is_served():
    async with fake_openai(models={"data": [{"id": "a"}, {"id": "b"}]}) as fake:
        with pytest.raises(EngineUnavailable, match=r"'c' is not served.*a, b"):
            await start(base_url=fake.url, model="c")
        with pytest.raises(EngineUnavailable, match=r"no model was chosen.*a, b"):
            await start(base_url=fake.url)
        await (await start(base_url=fake.url, model="b")).aclose()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {}, "PARLEY_LLM_API_KEY"),
        (404, {"detail": "Not Found"}, "ends in /v1"),
        (200, {"data": 3}, "no list of models"),
        (200, [], "no list of models"),
    ],
)
async def test_what_is_no_openai_server(status: int, body: object, message: str):
    async with fake_openai(models=body or {"x": 1}) as fake:
        fake.models, fake.models_status = body, status
        with pytest.raises(EngineUnavailable, match=message):
            await start(base_url=fake.url)


async def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vllm, "MODELS_S", 0.2)

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(EngineUnavailable, match="still loading"):
        await start(base_url=f"http://127.0.0.1:{port}/v1")
    server.close()


def test_session_before_start():
    with pytest.raises(RuntimeError, match="before start"):
        VllmMind(VllmOptions()).session()


async def test_no_opinion_on_turns_and_grammar():
    async with fake_openai() as fake:
        mind = await start(base_url=fake.url)
        session = mind.session()
        assert session.completeness("hello") is None
        assert session.grammar() is None
        await session.aclose()
        await mind.aclose()


@pytest.mark.parametrize(
    "options", [{"base_url": "localhost:8000"}, {"max_tokens": 0}, {"api_key": "a\nb"}]
)
def test_options_that_cannot_work(options):
    with pytest.raises(ValueError):
        VllmOptions(**options)


def test_options_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    for name in ("URL", "MODEL", "API_KEY"):
        monkeypatch.delenv(f"PARLEY_LLM_{name}", raising=False)
    assert VllmOptions.from_env() == VllmOptions()
    monkeypatch.setenv("PARLEY_LLM_URL", "https://llm.example/v1")
    monkeypatch.setenv("PARLEY_LLM_MODEL", "m")
    monkeypatch.setenv("PARLEY_LLM_API_KEY", "k")
    assert VllmOptions.from_env() == VllmOptions("https://llm.example/v1", "m", "k")
