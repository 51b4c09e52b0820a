"""What a client and the speech server say to each other over one WebSocket, version 1.

JSON text messages for control, binary messages for audio. One connection carries many utterances,
told apart by an ``id`` that the client counts upwards. No I/O here: ``read_client`` and
``read_server`` take what a WebSocket received, ``text_of`` and ``audio_of`` give what it sends.
docs/speech-server.md is the prose.

    client -> server   open, text, flush, end, cancel, taken, stats
    server -> client   hello, opened, (audio, marks), done, cancelled, busy, error, stats, draining

Unknown fields are ignored, so that a later version can add some; unknown types are an error.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import from_json

from parley_speech.types import SPEAKER_HZ, Pcm

VERSION: Final = 1
SUBPROTOCOL: Final = "parley.speech.v1"
PATH: Final = "/v1/speech"
MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Of one message in either direction; the server closes a connection that sends more (1009)."""
MAX_ID: Final = 2**32 - 1
RATES_HZ: Final = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
MAX_DELTA_CHARS: Final = 16_000
"""Of one ``text`` message: fits the message whatever the characters are."""
MAX_INSTRUCTION_CHARS: Final = 2_000

BAD_MESSAGE, TOO_BIG, TRY_LATER, GOING_AWAY = 1003, 1009, 1013, 1001
"""WebSocket close codes in use (RFC 6455, section 7.4.1, and its registry)."""

Id = Annotated[int, Field(ge=0, le=MAX_ID, strict=True)]
Samples = Annotated[int, Field(ge=0, le=MAX_ID, strict=True)]
Name = Annotated[str, StringConstraints(max_length=128)]


class ProtocolError(Exception):
    """A message that is none of this protocol. The text of an utterance is never in it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


# --- client to server -----------------------------------------------------------------------------


class Open(_Message):
    """A new utterance. Ids only grow within a connection."""

    type: Literal["open"] = "open"
    id: Id
    voice: Name = ""
    """Empty: the server's first voice."""
    rate_hz: Annotated[int, Field(strict=True)] = SPEAKER_HZ
    """One of RATES_HZ; samples of this utterance count at this rate."""
    format: Literal["pcm_s16le"] = "pcm_s16le"
    speed: float = Field(1.0, ge=0.25, le=4.0, allow_inf_nan=False)
    instructions: str = Field("", max_length=MAX_INSTRUCTION_CHARS)
    pace: Literal["taken", "clock"] = "clock"
    """What says how far the listener is: the client's ``taken`` messages, or the clock (playout
    in real time from the first sample on)."""
    ahead_ms: int = Field(4_000, ge=100, le=60_000, strict=True)
    """How far the audio sent may be ahead of the listener."""
    text: str = Field("", max_length=MAX_DELTA_CHARS)
    """The first delta, if there is one already."""
    end: Annotated[bool, Field(strict=True)] = False
    """And it is all the text."""
    opened: Annotated[bool, Field(strict=True)] = True
    """Whether ``opened`` is to be said; who waits for the sound only is spared a message."""


class Text(_Message):
    """A text delta, any length, words may be split between deltas."""

    type: Literal["text"] = "text"
    id: Id
    text: str = Field(max_length=MAX_DELTA_CHARS)


class Flush(_Message):
    """Speak all that was given, as if the text ended here; more may follow."""

    type: Literal["flush"] = "flush"
    id: Id


class End(_Message):
    """No more text: ``done`` follows the last sample."""

    type: Literal["end"] = "end"
    id: Id


class Cancel(_Message):
    """Stop now: ``cancelled`` follows when nothing is computed any more."""

    type: Literal["cancel"] = "cancel"
    id: Id


class Taken(_Message):
    """The listener has taken so many samples of the utterance."""

    type: Literal["taken"] = "taken"
    id: Id
    samples: Samples


class AskStats(_Message):
    """How busy is the server? Answered by ``stats``."""

    type: Literal["stats"] = "stats"


ClientMessage = Open | Text | Flush | End | Cancel | Taken | AskStats

# --- server to client -----------------------------------------------------------------------------

ErrorCode = Literal[
    "bad_message",  # not of this protocol; the connection is closed
    "bad_request",  # a value that this server or this voice does not take
    "unknown_voice",
    "text_too_long",
    "idle",  # neither text nor ``taken`` came for too long
    "voice_failed",
]


class Hello(_Message):
    """The first message of a connection."""

    type: Literal["hello"] = "hello"
    version: int = VERSION
    voices: tuple[Name, ...] = ()
    max_text_chars: int = 0
    """Of one utterance."""


class Opened(_Message):
    """The utterance has its slot. Not said where ``open`` wanted it unsaid."""

    type: Literal["opened"] = "opened"
    id: Id
    queued_ms: int = 0


class Done(_Message):
    """The last sample was sent."""

    type: Literal["done"] = "done"
    id: Id
    samples: int
    chars: int
    first_chunk_ms: int | None
    """From the first text to the first audio."""
    underruns: int


