"""Both ends of the relay. See relay.pyx; lunaroute.proxy adds what is rare."""

import asyncio
from collections.abc import Callable
from typing import Any

from lunaroute._fast.ring import Writer
from lunaroute._fast.tls import Tls

STATES: tuple[str, ...]
PROVIDER_FAILED: int
PROXY_FAILED: int

def set_clock(ns: int) -> None:
    """Drive the relay's clock by hand (tests); 0 gives the real one back."""

def give_back() -> None:
    """Return freed heap memory to the system (glibc); for quiet moments."""

def now_ns() -> int:
    """The relay's clock: CLOCK_MONOTONIC in ns, or what set_clock() said."""

class Settings:
    """What all connections of one server share. limits: an object with the fields of config.Limits."""

    loop: asyncio.AbstractEventLoop
    tap: Writer
    recording: bool
    draining: bool
    route: Callable[[bytes, bytes, int], Plan]
    gate: Callable[[bytes, bytes, list[tuple[bytes, bytes]], int], tuple[int, int]] | None
    origin_allowed: Callable[[bytes | None, bytes | None, bytes], None]
    live: set[Downstream]
    connections_max: int
    def __new__(cls, loop: asyncio.AbstractEventLoop, tap: Writer, limits: Any, recording: bool = True) -> Settings: ...
    def host_allowed(self, value: bytes) -> bool: ...
    def forget_plans(self) -> None:
        """The router's answers have changed."""
    def tick(self) -> None:
        """Look at every connection's deadlines; called a few times a second."""

class Plan:
    """What to do with the requests of one path and one kind of credential; fields as in relay.pxd."""

    provider: str | None
    dialect: str | None
    pool: Pool | None
    authority: bytes
    prefix: bytes
    strip: int
    drop: int
    replaced: frozenset[bytes] | None
    add: bytes
    credential: Callable[[], bytes] | None
    tag: bytes
    websocket: bool
    local: Callable[[Any], None] | None
    first_byte_ns: int
    idle_ns: int

class Pool:
    """Free connections to one origin."""

    idle: list[Upstream]
    waiters: Any
    settings: Any
    max_idle: int
    idle_ns: int
    used_at: int
    opened: int
    def add(self, connection: Upstream) -> None:
        """A connection is free: for the first that waits, or for the shelf."""
    def expire(self) -> None:
        """Close what has been idle for too long."""

class Downstream(asyncio.Protocol):
    """A client's connection."""

    settings: Any
    transport: Any
    state: int
    exchange: int
    plan: Plan | None
    upstream: Upstream | None
    method: bytes | None
    path: bytes | None
    websocket: bool
    websocket_key: bytes
    answered: bool
    status: int
    keep_alive: bool
    half_closed: bool
    deadline: int
    deadline_for: str | None
    def __init__(self, settings: Settings) -> None: ...
    def connected(self, connection: Upstream) -> None:
        """A connection is there, for one that waits."""
    def wants_connection(self) -> bool: ...
    def connect_failed(self, status: int, message: str, timed_out: bool) -> None:
        """No connection could be made; no byte of the request has left the process."""
    def answer(self, raw: bytes, status: int, *, close: bool = False, why: str = "") -> None:
        """Give the client an answer of our own: the whole of it, head and body."""
    def gateway(self, status: int, message: str, state: int, now: int = 0) -> None:
        """The provider failed and nothing has been answered yet: say so. state: PROVIDER_FAILED or PROXY_FAILED."""
    def cancel(self, why: str, now: int = 0) -> None:
        """The client has gone: the provider is let go at once."""
    def close_idle(self) -> None: ...
    def shut_down(self) -> None: ...
    def check(self, now: int) -> None: ...
    def note(self, kind: int, text: str, now: int) -> None: ...

class Upstream(asyncio.Protocol):
    """A connection to a provider. tls: a filter of TLS, or None; secured: a future that its handshake resolves."""

    pool: Pool
    transport: Any
    tls: Tls | None
    secured: asyncio.Future[None] | None
    owner: Downstream | None
    served: int
    lost: bool
    fd: int
    def __init__(self, pool: Pool, tls: Tls | None = None) -> None: ...
    def took(self, connect_us: int, tls_us: int) -> None:
        """How long the connecting took, microseconds."""
    def close(self) -> None: ...
