"""The child process that decodes: ``python -m parley_speech.asr.child OPTIONS``.

Decoding holds the interpreter's lock for as long as it lasts, so it has a process of its own.
Reads messages (``wire``) from stdin, writes to stdout, ends when stdin ends: it cannot outlive
its parent. Streams are served in turn, one block of audio at a time.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from parley_speech.asr import wire
from parley_speech.asr.heard import Heard
from parley_speech.asr.wire import Kind, Message

READ_BYTES = 65536


class Decoder(Protocol):
    """One stream's decoding. ``step`` does a little of the work that is there."""

    problems: list[str]
    """For somebody to read; the stream goes on."""

    def prepare(self, source: str) -> None:
        """A grammar (JSGF) will be used."""
        ...

    def begin(self, number: int, source: str) -> None:
        """An utterance, in a grammar or, where the source is empty, open English."""
        ...

    def push(self, pcm: bytes) -> None:
        """Of the utterance: 16 kHz mono int16 little endian."""
        ...

    def end(self) -> None:
        """The utterance is over: its final is wanted."""
        ...

    @property
    def busy(self) -> bool:
        """There is work."""
        ...

    @property
    def taken(self) -> tuple[int, int] | None:
        """(utterance, bytes decoded)."""
        ...

    def step(self) -> list[Heard]: ...

    def close(self) -> None: ...


class Models(Protocol):
    """What the streams of a child share."""

    def decoder(self) -> Decoder: ...


def _pocketsphinx(options: Mapping[str, Any]) -> Models:
    from parley_speech.asr.decoding import Models

    return Models(options["pronunciations"], options["decoder"])


def _moonshine(options: Mapping[str, Any]) -> Models:
    from parley_speech.asr.moonshine.stream import models

    return models(options)


ENGINES: Mapping[str, Callable[[Mapping[str, Any]], Models]] = {
    "pocketsphinx": _pocketsphinx,
    "moonshine": _moonshine,
}


class Child:
    """The loop between two pipes."""

    def __init__(self, models: Models, source_fd: int, sink_fd: int) -> None:
        self._models = models
        self._source_fd, self._sink_fd = source_fd, sink_fd
        self._reader = wire.Reader()
        self._streams: dict[int, Decoder] = {}
        self._inboxes: dict[int, deque[Message]] = {}

    def run(self) -> None:
        """Until the parent closes its end."""
        while self._receive():
            for number in list(self._streams):
                self._serve(number)

    def _receive(self) -> bool:
        """Takes what has come; waits for it only if there is nothing else to do."""
        busy = any(self._inboxes.values()) or any(s.busy for s in self._streams.values())
        ready, _, _ = select.select([self._source_fd], [], [], 0.0 if busy else None)
        if not ready:
            return True
        data = os.read(self._source_fd, READ_BYTES)
        for message in self._reader.feed(data):
            if message.kind is Kind.OPEN:
                self._streams[message.stream] = self._models.decoder()
                self._inboxes[message.stream] = deque()
            elif message.stream in self._inboxes:
                self._inboxes[message.stream].append(message)
        return bool(data)

    def _serve(self, number: int) -> None:
        """One step of one stream: a message while the decoder waits for one, or a block."""
        stream, inbox = self._streams[number], self._inboxes[number]
        while inbox and (not stream.busy or inbox[0].kind in (Kind.AUDIO, Kind.CLOSE)):
            self._obey(number, stream, inbox.popleft())
            if number not in self._streams:
                return
        before = stream.taken
        heard = stream.step()
        for result in heard:
            self._tell(number, result)
        if stream.taken is not None and stream.taken != before:
            utterance, count = stream.taken
            self._send(Kind.TAKEN, number, utterance=utterance, bytes=count)
        while stream.problems:
            self._send(Kind.PROBLEM, number, message=stream.problems.pop(0))

    def _obey(self, number: int, stream: Decoder, message: Message) -> None:
        match message.kind:
            case Kind.PREPARE:
                stream.prepare(message.fields["source"])
            case Kind.BEGIN:
                fields = message.fields
                stream.begin(fields["utterance"], fields["source"])
            case Kind.AUDIO:
                stream.push(message.payload)
            case Kind.END:
                stream.end()
            case Kind.CLOSE:
                stream.close()
                del self._streams[number], self._inboxes[number]
            case other:
                raise wire.WireError(f"{other.name} is not for a child")

    def _tell(self, number: int, heard: Heard) -> None:
        self._send(
            Kind.HEARD,
            number,
            utterance=heard.utterance,
            text=heard.text,
            final=heard.final,
            words=[(*times, round(confidence, 3)) for *times, confidence in heard.words],
            confidence=round(heard.confidence, 3),
        )

    def _send(self, kind: Kind, stream: int, **fields: Any) -> None:
        data = memoryview(wire.encode(kind, stream, **fields))
        while data:
            data = data[os.write(self._sink_fd, data) :]


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    sink_fd = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not get between the messages
    options = json.loads(sys.argv[1])
    began = time.monotonic()
    try:
        models = ENGINES[options["engine"]](options)
    except Exception as error:  # told to the parent, which knows what to do about it
        os.write(sink_fd, wire.encode(Kind.PROBLEM, message=f"{type(error).__name__}: {error}"))
        sys.exit(1)
    ms = round(1000 * (time.monotonic() - began))
    os.write(sink_fd, wire.encode(Kind.READY, ms=ms))
    try:
        Child(models, 0, sink_fd).run()
    except BrokenPipeError:
        sys.exit(0)  # the parent has gone


if __name__ == "__main__":
    main()
