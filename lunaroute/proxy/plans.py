"""From the router's decision to a plan that the relay can follow: pools, credentials, the bytes of the head."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from lunaroute._fast import relay
from lunaroute.config import Config, HttpClient, Provider
from lunaroute.proxy.codex_login import CodexLogin
from lunaroute.proxy.pool import Origin, Pool
from lunaroute.proxy.settings import Settings
from lunaroute.routing.router import Decision, Router
from lunaroute.routing.signals import Credential

CREDENTIAL_FIELDS = {
    "authorization": Credential.BEARER,
    "x-api-key": Credential.KEY,
    "api-key": Credential.VENDOR_KEY,
    "chatgpt-account-id": Credential.ACCOUNT,
}

Local = Callable[[relay.Downstream], None]


class Plans:
    """Makes plans; keeps one pool for each origin (and way to connect to it: providers may share both).

    local: the proxy's own endpoints by name. warn: told once per change what is wrong with Codex's login file;
    learned: told each token of it.
    """

    def __init__(
        self,
        config: Config,
        settings: Settings,
        local: dict[str, Local],
        is_own: Callable[[str, int], bool],
        warn: Callable[[str], None],
        learned: Callable[[str], None],
    ) -> None:
        self.config, self.settings, self.local, self.is_own = config, settings, local, is_own
        self.router = Router(config)
        self.pools: dict[tuple[Origin, str | None, HttpClient], Pool] = {}
        self._used: dict[str, set[Pool]] = {}  # by provider
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._logins = {
            name: CodexLogin(provider.codex_auth, warn, learned)
            for name, provider in config.providers.items()
            if provider.codex_auth.enabled
        }

    def plan(self, method: bytes, path: bytes, signals: int) -> relay.Plan:
        """The plan for a path and its signals; kept by the relay. Raises Reject."""
        decision = self.router.decide(method, path, signals)
        plan = relay.Plan()
        plan.dialect = decision.dialect
        if decision.local is not None:
            plan.local = self.local[decision.local]
            return plan
        provider = self.config.providers[decision.provider]
        if decision.fill == "codex" and self._logins[decision.provider].is_chatgpt():
            decision = self.router.chatgpt(decision, path)
        self._address(plan, decision, provider)
        self._credential(plan, decision, provider)
        plan.websocket = decision.websocket
        plan.first_byte_ns = int(provider.http_client.timeout_secs * 1e9)
        plan.idle_ns = int(provider.http_client.idle_timeout_secs * 1e9)
        return plan

    def failure(self, provider: str, seconds: float) -> str | None:
        """Why the last connection to a provider could not be made, if that was within so many seconds."""
        lately = self.settings.loop.time() - seconds
        pools = self._used.get(provider, ())
        return next((pool.failure for pool in pools if pool.failure and pool.failed_at >= lately), None)

    def _address(self, plan: relay.Plan, decision: Decision, provider: Provider) -> None:
        parts = urlsplit(decision.base)
        origin = Origin(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        key = (origin, provider.ca_file, provider.http_client)
        if key not in self.pools:
            context = self._context(provider.ca_file) if origin.scheme == "https" else None
            self.pools[key] = Pool(origin, provider.http_client, context, self.settings, self.is_own)
        plan.provider = decision.provider
        plan.pool = self.pools[key]
        self._used.setdefault(decision.provider, set()).add(self.pools[key])
        plan.authority = origin.authority.encode()
        plan.prefix, plan.strip = decision.prefix, decision.strip
        plan.tag = msgspec.json.encode(
            {"provider": decision.provider, "origin": str(origin), "dialect": decision.dialect}
        )

    def _context(self, ca_file: str | None) -> ssl.SSLContext:
        """One TLS context for each set of trusted authorities (making one costs 24 ms): verified, TLS 1.2 at least."""
        if ca_file not in self._contexts:
            context = ssl.create_default_context(cafile=ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            self._contexts[ca_file] = context
        return self._contexts[ca_file]

    def _credential(self, plan: relay.Plan, decision: Decision, provider: Provider) -> None:
        drop = decision.drop
        lines = []
        for name, value in provider.headers.items():
            lines.append(f"{name}: {value}\r\n")
            drop |= CREDENTIAL_FIELDS.get(name.lower(), Credential(0))
        if decision.fill == "key" and provider.api_key:
            lines.append(key_line(provider.type, provider.api_key))
        elif decision.fill == "codex":
            plan.credential = self._logins[decision.provider].lines
        plan.drop = int(drop)
        plan.add = "".join(lines).encode("latin-1")
        plan.replaced = frozenset(name.lower().encode() for name in provider.headers) or None


def key_line(vendor: str, key: str) -> str:
    """The header line that carries a vendor's API key."""
    return f"x-api-key: {key}\r\n" if vendor == "anthropic" else f"Authorization: Bearer {key}\r\n"
