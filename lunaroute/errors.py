"""The errors of LunaRoute, one small tree.

    LunaRouteError
    ├── ConfigError          the configuration cannot be used; says file, line, key, what was expected
    ├── StartError           the server cannot start (port taken, folder missing, ...); says what to do
    ├── StoreError           a store cannot be opened or written
    ├── Reject               a request is refused by us; knows its HTTP status and dialect-neutral kind
    └── UpstreamError        an attempt at a provider failed before or while it answered
        ├── ConnectFailed    no byte of the request left the process: safe to retry
        └── ExchangeBroken   bytes may have left: never retried (security.md M1)

Every error is built with one sentence for people. Nothing in it comes from a header value, a query string or a body.
"""

from __future__ import annotations


class LunaRouteError(Exception):
    """Root of the tree."""


class ConfigError(LunaRouteError):
    """The configuration cannot be used. The text names file, line and key, and what was expected."""


class StartError(LunaRouteError):
    """The server cannot start. The text says what to do."""


class StoreError(LunaRouteError):
    """A store cannot be opened or written."""


class Reject(LunaRouteError):
    """A request is answered by the proxy itself.

    status: HTTP status code; kind: the vendors' error type word (`invalid_request_error`, ...); close: whether the
    client connection must be closed because its framing is in doubt (RFC 9112 section 11.2).
    """

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", close: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.close = close


class UpstreamError(LunaRouteError):
    """An attempt at a provider failed. status: what the client is told when nothing can be done (502 or 504)."""

    status = 502


class ConnectFailed(UpstreamError):
    """Connect phase: refused, DNS, TLS, timeout. No byte of the request was written, so another try is safe."""

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status


class ExchangeBroken(UpstreamError):
    """The provider may have seen bytes of the request; the answer never came or is unusable."""

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status
