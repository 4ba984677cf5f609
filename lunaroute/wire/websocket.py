"""Reading copied WebSocket frames into messages (RFC 6455, RFC 7692). No I/O, and no say in the tunnel.

Must not know what messages mean. It reads one direction of a tunnel that forwards bytes untouched, so it judges
nothing: what it cannot follow sets `error`, after which it stays silent. Memory is bounded per message.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# a deflate bomb costs at most this much output per message before the direction is given up
MAX_INFLATED_BYTES = 64 * 1024 * 1024
# a deflate stream may end and another begin within one message (RFC 7692 section 7.2.3.5); nobody does it often
_MAX_STREAMS = 16
_INFLATE_STEP = 1024 * 1024
_TAIL = b"\x00\x00\xff\xff"
_KINDS = {1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}


class Deflate(NamedTuple):
    """What the handshake agreed on: whether each side forgets its window after every message."""

    server_no_context: bool
    client_no_context: bool


class WsMessage(NamedTuple):
    """A whole message. kind: text, binary, close, ping, pong. truncated: longer than the limit, the start is kept."""

    kind: str
    data: bytes
    truncated: bool = False

    @property
    def close_code(self) -> int | None:
        """The code of a close frame, if it has one."""
        return int.from_bytes(self.data[:2], "big") if self.kind == "close" and len(self.data) >= 2 else None


def deflate_of(extensions: str) -> Deflate | None:
    """The server's Sec-WebSocket-Extensions answer; None where permessage-deflate was not accepted."""
    for offer in extensions.split(","):
        name, *params = (part.strip().lower() for part in offer.split(";"))
        if name == "permessage-deflate":
            words = {re.split(r"\s*=", param)[0] for param in params}
            return Deflate("server_no_context_takeover" in words, "client_no_context_takeover" in words)
    return None


