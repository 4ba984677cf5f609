"""The relay in this process, with raw scripted peers on both sides, all on one uvloop: each byte is the test's own.

A test is a coroutine under `@looped`. Time is real until a test calls `proxy.pass_time`, which drives the relay's clock
by hand. `settle` is for negative claims only ("nothing more came"): all parties live on one loop, so when no peer saw
anything for many turns of it, nothing is on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import os
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, Self

import h11
import uvloop

from lunaroute import tap
from lunaroute._fast import relay
from lunaroute._fast.ring import Reader, Writer
from lunaroute.config import Config, load
from lunaroute.proxy.downstream import Downstream
from lunaroute.proxy.endpoints import Endpoints
from lunaroute.proxy.plans import Plans
from lunaroute.proxy.pool import own_listeners
from lunaroute.proxy.settings import Settings
from tests.running import Json, merged

PATIENCE = 10.0  # seconds after which a test gives up; nothing takes this long when all is well
QUIET_TURNS = 200
KEY = "sk-ant-dummy-client-key"
HEADERS_END = b"\r\n\r\n"

_progress = itertools.count()
_seen = 0


def progress() -> None:
    """A peer saw something."""
    global _seen  # noqa: PLW0603
    _seen = next(_progress)


def looped(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a fresh uvloop; an exception that nobody caught fails it."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        stray: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))
            await asyncio.wait_for(test(*args, **kwargs), PATIENCE * 3)

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        finally:
            relay.set_clock(0)
        assert not stray, stray

    return run


async def settle() -> None:
    """Until nothing moves any more."""
    quiet, last = 0, _seen
    while quiet < QUIET_TURNS:
        await asyncio.sleep(0)
        quiet, last = (quiet + 1, last) if last == _seen else (0, _seen)


class Peer(asyncio.Protocol):
    """One raw connection: what came is in `data` and, piece by piece as read, in `pieces`."""

    transport: Any

    def __init__(self) -> None:
        self.data = bytearray()
        self.pieces: list[bytes] = []
        self.eof = self.lost = self.write_paused = False
        self.error: Exception | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._mark = 0

    # asyncio's callbacks
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._note()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.pieces.append(data)
        self._note()

    def eof_received(self) -> bool:
        self.eof = True
        self._note()
        return self._stays_half_open()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost, self.error = True, exc
        self._note()

    def pause_writing(self) -> None:
        self.write_paused = True
        self._note()

    def resume_writing(self) -> None:
        self.write_paused = False
        self._note()

    def _stays_half_open(self) -> bool:
        return self.transport.get_extra_info("ssl_object") is None

    def _note(self) -> None:
        progress()
        while self._waiting:
            waiting = self._waiting.pop()
            if not waiting.done():
                waiting.set_result(None)

    # for tests
    @property
    def port(self) -> int:
        """The other side's port."""
        return int(self.transport.get_extra_info("peername")[1])

    @property
    def taken(self) -> int:
        """How many bytes of `data` were taken."""
        return self._mark

    @property
    def over(self) -> bool:
        """The other side has ended: FIN or reset."""
        return self.eof or self.lost

    async def until(self, fact: Callable[[], Any], what: str = "", patience: float | None = None) -> Any:
        """Wait until fact() is true (looked at after each event of this peer)."""
        deadline = asyncio.get_running_loop().time() + (PATIENCE if patience is None else patience)
        while not (result := fact()):
            left = deadline - asyncio.get_running_loop().time()
            assert left > 0, f"never happened: {what}; {self!r}"
            self._waiting.append(asyncio.get_running_loop().create_future())
            await asyncio.wait(self._waiting[-1:], timeout=left)
        return result

    async def ended(self) -> bytes:
        """Wait for the other side's end; all that came since the last take()."""
        await self.until(lambda: self.over, "the end of the connection")
        return self.take()

    async def has(self, wanted: bytes) -> None:
        await self.until(lambda: wanted in self.data[self._mark :], f"{wanted[:60]!r}")

    async def head(self) -> bytes:
        """Wait for a whole head and take it."""
        await self.has(HEADERS_END)
        end = self.data.index(HEADERS_END, self._mark) + 4
        start, self._mark = self._mark, end
        return bytes(self.data[start:end])

    async def exactly(self, size: int) -> bytes:
        """Wait for so many bytes and take them."""
        await self.until(lambda: len(self.data) - self._mark >= size, f"{size} bytes")
        start, self._mark = self._mark, self._mark + size
        return bytes(self.data[start : self._mark])

    def take(self) -> bytes:
        """What came since the last take."""
        start, self._mark = self._mark, len(self.data)
        return bytes(self.data[start:])

    def rewind(self) -> None:
        """All that came counts as not yet taken."""
        self._mark = 0

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def send_in(self, data: bytes, size: int) -> None:
        """Piece by piece, each sent by a system call of its own and given a turn of the loop to arrive."""
        for at in range(0, len(data), size):
            if self.transport.is_closing() or self.lost:
                return
            self.transport.write(data[at : at + size])
            await asyncio.sleep(0)

    async def flow(self, data: bytes) -> None:
        """Send as fast as the other side reads."""
        self.transport.write(data)
        await self.until(lambda: not self.write_paused or self.lost)

    async def fill(self, piece: bytes) -> None:
        """Send until the other side reads no more."""
        while not self.write_paused:
            self.transport.write(piece)
            await settle()

    def finish(self) -> None:
        """FIN: half-close."""
        if not self.lost:
            self.transport.write_eof()

    def raw(self) -> socket.socket:
        """The socket itself: what is done with it is done before the call returns, and past any TLS."""
        return socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))

    def finish_now(self) -> None:
        with self.raw() as raw:
            raw.shutdown(socket.SHUT_WR)

    def send_now(self, data: bytes) -> None:
        with self.raw() as raw:
            assert raw.send(data) == len(data)

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        """RST."""
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def __repr__(self) -> str:
        return f"<Peer {len(self.data)} bytes, eof {self.eof}, lost {self.lost}: ...{bytes(self.data[-300:])!r}>"


