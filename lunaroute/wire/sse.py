"""Server-sent events, read from bytes in any pieces (WHATWG HTML section 9.2). No I/O.

Must not know what the data means. Two things go beyond the standard's reader, for recording: `finish` gives the last
event although its blank line is missing, and what is over the size limit is dropped and counted instead of kept.
"""

from __future__ import annotations

from typing import NamedTuple

BOM = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 16 * 1024 * 1024


class SseEvent(NamedTuple):
    """One event. `data` as bytes, since most readers want JSON; `text` is what the standard calls data."""

    event: str
    data: bytes
    id: str

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


class SseReader:
    """Feed bytes, get events. Lines end with LF, CR or CRLF and with nothing else."""

    __slots__ = (
        "_after_cr",
        "_data",
        "_event",
        "_id",
        "_limit",
        "_names",
        "_partial",
        "_partial_size",
        "_size",
        "_start",
        "dropped",
    )

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._partial: list[bytes] = []  # of the line whose end has not come
        self._partial_size = 0
        self._after_cr = False
        self._start = True
        self._data: list[bytes] = []
        self._size = 0
        self._event = "message"
        self._names: dict[bytes, str] = {}
        self._id = ""
        self.dropped = 0

    def feed(self, piece: bytes) -> list[SseEvent]:
        """The events that end in this piece."""
        if self._after_cr and piece:
            self._after_cr = False
            if piece[0] == 0x0A:
                piece = piece[1:]
        if not piece:
            return []
        if b"\n" not in piece and b"\r" not in piece:
            self._keep(piece)
            return []
        if self._partial:
            piece = b"".join((*self._partial, piece))
        if b"\r" in piece:
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = piece.split(b"\n")
        rest = lines.pop()
        self._partial = []
        self._partial_size = 0
        if rest:
            self._keep(rest)
        return self._lines(lines)

    def finish(self) -> list[SseEvent]:
        """What the end of the stream left without its blank line."""
        lines = [b"".join(self._partial), b""] if self._partial else [b""]
        self._partial = []
        self._partial_size = 0
        return self._lines(lines)

    def _keep(self, piece: bytes) -> None:
        # a line over the limit is kept up to it: its field name still decides what becomes of it
        room = self._limit + len(BOM) + 16 - self._partial_size
        if room > 0:
            self._partial.append(piece[:room])
            self._partial_size += min(len(piece), room)

    def _lines(self, lines: list[bytes]) -> list[SseEvent]:
        events: list[SseEvent] = []
        if self._start and lines:
            self._start = False
            lines[0] = lines[0].removeprefix(BOM)
        # the lines of nearly all streams, `event: x`, `data: y` and blank ones, are read here without a further call
        for line in lines:
            if line.startswith(b"data: "):
                self._add(line[6:])
            elif not line:
                if self._data:
                    self._dispatch(events)
                self._event = "message"
            elif line.startswith(b"event: "):
                name = line[7:]
                known = self._names.get(name)
                self._event = known if known is not None else self._name(name)
            elif line[0] != 0x3A:
                self._field(line)
        return events

    def _name(self, name: bytes) -> str:
        """Event names come again and again; only a bounded number is remembered."""
        text = name.decode("utf-8", "replace") or "message"
        if len(self._names) < 256 and len(name) < 64:
            self._names[name] = text
        return text

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._event = self._name(value)
        elif name == b"data":
            self._add(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")

    def _add(self, value: bytes) -> None:
        self._size += len(value) + 1
        if self._size <= self._limit:
            self._data.append(value)
        elif not self._data:
            self._data.append(b"")  # that there was data is all that is kept of it

    def _dispatch(self, events: list[SseEvent]) -> None:
        if self._size <= self._limit + 1:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            events.append(SseEvent(self._event, data, self._id))
        else:
            self.dropped += 1
        self._data = []
        self._size = 0