class Cancelled(_Message):
    """Nothing is computed for this utterance any more."""

    type: Literal["cancelled"] = "cancelled"
    id: Id


class Busy(_Message):
    """No slot: the utterance was not begun. Another server may have one now, this one later."""

    type: Literal["busy"] = "busy"
    id: Id
    retry_ms: int
    reason: Literal["full", "loading", "draining"]


class Error(_Message):
    """The utterance has ended here; without an id, the connection will."""

    type: Literal["error"] = "error"
    id: Id | None = None
    code: ErrorCode
    message: str


class Stats(_Message):
    type: Literal["stats"] = "stats"
    speaking: int
    slots: int
    waiting: int
    draining: bool


class Draining(_Message):
    """The server is about to stop: what runs is finished, nothing new is begun."""

    type: Literal["draining"] = "draining"


@dataclass(frozen=True, slots=True)
class Mark:
    """A word: characters (code points) of all text of the utterance, samples of its audio."""

    char_start: int
    char_end: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Audio:
    """A binary message, all little endian: ``u8 version, u8 kind=1, u16 marks, u32 id, u32 start``,
    so many marks of ``u32 char_start, u32 char_end, u32 start, u32 end``, 16-bit samples.

    A word comes with or before the audio in which it ends.
    """

    id: int
    start: int
    """Position of the first sample in the utterance."""
    pcm: Pcm
    marks: tuple[Mark, ...] = ()


Plain = Hello | Opened | Done | Cancelled | Busy | Error | Stats | Draining
ServerMessage = Plain | Audio

# --- to and from the wire -------------------------------------------------------------------------

HEADER: Final = struct.Struct("<BBHII")
AUDIO_KIND: Final = 1
MARK: Final = struct.Struct("<IIII")
MAX_MARKS: Final = 1_000
MAX_AUDIO_SAMPLES: Final = (MAX_MESSAGE_BYTES - HEADER.size - MAX_MARKS * MARK.size) // 2
"""Of one message."""

_T = TypeVar("_T")
_CLIENT: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[ClientMessage, Field(discriminator="type")]
)
_SERVER: TypeAdapter[Plain] = TypeAdapter(Annotated[Plain, Field(discriminator="type")])


def text_of(message: BaseModel) -> str:
    """The JSON of a message, both directions."""
    return message.model_dump_json()


def audio_of(number: int, start: int, pcm: Pcm, marks: Sequence[Mark] = ()) -> bytes:
    """A binary message. ``pcm`` (n,), n at most MAX_AUDIO_SAMPLES; at most MAX_MARKS marks."""
    assert len(pcm) <= MAX_AUDIO_SAMPLES, "cut the audio into messages first"
    assert len(marks) <= MAX_MARKS, "give the marks with several messages"
    header = HEADER.pack(VERSION, AUDIO_KIND, len(marks), number, start)
    words = b"".join(MARK.pack(m.char_start, m.char_end, m.start, m.end) for m in marks)
    return header + words + pcm.astype("<i2", copy=False).tobytes()


def read_client(data: str | bytes) -> ClientMessage:
    """Raises ProtocolError."""
    if isinstance(data, bytes):
        raise ProtocolError("a binary message came; clients send JSON text messages only")
    return _read(_CLIENT, data)


def read_server(data: str | bytes) -> ServerMessage:
    """Raises ProtocolError."""
    return _read_audio(data) if isinstance(data, bytes) else _read(_SERVER, data)


def _read(adapter: TypeAdapter[_T], data: str) -> _T:
    try:
        return adapter.validate_python(from_json(data, allow_inf_nan=False))
    except ValidationError as error:
        raise ProtocolError(_explained(error)) from None
    except ValueError:
        raise ProtocolError("the message is not JSON") from None


def _explained(error: ValidationError) -> str:
    """What was wrong where; not the value, which may be what somebody says."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"].startswith("union_tag"):
        return "the message's type is missing or none of this protocol's"
    return f"{where or 'the message'}: {_rule(first['type'])}"


def _rule(kind: str) -> str:
    return f"is not as the protocol says ({kind})"


def _read_audio(data: bytes) -> Audio:
    if len(data) < HEADER.size:
        raise ProtocolError(f"a binary message of {len(data)} bytes is shorter than its header")
    version, kind, marks, number, start = HEADER.unpack_from(data)
    if (version, kind) != (VERSION, AUDIO_KIND):
        raise ProtocolError(
            f"a binary message of version {version}, kind {kind}; expected {VERSION}, {AUDIO_KIND}"
        )
    body = HEADER.size + marks * MARK.size
    if len(data) < body or (len(data) - body) % 2:
        raise ProtocolError(f"a binary message of {len(data)} bytes: {marks} marks do not fit it")
    words = tuple(Mark(*word) for word in MARK.iter_unpack(data[HEADER.size : body]))
    pcm = np.frombuffer(data, "<i2", offset=body).astype(np.int16)
    return Audio(number, start, pcm, words)