Script = Callable[[Peer], Awaitable[None]]


class Upstream:
    """A raw server. script(peer), if given, plays with each connection; otherwise the test does, by accepted()."""

    def __init__(self, script: Script | None = None, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.script, self.tls, self.port = script, tls, port
        self.connections: list[Peer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken = 0
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        failed = [r for r in await asyncio.gather(*self._tasks, return_exceptions=True) if isinstance(r, Exception)]
        for peer in self.connections:
            if not peer.lost:
                peer.transport.abort()
        await asyncio.sleep(0)
        if failed and exc[0] is None:
            raise failed[0]

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    def _connect(self) -> Peer:
        peer = _Served(self)
        return peer

    def arrived(self, peer: Peer) -> None:
        self.connections.append(peer)
        self._changed.set()
        if self.script is not None:
            self._tasks.add(asyncio.get_running_loop().create_task(self._play(peer)))

    async def _play(self, peer: Peer) -> None:
        assert self.script is not None
        with contextlib.suppress(ConnectionError):
            await self.script(peer)

    async def accepted(self) -> Peer:
        """The next connection that the test has not seen yet."""
        while len(self.connections) <= self._taken:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), PATIENCE)
        self._taken += 1
        return self.connections[self._taken - 1]

    def captured(self) -> list[bytes]:
        return [bytes(peer.data) for peer in self.connections if peer.data]


class _Served(Peer):
    def __init__(self, server: Upstream) -> None:
        super().__init__()
        self._server = server

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._server.arrived(self)


class Close(NamedTuple):
    """The last event of an exchange, as the tap told it."""

    exchange: int
    state: str
    written: bool
    request_bytes: int
    response_bytes: int
    lost: int
    why: str


class Proxy:
    """The relay of this process: Settings, Plans and a listener, without observer. Providers all at `upstream`."""

    def __init__(self, upstream: Upstream | str, extra: Json | None = None, ring_bytes: int = 1 << 22) -> None:
        self._url = upstream if isinstance(upstream, str) else upstream.url
        self._extra = extra or {}
        self.ring = Writer(ring_bytes)
        self._reader = Reader(self.ring.ring_fd, self.ring.wake_fd)
        self.events: list[tuple[int, int, int, bytes]] = []
        self.warnings: list[str] = []
        self.learned: list[str] = []
        self._clients: list[Peer] = []
        self._now = 0
        self._ticking: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.port = sock.getsockname()[1]
        self.config = configured(self._url, self.port, self._extra)
        self.settings = Settings(loop, self.ring, self.config)
        facts: dict[str, Any] = {"product": "lunaroute", "version": "0", "ui": None}
        endpoints = Endpoints(
            lambda: facts, lambda deliver: deliver({"ready": True}), lambda deliver: deliver(b"# metrics\n")
        )
        own = own_listeners([("127.0.0.1", self.port)])
        self.plans = Plans(
            self.config, self.settings, endpoints.table(), own, self.warnings.append, self.learned.append
        )
        self.settings.route = self.plans.plan
        self._server = await loop.create_server(lambda: Downstream(self.settings), sock=sock)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        if self._ticking is not None:
            self._ticking.cancel()
        for connection in list(self.settings.live):
            connection.shut_down()
        for pool in self.plans.pools.values():
            pool.close()
        for client in self._clients:
            if not client.lost:
                client.transport.abort()
        await settle()

    async def client(self) -> Peer:
        """A new connection to the proxy."""
        _, peer = await asyncio.get_running_loop().create_connection(Peer, "127.0.0.1", self.port)
        self._clients.append(peer)
        return peer

    async def sent(self, request: bytes) -> Peer:
        """A new connection with a request on it."""
        client = await self.client()
        client.send(request)
        return client

    def pass_time(self, seconds: float) -> None:
        """The relay's clock goes on by so much (it stands still from the first call on), and it looks at it."""
        self._now = (self._now or relay.now_ns()) + int(seconds * 1e9)
        relay.set_clock(self._now)
        self.settings.tick()

    async def until(self, fact: Callable[[], Any], what: str = "") -> Any:
        """Let the loop turn until fact() is true of the relay."""
        end = asyncio.get_running_loop().time() + PATIENCE
        while not (result := fact()):
            assert asyncio.get_running_loop().time() < end, f"never happened: {what}; {self.settings.live}"
            await asyncio.sleep(0)
        return result

    def tick_as_the_server(self) -> None:
        """From now on look at the deadlines four times a second, as server.py does."""
        self._ticking = asyncio.get_running_loop().call_later(0.25, self.tick_as_the_server)
        self.settings.tick()

    def told(self) -> list[tuple[int, int, int, bytes]]:
        """All events of the tap so far."""
        while new := self._reader.read():
            self.events += new
        self._reader.release()
        return self.events

    def closes(self) -> list[Close]:
        found = []
        for kind, exchange, _, payload in self.told():
            if kind == tap.CLOSE:
                state, flags, up, down, lost, *_ = tap.CLOSE_HEADER.unpack_from(payload)
                why = payload[tap.CLOSE_HEADER.size :].decode()
                written = bool(flags & tap.FLAG_WRITTEN)
                found.append(Close(exchange, tap.STATES[state], written, up, down, lost, why))
        return found

    def counter(self, name: str) -> int:
        return self.ring.counter(tap.COUNTERS.index(name))


