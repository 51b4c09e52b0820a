"""Audio files made while they are sent: pcm, wav, opus, mp3, aac, flac.

Each takes PCM pieces at 24 kHz and gives bytes as soon as there are some. FFmpeg's encoders come
with PyAV; what this build of it lacks is refused by name.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Final, Protocol

import av
import numpy as np

from parley_speech.types import SPEAKER_HZ, Pcm


class Encoder(Protocol):
    def encode(self, pcm: Pcm) -> bytes:
        """PCM (n,) in; what is ready of the file out, perhaps nothing."""
        ...

    def finish(self) -> bytes:
        """The rest of the file."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """How a ``response_format`` is made."""

    media_type: str
    container: str = ""
    codec: str = ""
    rate_hz: int = SPEAKER_HZ
    options: tuple[tuple[str, str], ...] = ()
    """Of the container."""


FORMATS: Final[dict[str, Format]] = {
    "mp3": Format("audio/mpeg", "mp3", "libmp3lame", options=(("write_xing", "0"),)),
    # A page an Opus frame of 20 ms: otherwise the first page would be held for a second.
    "opus": Format("audio/ogg", "ogg", "libopus", 48_000, (("page_duration", "20000"),)),
    "aac": Format("audio/aac", "adts", "aac"),
    "flac": Format("audio/flac", "flac", "flac"),
    "wav": Format("audio/wav"),
    "pcm": Format("audio/pcm"),
}
"""OpenAI's names."""


def encoder(name: str) -> Encoder:
    """Raises KeyError for a name that is none of FORMATS, ValueError for a missing codec."""
    form = FORMATS[name]
    if name == "pcm":
        return _Raw(b"")
    if name == "wav":
        return _Raw(_wav_header())
    if form.codec not in av.codecs_available:
        raise ValueError(f"response_format {name!r}: this build of FFmpeg has no {form.codec}")
    return _Av(form)


class _Raw:
    """Samples as they are, 16-bit little endian, after a header."""

    def __init__(self, header: bytes) -> None:
        self._header = header

    def encode(self, pcm: Pcm) -> bytes:
        header, self._header = self._header, b""
        return header + pcm.astype("<i2").tobytes()

    def finish(self) -> bytes:
        return self._header


def _wav_header() -> bytes:
    """RIFF/WAVE, 24 kHz mono 16 bit, of unknown length: both sizes are the largest, which players
    take for "until the end" when a file is streamed."""
    unknown = 0xFFFFFFFF
    fmt = struct.pack("<IHHIIHH", 16, 1, 1, SPEAKER_HZ, SPEAKER_HZ * 2, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", unknown) + b"WAVEfmt " + fmt
        + b"data" + struct.pack("<I", unknown)
    )  # fmt: skip


class _Av:
    """An FFmpeg encoder into a container that is written to memory and taken away in pieces."""

    def __init__(self, form: Format) -> None:
        self._sink = _Sink()
        options = {"flush_packets": "1", **dict(form.options)}
        self._container = av.open(self._sink, "w", format=form.container, options=options)
        stream = self._container.add_stream(form.codec, rate=form.rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        self._stream: av.AudioStream = stream
        self._resampler = av.AudioResampler(
            format=self._stream.codec_context.format, layout="mono", rate=form.rate_hz
        )
        self._at = 0

    def encode(self, pcm: Pcm) -> bytes:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm)[None, :], "s16", "mono")
        frame.sample_rate = SPEAKER_HZ
        frame.pts = self._at
        self._at += len(pcm)
        self._write(frame)
        return self._sink.take()

    def finish(self) -> bytes:
        if self._at == 0:
            self.encode(np.zeros(1, np.int16))  # a file needs a stream with a frame
        self._write(None)
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        return self._sink.take()

    def _write(self, frame: av.AudioFrame | None) -> None:
        for converted in self._resampler.resample(frame):
            for packet in self._stream.encode(converted):
                self._container.mux(packet)


class _Sink(io.RawIOBase):
    """A file that cannot be gone back in; what was written is taken once."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._written += piece
        return len(piece)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken
