"""Connections to one origin: the shelf of free ones is compiled (`_fast/relay.pyx`), the connecting is here.

A request that finds no free connection waits; each one that waits has one connection on its way, and takes whichever
comes first: that one, or one that another exchange gave back. Only the connect phase is ever tried again (security.md
M1): nothing of a request has been written then.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from lunaroute import tap
from lunaroute._fast import relay
from lunaroute._fast.tls import Tls
from lunaroute.config import HttpClient
from lunaroute.errors import ConnectFailed
from lunaroute.proxy.downstream import Downstream
from lunaroute.proxy.settings import Settings

ATTEMPT_DELAY = 0.25  # seconds before the next address is tried beside the first (RFC 8305 section 8)
FRESH = 30.0  # seconds a resolved name is believed
PAUSE = 0.01  # seconds before the first further try to connect; doubled each time
FAILURES, RETRIES = tap.COUNTERS.index("connect_failures_total"), tap.COUNTERS.index("connect_retries_total")
SPARE_PAUSE = 1.0  # seconds before a lost spare is replaced; doubled each time one dies unused


class Origin(NamedTuple):
    """Scheme, host and port of a provider."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The Host field's value."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class Pool(relay.Pool):
    """The connections to one origin.

    context: TLS, None for plain HTTP. is_own: tells whether an address and port are listeners of this proxy.
    """

    def __init__(
        self,
        origin: Origin,
        client: HttpClient,
        context: ssl.SSLContext | None,
        settings: Settings,
        is_own: Callable[[str, int], bool],
    ) -> None:
        self.origin, self.client, self.context, self.settings, self.is_own = origin, client, context, settings, is_own
        self.waiters: deque[Downstream] = deque()
        self.max_idle = client.pool_max_idle_per_host
        self.idle_ns = int(client.pool_idle_timeout_secs * 1e9)
        self._loop = settings.loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting = 0
        self._spare_pause = SPARE_PAUSE
        self._spare_due: asyncio.TimerHandle | None = None
        self._addresses: list[tuple[Any, ...]] = []
        self._resolved_at = float("-inf")
        self.failure: str | None = None  # why the last connection could not be made; None where it could
        self.failed_at = float("-inf")

    # --- called by the relay ------------------------------------------------------------------------------------

    def connect(self, downstream: Downstream) -> None:
        """`downstream` waits for a connection."""
        self.waiters.append(downstream)
        self._start(downstream)

    def forget(self, downstream: Downstream) -> None:
        """`downstream` waits no more."""
        if downstream in self.waiters:
            self.waiters.remove(downstream)

    def serve(self, connection: relay.Upstream) -> None:
        """A connection is free and somebody may wait."""
        while self.waiters:
            downstream = self.waiters.popleft()
            if downstream.wants_connection():
                downstream.connected(connection)
                return
        self.add(connection)

    def lost(self, connection: relay.Upstream) -> None:
        """A free connection was closed by the provider: keep a spare one warm while the origin is in use."""
        self._spare_pause = SPARE_PAUSE if connection.served else min(self._spare_pause * 2, 60.0)
        if self._spare_due is None and not self.settings.draining:
            self._spare_due = self._loop.call_later(self._spare_pause, self._warm)

    def close(self) -> None:
        """Drop all free connections and all that are being made."""
        if self._spare_due is not None:
            self._spare_due.cancel()
        for task in list(self._tasks):
            task.cancel()
        self.discard_idle()

    def discard_idle(self) -> None:
        """Free connections are not trusted any more (the machine slept, the server stops)."""
        for connection in list(self.idle):
            connection.close()

    # --- connecting ---------------------------------------------------------------------------------------------

    def _start(self, downstream: Downstream | None) -> None:
        self._connecting += 1  # counted from here on: another's failure may come before the task's first step
        task = self._loop.create_task(self._open(downstream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _warm(self) -> None:
        self._spare_due = None
        in_use = relay.now_ns() - self.used_at < self.idle_ns
        if in_use and not self.settings.draining and len(self.idle) + self._connecting < self.client.pool_warm:
            self._start(None)

    async def _open(self, downstream: Downstream | None) -> None:
        """One connection; a failure is told to the one that waits for it (a spare's failure to nobody)."""
        try:
            connection = await self._tries()
        except ConnectFailed as error:
            self._failed(downstream, error)
            return
        except Exception as error:  # a bug must not leave a client waiting for ever
            self._loop.call_exception_handler({"message": "pool", "exception": error})
            self._failed(downstream, ConnectFailed(f"cannot connect to {self.origin}: internal error"))
            return
        finally:
            self._connecting -= 1
        self.failure = None
        self.add(connection)

    def _failed(self, downstream: Downstream | None, error: ConnectFailed) -> None:
        self.settings.tap.add(FAILURES)
        self.failure, self.failed_at = str(error), self._loop.time()
        if downstream is None or downstream not in self.waiters:
            # it took the connection of another, which now has none on its way: the failure is that one's
            downstream = self.waiters[0] if len(self.waiters) > self._connecting - 1 else None
        if downstream is not None:
            self.waiters.remove(downstream)
            if downstream.wants_connection():
                downstream.connect_failed(error.status, str(error), error.status == 504)

    async def _tries(self) -> relay.Upstream:
        deadline = self._loop.time() + self.client.connect_timeout_secs
        pause = PAUSE
        for left in range(self.client.max_retries, -1, -1):
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._dial()
            except TimeoutError:
                raise ConnectFailed(
                    f"no connection to {self.origin} in time (http_client.connect_timeout_secs)", 504
                ) from None
            except ssl.SSLCertVerificationError as error:
                raise ConnectFailed(
                    f"the certificate of {self.origin} is not trusted: {error.verify_message}"
                ) from None
            except (socket.gaierror, UnicodeError):  # the latter: no such name can exist
                raise ConnectFailed(f"the name {self.origin.host} cannot be resolved") from None
            except (OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
                self._resolved_at = float("-inf")
                if not left or self._loop.time() + pause >= deadline:
                    raise ConnectFailed(f"cannot connect to {self.origin}: {_reason(error)}") from None
            await asyncio.sleep(pause)
            self.settings.tap.add(RETRIES)
            pause *= 2
        raise AssertionError("unreachable")

    async def _dial(self) -> relay.Upstream:
        began = relay.now_ns()  # the loop's own clock stands still between two turns
        sock = await self._race(await self._resolve())
        connected = relay.now_ns()
        try:
            self._options(sock)
            tls = Tls(self.context, self.origin.host) if self.context is not None else None
            protocol = relay.Upstream(self, tls)
            if tls is not None:
                protocol.secured = self._loop.create_future()
            transport, _ = await self._loop.create_connection(lambda: protocol, sock=sock)
        except BaseException:
            sock.close()
            raise
        if protocol.secured is not None:
            try:
                await protocol.secured
            except BaseException:
                transport.abort()
                raise
        if protocol.fd < 0:
            raise ConnectionResetError("closed by the provider at once")  # while this task waited for its turn
        done = relay.now_ns()
        protocol.took((connected - began) // 1000 or 1, (done - connected) // 1000 if self.context else 0)
        return protocol

    async def _resolve(self) -> list[tuple[Any, ...]]:
        """The origin's addresses, families taking turns, never our own listeners (security.md L5)."""
        if self._loop.time() - self._resolved_at > FRESH:
            found = await self._loop.getaddrinfo(self.origin.host, self.origin.port, type=socket.SOCK_STREAM)
            first = [entry for entry in found if entry[0] == found[0][0]]
            second = [entry for entry in found if entry[0] != found[0][0]]
            self._addresses = [entry for pair in _alternate(first, second) for entry in pair]
            self._resolved_at = self._loop.time()
        for entry in self._addresses:
            if self.is_own(entry[4][0], entry[4][1]):
                raise ConnectFailed(f"{self.origin} is this proxy itself; correct the provider's base_url", 508)
        return self._addresses

    async def _race(self, addresses: list[tuple[Any, ...]]) -> socket.socket:
        """The first address that answers (RFC 8305): the next one starts a quarter of a second later, or at once where
        one fails."""
        if len(addresses) == 1:
            return await self._reach(addresses[0])
        running: set[asyncio.Task[socket.socket]] = set()
        waiting = deque(addresses)
        failure: BaseException | None = None
        try:
            while waiting or running:
                if waiting:
                    running.add(self._loop.create_task(self._reach(waiting.popleft())))
                done, running = await asyncio.wait(
                    running, timeout=ATTEMPT_DELAY if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                good = [task for task in done if task.exception() is None]
                for extra in good[1:]:
                    extra.result().close()
                if good:
                    return good[0].result()
                for task in done:
                    failure = failure or task.exception()
            raise failure or OSError("no address")
        finally:
            for task in running:
                task.add_done_callback(_close_late)
                task.cancel()

    async def _reach(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, where = address
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await self._loop.sock_connect(sock, where)
        except BaseException:
            sock.close()
            raise
        return sock

    def _options(self, sock: socket.socket) -> None:
        """A dead peer is found by TCP itself, however long a stream may stand still."""
        interval = max(1, int(self.client.tcp_keepalive_secs))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", interval),
            ("TCP_KEEPALIVE", interval),
            ("TCP_KEEPINTVL", max(1, interval // 4)),
            ("TCP_KEEPCNT", 4),
        ):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def facts(self) -> dict[str, Any]:
        """For /readyz: connections, and requests that wait for one."""
        return {
            "origin": str(self.origin), "open": self.opened, "idle": len(self.idle), "waiting": len(self.waiters)
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Pool {self.origin} idle {len(self.idle)} open {self.opened} waiting {len(self.waiters)}>"


def own_listeners(bound: list[tuple[str, int]]) -> Callable[[str, int], bool]:
    """Whether an address and port are one of the listeners in `bound` ((host address, port) pairs)."""
    ports = {port for _, port in bound}
    hosts = {ipaddress.ip_address(host) for host, _ in bound}
    anywhere = any(host.is_unspecified for host in hosts)

    def is_own(host: str, port: int) -> bool:
        if port not in ports:
            return False
        address = ipaddress.ip_address(host.partition("%")[0])
        return address in hosts or (anywhere and (address.is_loopback or address.is_unspecified))

    return is_own


def _alternate(first: list[Any], second: list[Any]) -> list[list[Any]]:
    length = max(len(first), len(second))
    return [[*first[i : i + 1], *second[i : i + 1]] for i in range(length)]


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _reason(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake failed ({error.reason or 'closed by the provider'})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
