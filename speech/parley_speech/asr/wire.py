"""What the recogniser and its child process say to each other over two pipes.

A message is a 9-byte header (kind u8, stream u32, payload length u32, little endian) and its
payload: PCM for AUDIO, JSON for everything else. No I/O here: ``encode`` gives bytes, ``Reader``
takes bytes in any pieces.

    parent -> child   OPEN, PREPARE, BEGIN, AUDIO, END, CLOSE
    child -> parent   READY, TAKEN (audio decoded, lets more come), HEARD (a hypothesis), PROBLEM
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

HEADER = struct.Struct("<BII")
MAX_PAYLOAD = 1 << 20
"""Far above any real message; a larger length means that the two sides lost step."""


class Kind(IntEnum):
    READY = 1  # the child has loaded its models: {"ms": load time}
    OPEN = 2  # a stream begins: {}
    PREPARE = 3  # compile a grammar before it is needed: {"grammar": name, "source": JSGF}
    BEGIN = 4  # an utterance begins: {"utterance": n, "grammar": name | null, "source": JSGF}
    AUDIO = 5  # PCM, 16 kHz mono int16 little endian
    END = 6  # the utterance is over, its final is wanted: {}
    CLOSE = 7  # the stream is over: {}
    TAKEN = 8  # {"utterance": n, "bytes": decoded so far}
    HEARD = 9  # {"utterance": n, "text", "final", "words": [[text, start_ms, end_ms, confidence]],
    #            "confidence"}; times count from the utterance's first sample
    PROBLEM = 10  # {"message"}: the stream goes on, somebody should read it


@dataclass(frozen=True, slots=True)
class Message:
    kind: Kind
    stream: int
    payload: bytes = b""

    @property
    def fields(self) -> dict[str, Any]:
        """The payload of every kind but AUDIO."""
        fields = json.loads(self.payload or b"{}")
        if not isinstance(fields, dict):
            raise ValueError(f"{self.kind.name}: expected a JSON object, got {self.payload[:80]!r}")
        return fields


class WireError(ValueError):
    """The bytes are no message of ours."""


def encode(kind: Kind, stream: int = 0, pcm: bytes | None = None, **fields: Any) -> bytes:
    payload = pcm if pcm is not None else json.dumps(fields).encode()
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"{kind.name}: {len(payload)} bytes, at most {MAX_PAYLOAD} fit a message")
    return HEADER.pack(kind, stream, len(payload)) + payload


class Reader:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        self._buffer += data
        messages: list[Message] = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> Message | None:
        if len(self._buffer) < HEADER.size:
            return None
        kind, stream, length = HEADER.unpack_from(self._buffer)
        if kind not in Kind._value2member_map_ or length > MAX_PAYLOAD:
            raise WireError(f"header {bytes(self._buffer[: HEADER.size]).hex()} is none of ours")
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        return Message(Kind(kind), stream, payload)
