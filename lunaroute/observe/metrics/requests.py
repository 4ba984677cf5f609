"""Families of requests, their bytes and times, streams, attempts: counted from finished exchanges. No I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from lunaroute.observe.metrics.labels import NONE, Known, status_class
from lunaroute.records import Exchange, State

# model calls take from tens of milliseconds (errors, counts) to an hour
SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 600, 1800, 3600)
FIRST_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
GAP_SECONDS = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30, 60, 600)
OVERHEAD_SECONDS = (
    *(0.00001, 0.00002, 0.00003, 0.00005, 0.000075, 0.0001, 0.00015, 0.0002),
    *(0.0003, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05),
)
CONNECT_SECONDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ENDPOINT = ("dialect", "provider")


class Requests:
    """How many, how they ended, how much passed, how long it took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "lunaroute_requests", "Exchanges that ended, by how.",
            [*_ENDPOINT, "model", "status_class", "state"], registry=registry,
        )  # fmt: skip
        self._asked = Counter(
            "lunaroute_request_bytes", "Bytes of request bodies, of exchanges that ended.", _ENDPOINT, registry=registry
        )
        self._answered = Counter(
            "lunaroute_response_bytes", "Bytes of answers' bodies, of exchanges that ended.", _ENDPOINT,
            registry=registry,
        )  # fmt: skip
        self._whole = Histogram(
            "lunaroute_request_duration_seconds", "From the first byte of the request to the last of the answer.",
            _ENDPOINT, buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._first = Histogram(
            "lunaroute_time_to_first_byte_seconds", "From the first byte of the request to the head of the answer.",
            _ENDPOINT, buckets=FIRST_SECONDS, registry=registry,
        )  # fmt: skip
        self._content = Histogram(
            "lunaroute_time_to_first_content_seconds",
            "From the first byte of the request to the first word, thought or tool call of the answer.",
            _ENDPOINT, buckets=FIRST_SECONDS, registry=registry,
        )  # fmt: skip
        self._overhead = Histogram(
            "lunaroute_proxy_overhead_seconds", "What the proxy itself took of a request, connecting apart.",
            buckets=OVERHEAD_SECONDS, registry=registry,
        )  # fmt: skip

    def count(self, exchange: Exchange, known: Known) -> None:
        dialect, provider, model = known
        state = exchange.state.value if exchange.state else NONE
        self._ended.labels(dialect, provider, model, status_class(exchange.status), state).inc()
        if exchange.request_bytes:
            self._asked.labels(dialect, provider).inc(exchange.request_bytes)
        if exchange.response_bytes:
            self._answered.labels(dialect, provider).inc(exchange.response_bytes)
        if exchange.kind == "handshake":
            return  # it lasts as long as its tunnel
        times = exchange.timings
        for family, passed in (
            (self._whole, times.done),
            (self._first, times.response_head),
            (self._content, times.first_content),
        ):
            if passed is not None:
                family.labels(dialect, provider).observe(passed / 1000)
        if exchange.overhead_ms is not None:
            self._overhead.observe(exchange.overhead_ms / 1000)


class Streams:
    """Streams, what cut them off, and clients that did not wait."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._all = Counter("lunaroute_streams", "Answers that were streams.", _ENDPOINT, registry=registry)
        self._cut = Counter(
            "lunaroute_stream_cuts", "Streams that began well and did not end well, the client's doing apart.",
            [*_ENDPOINT, "state"], registry=registry,
        )  # fmt: skip
        self._gone = Counter(
            "lunaroute_client_aborts", "Requests whose client went away: waiting for the answer, or inside it.",
            [*_ENDPOINT, "stage"], registry=registry,
        )  # fmt: skip
        self._turns = Counter(
            "lunaroute_websocket_turns", "Requests that came through a WebSocket.", ["provider"], registry=registry
        )

    def count(self, exchange: Exchange, known: Known) -> None:
        where = known.dialect, known.provider
        begun = exchange.timings.response_head is not None
        if exchange.state is State.CLIENT_CANCELLED:
            self._gone.labels(*where, "answering" if begun else "waiting").inc()
        if exchange.transport == "websocket" and exchange.kind != "handshake":
            self._turns.labels(known.provider).inc()
        if exchange.stream and begun and (exchange.status or 0) < 400:
            self._all.labels(*where).inc()
            if exchange.state not in (State.OK, State.CLIENT_CANCELLED, None):
                self._cut.labels(*where, exchange.state.value).inc()


class Attempts:
    """What it took to reach the providers, and what they refused for being asked too much."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._made = Counter(
            "lunaroute_attempts", "Requests sent to a provider, by the connection they got: new, reused, or none.",
            ["provider", "connection"], registry=registry,
        )  # fmt: skip
        self._connect = Histogram(
            "lunaroute_upstream_connect_seconds", "Name, route and TCP handshake of a new connection.", ["provider"],
            buckets=CONNECT_SECONDS, registry=registry,
        )  # fmt: skip
        self._tls = Histogram(
            "lunaroute_upstream_tls_seconds", "TLS handshake of a new connection.", ["provider"],
            buckets=CONNECT_SECONDS, registry=registry,
        )  # fmt: skip
        self._limited = Counter(
            "lunaroute_rate_limit_events", "Answers that say: too much (rate_limit), or too busy (overloaded).",
            ["provider", "reason"], registry=registry,
        )  # fmt: skip

    def count(self, exchange: Exchange, known: Known) -> None:
        provider = known.provider
        for attempt in exchange.attempts:
            if attempt.connect_ms is not None:
                self._connect.labels(provider).observe(attempt.connect_ms / 1000)
            if attempt.tls_ms is not None:
                self._tls.labels(provider).observe(attempt.tls_ms / 1000)
            new = "new" if attempt.connect_ms is not None else "none"
            self._made.labels(provider, "reused" if attempt.reused else new).inc()
        said = exchange.error_kind or ""
        if exchange.status == 429 or "rate_limit" in said:
            self._limited.labels(provider, "rate_limit").inc()
        elif exchange.status == 529 or "overloaded" in said:
            self._limited.labels(provider, "overloaded").inc()


class Gaps(Collector):
    """The time between two pieces of an answer. There are many more pieces than requests, so they come in lists."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._bounds = [int(bound * 1e9) for bound in GAP_SECONDS]
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0
        registry.register(self)

    def take(self, gaps: list[int]) -> None:
        """Count these, and empty the list."""
        if not gaps:
            return
        gaps.sort()
        self._sum += sum(gaps)
        before = 0
        for place, bound in enumerate(self._bounds):
            behind = bisect_left(gaps, bound + 1, before)
            self._counts[place] += behind - before
            before = behind
        self._counts[-1] += len(gaps) - before
        gaps.clear()

    def collect(self) -> Iterator[Any]:
        counts, total, buckets = list(self._counts), 0, []
        for bound, count in zip((*map(str, map(float, GAP_SECONDS)), "+Inf"), counts, strict=True):
            total += count
            buckets.append((bound, total))
        text = "Between two pieces of an answer."
        yield HistogramMetricFamily("lunaroute_piece_gap_seconds", text, buckets=buckets, sum_value=self._sum / 1e9)