class FrameReader:
    """One direction. Feed bytes in any pieces, get messages; control frames come between the fragments of others."""

    __slots__ = (
        *("_buffer", "_compressed", "_control", "_control_kind", "_fin", "_inflate", "_inflated", "_kept", "_key"),
        *("_kind", "_left", "_limit", "_no_context", "_offset", "_size", "_streams", "_with_deflate", "error"),
    )

    def __init__(self, *, deflate: bool = False, no_context: bool = False, limit: int = MAX_MESSAGE_BYTES) -> None:
        self._with_deflate = deflate
        self._no_context = no_context
        self._limit = limit
        self.error: str | None = None
        self._buffer = bytearray()  # of a frame's head; payloads are never held here
        self._left = -1  # payload bytes still to come, -1 while a head is read
        self._offset = 0
        self._key = b""
        self._fin = False
        self._control_kind = 0
        self._control = bytearray()
        self._kind = 0  # opcode of the message being read, 0 for none
        self._compressed = False
        self._kept = bytearray()  # of the message, up to the limit
        self._size = 0
        self._inflate: zlib._Decompress | None = None
        self._inflated = 0
        self._streams = 0

    @property
    def reading(self) -> bool:
        """Whether a message (no control frame) has begun and not ended."""
        return self._kind != 0

    def rest(self) -> WsMessage | None:
        """The start of a message that will not end any more; None where no message has begun."""
        return WsMessage(_KINDS[self._kind], bytes(self._kept), truncated=True) if self._kind else None

    def feed(self, piece: bytes) -> list[WsMessage]:
        """The messages that end in this piece; also the start of one after which the direction is given up."""
        messages: list[WsMessage] = []
        view = memoryview(piece)
        while view and self.error is None:
            if self._left < 0:
                view = view[self._head(view) :]
            else:
                take = min(self._left, len(view))
                self._payload(bytes(view[:take]))
                self._left -= take
                view = view[take:]
            if self._left == 0 and self.error is None:
                self._left = -1
                self._end_frame(messages)
        if self._inflated > MAX_INFLATED_BYTES:
            # a request that is one has an answer, and the reader wants to see both
            self._deliver(messages, cut=True)
        return messages

    def _head(self, view: memoryview) -> int:
        """Take bytes for the head until it is whole; how many were taken."""
        had = len(self._buffer)
        self._buffer += view[: 14 - had]
        need = 2
        if len(self._buffer) >= 2:
            length = self._buffer[1] & 0x7F
            wide = 2 if length == 126 else 8 if length == 127 else 0
            masked = bool(self._buffer[1] & 0x80)
            need = 2 + wide + 4 * masked
            if len(self._buffer) >= need:
                if wide:
                    length = int.from_bytes(self._buffer[2 : 2 + wide], "big")
                self._key = bytes(self._buffer[need - 4 : need]) if masked else b""
                self._begin_frame(self._buffer[0], length)
                self._buffer.clear()
                return need - had
        taken = len(self._buffer) - had
        return taken

    def _begin_frame(self, first: int, length: int) -> None:
        opcode = first & 0x0F
        self._fin = bool(first & 0x80)
        self._left = length
        self._offset = 0
        self._control_kind = 0
        if opcode >= 8:
            if length > 125 or not self._fin or opcode not in _KINDS:
                self.error = "a control frame that is none"
            self._control_kind = opcode
            self._control.clear()
        elif opcode == 0:
            if not self._kind:
                self.error = "a continuation of nothing"
        elif self._kind or opcode not in _KINDS:
            self.error = "a message within a message" if self._kind else f"unknown opcode {opcode}"
        else:
            self._begin_message(opcode, compressed=bool(first & 0x40))

    def _begin_message(self, opcode: int, *, compressed: bool) -> None:
        self._kind = opcode
        self._compressed = compressed
        self._inflated = 0
        self._streams = 0
        if compressed and not self._with_deflate:
            self.error = "a compressed message that was not agreed on"
        elif compressed and (self._inflate is None or self._no_context):
            self._inflate = zlib.decompressobj(-15)

    def _payload(self, data: bytes) -> None:
        if self._key:
            data = _unmask(data, self._key, self._offset)
            self._offset += len(data)
        if self._control_kind:
            self._control += data
        elif self._compressed:
            self._inflate_piece(data)
        else:
            self._keep(data)

    def _inflate_piece(self, data: bytes) -> None:
        inflate = self._inflate
        assert inflate is not None  # made by _begin_message
        try:
            while True:
                out = inflate.decompress(data, _INFLATE_STEP)
                self._inflated += len(out)
                self._keep(out)
                if self._inflated > MAX_INFLATED_BYTES:
                    self.error = "a message that inflates beyond every bound"
                    return
                data = inflate.unconsumed_tail
                if inflate.eof:
                    data = inflate.unused_data
                    self._streams += 1
                    if self._streams > _MAX_STREAMS:
                        self.error = "compressed data in too many streams"
                        return
                    inflate = self._inflate = zlib.decompressobj(-15)
                    if not data:
                        return
                # output that stopped at the step's size may leave more inside although all input is consumed
                elif not data and len(out) < _INFLATE_STEP:
                    return
        except zlib.error:
            self.error = "compressed data that cannot be read"

    def _keep(self, data: bytes) -> None:
        room = self._limit - self._size
        if room > 0 and data:
            self._kept += data[:room] if len(data) > room else data
        self._size += len(data)

    def _end_frame(self, messages: list[WsMessage]) -> None:
        if self._control_kind:
            messages.append(WsMessage(_KINDS[self._control_kind], bytes(self._control)))
            self._control_kind = 0
            return
        if not self._fin:
            return
        if self._compressed:
            self._inflate_piece(_TAIL)
            if self.error is not None:
                return
        self._deliver(messages)

    def _deliver(self, messages: list[WsMessage], *, cut: bool = False) -> None:
        messages.append(WsMessage(_KINDS[self._kind], bytes(self._kept), cut or self._size > self._limit))
        if self._streams:
            self._inflate = zlib.decompressobj(-15)  # where the last stream ended, none goes on
        self._kept = bytearray()
        self._size = self._inflated = 0
        self._kind = 0


def _unmask(data: bytes, key: bytes, offset: int) -> bytes:
    size = len(data)
    turn = offset % 4
    mask = (key[turn:] + key[:turn]) * (size // 4 + 1)
    return (int.from_bytes(data, "little") ^ int.from_bytes(mask[:size], "little")).to_bytes(size, "little")
