"""The server: builds the relay over a configuration, supervises the observer, runs until told to stop.

The only module beside observe.worker that knows several layers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import uvloop

from lunaroute import logs, tap
from lunaroute._fast import relay
from lunaroute._fast.ring import Writer
from lunaroute._fast.slice import lengthen
from lunaroute.config import Loaded, flat, plain
from lunaroute.errors import StartError
from lunaroute.probe import base_url, occupant
from lunaroute.proxy.downstream import Downstream
from lunaroute.proxy.endpoints import Endpoints
from lunaroute.proxy.plans import Plans
from lunaroute.proxy.pool import own_listeners
from lunaroute.proxy.settings import Settings
from lunaroute.supervisor import Supervisor

TICK = 0.25  # seconds between two looks at the deadlines
EXPIRE_EVERY = 4  # ticks
SLEPT = 5.0  # seconds the machine must have slept for its connections to be distrusted
PAUSE_TICKS = 24  # ticks without an event after which freed memory is given back
QUIET_TICKS = 480  # ticks without an event after which the ring's pages are given back
REQUESTS = tap.COUNTERS.index("requests_total")
BUSY_BYTES = 1 << 20  # written in a tick, from which on pages are made ready ahead of the writer
AHEAD_TICKS = 4  # ... for this many more such ticks
RING_BYTES = 64 << 20
RING_BYTES_OFF = 1 << 20
READY_BYTES = 2 << 20  # of the ring, there from the start: an empty ring begins anew within them
DRAIN = 30.0  # seconds that running exchanges get at shutdown
FLUSH = 10.0  # seconds that the observer gets to write what is left
BACKLOG = 1024
SLICE_PERCENT = 10  # the relay's time slice is longer by this: who waits for its bytes goes first
UI_PATIENCE = 5.0
STATUS_PATIENCE = 1.0

log = logs.get("server")


class Ready(NamedTuple):
    """What is known once the server runs."""

    instance: str
    ui_url: str | None
    ui_error: str | None


def serve(loaded: Loaded, *, announce: Callable[[Ready], None] | None = None, version: str) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. Raises StartError where the port cannot be had."""
    sockets = listen(loaded.config.host, loaded.config.port)
    _prepare_process()
    lengthen(SLICE_PERCENT)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Server(loaded, sockets, version).run(announce))


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of `host`. Raises StartError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise StartError(f"host {host!r} is no address of this machine ({error.strerror}); use 127.0.0.1") from None
    sockets: list[socket.socket] = []
    for family, kind, proto, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind, proto)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as error:
            for each in [sock, *sockets]:
                each.close()
            raise StartError(_bind_words(host, port, error)) from None
        sock.setblocking(False)
        sockets.append(sock)
    return sockets


def _bind_words(host: str, port: int, error: OSError) -> str:
    where = f"{host}:{port}"
    if error.errno == 98 or "in use" in str(error):
        who = occupant(port)
        by = f" by {who}" if who else ""
        return f"port {port} is taken{by}: stop that program, or choose another port with --port"
    return f"{where} cannot be listened on: {(error.strerror or str(error)).lower()}"


