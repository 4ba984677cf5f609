"""What goes through a WebSocket tunnel, as exchanges: one per turn of the Responses dialect. Must not know the ring.

A turn begins with the client's `response.create` and ends with the server's final event or error. Its request body is
that message, its response body the server's messages written as server-sent events, so that one reader serves both
transports. Messages outside a turn stay with the handshake's own record.
"""

from __future__ import annotations

from collections import deque

from lunaroute.dialects.openai_responses import FINAL, kind_of
from lunaroute.observe.exchange import Context, Pending
from lunaroute.records import Record, State
from lunaroute.wire.websocket import FrameReader, WsMessage, deflate_of


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
        self._count = 0
        self._closed_by_server: str | None = None

    @property
    def error(self) -> str | None:
        """Why a direction could not be followed to its end."""
        return self._client.error or self._server.error

    def from_client(self, data: bytes, time_ns: int) -> list[Record]:
        """Bytes of the client."""
        records: list[Record] = []
        for message in self._client.feed(data):
            if message.kind not in ("text", "binary"):
                continue
            # a `type` that stands late in a large message is found too: kind_of skips values, it does not build them
            if self._handshake.dialect == "responses" and kind_of("message", message.data) == "response.create":
                records += self._begin(message, time_ns)
            else:
                self._handshake.request.feed(message.data + b"\n")
        return records

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
        self._turns.append(turn)
        return [turn.opened(), turn.requested()]

    def from_server(self, data: bytes, time_ns: int) -> list[Record]:
        """Bytes of the server."""
        records: list[Record] = []
        for message in self._server.feed(data):
            if message.kind == "close":
                said = message.data[2:].decode("utf-8", "replace")
                self._closed_by_server = f"the provider closed the WebSocket ({message.close_code}) {said}".strip()
            elif message.kind in ("text", "binary"):
                records += self._answer(message, time_ns)
        return records

    def _answer(self, message: WsMessage, time_ns: int) -> list[Record]:
        kind = kind_of("message", message.data)
        event = b"event: " + kind.encode() + b"\ndata: " + message.data.replace(b"\n", b"\ndata: ") + b"\n\n"
        if not self._turns:
            self._handshake.answer_piece(event, time_ns)
            return []
        turn = self._turns[0]
        turn.timings.response_head = turn.timings.response_head or turn.since(time_ns)
        turn.answer_piece(event, time_ns)
        if kind == "response.completed":
            turn.status = 200
        if kind not in FINAL and kind != "error":
            return []
        self._turns.popleft()
        return [turn.finish(State.OK, None, time_ns)]

    def close(self, state: State, error: str | None, time_ns: int, lost: int) -> list[Record]:
        """The tunnel has ended: turns without an end get the reason that fits."""
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
        records: list[Record] = [turn.finish(state, error, time_ns, lost=lost) for turn in self._turns]
        self._turns.clear()
        return records
