"""Families that are read when somebody asks: the relay's counters, the stores, how far behind the observer is.

Must not know the ring nor any store: values come from the functions it is given.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lunaroute import __version__

# ring counter -> family; names that end in _total are counters, the others gauges
RELAY = {
    "connections_open": ("lunaroute_connections_open", "Connections of clients that are open."),
    "connections_total": ("lunaroute_connections", "Connections of clients accepted."),
    "requests_total": ("lunaroute_relay_requests", "Requests that the relay began, its own endpoints too."),
    "requests_in_flight": ("lunaroute_requests_in_flight", "Requests under way."),
    "upstream_open": ("lunaroute_upstream_connections_open", "Connections to providers that are open."),
    "upstream_idle": ("lunaroute_upstream_connections_idle", "Connections to providers kept for the next request."),
    "upstream_connects_total": ("lunaroute_upstream_connects", "Connections to providers made."),
    "upstream_reuses_total": ("lunaroute_upstream_reuses", "Requests sent on a connection kept open."),
    "connect_failures_total": (
        "lunaroute_upstream_connect_failures", "Connections to providers that could not be made."
    ),
    "connect_retries_total": ("lunaroute_upstream_connect_retries", "Further tries to connect, after one that failed."),
    "tunnels_open": ("lunaroute_tunnels_open", "WebSocket tunnels that are open."),
    "tunnels_total": ("lunaroute_tunnels", "WebSocket tunnels opened."),
    "rejected_total": ("lunaroute_rejected_requests", "Requests that the proxy refused itself."),
    "tap_events_total": ("lunaroute_tap_events", "Events given to the observer."),
    "tap_dropped_events_total": ("lunaroute_tap_dropped_events", "Events for which the ring had no room."),
    "tap_dropped_bytes_total": ("lunaroute_tap_dropped_bytes", "Bytes for which the ring had no room."),
    "tap_dropped_exchanges_total": ("lunaroute_tap_dropped_exchanges", "Exchanges of which nothing was recorded."),
    "observer_restarts_total": ("lunaroute_observer_restarts", "Times the observer was started again."),
}  # fmt: skip
_RESPONSES = {f"responses_{n}xx_total": f"{n}xx" for n in range(2, 6)}
# what a store is asked for: (key, family, text, kind)
_STORE = (
    ("ok", "lunaroute_store_ok", "1 while the store takes records.", GaugeMetricFamily),
    ("bytes", "lunaroute_store_size_bytes", "Bytes of the store on disk.", GaugeMetricFamily),
    ("waiting_bytes", "lunaroute_store_waiting_bytes", "Bytes of records that wait for the store.", GaugeMetricFamily),
    ("lost", "lunaroute_store_lost_exchanges", "Exchanges that a store did not take.", CounterMetricFamily),
    ("errors", "lunaroute_store_errors", "Writes and upkeeps of a store that failed.", CounterMetricFamily),
    ("removed", "lunaroute_retention_removed", "What retention removed: exchanges (sqlite), files (jsonl).",
     CounterMetricFamily),
)  # fmt: skip
_OBSERVER = (
    ("lag_bytes", "lunaroute_observer_lag_bytes", "Bytes in the ring that the observer has not read."),
    ("lag_seconds", "lunaroute_observer_lag_seconds", "Time since the observer had read all; 0 while it has."),
    ("open_exchanges", "lunaroute_observer_open_exchanges", "Exchanges that the observer has seen begin and not end."),
)
Figures = Callable[[], Mapping[str, float]]
Redacted = Callable[[], tuple[dict[tuple[str, str], int], int]]
StoreFigures = Callable[[], Mapping[str, Mapping[str, float]]]


class Pulled(Collector):
    """relay: tap.COUNTERS by name, the sums of all relay processes; stores: see _STORE, by store; observer:
    see _OBSERVER; started: seconds since 1970; redacted: values taken out by (place, kind), and texts not kept."""

    def __init__(
        self, registry: CollectorRegistry, relay: Figures, stores: StoreFigures, observer: Figures, started: float,
        redacted: Redacted,
    ) -> None:  # fmt: skip
        self._relay, self._stores, self._observer, self._started = relay, stores, observer, started
        self._redacted = redacted
        registry.register(self)

    def collect(self) -> Iterator[Any]:
        values = self._relay()
        for name, (family, text) in RELAY.items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(family, text, value=values.get(name, 0))
        answers = CounterMetricFamily(
            "lunaroute_relay_responses", "Answers that clients got, its own endpoints too.", labels=["status_class"]
        )
        for name, label in _RESPONSES.items():
            answers.add_metric([label], values.get(name, 0))
        yield answers
        yield from self._of_stores()
        observer = self._observer()
        for key, family, text in _OBSERVER:
            yield GaugeMetricFamily(family, text, value=observer.get(key, 0))
        yield from self._of_redaction()
        yield GaugeMetricFamily("lunaroute_start_time_seconds", "When the server began.", value=self._started)
        build = GaugeMetricFamily("lunaroute_build_info", "Always 1.", labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
        yield build

    def _of_stores(self) -> Iterator[Any]:
        found = self._stores()
        for key, name, text, kind in _STORE:
            family = kind(name, text, labels=["store"])
            for store, figures in found.items():
                family.add_metric([store], figures.get(key, 0))
            yield family

    def _of_redaction(self) -> Iterator[Any]:
        counts, failed = self._redacted()
        redacted = CounterMetricFamily(
            "lunaroute_redacted_values",
            "Values that were taken out of what was recorded, also where one came again with a history.",
            labels=["place", "kind"],
        )
        for place_and_kind, count in sorted(counts.items()):
            redacted.add_metric(place_and_kind, count)
        yield redacted
        text = "Texts that were not kept because they could not be looked through."
        yield CounterMetricFamily("lunaroute_redaction_failures", text, value=failed)
