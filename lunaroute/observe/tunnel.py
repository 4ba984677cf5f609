"""What goes through a WebSocket tunnel, as exchanges: one per turn of the Responses dialect. Must not know the ring.

A turn begins with the client's `response.create` and ends with the server's final event or error. Its request body is
that message, its response body the server's messages written as server-sent events, so that one reader serves both
transports. Messages outside a turn stay with the handshake's own record.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from lunaroute.dialects.openai_responses import FINAL, kind_of
from lunaroute.observe.exchange import Context, Pending
from lunaroute.records import Record, State
from lunaroute.wire.websocket import FrameReader, WsMessage, deflate_of

# one socket serves one turn after the other; more that wait for their answers than this no client has
MAX_TURNS = 64
# bytes of a turn's answer that may come before its request is whole
_MAX_EARLY = 1024 * 1024
_LINE = re.compile(rb"\r\n|\r|\n")
_NAME = re.compile(r"[A-Za-z][\w.-]{0,63}")
# of a message that was cut, which no JSON reader takes: its type as far as it stands in front
_TYPE = re.compile(rb'\s*\{\s*"type"\s*:\s*"([\w.-]{1,64})"')


class _Event(NamedTuple):
    kind: str
    text: bytes
    truncated: bool
    time_ns: int


def _kind(message: WsMessage) -> str:
    """The message's type; `message` where it has none."""
    if message.truncated:
        found = _TYPE.match(message.data)
        return found[1].decode() if found else "message"
    # a `type` that stands late in a large message is found too: kind_of skips values, it does not build them
    kind = kind_of("message", message.data)
    return kind if _NAME.fullmatch(kind) and kind.isascii() else "message"


class Tunnel:
    """Reads both directions after a 101."""

    def __init__(self, context: Context, handshake: Pending) -> None:
        self._context = context
        self._handshake = handshake
        answer = handshake.response_head
        deflate = deflate_of(answer.joined("sec-websocket-extensions") if answer else "")
        on, limit = deflate is not None, context.capture_limit
        self._client = FrameReader(
            deflate=on, no_context=deflate is not None and deflate.client_no_context, limit=limit
        )
        self._server = FrameReader(
            deflate=on, no_context=deflate is not None and deflate.server_no_context, limit=limit
        )
        self._turns: deque[Pending] = deque()
        self._early: list[_Event] = []
        self._count = 0
        self._closed_by_server: str | None = None

    @property
    def error(self) -> str | None:
        """Why a direction could not be followed to its end."""
        return self._client.error or self._server.error

    def __repr__(self) -> str:
        return f"<Tunnel {self._handshake.id} turn {self._count}, {len(self._turns)} open>"

    def turn(self, ident: str) -> Pending | None:
        """A turn that has not ended; may be asked by another thread."""
        return next((turn for turn in list(self._turns) if turn.id == ident), None)

    def from_client(self, data: bytes, time_ns: int) -> list[Record]:
        """Bytes of the client."""
        records: list[Record] = []
        for message in self._client.feed(data):
            if message.kind in ("text", "binary"):
                records += self._said(message, time_ns)
        return records

    def _said(self, message: WsMessage, time_ns: int) -> list[Record]:
        records: list[Record] = []
        if self._handshake.dialect == "responses" and _kind(message) == "response.create":
            records += self._begin(message, time_ns)
        else:
            self._handshake.request.feed(message.data + b"\n")
        return records + self._release()

    def _release(self) -> list[Record]:
        early, self._early = self._early, []
        return [record for event in early for record in self._answer(event)]

    def _begin(self, message: WsMessage, time_ns: int) -> list[Record]:
        shake = self._handshake
        self._count += 1
        turn = Pending(self._context, f"{shake.id}-{self._count}", shake.head, shake.wall_at(time_ns), time_ns)
        turn.transport = "websocket"
        turn.turn = True
        turn.own_session = shake.id
        turn.provider = shake.provider
        turn.dialect = shake.dialect
        turn.request.feed(message.data)
        turn.request.truncated = turn.request.truncated or message.truncated
        records: list[Record] = []
        if len(self._turns) >= MAX_TURNS:
            records.append(self._turns.popleft().finish(State.INTERRUPTED, "its end was never seen", time_ns))
        self._turns.append(turn)
        return [*records, turn.opened(), turn.requested()]

    def from_server(self, data: bytes, time_ns: int) -> list[Record]:
        """Bytes of the server."""
        records: list[Record] = []
        for message in self._server.feed(data):
            if message.kind == "close":
                code = message.close_code or "no code"
                said = message.data[2:].decode("utf-8", "replace")
                self._closed_by_server = f"the provider closed the WebSocket ({code}) {said}".strip()
            elif message.kind in ("text", "binary"):
                kind = _kind(message)
                text = b"event: " + kind.encode() + b"\ndata: " + _LINE.sub(b"\ndata: ", message.data) + b"\n\n"
                event = _Event(kind, text, message.truncated, time_ns)
                if self._is_early(event):
                    self._early.append(event)
                else:
                    records += self._answer(event)
        return records

    def _is_early(self, event: _Event) -> bool:
        """An answer (a refusal, as a rule) to a request that is still being sent."""
        if self._turns or not self._client.reading:
            return False
        if sum(len(held.text) for held in self._early) + len(event.text) > _MAX_EARLY:
            return False
        return event.kind == "error" or event.kind.startswith("response.")

    def _answer(self, event: _Event) -> list[Record]:
        if not self._turns:
            self._handshake.answer_piece(event.text, event.time_ns)
            return []
        turn = self._turns[0]
        turn.timings.response_head = turn.timings.response_head or turn.since(event.time_ns)
        turn.answer_piece(event.text, event.time_ns)
        turn.response.truncated = turn.response.truncated or event.truncated
        if event.kind in ("response.completed", "response.incomplete"):
            turn.status = 200
        if event.kind not in FINAL and event.kind != "error":
            return []
        self._turns.popleft()
        return [turn.finish(State.OK, None, event.time_ns)]

    def close(self, state: State, error: str | None, time_ns: int, lost: int) -> list[Record]:
        """The tunnel has ended: turns without an end get the reason that fits."""
        records: list[Record] = []
        rest = self._client.rest() if self._client.error is None else None
        if rest is not None:
            # a request that was cut on its way is one too
            records += self._said(rest, time_ns)
        records += self._release()
        if state is State.OK:
            # a tunnel that ended in order still cut the turn that was under way
            cut = (
                (State.UPSTREAM_ERROR, self._closed_by_server)
                if self._closed_by_server
                else (State.CLIENT_CANCELLED, None)
            )
            state, error = cut
        if error is None and self.error:
            error = f"the record ends early: {self.error}"
        records += [turn.finish(state, error, time_ns, lost=lost) for turn in self._turns]
        self._turns.clear()
        return records
