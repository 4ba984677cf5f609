"""Families move with exchanges; labels are closed or capped sets; a scrape stays small whatever comes."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lunaroute import tap
from lunaroute.observe.metrics import Metrics
from lunaroute.observe.metrics.labels import MODELS, TOOLS, Capped, Models
from lunaroute.observe.metrics.usage import CALLS_KNOWN, classes
from lunaroute.records import Attempt, Limit, State, Timings, ToolCall, ToolResult, Usage
from tests.stores.records import START_NS, exchange

STORE = {"ok": 0, "bytes": 10, "waiting_bytes": 20, "lost": 3, "errors": 4, "removed": 5}
Labels = tuple[tuple[str, str], ...]


def values(metrics: Metrics) -> dict[tuple[str, Labels], float]:
    found: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def made(**relay: int) -> Metrics:
    lag = {"lag_bytes": 7, "lag_seconds": 0.5, "open_exchanges": 2}
    return Metrics(["anthropic", "openai"], lambda: relay, lambda: {"sqlite": STORE}, lambda: lag, 12.0)


def labels(**given: str) -> Labels:
    return tuple(sorted(given.items()))


WHERE = {"dialect": "anthropic", "provider": "anthropic"}
MODEL = {"provider": "anthropic", "model": "claude-opus-5-5-2026"}


def test_requests_and_durations() -> None:
    metrics = made()
    metrics.count(exchange(1))
    metrics.count(exchange(2, State.UPSTREAM_ERROR, status=529, model_used=None))
    metrics.count(exchange(3, State.PROXY_ERROR, status=None, provider=None, model_used=None))
    found = values(metrics)
    name, model = "lunaroute_requests_total", {"model": "claude-opus-5-5-2026"}
    assert found[name, labels(**WHERE, **model, status_class="2xx", state="ok")] == 1
    assert found[name, labels(**WHERE, **model, status_class="5xx", state="upstream_error")] == 1
    none = {"dialect": "anthropic", "provider": "none"}
    assert found[name, labels(**none, **model, status_class="none", state="proxy_error")] == 1
    assert found["lunaroute_request_duration_seconds_count", labels(**WHERE)] == 2
    assert found["lunaroute_request_duration_seconds_sum", labels(**WHERE)] == 0.5
    assert found["lunaroute_time_to_first_byte_seconds_sum", labels(**WHERE)] == pytest.approx(0.02)
    assert found["lunaroute_time_to_first_content_seconds_sum", labels(**WHERE)] == pytest.approx(0.024)
    assert found["lunaroute_request_bytes_total", labels(**WHERE)] == 54
    assert found["lunaroute_response_bytes_total", labels(**WHERE)] == 60


def test_streams_cuts_and_clients_that_went_away() -> None:
    metrics = made()
    metrics.count(exchange(1, stream=True))
    metrics.count(exchange(2, State.UPSTREAM_ERROR, stream=True))
    metrics.count(exchange(3, State.UPSTREAM_ERROR, stream=True, status=429))
    metrics.count(exchange(4, State.CLIENT_CANCELLED, stream=True))
    metrics.count(exchange(5, State.CLIENT_CANCELLED, status=None, timings=Timings(done=5.0)))
    found = values(metrics)
    assert found["lunaroute_streams_total", labels(**WHERE)] == 3
    assert found["lunaroute_stream_cuts_total", labels(**WHERE, state="upstream_error")] == 1
    assert sum(value for (name, _), value in found.items() if name == "lunaroute_stream_cuts_total") == 1
    assert found["lunaroute_client_aborts_total", labels(**WHERE, stage="answering")] == 1
    assert found["lunaroute_client_aborts_total", labels(**WHERE, stage="waiting")] == 1


def test_attempts_and_refusals() -> None:
    metrics = made()
    origin = {"provider": "anthropic", "origin": "https://api.test"}
    metrics.count(exchange(1))
    metrics.count(exchange(2, attempts=[Attempt(number=1, reused=True, **origin)]))  # type: ignore[arg-type]
    failed = [Attempt(number=1, error="refused", **origin)]  # type: ignore[arg-type]
    metrics.count(exchange(3, State.UPSTREAM_ERROR, status=502, attempts=failed))
    metrics.count(exchange(4, State.UPSTREAM_ERROR, status=429))
    metrics.count(exchange(5, State.UPSTREAM_ERROR, status=529))
    metrics.count(exchange(6, State.UPSTREAM_ERROR, status=200, error_kind="overloaded_error"))
    found = values(metrics)
    by = {way: found["lunaroute_attempts_total", labels(provider="anthropic", connection=way)]
          for way in ("new", "reused", "none")}  # fmt: skip
    assert by == {"new": 4, "reused": 1, "none": 1}
    assert found["lunaroute_upstream_connect_seconds_sum", labels(provider="anthropic")] == pytest.approx(0.004)
    assert found["lunaroute_upstream_tls_seconds_count", labels(provider="anthropic")] == 4
    name = "lunaroute_rate_limit_events_total"
    assert found[name, labels(provider="anthropic", reason="rate_limit")] == 1
    assert found[name, labels(provider="anthropic", reason="overloaded")] == 2


def test_tokens_do_not_overlap() -> None:
    usage = Usage(input_tokens=100, output_tokens=50, thinking_tokens=20, cache_read_tokens=60, cache_write_tokens=10)
    told = {"cache_read": 60, "cache_write": 10, "thinking": 20, "output": 30}
    assert classes(usage, "anthropic") == {"input": 100, **told}, "Anthropic's input leaves the caches out"
    assert classes(usage, "responses") == {"input": 30, **told}, "OpenAI's has them in it"
    assert sum(classes(Usage(), "chat").values()) == 0
    # a server that counts in its own way
    assert classes(Usage(input_tokens=5, cache_read_tokens=9, thinking_tokens=3), "chat")["input"] == 0


def test_tokens_and_cost() -> None:
    metrics = made()
    metrics.count(exchange(1, cost_usd=0.25, cost_kind="api"))
    metrics.count(exchange(2, cost_usd=0.5, cost_kind="api_equivalent"))
    metrics.count(exchange(3))
    metrics.count(exchange(4, State.UPSTREAM_ERROR, status=500, usage=Usage()))
    metrics.count(exchange(5, kind="count", usage=Usage()))
    found = values(metrics)
    assert found["lunaroute_tokens_total", labels(**MODEL, **{"class": "cache_read"})] == 9
    assert found["lunaroute_tokens_total", labels(**MODEL, **{"class": "output"})] == 15
    assert found["lunaroute_cost_usd_total", labels(**MODEL, kind="api")] == 0.25
    assert found["lunaroute_cost_usd_total", labels(**MODEL, kind="api_equivalent")] == 0.5
    assert found["lunaroute_cost_unknown_total", labels(**MODEL)] == 1


def test_tools_meet_their_results() -> None:
    metrics = made()
    calls = [ToolCall(id=f"t{n}", name="Bash", called_ns=START_NS) for n in range(3)]
    metrics.count(exchange(1, tool_calls=calls))
    results = [ToolResult(id=f"t{n}", success=n != 1, seen_ns=START_NS + 2_000_000_000) for n in range(2)]
    metrics.count(exchange(2, tool_results=results))
    metrics.count(exchange(3, tool_results=results))  # sent again
    metrics.count(exchange(4, tool_results=[ToolResult(id="t2", success=False)], session_id="another"))
    found = values(metrics)
    assert found["lunaroute_tool_calls_total", labels(tool="Bash")] == 3
    assert found["lunaroute_tool_failures_total", labels(tool="Bash")] == 1
    assert found["lunaroute_tool_duration_seconds_count", labels(tool="Bash")] == 2
    assert found["lunaroute_tool_duration_seconds_sum", labels(tool="Bash")] == 4


def test_quota_windows_say_their_newest_word_until_they_begin_anew() -> None:
    metrics = made()
    far, past = 4_000_000_000_000_000_000, 1_000_000_000
    metrics.count(exchange(1, limits=[Limit(name="5h", used=0.2, resets_ns=far), Limit(name="7d", used=0.1)]))
    windows = [
        Limit(name="5h", used=0.3, resets_ns=far),
        Limit(name="tokens", limit=200.0, remaining=50.0),
        Limit(name="gone", used=0.9, resets_ns=past),
        Limit(name="unified", status="allowed"),
    ]
    metrics.count(exchange(2, limits=windows, credential="0011223344556677"))
    metrics.count(exchange(3, limits=windows[:1], credential="0011223344556677"))
    found = {key[1]: value for key, value in values(metrics).items() if key[0] == "lunaroute_quota_used_ratio"}
    mine = {"provider": "anthropic", "account": "00112233"}
    assert found == {
        labels(provider="anthropic", account="none", window="5h"): 0.2,
        labels(provider="anthropic", account="none", window="7d"): 0.1,
        labels(**mine, window="5h"): 0.3,
        labels(**mine, window="tokens"): 0.75,
    }
    name = "lunaroute_quota_reset_timestamp_seconds"
    assert values(metrics)[name, labels(**mine, window="5h")] == 4_000_000_000


def test_gaps_are_sorted_into_their_buckets() -> None:
    metrics = made()
    gaps = [100_000, 100_001, 15_000_000, 700_000_000_000]
    metrics.gaps(gaps)
    metrics.gaps(gaps)  # it was emptied
    found = values(metrics)
    name = "lunaroute_piece_gap_seconds_bucket"
    assert [found[name, labels(le=le)] for le in ("0.0001", "0.001", "0.01", "0.02", "600.0", "+Inf")] == [
        1, 2, 2, 3, 3, 4,
    ]  # fmt: skip
    assert found["lunaroute_piece_gap_seconds_sum", ()] == pytest.approx(700.0152)


def test_the_relay_s_counters_are_all_there() -> None:
    found = values(made(**{name: i + 1000 for i, name in enumerate(tap.COUNTERS)}))
    assert {i + 1000 for i in range(len(tap.COUNTERS))} <= set(found.values())
    assert found["lunaroute_tap_dropped_bytes_total", ()] == tap.COUNTERS.index("tap_dropped_bytes_total") + 1000
    status = tap.COUNTERS.index("responses_4xx_total") + 1000
    assert found["lunaroute_relay_responses_total", labels(status_class="4xx")] == status


def test_the_stores_and_the_observer_are_asked() -> None:
    found = values(made())
    assert found["lunaroute_store_lost_exchanges_total", labels(store="sqlite")] == 3
    assert found["lunaroute_store_ok", labels(store="sqlite")] == 0
    assert found["lunaroute_store_errors_total", labels(store="sqlite")] == 4
    assert found["lunaroute_retention_removed_total", labels(store="sqlite")] == 5
    assert (found["lunaroute_observer_lag_bytes", ()], found["lunaroute_observer_lag_seconds", ()]) == (7, 0.5)
    assert found["lunaroute_start_time_seconds", ()] == 12


def test_what_was_redacted() -> None:
    metrics = Metrics([], lambda: {}, redacted=lambda: ({("request", "email"): 3, ("response", "secret"): 1}, 2))
    found = values(metrics)
    assert found["lunaroute_redacted_values_total", labels(place="request", kind="email")] == 3
    assert found["lunaroute_redacted_values_total", labels(place="response", kind="secret")] == 1
    assert found["lunaroute_redaction_failures_total", ()] == 2


def test_a_capped_set_keeps_the_first_and_takes_no_odd_names() -> None:
    names = Capped(2)
    assert [names.of(name) for name in ("a", "b", "c", "a", None, "")] == ["a", "b", "other", "a", "none", "none"]
    odd = Capped(9)
    for name in ("x" * 129, "a\nb", "{evil}", 'quo"te', "\u202e", "-"):
        assert odd.of(name) == "other"
    assert (odd.of("known", admit=False), odd.of("known"), odd.of("known", admit=False)) == ("other", "known", "known")


def test_a_refused_request_counts_for_the_model_that_answers_such_ones() -> None:
    models = Models(3)
    assert models.of("opus", None, False) == "other", "nobody has answered yet"
    assert models.of("opus", "opus-2026", True) == "opus-2026"
    assert models.of("opus", None, False) == "opus-2026"
    assert models.of("made-up", None, False) == "other"
    assert models.of(None, None, True) == "none"
    assert models.of("opus", "opus-2027", True) == "opus-2027", "the alias means another now"
    assert models.of("opus", None, False) == "opus-2027"


def resident() -> int:
    """Bytes of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "refused"])
