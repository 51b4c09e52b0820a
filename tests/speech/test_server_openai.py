"""OpenAI's speech API as its documentation and its own client have it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest
from speech_servers import InLoop, serving, until
from tone_voice import PAUSE, WORD, ToneVoice, read, text_of

from parley_speech.server.openai import MAX_BODY_BYTES
from parley_speech.types import Pcm

TOKEN = "a-token-for-the-tests"
STEP = WORD + PAUSE


@pytest.fixture
async def tone() -> ToneVoice:
    return ToneVoice()


@pytest.fixture
async def server(tone: ToneVoice) -> AsyncIterator[InLoop]:
    voices = {"tone": tone, "broken": ToneVoice(fail_after=0), "breaks": ToneVoice(fail_after=50)}
    async with serving(voices, TOKEN, max_calls=2, max_waiting=0) as running:
        yield running


@pytest.fixture
async def http(server: InLoop) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, trust_env=False, timeout=20
    ) as client:
        yield client


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tts", "input": "w1 w2 w3", "voice": "tone", **fields}


def samples(data: bytes) -> Pcm:
    return np.frombuffer(data, "<i2").astype(np.int16)


def decoded(data: bytes) -> tuple[str, int, int, Pcm]:
    """(codec, Hz, seconds × 1000, samples) of a file."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        rate = stream.rate
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
        pieces = [
            out.to_ndarray()[0] for f in container.decode(stream) for out in resampler.resample(f)
        ]
        pcm = np.concatenate(pieces)
        return stream.codec_context.name, rate, len(pcm) * 1000 // rate, pcm


# --- sound ----------------------------------------------------------------------------------------


async def test_pcm_is_the_voices_samples(http: httpx.AsyncClient, tone: ToneVoice) -> None:
    response = await http.post("/v1/audio/speech", json=body(response_format="pcm"))
    assert response.status_code == 200
    assert response.headers["content-type"] == "audio/pcm"
    assert read(samples(response.content)) == [(1, WORD), (2, WORD), (3, WORD)]
    assert tone.open == 0


async def test_wav_is_pcm_behind_a_header_of_unknown_length(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/audio/speech", json=body(response_format="wav"))
    assert response.headers["content-type"] == "audio/wav"
    header, pcm = response.content[:44], response.content[44:]
    assert (header[:4], header[8:16], header[36:40]) == (b"RIFF", b"WAVEfmt ", b"data")
    assert header[4:8] == header[40:44] == b"\xff" * 4
    assert int.from_bytes(header[24:28], "little") == 24_000
    assert read(samples(pcm)) == [(1, WORD), (2, WORD), (3, WORD)]
    assert decoded(response.content)[:3] == ("pcm_s16le", 24_000, 3 * STEP // 24)


@pytest.mark.parametrize(
    ("name", "media_type", "codec", "rate_hz"),
    [
        ("mp3", "audio/mpeg", "mp3", 24_000),
        ("opus", "audio/ogg", "opus", 48_000),
        ("aac", "audio/aac", "aac", 24_000),
        ("flac", "audio/flac", "flac", 24_000),
    ],
)
async def test_a_file_can_be_played(
    http: httpx.AsyncClient, name: str, media_type: str, codec: str, rate_hz: int
) -> None:
    response = await http.post("/v1/audio/speech", json=body(response_format=name))
    assert response.headers["content-type"] == media_type
    found_codec, found_hz, length_ms, pcm = decoded(response.content)
    assert codec in found_codec
    assert found_hz == rate_hz
    assert length_ms == pytest.approx(3 * STEP / 24, abs=120)  # encoders pad whole frames
    if name == "flac":
        assert read(pcm) == [(1, WORD), (2, WORD), (3, WORD)]


async def test_mp3_is_what_comes_unasked(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/audio/speech", json=body())
    assert response.headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("name", ["pcm", "wav", "opus", "mp3"])
async def test_sound_comes_before_all_of_it_is_made(
    http: httpx.AsyncClient, tone: ToneVoice, name: str
) -> None:
    """The voice makes only the half of it until something has arrived."""
    asked = body(response_format=name, input=text_of(*range(20)))
    tone.hold_at(30)
    async with http.stream("POST", "/v1/audio/speech", json=asked) as response:
        pieces = response.aiter_bytes()
        got = await anext(pieces)
        while len(got) < 300:
            got += await anext(pieces)
        assert tone.made <= 30
        tone.go_on()
        async for piece in pieces:
            got += piece
    assert tone.made == 60
    assert len(got) > 2_000


async def test_events_carry_the_same_audio(http: httpx.AsyncClient) -> None:
    asked = body(response_format="pcm", stream_format="sse")
    response = await http.post("/v1/audio/speech", json=asked)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [
        json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n") if line
    ]
    assert events[-1]["type"] == "speech.audio.done"
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    assert read(samples(audio)) == [(1, WORD), (2, WORD), (3, WORD)]


async def test_speed_and_instructions_reach_the_voice(
    http: httpx.AsyncClient, tone: ToneVoice
) -> None:
    asked = body(speed=1.5, instructions="Be glad.", voice={"id": "tone"}, response_format="pcm")
    await http.post("/v1/audio/speech", json=asked)
    assert (tone.streams[0].speed, tone.streams[0].instructions) == (1.5, "Be glad.")


async def test_a_text_without_words_is_an_empty_file(http: httpx.AsyncClient) -> None:
    for name in ("pcm", "wav", "mp3", "opus"):
        response = await http.post("/v1/audio/speech", json=body(input=" ", response_format=name))
        assert response.status_code == 200, name


async def test_openais_own_client_is_served(server: InLoop) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1",
        api_key=TOKEN,
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:
        async with client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="tone", input="w1 w2", response_format="pcm"
        ) as response:
            audio = b"".join([piece async for piece in response.iter_bytes()])
        assert read(samples(audio)) == [(1, WORD), (2, WORD)]
        assert [model.id async for model in client.models.list()] == ["parley"]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.audio.speech.create(model="tts-1", voice="nobody", input="w1")
        assert refused.value.param == "voice"
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="wrong").models.list()


async def test_voices_are_listed(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/audio/voices")).json()
    assert listed["voices"] == ["tone", "broken", "breaks"]
    first = {"id": "tone", "object": "audio.voice", "takes": ["instructions", "speed"]}
    assert listed["data"][0] == first


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"voice": "nobody"}, "voice"),
        ({"voice": 7}, "voice"),
        ({"input": ""}, "input"),
        ({"input": "x" * 5000}, "input"),
        ({"speed": 9}, "speed"),
        ({"response_format": "midi"}, "response_format"),
        ({"stream_format": "smoke"}, "stream_format"),
        ({"model": None}, "model"),
    ],
)
async def test_a_bad_request_says_which_field(
    http: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    response = await http.post("/v1/audio/speech", json=body(**fields))
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"model": "x"}'])
async def test_a_body_that_is_none_is_refused(http: httpx.AsyncClient, content: bytes) -> None:
    response = await http.post("/v1/audio/speech", content=content)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_that_is_too_large_is_refused_unread(http: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2 * MAX_BODY_BYTES // 1024):
            yield b" " * 1024

    response = await http.post("/v1/audio/speech", content=endless())
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


async def test_paths_and_methods_that_are_not_there(http: httpx.AsyncClient) -> None:
    for method, path, status in (("GET", "/v1/audio/speech", 405), ("GET", "/v1/nothing", 404)):
        response = await http.request(method, path)
        assert response.status_code == status
        assert path in response.json()["error"]["message"]


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer no"}, {"Authorization": "x"}])
async def test_without_a_token_nothing_under_v1_answers(
    server: InLoop, header: dict[str, str]
) -> None:
    async with httpx.AsyncClient(base_url=server.url, headers=header, trust_env=False) as anyone:
        for path in ("/v1/audio/voices", "/v1/models", "/v1/nothing"):
            response = await anyone.get(path)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "invalid_api_key"
        assert (await anyone.post("/v1/audio/speech", json=body())).status_code == 401
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await anyone.get(path)).status_code == 200


