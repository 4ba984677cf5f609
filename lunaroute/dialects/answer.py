"""Reading an answer as it comes: bytes in any pieces in, facts out. Must not know how the bytes travelled.

An Answer is one dialect's understanding of events and documents; AnswerReader decides which of the two the bytes are
(by their first character: servers err in content types, not in braces) and cuts them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lunaroute.dialects.values import loads, mapping
from lunaroute.records import Usage
from lunaroute.wire.sse import BOM, SseReader

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
_BLANKS = b" \t\r\n"


class Facts(msgspec.Struct):
    """What an answer tells about itself. They grow while it is read.

    content: the first piece of what was asked for has come; done: the last event of a stream, or a whole document, has.
    """

    model: str | None = None
    response_id: str | None = None
    stop_reason: str | None = None
    error: str | None = None
    error_status: int | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    stream: bool = False
    content: bool = False
    done: bool = False


class Answer:
    """A dialect's side: subclasses fill `facts`."""

    def __init__(self) -> None:
        self.facts = Facts()

    def event(self, name: str, data: bytes) -> None:
        """One event of a stream."""
        raise NotImplementedError

    def document(self, value: dict[str, Any]) -> None:
        """A whole answer, or an error."""
        raise NotImplementedError

    def close(self) -> None:
        """The bytes have ended."""
        usage = self.facts.usage
        usage.partial = not self.facts.done and has_figures(usage)
        if usage.partial and not usage.output_tokens:
            usage.output_tokens = None  # a stream that was cut never told what it cost: unknown, not nothing


class OtherAnswer(Answer):
    """Whatever is none of the dialects: only its end is known."""

    def event(self, name: str, data: bytes) -> None:
        self.facts.content = True

    def document(self, value: dict[str, Any]) -> None:
        self.facts.done = True

    def close(self) -> None:
        self.facts.done = True


class AnswerReader:
    """Bytes in. `facts` may be read at any time, and are final after `finish`."""

    __slots__ = ("_answer", "_closed", "_document", "_kept", "_limit", "_sse")

    def __init__(self, answer: Answer, limit: int = MAX_DOCUMENT_BYTES) -> None:
        self._answer = answer
        self._limit = limit
        self._sse: SseReader | None = None
        self._document: list[bytes] = []
        self._kept = 0
        self._closed = False

    @property
    def facts(self) -> Facts:
        return self._answer.facts

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        if self._sse is not None:
            for event in self._sse.feed(piece):
                self._answer.event(event.event, event.data)
            return
        if not piece:
            return
        room = self._limit - self._kept
        if room > 0:
            self._document.append(piece if len(piece) <= room else piece[:room])
            self._kept += len(piece)
        if len(self._document) == 1 or self._kept <= 4096:
            self._decide()

    def _decide(self) -> None:
        """Is it a stream? Only the bytes before the first telling one are looked at."""
        first = self._document[0]
        if first[:1] in (b"{", b"["):
            return
        start = b"".join(self._document)
        if len(start) < len(BOM) and BOM.startswith(start):
            return
        start = start.removeprefix(BOM).lstrip(_BLANKS)
        if not start or start[:1] in (b"{", b"[", b"<"):
            return
        self._sse = SseReader()
        self._answer.facts.stream = True
        pieces, self._document = self._document, []
        for piece in pieces:
            self.feed(piece)

    def finish(self) -> Facts:
        """The bytes have ended: what was held back is read. Harmless when called again."""
        if self._closed:
            return self._answer.facts
        self._closed = True
        if self._sse is not None:
            for event in self._sse.finish():
                self._answer.event(event.event, event.data)
        elif self._document:
            self._read_document(b"".join(self._document))
            self._document = []
        self._answer.close()
        return self._answer.facts

    def _read_document(self, body: bytes) -> None:
        value = loads(body)
        self.facts.content = True
        if isinstance(value, dict):
            self._answer.document(mapping(value))


def has_figures(usage: Usage) -> bool:
    """Whether any count was told."""
    return any(
        value is not None
        for value in (
            usage.input_tokens,
            usage.output_tokens,
            usage.thinking_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
        )
    )
