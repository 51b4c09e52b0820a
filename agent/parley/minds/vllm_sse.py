"""Server-sent events out of a byte stream (WHATWG HTML, section 9.2.6), however it is cut.

Only ``data`` matters here; comments (keep-alives) and other fields are skipped. Lines may end in
LF, CRLF or CR, a character may be split between chunks, and the last event may lack its blank line.
"""

from __future__ import annotations

import codecs

MAX_EVENT_CHARS = 1_000_000
"""A single event longer than this is no answer of a language model."""


class SseError(ValueError):
    """The stream is not what it claims to be."""


class SseParser:
    """Feed bytes, get the data of each complete event."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
        self._line = ""
        self._data: list[str] = []
        self._size = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[str]:
        return self._take(self._decode(chunk))

    def finish(self) -> list[str]:
        """The stream ended: what is left, though its blank line never came."""
        events = self._take(self._decode(b"", True) + "\n\n")
        self._data, self._line = [], ""
        return events

    def _take(self, text: str) -> list[str]:
        if not text:
            return []
        whole = self._whole(text)
        return self._by_lines(text) if whole is None else whole

    def _whole(self, text: str) -> list[str] | None:
        """Nearly every piece: events of one line of data each, none begun before or left open. None
        for any other piece. It costs half of what looking at lines does."""
        begun = self._line or self._data or self._after_cr
        if begun or "\r" in text or len(text) > MAX_EVENT_CHARS or not text.endswith("\n\n"):
            return None
        events = text[:-2].split("\n\n")
        if not all(event.startswith("data: ") and "\n" not in event for event in events):
            return None
        return [event[len("data: ") :] for event in events]

    def _by_lines(self, text: str) -> list[str]:
        ended_in_cr, self._after_cr = self._after_cr, text.endswith("\r")
        if ended_in_cr and text.startswith("\n"):
            text = text[1:]  # the other half of a CRLF whose CR has ended the line already
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        events: list[str] = []
        for line in lines:
            self._end_line(self._line + line, events)
            self._line = ""
        self._line += rest
        self._bound(len(self._line))
        return events

    def _end_line(self, line: str, events: list[str]) -> None:
        if not line:
            if self._data:
                events.append("\n".join(self._data))
            self._data, self._size = [], 0
            return
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
            self._size += len(value)
            self._bound(0)

    def _bound(self, extra: int) -> None:
        if self._size + extra > MAX_EVENT_CHARS:
            raise SseError(f"an event of more than {MAX_EVENT_CHARS} characters")
