"""The client's connection: what is rare. The rest of it is compiled (`_fast/relay.pyx`)."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from lunaroute._fast import relay
from lunaroute.proxy.peer import has_gone
from lunaroute.wire import http1

if TYPE_CHECKING:
    from lunaroute.proxy.settings import Settings

# Over HTTP the same credential gets the same answer, so these are told as they are; any other refusal of a handshake
# means that the provider does not speak WebSocket here, and Codex falls back at once on 426 (clients.md 5).
TOLD = frozenset((401, 403, 429))

# A client that half-closed and cannot be told from one that is gone gets this long, then the provider is released
# (security.md M2: within one second).
GRACE_NS = 700_000_000

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, zero seconds


class Downstream(relay.Downstream):
    """One client connection."""

    settings: Settings

    def error(self, status: int, message: str, written: bool, close: bool) -> bytes:
        """Our own error, whole, in the dialect of the path."""
        return http1.error(status, message, self.path or b"", written=written, close=close, head=self.method == b"HEAD")

    def half_close(self) -> bool:
        """The client sent FIN after a complete request. Does it still wait? True: it is gone, and the exchange too."""
        gone = has_gone(self.transport)
        if gone is None:
            self.deadline = self.deadline if self.deadline_for == "half-closed" else relay.now_ns() + GRACE_NS
            self.deadline_for = "half-closed"
            gone = relay.now_ns() >= self.deadline
        if gone:
            self.deadline_for = None
            self.cancel("the client closed the connection")
        return bool(gone)

    def vanished(self) -> bool:
        """No process has the client's end any more, as far as that can be told."""
        return has_gone(self.transport) is True

    def reset(self) -> None:
        """Close with a reset: what the client has is not whole, and nothing else would tell it."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def handshake(self, fields: list[tuple[bytes, bytes]], status: int) -> bool:
        """The provider's 101 is the answer to our client's WebSocket key (RFC 6455 4.1)."""
        accepts = [value for name, value in fields if name == b"sec-websocket-accept"]
        upgrades = [value.lower() for name, value in fields if name == b"upgrade"]
        return accepts == [http1.accept_key(self.websocket_key)] and upgrades == [b"websocket"]

    def handshake_refused(self, status: int) -> bool:
        """The provider's answer to a handshake, other than 101, is passed on as it is."""
        return status < 300 or status in TOLD

    def refuse_upgrade(self, status: int) -> None:
        """The provider does not speak WebSocket on this path: the client shall use HTTP."""
        message = f"the provider refused the WebSocket handshake with {status}; use HTTP"
        self.note(10, message, relay.now_ns())
        self.gateway(426, message, relay.PROVIDER_FAILED)
