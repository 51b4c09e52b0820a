"""OpenAI's speech API: ``POST /v1/audio/speech``, ``GET /v1/audio/voices``, ``GET /v1/models``.

What goes wrong before the first sound is an error in OpenAI's shape; after it, the response breaks
off, so that no client takes a part for the whole. A client that goes away stops the voice.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Send

from parley_speech.server.admission import ServerBusy
from parley_speech.server.catalogue import NotTaken, UnknownVoice
from parley_speech.server.encoding import FORMATS, Encoder, encoder
from parley_speech.server.errors import api_error
from parley_speech.server.failures import log_failure
from parley_speech.server.metrics import Outcome
from parley_speech.server.speech import Speech
from parley_speech.server.utterance import Services
from parley_speech.types import SPEAKER_HZ, AudioChunk

MAX_BODY_BYTES = 64 * 1024
STALLED_S = 20.0
"""A client that reads nothing for so long loses its slot."""


class VoiceId(BaseModel):
    model_config = ConfigDict(extra="ignore")
    id: str = Field(max_length=128)


class SpeechRequest(BaseModel):
    """The body, as OpenAI documents it. ``model`` may be anything: the voice says what speaks."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = Field(max_length=256)
    input: str = Field(min_length=1)
    voice: Annotated[str, Field(max_length=128)] | VoiceId
    instructions: str = Field("", max_length=4096)
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0, allow_inf_nan=False)
    stream_format: Literal["audio", "sse"] = "audio"

    @property
    def voice_name(self) -> str:
        return self.voice if isinstance(self.voice, str) else self.voice.id


class Refused(Exception):
    """A request that is answered by an error."""

    def __init__(self, response: JSONResponse) -> None:
        super().__init__(response.status_code)
        self.response = response


class OpenAiSpeech:
    """The endpoints. Args: what the utterances share, and the longest ``input``."""

    def __init__(self, services: Services, *, max_chars: int) -> None:
        self._services = services
        self._max_chars = max_chars

    async def models(self, _: Request) -> Response:
        listed = [{"id": "parley", "object": "model", "created": 0, "owned_by": "parley"}]
        return JSONResponse({"object": "list", "data": listed})

    async def voices(self, _: Request) -> Response:
        catalogue = self._services.catalogue
        data = [
            {"id": name, "object": "audio.voice", "takes": sorted(catalogue.takes(name))}
            for name in catalogue.names
        ]
        return JSONResponse({"object": "list", "voices": list(catalogue.names), "data": data})

    async def speech(self, request: Request) -> Response:
        try:
            asked = self._checked(await _body(request))
            made = encoder(asked.response_format)
            saying = _Saying(asked, self._services, self._max_chars)
            await saying.begin()
        except Refused as refused:
            return refused.response
        except ValueError as error:
            return api_error(400, str(error), param="response_format")
        if asked.stream_format == "sse":
            return _Audio(_events(saying, made), media_type="text/event-stream")
        media_type = FORMATS[asked.response_format].media_type
        return _Audio(_file(saying, made), media_type=media_type)

    def _checked(self, body: bytes) -> SpeechRequest:
        try:
            asked = SpeechRequest.model_validate_json(body)
        except ValidationError as error:
            raise Refused(_invalid(error)) from None
        if len(asked.input) > self._max_chars:
            said = f"input has {len(asked.input)} characters; at most {self._max_chars} are taken"
            code = "string_above_max_length"
            raise Refused(api_error(400, said, param="input", code=code))
        try:
            takes = self._services.catalogue.takes(asked.voice_name)
        except UnknownVoice as error:
            raise Refused(api_error(400, str(error), param="voice")) from None
        if asked.speed != 1.0 and "speed" not in takes:
            said = f"the voice {asked.voice_name!r} has only its own speed, 1.0"
            raise Refused(api_error(400, said, param="speed"))
        return asked