def _prepare_process() -> None:
    """As many descriptors as the system allows; no core dumps, which would hold credentials."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (min(hard, 1 << 16) if hard != resource.RLIM_INFINITY else 1 << 16, hard)
        )
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Server:
    """One relay process with its observer."""

    def __init__(self, loaded: Loaded, sockets: list[socket.socket], version: str) -> None:
        self.loaded, self.config, self.version = loaded, loaded.config, version
        self.sockets = sockets
        self.started_at = time.time()
        self.ring = Writer(RING_BYTES if self.config.session_recording.enabled else RING_BYTES_OFF)
        self.ring.populate(READY_BYTES)
        self._ticks = 0
        self._quiet = 0
        self._written = 0
        self._asleep = _asleep()

    async def run(self, announce: Callable[[Ready], None] | None) -> int:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(_unexpected)
        self.supervisor = Supervisor(self.loop, self.ring, self._start_message())
        self.settings = Settings(self.loop, self.ring, self.config)
        endpoints = Endpoints(self.identity, self.readiness, self.metrics)
        bound = [(sock.getsockname()[0], sock.getsockname()[1]) for sock in self.sockets]
        if self.config.ui.enabled:
            bound.append((_numeric(self.config.ui.host), self.config.ui.port))
        self.plans = Plans(
            self.config, self.settings, endpoints.table(), own_listeners(bound), log.warn, self.supervisor.learn
        )
        self.settings.route = self.plans.plan
        self.stopping: asyncio.Event = asyncio.Event()
        self.now: asyncio.Event = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._signal, number)
        self.loop.add_signal_handler(
            signal.SIGHUP, log.info, "SIGHUP does nothing; use `lunaroute restart` for a new configuration"
        )
        servers = [
            await self.loop.create_server(lambda: Downstream(self.settings), sock=sock, backlog=BACKLOG)
            for sock in self.sockets
        ]
        await self.supervisor.launch()
        _calm_collector()
        self._tick()
        announcing = self.loop.create_task(self._announce(announce))
        await self.stopping.wait()
        announcing.cancel()
        return await self._stop(servers)

    # --- facts ----------------------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """Who answers on this port."""
        return {
            "product": "lunaroute",
            "version": self.version,
            "instance": self.ring.boot_id,
            "pid": os.getpid(),
            "ui": self._ui_url(),
            "started_at": datetime.fromtimestamp(self.started_at, UTC).isoformat(timespec="seconds"),
        }

    def readiness(self, deliver: Callable[[dict[str, Any]], None]) -> None:
        """Whether requests can be served, and the state of what is not needed for that: asked of the observer."""

        def reply(message: dict[str, Any] | None) -> None:
            deliver({**self._facts(), "stores": message.get("stores", []) if message else []})

        self.supervisor.ask({"cmd": "status"}, reply, STATUS_PATIENCE)

    def _facts(self) -> dict[str, Any]:
        recording = self.config.session_recording.enabled
        return {
            "ready": not self.settings.draining,
            "draining": self.settings.draining,
            "recording": "off" if not recording else "on" if self.supervisor.running else "waiting for the observer",
            "providers": {
                name: {"enabled": provider.enabled, "base_url": provider.base_url}
                for name, provider in self.config.providers.items()
            },
            "pools": [
                {"origin": str(pool.origin), "open": pool.opened, "idle": len(pool.idle), "waiting": len(pool.waiters)}
                for pool in self.plans.pools.values()
            ],
        }

    def metrics(self, deliver: Callable[[bytes | None], None]) -> None:
        """Ask the observer for the exposition text."""

        def reply(message: dict[str, Any] | None) -> None:
            deliver(None if message is None or "text" not in message else message["text"].encode())

        self.supervisor.ask({"cmd": "metrics"}, reply)

    def _ui_url(self) -> str | None:
        if self.supervisor.ready.done():
            return self.supervisor.ui_url
        return base_url(self.config.ui.host, self.config.ui.port) if self.config.ui.enabled else None

    def _start_message(self) -> dict[str, Any]:
        return {
            "config": plain(self.config),
            "settings": [[key, value, self.loaded.origins[key]] for key, value in flat(plain(self.config)).items()],
            "secrets": self.loaded.secrets,
            "access_tokens": self.config.access_tokens,
            "pii_key": self.config.session_recording.pii.key,
            "boot_id": self.ring.boot_id,
            "version": self.version,
            "home": str(self.loaded.home),
            "proxy_url": base_url(self.config.host, self.config.port),
            "started_at_ns": int(self.started_at * 1e9),
            "relay_pid": os.getpid(),
        }

    # --- life -------------------------------------------------------------------------------------------------------

    async def _announce(self, announce: Callable[[Ready], None] | None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.supervisor.ready), UI_PATIENCE)
        if announce is not None:
            announce(Ready(self.ring.boot_id, self._ui_url(), self.supervisor.ui_error))

    def _signal(self, number: int) -> None:
        if self.stopping.is_set():
            self.now.set()
        self.stopping.set()

    def _tick(self) -> None:
        self.loop.call_later(TICK, self._tick)
        self.settings.tick()
        self._ticks += 1
        if self._ticks % EXPIRE_EVERY == 0:
            for pool in self.plans.pools.values():
                pool.expire()
        asleep = _asleep()
        if asleep - self._asleep > SLEPT:
            log.info("the machine slept; free connections are dropped", secs=round(asleep - self._asleep))
            for pool in self.plans.pools.values():
                pool.discard_idle()
        self._asleep = asleep
        written = self.ring.position - self._written
        self._written += written
        self._quiet = 0 if written else self._quiet + 1
        if written > BUSY_BYTES:
            self.loop.run_in_executor(None, self.ring.populate, AHEAD_TICKS * written)
        if self._quiet == PAUSE_TICKS:
            relay.give_back()
        if self._quiet == QUIET_TICKS:
            self.ring.idle()

    async def _stop(self, servers: list[asyncio.Server]) -> int:
        """No new connections; idle ones closed; running exchanges get their time; then the observer drains."""
        self.settings.draining = True
        for server in servers:
            server.close()
        for connection in list(self.settings.live):
            connection.close_idle()
        until = self.loop.time() + DRAIN
        while self.settings.live and self.loop.time() < until and not self.now.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.now.wait(), 0.05)
        if self.settings.live:
            log.warn("running requests are cut off", count=len(self.settings.live))
        for connection in list(self.settings.live):
            connection.shut_down()
        for pool in self.plans.pools.values():
            pool.close()
        await asyncio.sleep(0)
        self.ring.close()
        drained = await self.supervisor.end(FLUSH)
        log.info("stopped", drained=drained, requests=self.ring.counter(REQUESTS))
        return 0


def _calm_collector() -> None:
    """What exists now stays; a full collection costs 35 ms where many objects live, so it is made rare."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _asleep() -> float:
    """Seconds this machine has been suspended since it booted."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if boottime is None else time.clock_gettime(boottime) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _numeric(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host.strip("[]")


def _unexpected(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception nobody caught: its place, never its text (which may quote a peer's bytes)."""
    error = context.get("exception")
    place = None
    if error is not None and error.__traceback__ is not None:
        last = error.__traceback__
        while last.tb_next is not None:
            last = last.tb_next
        place = f"{last.tb_frame.f_code.co_filename.rpartition('/')[2]}:{last.tb_lineno}"
    log.error("internal error; only the connection concerned was closed", error=type(error).__name__, at=place)
