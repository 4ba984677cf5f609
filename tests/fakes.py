"""Scripted peers on real loopback sockets: an upstream that logs every byte, and a wire tap between client and proxy.

Each runs an event loop in a thread of its own, so that the test and the client's process may block. A script is a
coroutine `(request, wire) -> None` that is called when a request's head is complete and answers by `wire`; faults
(tests/faults.py) are scripts too. Knows nothing of LunaRoute.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from tests.messages import Message, take_body, take_head

PATIENCE = 30.0  # seconds after which a test that waits for a peer gives up; nothing waits this long when all is well
GONE = (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)
Script = Callable[["Request", "Wire"], Awaitable[None]]


class Threaded:
    """A peer with an event loop in its own thread. Subclasses listen in `_connected`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0  # may be set before it listens
        self.failures: list[BaseException] = []
        self.changed = threading.Condition()
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"{type(self).__name__} did not stop"
        if self.failures and exc[0] is None:
            raise self.failures[0]

    def wait_for(self, fact: Callable[[], Any], what: str = "") -> Any:
        """Blocks until fact() is true (looked at after each event of this peer) and returns it."""
        with self.changed:
            assert self.changed.wait_for(fact, PATIENCE), f"never happened: {what or fact}"
            return fact()

    def note(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _run(self) -> None:
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._guarded(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._connected(reader, writer)
        except GONE:
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        except BaseException as failure:
            self.failures.append(failure)
            writer.transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(*GONE):
                await writer.wait_closed()
            self.note()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class Connection:
    """One connection of an upstream, all bytes both ways. `ended`: how the client ended it, None while it is open."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[], None]
    ):
        self.number, self.reader, self.writer, self.note = number, reader, writer, note
        self.received = bytearray()
        self.sent = bytearray()
        self.parsed = 0
        self.ended: str | None = None

    async def more(self) -> bool:
        try:
            piece = await self.reader.read(1 << 16)
        except ConnectionError:
            self.ended = "reset"
            self.note()
            raise
        self.received += piece
        if not piece:
            self.ended = "closed"
        self.note()
        return bool(piece)

    async def send(self, data: bytes) -> None:
        self.sent += data
        self.writer.write(data)
        await self.writer.drain()


class Request(Message):
    """A request at an upstream. `messages`: what came by WebSocket after it. `complete`: its body is all here."""

    def __init__(self, head: bytes, connection: Connection) -> None:
        super().__init__(head=head)
        self.connection = connection
        self.messages: list[bytes] = []
        self.complete = False


class Upstream(Threaded):
    """An HTTP/1.1 and WebSocket server that logs what it gets and answers by script."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.script = script
        self.requests: list[Request] = []
        self.connections: list[Connection] = []

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(len(self.connections), reader, writer, self.note)
        self.connections.append(connection)
        while True:
            while (head := take_head(bytes(connection.received[connection.parsed :]))) is None:
                if not await connection.more():
                    return
            connection.parsed += len(head)
            request = Request(head, connection)
            self.requests.append(request)
            self.note()
            wire = Wire(request)
            await self.script(request, wire)
            if wire.closing:
                return
            await wire.body()


class Wire:
    """What a script answers with."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.connection = request.connection
        self.closing = False

    async def body(self) -> bytes:
        """Reads the request's body to its end."""
        connection = self.connection
        while not self.request.complete:
            taken = take_body(self.request, bytes(connection.received[connection.parsed :]))
            if taken is not None:
                connection.parsed += taken
                self.request.complete = True
                connection.note()
            elif not await connection.more():
                raise ConnectionError("the client ended inside a body")
        return self.request.body

    async def send(self, data: bytes) -> None:
        await self.connection.send(data)

    async def head(self, status: int, headers: Iterable[tuple[str, str]], reason: str = "Whatever") -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        await self.send(f"HTTP/1.1 {status} {reason}\r\n{lines}\r\n".encode("latin-1"))

    async def answer(self, status: int, headers: Iterable[tuple[str, str]], body: bytes = b"") -> None:
        """A whole answer with a Content-Length."""
        await self.head(status, [*headers, ("Content-Length", str(len(body)))])
        if body and self.request.method != "HEAD":
            await self.send(body)

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def stream(self, headers: Iterable[tuple[str, str]], pieces: Iterable[bytes]) -> None:
        """A whole chunked answer, a chunk per piece."""
        await self.head(200, [*headers, ("Transfer-Encoding", "chunked")])
        for piece in pieces:
            await self.chunk(piece)
        await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """RST: the peer's next read or write fails."""
        raw = self.connection.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.writer.transport.abort()
        self.closing = True

    def close(self) -> None:
        """FIN both ways once all is sent."""
        self.connection.writer.close()
        self.closing = True

    async def half_close(self) -> None:
        """FIN on our side only; reads until the client ends too."""
        self.connection.writer.write_eof()
        self.closing = True
        while await self.connection.more():
            pass

    async def websocket(self, *, deflate: bool = False) -> Socket:
        """Accepts the handshake."""
        extensions = [ServerPerMessageDeflateFactory()] if deflate else None
        protocol = ServerProtocol(extensions=extensions, max_size=None)
        protocol.receive_data(self.request.head)
        (handshake,) = protocol.events_received()
        protocol.send_response(protocol.accept(handshake))  # type: ignore[arg-type]
        self.closing = True
        opened = Socket(protocol, self.request)
        await opened.flush()
        return opened


class Socket:
    """An accepted WebSocket: text messages in and out."""

    def __init__(self, protocol: ServerProtocol, request: Request) -> None:
        self._protocol, self._request, self._connection = protocol, request, request.connection
        self._frames: list[Frame] = []
        self._partial = b""

    async def flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                await self._connection.send(data)

    async def send(self, text: str) -> None:
        self._protocol.send_text(text.encode())
        await self.flush()

    async def close(self, code: int = 1000) -> None:
        self._protocol.send_close(code)
        await self.flush()

    async def receive(self) -> bytes | None:
        """The next message, or None when the client closed or ended."""
        connection = self._connection
        while True:
            for frame in self._take():
                if frame.opcode in (Opcode.TEXT, Opcode.CONT):
                    self._partial += bytes(frame.data)
                    if frame.fin:
                        message, self._partial = self._partial, b""
                        self._request.messages.append(message)
                        connection.note()
                        return message
                elif frame.opcode is Opcode.CLOSE:
                    await self.flush()
                    return None
                else:
                    assert frame.opcode in (Opcode.PING, Opcode.PONG), f"unexpected frame {frame}"
            await self.flush()
            if connection.parsed == len(connection.received) and not await connection.more():
                return None
            self._protocol.receive_data(bytes(connection.received[connection.parsed :]))
            connection.parsed = len(connection.received)
            self._frames += self._protocol.events_received()  # type: ignore[arg-type]

    def _take(self) -> Iterable[Frame]:
        while self._frames:
            yield self._frames.pop(0)


class Tapped:
    """One connection through a tap: what the client sent (`up`) and what it got (`down`)."""

    def __init__(self) -> None:
        self.up = bytearray()
        self.down = bytearray()
        self.done = False


class Tap(Threaded):
    """Forwards connections to a port and logs the bytes: what a client sends and gets, whoever listens behind."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._behind = port
        self.connections: list[Tapped] = []

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tapped = Tapped()
        self.connections.append(tapped)
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, behind_writer, tapped.up))
                group.create_task(self._pump(behind_reader, writer, tapped.down))
        except* ConnectionError:
            behind_writer.transport.abort()
            writer.transport.abort()
        finally:
            behind_writer.close()
            with contextlib.suppress(*GONE):
                await behind_writer.wait_closed()
            tapped.done = True

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: bytearray) -> None:
        while piece := await reader.read(1 << 16):
            log += piece
            writer.write(piece)
            await writer.drain()
            self.note()
        with contextlib.suppress(OSError):
            writer.write_eof()
