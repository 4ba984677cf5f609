"""The errors of LunaRoute, one small tree.

    LunaRouteError
    ├── ConfigError          the configuration cannot be used; says file, line, key, what was expected
    ├── StartError           the server cannot start (port taken, folder missing, ...); says what to do
    ├── StoreError           a store cannot be opened or written
    ├── Reject               a request is refused by us; knows its HTTP status
    └── ConnectFailed        no connection to a provider; no byte of the request left the process: safe to try again

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
    """A request is answered by the proxy itself, and its connection closed. status: HTTP status code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ConnectFailed(LunaRouteError):
    """Connect phase: refused, DNS, TLS, timeout. status: what the client is told when nothing can be done."""

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status
