"""Reading an answer as it comes: bytes in any pieces in, facts out. Must not know how the bytes travelled.

An Answer is one dialect's understanding of events and documents; AnswerReader decides which of the two the bytes are
(by their first character: servers err in content types, not in braces) and cuts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from lunaroute._fast.sse import Events
from lunaroute.dialects.blocks import Block, Message, texts_of
from lunaroute.dialects.cut import outline
from lunaroute.dialects.values import clean, loads, mapping
from lunaroute.records import Text, ToolCall, ToolResult, Usage
from lunaroute.wire.sse import BOM

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
TAIL_BYTES = 64 * 1024
TEXT_LIMIT = 4 * 1024 * 1024  # characters of texts and arguments kept of one answer
MAX_CALLS = 4096
_FOLD = 512  # pieces: a short str costs ten times its characters, so they are joined now and then
_BLANKS = b" \t\r\n"


class Facts(msgspec.Struct):
    """What an answer tells about itself. They grow while it is read.

    content: the first piece of what was asked for has come; done: the last event of a stream, or a whole document, has.
    tool_calls: those that are complete, in that order (an id the vendor did not give is ""). texts: once all is read.
    error_kind: the vendor's word for the error. cache_miss_reason: why the prompt cache was not used, where told.
    """

    model: str | None = None
    response_id: str | None = None
    stop_reason: str | None = None
    error: str | None = None
    error_kind: str | None = None
    error_status: int | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    stream: bool = False
    content: bool = False
    done: bool = False
    tool_calls: list[ToolCall] = msgspec.field(default_factory=list)
    texts: list[Text] = msgspec.field(default_factory=list)
    cache_miss_reason: str | None = None


class Room:
    """How many characters an answer may still keep."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Gathered:
    """Text that comes in pieces, kept as far as there is room."""

    __slots__ = ("_folded", "_pieces", "_room", "_size", "lost")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._folded: list[str] = []
        self._pieces: list[str] = []
        self._size = 0
        self.lost = 0

    def __bool__(self) -> bool:
        return bool(self._pieces or self._folded or self.lost)

    def add(self, piece: str) -> None:
        room = self._room
        size = len(piece)
        if size > room.left:
            self.lost += len(piece[room.left :].encode("utf-8", "replace"))
            piece = piece[: room.left]
            size = room.left
        room.left -= size
        self._size += size
        pieces = self._pieces
        pieces.append(piece)
        if len(pieces) >= _FOLD:
            self._folded.append("".join(pieces))
            pieces.clear()

    def text(self) -> str:
        return clean("".join((*self._folded, *self._pieces)))

    def release(self) -> None:
        """Forget it: the whole has come by another way."""
        self._room.left += self._size
        self._size = self.lost = 0
        self._folded = []
        self._pieces = []


class Answer:
    """A dialect's side: subclasses fill `facts` and say what was said in `blocks`.

    deltas: whether `delta` is called for what _fast/sse.pyx has read of them.
    """

    deltas = False

    def __init__(self, text_limit: int = TEXT_LIMIT) -> None:
        self.facts = Facts()
        self.room = Room(text_limit)
        self._calls: dict[str, ToolCall] = {}

    def event(self, name: str, data: bytes) -> None:
        """One event of a stream."""
        raise NotImplementedError

    def delta(self, index: int, kind: str, text: str) -> None:
        """More of the text of a block."""
        raise NotImplementedError

    def take(self, event: tuple[Any, ...]) -> None:
        """An event or a delta as _fast/sse.pyx gives it."""
        if event[0].__class__ is int:
            self.delta(event[0], event[1], event[2])
        else:
            self.event(event[0], event[1])

    def document(self, value: dict[str, Any]) -> None:
        """A whole answer, or an error."""
        raise NotImplementedError

    def blocks(self) -> list[Block] | None:
        """What was said so far; None if the answer has not begun."""
        return None

    def message(self) -> Message | None:
        """What was said so far, as one message."""
        blocks = self.blocks()
        return None if blocks is None else Message("assistant", blocks)

    def close(self) -> None:
        """The bytes have ended."""
        usage = self.facts.usage
        usage.partial = not self.facts.done and has_figures(usage)
        if usage.partial and not usage.output_tokens:
            usage.output_tokens = None  # a stream that was cut never told what it cost: unknown, not nothing
        message = self.message()
        self.facts.texts = texts_of(message) if message else []

    # --- for subclasses --------------------------------------------------------------------------------
    def bound(self, block: Block) -> Block:
        """The block, cut to the room that is left."""
        left = self.room.left
        if len(block.text) > left:
            block.text = block.text[:left]
        left -= len(block.text)
        if block.arguments is not None:
            if len(block.arguments) > left:
                block.arguments = block.arguments[:left]
            left -= len(block.arguments)
        self.room.left = left
        return block

    def called(self, block: Block, kind: str, size: int) -> ToolCall | None:
        """A call is complete. size: bytes of its arguments, also of those that were not kept."""
        facts = self.facts
        if len(facts.tool_calls) >= MAX_CALLS:
            return None
        call = ToolCall(
            id=block.call_id or "",
            name=block.name or "",
            kind=kind,
            arguments=block.arguments or "",
            arguments_bytes=size,
        )
        facts.tool_calls.append(call)
        if call.id:
            self._calls[call.id] = call
        return call

    def returned(self, block: Block, size: int, success: bool | None) -> None:
        """The result of a call that the vendor ran itself."""
        call = self._calls.get(block.call_id or "")
        if call is not None:
            call.result = ToolResult(id=call.id, text=block.text, result_bytes=size, success=success)


