"""Families of what was used: tokens, cost, tools, quota: counted from finished exchanges. No I/O."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lunaroute.observe.metrics.labels import Known, Labels
from lunaroute.records import PAID, Exchange, Limit, ToolResult, Usage

TOOL_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
CALLS_KNOWN = 10_000  # tool calls whose result has not come
FORGOTTEN_S = 7 * 86400.0  # a window that does not say when it begins anew


def classes(usage: Usage, dialect: str) -> dict[str, int]:
    """Tokens by classes that do not overlap: each is in one of them. Nothing for what was not told."""
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    thinking = usage.thinking_tokens or 0
    # OpenAI's input includes what was read from and written to a cache, Anthropic's does not (observe/pricing/cost.py)
    cached = 0 if dialect == "anthropic" else read + written
    return {
        "input": max(0, (usage.input_tokens or 0) - cached),
        "cache_read": read,
        "cache_write": written,
        "thinking": thinking,
        "output": max(0, (usage.output_tokens or 0) - thinking),
    }


class Spending:
    """Tokens and dollars."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tokens = Counter(
            "lunaroute_tokens",
            "Tokens, by classes that do not overlap: input without what caches had, output without thinking.",
            ["provider", "model", "class"], registry=registry,
        )  # fmt: skip
        self._cost = Counter(
            "lunaroute_cost_usd", "Dollars by the published prices; api_equivalent: traffic that a subscription pays.",
            ["provider", "model", "kind"], registry=registry,
        )  # fmt: skip
        self._unknown = Counter(
            "lunaroute_cost_unknown", "Answered requests that cost something nobody knows.", ["provider", "model"],
            registry=registry,
        )  # fmt: skip

    def count(self, exchange: Exchange, known: Known) -> None:
        provider, model = known.provider, known.model
        for name, tokens in classes(exchange.usage, known.dialect).items():
            if tokens:
                self._tokens.labels(provider, model, name).inc(tokens)
        if exchange.cost_usd is not None:
            kind = "api_equivalent" if exchange.cost_kind == "api_equivalent" else "api"
            self._cost.labels(provider, model, kind).inc(max(0.0, exchange.cost_usd))
        elif exchange.kind in PAID and exchange.status is not None and exchange.status < 400:
            self._unknown.labels(provider, model).inc()


class Tools:
    """Tool calls; how long each took shows when a later request brings its result."""

    def __init__(self, registry: CollectorRegistry, labels: Labels) -> None:
        self._names = labels.tools
        self._open: OrderedDict[tuple[str, str], tuple[str, int]] = OrderedDict()
        self._calls = Counter("lunaroute_tool_calls", "Tools that answers asked for.", ["tool"], registry=registry)
        self._failed = Counter(
            "lunaroute_tool_failures", "Tool results that say, by flag or exit code, that the tool failed.", ["tool"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "lunaroute_tool_duration_seconds", "From a tool's call to the request with its result.",
            ["tool"], buckets=TOOL_SECONDS, registry=registry,
        )  # fmt: skip

    def count(self, exchange: Exchange, known: Known) -> None:
        for result in exchange.tool_results:
            self._ended(exchange.session_id, result)
        for call in exchange.tool_calls:
            tool = self._names.of(call.name)
            self._calls.labels(tool).inc()
            self._open[exchange.session_id, call.id] = tool, call.called_ns or 0
            if call.result is not None:
                self._ended(exchange.session_id, call.result)
        while len(self._open) > CALLS_KNOWN:
            self._open.popitem(last=False)

    def _ended(self, session: str, result: ToolResult) -> None:
        tool, called_ns = self._open.pop((session, result.id), (None, 0))
        if tool is None:
            return  # called before this process began, or told already
        if result.success is False:
            self._failed.labels(tool).inc()
        if called_ns and result.seen_ns is not None and result.seen_ns > called_ns:
            self._seconds.labels(tool).observe((result.seen_ns - called_ns) / 1e9)


class Quota(Collector):
    """The newest word of each rate-limit window. One that has begun anew since is not shown: nobody knows its use."""

    def __init__(self, registry: CollectorRegistry, labels: Labels, wall: Callable[[], float] = time.time) -> None:
        self._labels = labels
        self._wall = wall
        self._windows: dict[tuple[str, str, str], tuple[float, float | None, float]] = {}
        registry.register(self)

    def count(self, exchange: Exchange, known: Known) -> None:
        for limit in exchange.limits:
            used = _used(limit)
            if used is not None:
                place = known.provider, self._account(exchange), self._labels.windows.of(limit.name)
                until = limit.resets_ns / 1e9 if limit.resets_ns else None
                self._windows[place] = used, until, self._wall()

    def _account(self, exchange: Exchange) -> str:
        return self._labels.accounts.of(exchange.credential[:8] if exchange.credential else None)

    def collect(self) -> Iterator[Any]:
        where = ["provider", "account", "window"]
        share = GaugeMetricFamily(
            "lunaroute_quota_used_ratio", "Share of a rate-limit window that is used, as the last answer said.",
            labels=where,
        )  # fmt: skip
        anew = GaugeMetricFamily(
            "lunaroute_quota_reset_timestamp_seconds", "When that window begins anew.", labels=where
        )
        now = self._wall()
        for place, (used, until, told) in list(self._windows.items()):
            if (until or told + FORGOTTEN_S) > now:
                share.add_metric(place, used)
                if until is not None:
                    anew.add_metric(place, until)
        yield share
        yield anew


def _used(limit: Limit) -> float | None:
    if limit.used is not None:
        return limit.used
    if limit.limit and limit.remaining is not None:
        return max(0.0, 1.0 - limit.remaining / limit.limit)
    return None