def configured(url: str, port: int, extra: dict[str, Any]) -> Config:
    """A configuration whose providers are all at `url`, by the real loader."""
    base = {
        "host": "127.0.0.1",
        "port": port,
        "ui": {"enabled": False},
        "providers": {
            "openai": {"base_url": f"{url}/v1", "chatgpt_base_url": f"{url}/backend-api/codex"},
            "anthropic": {"base_url": url},
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(json.dumps(merged(base, extra)))
        return load(file, {"HOME": folder, "LUNAROUTE_HOME": folder}, {}).config


@contextlib.asynccontextmanager
async def pair(extra: Json | None = None, script: Script | None = None) -> AsyncIterator[tuple[Proxy, Upstream]]:
    """A proxy before a plain upstream."""
    async with Upstream(script) as upstream, Proxy(upstream, extra) as proxy:
        yield proxy, upstream


# --- messages ------------------------------------------------------------------------------------------------------


def post(body: bytes = b"{}", path: str = "/v1/messages", *fields: str, length: int | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"x-api-key: {KEY}", *fields]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + HEADERS_END + body


def get(path: str = "/v1/models", *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", f"x-api-key: {KEY}", *fields]).encode() + HEADERS_END


def reply(body: bytes = b'{"ok":1}', status: int = 200, *fields: str, reason: str = "OK") -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", *fields, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + HEADERS_END + body


class Parsed(NamedTuple):
    """A message as h11 reads it: names as sent."""

    first: tuple[Any, ...]
    fields: list[tuple[bytes, bytes]]
    body: bytes
    interim: tuple[int, ...] = ()

    @property
    def status(self) -> int:
        return int(self.first[0])

    def values(self, name: str) -> list[bytes]:
        return [value for each, value in self.fields if each.lower() == name.lower().encode()]


def requests_in(data: bytes) -> tuple[list[Parsed], bytes]:
    """(whole requests, bytes left over) of what an upstream got, as h11 reads them. Raises RemoteProtocolError."""
    found: list[Parsed] = []
    while data:
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 24)
        server.receive_data(data)
        request, body = server.next_event(), b""
        if not isinstance(request, h11.Request):
            return found, data
        while isinstance(event := server.next_event(), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage):
            return found, data
        found.append(Parsed((request.method, request.target), request.headers.raw_items(), body))
        data = server.trailing_data[0]
    return found, b""


def answers_in(data: bytes, methods: list[str], closed: bool = False) -> tuple[list[Parsed], bytes]:
    """(whole answers to requests of these methods, bytes left over) of what a client got, as h11 reads them."""
    found: list[Parsed] = []
    for method in methods:
        if not data:
            break
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 24)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        interim: list[int] = []
        while isinstance(event := client.next_event(), h11.InformationalResponse):
            interim.append(event.status_code)
        if not isinstance(event, h11.Response):
            return found, data
        response, body = event, b""
        while True:
            event = client.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA and closed:
                closed = False
                client.receive_data(b"")
            else:
                break
        if not isinstance(event, h11.EndOfMessage):
            return found, data
        first = (response.status_code, response.reason)
        found.append(Parsed(first, response.headers.raw_items(), body, tuple(interim)))
        data = client.trailing_data[0]
    return found, data


async def answer_to(client: Peer, method: str = "POST") -> Parsed:
    """The next whole answer that a client gets."""

    def whole() -> Any:
        found, _ = answers_in(bytes(client.data[client._mark :]), [method], client.over)
        return found

    (parsed,) = await client.until(whole, "a whole answer")
    _, rest = answers_in(bytes(client.data[client._mark :]), [method], client.over)
    client._mark = len(client.data) - len(rest)
    return parsed