async def test_a_voice_that_fails_at_once_is_a_server_error(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await http.post("/v1/audio/speech", json=body(voice="broken", input="w4711"))
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "4711" not in response.text + caplog.text


async def test_a_voice_that_fails_later_breaks_the_response_off(
    http: httpx.AsyncClient, server: InLoop
) -> None:
    asked = body(voice="breaks", input=text_of(*range(100)), response_format="pcm")
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post("/v1/audio/speech", json=asked)
    assert server.service.admission.speaking == 0


async def test_full_is_429_and_draining_is_503_with_when_to_come_again(
    http: httpx.AsyncClient, server: InLoop, tone: ToneVoice
) -> None:
    tone.gate.clear()
    speaking = [asyncio.create_task(http.post("/v1/audio/speech", json=body())) for _ in range(2)]
    await until(lambda: server.service.admission.speaking == 2)
    response = await http.post("/v1/audio/speech", json=body())
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(response.headers["retry-after"]) >= 1

    draining = asyncio.create_task(server.service.drain())
    await until(lambda: server.service.admission.closed == "draining")
    response = await http.post("/v1/audio/speech", json=body())
    assert response.status_code == 503
    assert "retry-after" in response.headers
    assert (await http.get("/readyz")).status_code == 503
    assert (await http.get("/healthz")).status_code == 200
    tone.gate.set()
    assert [(await task).status_code for task in speaking] == [200, 200]
    await asyncio.wait_for(draining, 20)


async def test_a_client_that_goes_away_stops_the_voice(
    http: httpx.AsyncClient, server: InLoop, tone: ToneVoice
) -> None:
    asked = body(input=text_of(*range(700)), response_format="pcm")  # far more than buffers hold
    async with http.stream("POST", "/v1/audio/speech", json=asked) as response:
        await anext(response.aiter_bytes())
    await until(lambda: server.service.admission.speaking == 0)
    assert tone.open == 0
    assert tone.made < 3 * 700


async def test_metrics_count_what_was_spoken(http: httpx.AsyncClient) -> None:
    await http.post("/v1/audio/speech", json=body(response_format="pcm"))
    page = (await http.get("/metrics")).text
    seconds = 3 * STEP / 24_000
    for line in (
        'parley_speech_utterances_total{outcome="done",voice="tone"} 1.0',
        'parley_speech_first_chunk_seconds_count{voice="tone"} 1.0',
        f'parley_speech_audio_seconds_total{{voice="tone"}} {seconds}',
        'parley_speech_text_chars_total{voice="tone"} 8.0',
        "parley_speech_slots 2.0",
        "parley_speech_speaking 0.0",
        "parley_speech_accepting 1.0",
    ):
        assert line in page