class OtherAnswer(Answer):
    """Whatever is none of the dialects: only its end is known."""

    def event(self, name: str, data: bytes) -> None:
        self.facts.content = True

    def document(self, value: dict[str, Any]) -> None:
        self.facts.done = True

    def close(self) -> None:
        self.facts.done = True


class AnswerReader:
    """Bytes in. `facts` may be read at any time, and are final after `finish`.

    limit: bytes of a document that are kept to be read whole. Of a larger one its beginning and its last bytes are
    kept, which tell all but what was said. Streams have no limit.

    pieces: how many have been fed. Of streams: content_at is the number of the piece (the first is 0) with which
    `facts.content` came true, called_at has that of each of `facts.tool_calls`, as far as they came before the end.
    """

    __slots__ = (
        *("_answer", "_closed", "_document", "_kept", "_limit", "_sse", "_tail"),
        *("_before", "called_at", "content_at", "pieces"),
    )

    def __init__(self, answer: Answer, limit: int = MAX_DOCUMENT_BYTES) -> None:
        self._answer = answer
        self._limit = limit
        self._sse: Events | None = None
        self._before = 0  # pieces before those that the stream was found by
        self._document: list[bytes] = []
        self._tail = b""  # of what came after the limit
        self._kept = 0
        self._closed = False
        self.pieces = 0
        self.content_at: int | None = None
        self.called_at: list[int] = []

    @property
    def facts(self) -> Facts:
        return self._answer.facts

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        self.feed_all((piece,))

    def feed_all(self, pieces: Sequence[bytes]) -> None:
        """Take the next pieces."""
        for number, piece in enumerate(pieces):
            if self._sse is not None:
                self._tell(self._sse.feed(pieces[number:] if number else pieces))
                self.pieces += len(pieces) - number
                return
            self._begin(piece)
            self.pieces += 1

    def _tell(self, events: Iterable[tuple[Any, ...]]) -> None:
        """Let the answer take events, and note in which pieces they ended."""
        answer, calls = self._answer, self.called_at
        facts = answer.facts
        for event in events:
            answer.take(event)
            number = event[3]
            if self.content_at is None and facts.content:
                self.content_at = self._before + number
            if len(facts.tool_calls) > len(calls):
                calls += [self._before + number] * (len(facts.tool_calls) - len(calls))

    def _begin(self, piece: bytes) -> None:
        """A piece of what is a document until it shows that it is a stream."""
        if not piece:
            return
        room = self._limit - self._kept
        if room > 0:
            self._document.append(piece if len(piece) <= room else piece[:room])
            self._kept += min(len(piece), room)
        if len(piece) > room:
            self._tail = (self._tail + piece[max(room, 0) :])[-TAIL_BYTES:]
        if len(self._document) == 1 or self._kept <= 4096:
            self._decide(piece[max(room, 0) :] if len(piece) > room else b"")

    def _decide(self, over: bytes) -> None:
        """Is it a stream? Only the bytes before the first telling one are looked at."""
        first = self._document[0] if self._document else b""
        if first[:1] in (b"{", b"["):
            return
        start = b"".join(self._document)
        if len(start) < len(BOM) and BOM.startswith(start):
            return
        start = start.removeprefix(BOM).lstrip(_BLANKS)
        if not start or start[:1] in (b"{", b"[", b"<"):
            return
        self._sse = Events(deltas=self._answer.deltas)
        self._answer.facts.stream = True
        pieces, self._document, self._tail = self._document, [], b""
        # what came before the piece at hand has no event in it: all of it counts as this piece
        self._before = self.pieces
        self._tell(self._sse.feed((b"".join((*pieces, over)),)))

    def finish(self) -> Facts:
        """The bytes have ended: what was held back is read. Harmless when called again."""
        if self._closed:
            return self._answer.facts
        self._closed = True
        if self._sse is not None:
            for event in self._sse.finish():
                self._answer.take(event)
        elif self._document:
            self._read_document(b"".join(self._document))
            self._document = []
        self._answer.close()
        return self._answer.facts

    def _read_document(self, body: bytes) -> None:
        if self._tail:
            value: Any = outline(body, (body[-TAIL_BYTES:] + self._tail)[-TAIL_BYTES:])
            self._tail = b""
        else:
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