class _Saying:
    """One request's speech, from its slot to its end. ``begin``, then iterate ``chunks``."""

    def __init__(self, asked: SpeechRequest, services: Services, max_chars: int) -> None:
        self._services = services
        self._voice = asked.voice_name or services.catalogue.names[0]
        self._speech = Speech(
            lambda: services.catalogue.stream(
                self._voice, speed=asked.speed, instructions=asked.instructions
            ),
            max_chars=max_chars,
        )
        self._text = asked.input
        self._first: AudioChunk | None = None
        self._chunks: AsyncGenerator[AudioChunk, None] | None = None
        self._holding = contextlib.AsyncExitStack()
        self.samples = 0

    async def begin(self) -> None:
        """Returns with the first sound. Raises Refused."""
        metrics = self._services.metrics
        try:
            queued_ms = await self._holding.enter_async_context(self._services.admission.slot())
        except ServerBusy as busy:
            metrics.busy.labels(busy.reason).inc()
            raise Refused(_busy(busy)) from None
        metrics.queued.observe(queued_ms / 1000)
        since = time.monotonic()
        try:
            self._chunks = self._speech.chunks()
            self._services.first_chunks.awaited(self)
            self._speech.push(self._text)
            self._speech.end()
            self._first = await anext(self._chunks, None)
        except NotTaken as error:
            await self._end("failed")
            raise Refused(api_error(400, str(error), param="speed")) from None
        except Exception as error:  # an engine is a plug-in
            await self._end("failed")
            said = log_failure(self._voice, error)
            raise Refused(api_error(500, said, kind="server_error")) from None
        except BaseException:
            await self._end("lost")
            raise
        finally:
            self._services.first_chunks.came(self)
        metrics.first_chunk.labels(self._voice).observe(time.monotonic() - since)

    async def chunks(self) -> AsyncGenerator[AudioChunk, None]:
        """To the end of the text. Closing it in the middle stops the voice."""
        outcome: Outcome = "lost"
        try:
            if self._first is not None and self._chunks is not None:
                self.samples += len(self._first.pcm)
                yield self._first
                async for chunk in self._chunks:
                    self.samples += len(chunk.pcm)
                    yield chunk
            outcome = "done"
        except Exception as error:  # too late for an error response: the connection breaks off
            outcome = "failed"
            raise BrokenOff(log_failure(self._voice, error)) from None
        finally:
            await self._end(outcome)

    async def _end(self, outcome: Outcome) -> None:
        metrics = self._services.metrics
        metrics.utterances.labels(self._voice, outcome).inc()
        metrics.audio.labels(self._voice).inc(self.samples / SPEAKER_HZ)
        metrics.chars.labels(self._voice).inc(self._speech.chars)
        try:
            if self._chunks is not None:
                await self._chunks.aclose()
            await self._speech.aclose()
        finally:
            await self._holding.aclose()


class _Audio(StreamingResponse):
    """Closes what it streams when the client goes away, or reads nothing for too long."""

    async def stream_response(self, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(STALLED_S):
                await send(message)

        assert isinstance(self.body_iterator, AsyncGenerator)
        async with contextlib.aclosing(self.body_iterator):
            await super().stream_response(in_time)


class BrokenOff(RuntimeError):
    """The voice failed in the middle of a response."""


async def _file(saying: _Saying, made: Encoder) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(saying.chunks()) as chunks:
        async for chunk in chunks:
            if data := made.encode(chunk.pcm):
                yield data
    yield made.finish()


async def _events(saying: _Saying, made: Encoder) -> AsyncGenerator[bytes, None]:
    """OpenAI's server-sent events: speech.audio.delta, and speech.audio.done at the end."""
    async with contextlib.aclosing(_file(saying, made)) as pieces:
        async for data in pieces:
            audio = base64.b64encode(data).decode()
            yield _event({"type": "speech.audio.delta", "audio": audio})
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(fields: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


async def _body(request: Request) -> bytes:
    """Raises Refused when it is too large, whatever its headers promise."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            said = f"the body is larger than {MAX_BODY_BYTES} bytes"
            raise Refused(api_error(413, said, code="request_too_large"))
    return bytes(body)


def _busy(busy: ServerBusy) -> JSONResponse:
    """429 when the slots are taken, 503 while the server loads or stops."""
    if busy.reason == "full":
        return api_error(
            429, str(busy), kind="rate_limit_error", code="rate_limit_exceeded",
            retry_ms=busy.retry_ms,
        )  # fmt: skip
    return api_error(503, str(busy), kind="server_error", code=busy.reason, retry_ms=busy.retry_ms)


def _invalid(error: ValidationError) -> JSONResponse:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    param = str(first["loc"][0]) if first["loc"] else None
    return api_error(400, f"{param or 'the body'}: {first['msg']}", param=param, code=first["type"])
