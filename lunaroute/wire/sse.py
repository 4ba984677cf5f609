"""Server-sent events, read from bytes in any pieces (WHATWG HTML section 9.2). No I/O; the reading is in _fast/sse.pyx.

Must not know what the data means. Two things go beyond the standard's reader, for recording: `finish` gives the last
event although its blank line is missing, and what is over the size limit is dropped and counted instead of kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lunaroute._fast.sse import Events

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

    __slots__ = ("_events",)

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._events = Events(limit)

    @property
    def dropped(self) -> int:
        """Events over the limit."""
        return self._events.dropped

    @property
    def held(self) -> int:
        """Bytes kept of a line whose end has not come."""
        return self._events.held

    def feed(self, piece: bytes) -> list[SseEvent]:
        """The events that end in this piece."""
        return [_made(found) for found in self._events.feed((piece,))]

    def finish(self) -> list[SseEvent]:
        """What the end of the stream left without its blank line."""
        return [_made(found) for found in self._events.finish()]


def _made(found: tuple[Any, ...]) -> SseEvent:
    return SseEvent(found[0], found[1], found[2])
