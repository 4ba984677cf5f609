"""The proxy's own endpoints: /healthz (who I am), /readyz (whether I can serve), /metrics, / and the 426."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from lunaroute._fast import relay
from lunaroute.proxy.plans import Local
from lunaroute.wire import http1

PLAIN = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
NO_STORE = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


class Endpoints:
    """identity is asked at each request; readiness and metrics call back: with the facts, and with the text or None
    where it is not to be had (the observer restarts)."""

    def __init__(
        self,
        identity: Callable[[], dict[str, Any]],
        readiness: Callable[[Callable[[dict[str, Any]], None]], None],
        metrics: Callable[[Callable[[bytes | None], None]], None],
    ) -> None:
        self.identity, self._readiness, self._metrics = identity, readiness, metrics

    def table(self) -> dict[str, Local]:
        """By the names that the router uses."""
        return {
            "healthz": self.healthz,
            "readyz": self.readyz,
            "metrics": self.metrics,
            "root": self.root,
            "upgrade_required": self.upgrade_required,
        }

    def healthz(self, client: relay.Downstream) -> None:
        self._json(client, 200, self.identity())

    def readyz(self, client: relay.Downstream) -> None:
        exchange = client.exchange

        def deliver(facts: dict[str, Any]) -> None:
            if client.exchange == exchange:  # else the client has gone meanwhile
                self._json(client, 200 if facts["ready"] else 503, facts)

        self._readiness(deliver)

    def root(self, client: relay.Downstream) -> None:
        facts = self.identity()
        hint = "This is the proxy; point ANTHROPIC_BASE_URL or OPENAI_BASE_URL (with /v1) here."
        self._json(
            client, 200, {"product": facts["product"], "version": facts["version"], "ui": facts["ui"], "hint": hint}
        )

    def metrics(self, client: relay.Downstream) -> None:
        exchange = client.exchange

        def deliver(text: bytes | None) -> None:
            if client.exchange != exchange:
                return  # the client has gone meanwhile
            if text is None:
                self._send(client, 503, b"the observer is not there at the moment\n", PLAIN)
            else:
                self._send(client, 200, text, METRICS)

        self._metrics(deliver)

    def upgrade_required(self, client: relay.Downstream) -> None:
        client.gateway(426, "WebSocket is off for this provider; use HTTP", relay.PROXY_FAILED)

    def _json(self, client: relay.Downstream, status: int, facts: dict[str, Any]) -> None:
        self._send(client, status, msgspec.json.encode(facts) + b"\n", "application/json")

    @staticmethod
    def _send(client: relay.Downstream, status: int, body: bytes, kind: str) -> None:
        raw = http1.answer(
            status, body, content_type=kind, head=client.method == b"HEAD", close=not client.keep_alive, fields=NO_STORE
        )
        client.answer(raw, status)
