"""Families move with exchanges; labels are closed sets."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from lunaroute import tap
from lunaroute.observe.metrics import Metrics
from lunaroute.records import State, Timings
from tests.stores.records import exchange


def values(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def made(**relay: int) -> Metrics:
    return Metrics(["anthropic", "openai"], lambda: relay, lambda: {"sqlite": {"lost": 3, "ok": 0}})


def labels(**given: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(given.items()))


def test_requests_and_durations() -> None:
    metrics = made()
    metrics.count(exchange(1))
    metrics.count(exchange(2, State.UPSTREAM_ERROR, status=529))
    metrics.count(exchange(3, State.PROXY_ERROR, status=None, provider=None))
    found = values(metrics)
    name = "lunaroute_requests_total"
    base = {"dialect": "anthropic", "provider": "anthropic"}
    assert found[name, labels(**base, status_class="2xx", state="ok")] == 1
    assert found[name, labels(**base, status_class="5xx", state="upstream_error")] == 1
    assert found[name, labels(dialect="anthropic", provider="none", status_class="none", state="proxy_error")] == 1
    assert found["lunaroute_request_duration_seconds_count", labels(dialect="anthropic")] == 3
    assert found["lunaroute_request_duration_seconds_sum", labels(dialect="anthropic")] == 0.75


def test_the_relay_s_counters_are_all_there() -> None:
    found = values(made(**{name: i + 1 for i, name in enumerate(tap.COUNTERS)}))
    pulled = [value for (name, _), value in found.items() if name.startswith("lunaroute_") and "request_d" not in name]
    assert set(range(1, len(tap.COUNTERS) + 1)) <= set(pulled)
    assert found["lunaroute_tap_dropped_bytes_total", ()] == tap.COUNTERS.index("tap_dropped_bytes_total") + 1
    assert found["lunaroute_store_lost_exchanges_total", labels(store="sqlite")] == 3
    assert found["lunaroute_store_ok", labels(store="sqlite")] == 0


def test_what_was_redacted() -> None:
    metrics = Metrics([], lambda: {}, redacted=lambda: ({("request", "email"): 3, ("response", "secret"): 1}, 2))
    found = values(metrics)
    assert found["lunaroute_redacted_values_total", labels(place="request", kind="email")] == 3
    assert found["lunaroute_redacted_values_total", labels(place="response", kind="secret")] == 1
    assert found["lunaroute_redaction_failures_total", ()] == 2


def test_labels_do_not_grow_with_what_comes() -> None:
    metrics = made()
    odd: list[dict[str, Any]] = [
        {"provider": f"p{n}", "dialect": f"d{n}", "status": 100 + n * 7, "model_used": f"m{n}"} for n in range(200)
    ]
    for number, more in enumerate(odd):
        metrics.count(exchange(number, **more))
    series = [key for key in values(metrics) if key[0] == "lunaroute_requests_total"]
    assert len(series) <= 6
    assert {dict(key[1])["provider"] for key in series} == {"other"}
    assert {dict(key[1])["dialect"] for key in series} == {"other"}


def test_handshakes_are_no_durations() -> None:
    metrics = made()
    metrics.count(exchange(1, kind="handshake", timings=Timings(done=3_600_000.0)))
    assert ("lunaroute_request_duration_seconds_count", labels(dialect="anthropic")) not in values(metrics)
