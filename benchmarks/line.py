"""One client connection and one provider connection of the real relay, without an event loop: bytes go in by hand.

The protocols, settings, plans and the pool are those of the server. What they would have around them is null: a loop
that is never run, transports that take what is written and forget it. The relay writes to its sockets itself, so each
transport owns one: a datagram socket whose peer never reads, where the kernel throws away what does not fit.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

from benchmarks import canned
from lunaroute._fast import relay
from lunaroute._fast.ring import Writer
from lunaroute.config import load
from lunaroute.proxy.downstream import Downstream
from lunaroute.proxy.plans import Plans
from lunaroute.proxy.settings import Settings

RING = 64 << 20
PROVIDER = "127.0.0.1:9000"
HOP = b"Connection: keep-alive\r\n"


class Loop:
    """Stands where the event loop stands. Nothing on the measured path may need it."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise context["exception"]


class Sink:
    """A datagram socket that takes everything."""

    def __init__(self) -> None:
        self._peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._peer.bind(("127.0.0.1", 0))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(self._peer.getsockname())
        self.socket.setblocking(False)

    def received(self) -> bytes:
        """What came first of the things not yet fetched."""
        return self._peer.recv(1 << 16)

    def close(self) -> None:
        self.socket.close()
        self._peer.close()


class Transport(asyncio.Transport):
    """A transport over a sink. Anything that closes it means that the exchange went wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.sink = Sink()
        self._facts = {"socket": self.sink.socket, "ssl_object": None}

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._facts[name]

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        raise AssertionError("the sink did not take everything")

    def writelines(self, pieces: Iterable[Any]) -> None:
        raise AssertionError("the sink did not take everything")

    def abort(self) -> None:
        raise AssertionError("the relay dropped the connection")

    def close(self) -> None:
        self.abort()


class Line:
    """A client's connection and a provider's, both open, the latter free in its pool."""

    def __init__(self, recording: bool) -> None:
        environ = {
            "LUNAROUTE_HOME": "/nonexistent",
            "LUNAROUTE_ANTHROPIC_BASE_URL": f"http://{PROVIDER}",
            "LUNAROUTE_ENABLE_SESSION_RECORDING": "true" if recording else "false",
        }
        config = load(None, environ, {}).config
        self.loop = Loop()
        self.ring = Writer(RING)
        self.ring.populate(RING)  # as the server does ahead of the writer: the kernel's page faults are not measured
        self.settings = Settings(self.loop, self.ring, config)  # type: ignore[arg-type]
        self.plans = Plans(config, self.settings, {}, lambda host, port: False, print, print)
        self.settings.route = self.plans.plan
        self.client, self.provider = Transport(), Transport()
        self.downstream = Downstream(self.settings)
        self.downstream.connection_made(self.client)
        pool = self.plans.plan(b"POST", b"/v1/messages", 48).pool
        if pool is None:
            raise AssertionError("the router answers /v1/messages itself")
        self.upstream = relay.Upstream(pool)
        self.upstream.connection_made(self.provider)
        pool.add(self.upstream)

    def exchange(self, request: bytes, pieces: list[bytes]) -> None:
        """One request and its answer."""
        self.downstream.data_received(request)
        receive = self.upstream.data_received
        for piece in pieces:
            receive(piece)

    def check(self) -> None:
        """One exchange whose bytes are looked at on both sides: a driver that measures errors would look fast."""
        request, answer = canned.request(), canned.answer()
        self.exchange(request, [answer])
        sent, got = self.provider.sink.received(), self.client.sink.received()
        if sent != request.replace(canned.HOST.encode(), PROVIDER.encode()).replace(HOP, b""):
            raise AssertionError(f"the provider got something else: {sent[:800]!r}")
        if got != answer.replace(HOP, b""):
            raise AssertionError(f"the client got something else: {got[:800]!r}")

    def close(self) -> None:
        self.client.sink.close()
        self.provider.sink.close()
