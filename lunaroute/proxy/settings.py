"""What all client connections of a server share: limits, the Host and Origin rules, access tokens."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from typing import cast
from urllib.parse import urlsplit

from lunaroute._fast import relay
from lunaroute._fast.ring import Writer
from lunaroute.config import Config
from lunaroute.config.check import is_loopback
from lunaroute.errors import Reject
from lunaroute.routing.signals import Credential, Signal
from lunaroute.wire import http1

LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))
TOKEN_FIELD = b"x-lunaroute-token"


class Settings(relay.Settings):
    """The rules of security.md L2, L4 and of access tokens over one configuration."""

    def __new__(cls, loop: asyncio.AbstractEventLoop, tap: Writer, config: Config) -> Settings:
        made = super().__new__(cls, loop, tap, config.limits, config.session_recording.enabled)
        return cast(Settings, made)

    def __init__(self, loop: asyncio.AbstractEventLoop, tap: Writer, config: Config) -> None:
        self.allowed = LOOPBACK | {host.lower().rstrip(".") for host in config.allowed_hosts} | _literal(config.host)
        # beyond loopback a token guards every request, so any name for this machine may be used
        self.any_host = bool(config.access_tokens) and not config.allowed_hosts and not is_loopback(config.host)
        self.tokens = [token.encode() for token in config.access_tokens]
        self.origin_allowed = self.check_origin
        if self.tokens:
            self.gate = self.check_token
        else:
            self.gate = None

    def host_allowed(self, value: bytes) -> bool:
        """Well-formed and in the list: exact, no suffix rules."""
        host = http1.host_of(value)
        return host is not None and (self.any_host or host in self.allowed)

    def check_origin(self, origin: bytes | None, fetch_site: bytes | None, host: bytes) -> None:
        """A web page of another origin must not spend the user's money."""
        if fetch_site is not None and fetch_site.lower() == b"cross-site":
            raise Reject(403, "requests from other web sites are refused")
        if origin is None:
            return
        try:
            parts = urlsplit(origin.decode("latin-1"))
        except ValueError:  # brackets that hold no address
            raise Reject(403, "requests of a web page from another origin are refused") from None
        name = http1.host_of(parts.netloc.encode("latin-1"))
        if parts.scheme not in ("http", "https") or name is None or name not in self.allowed:
            raise Reject(403, "requests of a web page from another origin are refused")

    def check_token(
        self, method: bytes, path: bytes, fields: list[tuple[bytes, bytes]], signals: int
    ) -> tuple[int, int]:
        """One of `access_tokens`, in X-LunaRoute-Token or where the client puts its key. Returns what is left of the
        signals, and the credential fields that were the token and go no further."""
        left, drop, good = Signal(signals), Credential(0), path == b"/healthz" and method in (b"GET", b"HEAD")
        for name, value in fields:
            if name == TOKEN_FIELD:
                good = self._known(value) or good
            elif name == b"x-api-key" and self._known(value):
                good, drop, left = (
                    True,
                    drop | Credential.KEY,
                    left & ~(Signal.KEY | Signal.KEY_ANTHROPIC | Signal.KEY_OPENAI),
                )
            elif name == b"authorization" and value[:7].lower() == b"bearer " and self._known(value[7:].strip()):
                good, drop, left = (
                    True,
                    drop | Credential.BEARER,
                    left & ~(Signal.BEARER | Signal.BEARER_ANTHROPIC | Signal.BEARER_OPENAI | Signal.BEARER_JWT),
                )
        if not good:
            raise Reject(401, "an access token is needed here: X-LunaRoute-Token, or as the API key")
        return int(left), int(drop)

    def _known(self, value: bytes) -> bool:
        return any([hmac.compare_digest(value, token) for token in self.tokens])


def _literal(host: str) -> set[str]:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return {host.lower()}
    if address.is_unspecified:
        return set()
    return {f"[{address}]" if address.version == 6 else str(address)}
