"""What /metrics shows: counted from finished exchanges, and pulled from the relay's counters. Must not know the ring.

Every label is from a closed set or from the configuration; whatever else comes is `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lunaroute import dialects
from lunaroute.records import Exchange

# model calls take from tens of milliseconds (errors, counts) to an hour
_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1800, 3600)
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")

# ring counter -> family; names that end in _total are counters, the others gauges
_RELAY = {
    "connections_open": ("lunaroute_connections_open", "Connections of clients that are open."),
    "connections_total": ("lunaroute_connections", "Connections of clients accepted."),
    "requests_total": ("lunaroute_relay_requests", "Requests that the relay began."),
    "requests_in_flight": ("lunaroute_requests_in_flight", "Requests under way."),
    "upstream_open": ("lunaroute_upstream_connections_open", "Connections to providers that are open."),
    "upstream_idle": ("lunaroute_upstream_connections_idle", "Connections to providers kept for the next request."),
    "upstream_connects_total": ("lunaroute_upstream_connects", "Connections to providers made."),
    "upstream_reuses_total": ("lunaroute_upstream_reuses", "Requests sent on a connection kept open."),
    "tunnels_open": ("lunaroute_tunnels_open", "WebSocket tunnels that are open."),
    "rejected_total": ("lunaroute_rejected_requests", "Requests that the proxy refused itself."),
    "tap_events_total": ("lunaroute_tap_events", "Events given to the observer."),
    "tap_dropped_events_total": ("lunaroute_tap_dropped_events", "Events for which the ring had no room."),
    "tap_dropped_bytes_total": ("lunaroute_tap_dropped_bytes", "Bytes for which the ring had no room."),
    "tap_dropped_exchanges_total": ("lunaroute_tap_dropped_exchanges", "Exchanges of which nothing was recorded."),
    "observer_restarts_total": ("lunaroute_observer_restarts", "Times the observer was started again."),
}
Pull = Callable[[], dict[str, int]]
Redacted = Callable[[], tuple[dict[tuple[str, str], int], int]]


class _Pulled(Collector):
    """Families read when they are asked for."""

    def __init__(self, relay: Pull, own: Callable[[], dict[str, dict[str, int]]], redacted: Redacted) -> None:
        self._relay = relay
        self._own = own
        self._redacted = redacted

    def collect(self) -> Iterator[Any]:
        values = self._relay()
        for name, (family, text) in _RELAY.items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(family, text, value=values.get(name, 0))
        own = self._own()
        lost = CounterMetricFamily(
            "lunaroute_store_lost_exchanges", "Exchanges that a store did not take.", labels=["store"]
        )
        healthy = GaugeMetricFamily("lunaroute_store_ok", "1 while the store takes records.", labels=["store"])
        for store, said in own.items():
            lost.add_metric([store], said["lost"])
            healthy.add_metric([store], said["ok"])
        yield lost
        yield healthy
        counts, failed = self._redacted()
        redacted = CounterMetricFamily(
            "lunaroute_redacted_values",
            "Values that were taken out of what was recorded, also where one came again with a history.",
            labels=["place", "kind"],
        )
        for place_and_kind, count in sorted(counts.items()):
            redacted.add_metric(place_and_kind, count)
        yield redacted
        yield CounterMetricFamily(
            "lunaroute_redaction_failures", "Texts that were not kept because they could not be looked through.",
            value=failed,
        )  # fmt: skip


class Metrics:
    """The registry of one observer."""

    def __init__(
        self,
        providers: Iterable[str],
        relay: Pull,
        stores: Callable[[], dict[str, dict[str, int]]] = dict,
        redacted: Redacted = lambda: ({}, 0),
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._providers = frozenset(providers)
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "lunaroute_requests",
            "Exchanges that ended, by how.",
            ["dialect", "provider", "status_class", "state"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "lunaroute_request_duration_seconds",
            "From the first byte of the request to the last of the answer.",
            ["dialect"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_Pulled(relay, stores, redacted))

    def count(self, exchange: Exchange) -> None:
        """Take a finished exchange into account."""
        dialect = exchange.dialect if exchange.dialect in dialects.NAMES else dialects.OTHER
        provider = exchange.provider or "none"
        if provider != "none" and provider not in self._providers:
            provider = "other"
        status = f"{exchange.status // 100}xx" if exchange.status else "none"
        state = exchange.state.value if exchange.state else "none"
        self._requests.labels(dialect, provider, status if status in _CLASSES else "none", state).inc()
        if exchange.timings.done is not None and exchange.kind != "handshake":
            self._seconds.labels(dialect).observe(exchange.timings.done / 1000)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)
