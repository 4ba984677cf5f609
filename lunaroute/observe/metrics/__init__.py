"""What /metrics shows: one registry for all relay processes, in the observer. Must not know the ring nor any store.

Two kinds of families: those that finished exchanges are counted into (requests.py, usage.py), and those that are read
when somebody asks (pulled.py): nothing here costs the relay more than the integers it adds up anyway. Names are
lunaroute_*, in base units; labels are words of closed sets or of capped ones (labels.py).

A new family of what exchanges tell is one more class with `count` in PARTS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

from lunaroute.observe.metrics.labels import Known, Labels
from lunaroute.observe.metrics.pulled import Figures, Pulled, Redacted, StoreFigures
from lunaroute.observe.metrics.requests import Attempts, Gaps, Requests, Streams
from lunaroute.observe.metrics.usage import Quota, Spending, Tools
from lunaroute.records import Exchange


class Part(Protocol):
    """Some families; told of each exchange that has ended."""

    def count(self, exchange: Exchange, known: Known) -> None: ...


PARTS: tuple[Callable[[CollectorRegistry, Labels], Part], ...] = (
    lambda registry, labels: Requests(registry),
    lambda registry, labels: Streams(registry),
    lambda registry, labels: Attempts(registry),
    lambda registry, labels: Spending(registry),
    Tools,
    Quota,
)


class Metrics:
    """The registry of one observer. providers: the configured ones; the rest as for Pulled."""

    def __init__(
        self,
        providers: Iterable[str],
        relay: Figures,
        stores: StoreFigures = dict,
        observer: Figures = dict,
        started: float = 0.0,
        redacted: Redacted = lambda: ({}, 0),
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._labels = Labels(providers)
        self._parts = [make(self._registry, self._labels) for make in PARTS]
        self._gaps = Gaps(self._registry)
        Pulled(self._registry, relay, stores, observer, started, redacted)

    def count(self, exchange: Exchange) -> None:
        """Take a finished exchange into account."""
        known = self._labels.of(exchange)
        for part in self._parts:
            part.count(exchange, known)

    def gaps(self, gaps: list[int]) -> None:
        """Times between pieces of answers, ns; the list is emptied."""
        self._gaps.take(gaps)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)