def test_100_000_random_names_keep_a_scrape_and_the_memory_flat(answered: bool) -> None:
    """security.md R4: models, tools, call ids, windows, accounts, providers, dialects."""
    dice = random.Random(6)
    metrics = made()

    def go(count: int) -> None:
        for number in range(count):
            word = f"{dice.getrandbits(64):x}"
            more: dict[str, Any] = {
                "status": 200 if answered else 404,
                "model_requested": f"asked-{word}",
                "model_used": f"used-{word}" if answered else None,
                "provider": word if number % 7 == 0 else "anthropic",
                "dialect": word if number % 5 == 0 else "anthropic",
                "tool_calls": [ToolCall(id=f"call-{word}", name=f"tool-{word}", called_ns=1)],
                "limits": [Limit(name=f"window-{word}", used=0.5)],
                "credential": word,
                "error_kind": word,
            }
            metrics.count(exchange(number, State.OK if answered else State.UPSTREAM_ERROR, **more))

    go(CALLS_KNOWN + 1000)
    size, before = len(metrics.text()), resident()
    go(100_000 - CALLS_KNOWN - 1000)
    assert len(metrics.text()) < size * 1.01 and size < 1_500_000
    assert resident() - before < 4_000_000, "that would be 45 bytes for each"
    models = {dict(key[1])["model"] for key in values(metrics) if key[0] == "lunaroute_requests_total"}
    assert len(models) <= MODELS + 2
    tools = {dict(key[1])["tool"] for key in values(metrics) if key[0] == "lunaroute_tool_calls_total"}
    assert len(tools) == TOOLS + 1


def test_handshakes_are_no_durations() -> None:
    metrics = made()
    metrics.count(exchange(1, kind="handshake", timings=Timings(done=3_600_000.0)))
    metrics.count(exchange(2, transport="websocket"))
    found = values(metrics)
    assert found["lunaroute_request_duration_seconds_count", labels(**WHERE)] == 1
    assert found["lunaroute_websocket_turns_total", labels(provider="anthropic")] == 1
