"""What is priced and what is not; and that a row priced anew costs what its record did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lunaroute.observe import billing
from lunaroute.observe.pricing import Prices
from lunaroute.records import Exchange, Usage, UsagePart
from lunaroute.stores.sqlite import SqliteStore
from lunaroute.stores.writing import USAGE_COLUMNS, usage_from
from tests.stores.records import exchange

MODEL = "claude-opus-4-5"
FULL = Usage(input_tokens=1000, output_tokens=500)


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices.load()


def made(number: int = 1, **more: Any) -> Exchange:
    values = {"model_used": MODEL, "model_requested": MODEL, "usage": FULL, "cost_kind": "api", "started_ns": 1 << 60}
    return exchange(number, **{**values, **more})


PAID: dict[str, tuple[Exchange, bool]] = {
    "a turn": (made(), True),
    "a title": (made(kind="title"), True),
    "a prewarm": (made(kind="prewarm"), True),
    "a compaction": (made(kind="compaction"), True),
    "a probe": (made(kind="probe"), True),
    "a subscription's": (made(cost_kind="api_equivalent"), True),
    "a count": (made(kind="count"), False),
    "a list of models": (made(kind="models"), False),
    "a handshake": (made(kind="handshake"), False),
    "who pays is unknown": (made(cost_kind=None), False),
    "a model nobody knows": (made(model_used="nobody-knows-1", model_requested="nobody-knows-1"), False),
    "no usage": (made(usage=Usage()), False),
    "the answered model counts": (made(model_requested="nobody-knows-1"), True),
}


@pytest.mark.parametrize(("one", "paid"), PAID.values(), ids=PAID)
def test_what_is_priced(prices: Prices, one: Exchange, paid: bool) -> None:
    billing.fill(prices, one)
    assert (one.cost_usd is not None and one.cost_usd > 0) == paid
    if paid:
        assert one.price_id


USAGES: dict[str, Usage] = {
    "plain": FULL,
    "caches": Usage(
        input_tokens=5,
        output_tokens=7,
        cache_read_tokens=100_000,
        cache_write_tokens=3000,
        cache_write_5m_tokens=1000,
        cache_write_1h_tokens=2000,
    ),
    "tier and searches": Usage(input_tokens=5, output_tokens=7, service_tier="priority", web_search_requests=3),
    "fast": Usage(input_tokens=5000, output_tokens=700, speed="fast"),
    "place": Usage(input_tokens=5000, output_tokens=700, inference_geo="us"),
    "partial": Usage(input_tokens=5000, output_tokens=1, partial=True),
    "thinking and audio": Usage(
        input_tokens=5000,
        output_tokens=700,
        thinking_tokens=600,
        audio_tokens=5,
        audio_input_tokens=3,
        audio_output_tokens=2,
        web_fetch_requests=1,
    ),
    "steps": Usage(
        input_tokens=10,
        output_tokens=20,
        parts=[
            UsagePart(kind="message", input_tokens=100, output_tokens=50, cache_read_tokens=7),
            UsagePart(kind="advisor_message", model=MODEL, input_tokens=30, output_tokens=60, cache_write_tokens=9),
        ],
    ),
}


def test_rows_priced_anew_cost_what_they_did(prices: Prices, tmp_path: Path) -> None:
    """Whatever a usage holds, a row tells it: nothing changes where the prices have not."""
    store = SqliteStore(tmp_path / "s.db", warn=print)
    store.open()
    ones = [
        made(number, usage=usage, session_id=f"s{number % 3}", model_used=model)
        for number, (usage, model) in enumerate(
            ((usage, model) for usage in USAGES.values() for model in (MODEL, "gpt-5", "nobody-knows-1")), start=1
        )
    ]
    for one in ones:
        billing.fill(prices, one)
    store.write(ones)
    assert store._connection is not None
    rows = store._connection.execute("SELECT id, cost_usd, price_id FROM exchanges ORDER BY row").fetchall()
    sums = store._connection.execute("SELECT session_id, cost_usd, cost_unknown FROM sessions ORDER BY 1").fetchall()
    store._connection.execute("UPDATE exchanges SET cost_usd = 9, price_id = 'x'")
    list(store.reprice(billing.of_row(prices)))
    assert store._connection.execute("SELECT id, cost_usd, price_id FROM exchanges ORDER BY row").fetchall() == rows
    again = store._connection.execute("SELECT session_id, cost_usd, cost_unknown FROM sessions ORDER BY 1").fetchall()
    assert [(s, pytest.approx(c), u) for s, c, u in sums] == again
    assert sum(row[1] is None for row in rows) == sum(one.cost_usd is None for one in ones) >= len(USAGES)
    store.close()


def row(**more: Any) -> dict[str, Any]:
    known = {name: None for name in USAGE_COLUMNS}
    columns: dict[str, Any] = {
        **known,
        "usage_more": None,
        "usage_state": "complete",
        "kind": "turn",
        "provider": "anthropic",
        "dialect": "anthropic",
        "model_used": MODEL,
        "model_requested": MODEL,
        "started_ns": 1 << 60,
        "input_tokens": 1000,
        "output_tokens": 500,
        **more,
    }
    return {**columns, "usage": usage_from(columns)}


@pytest.mark.parametrize(
    "damaged",
    ["", "{", "[]", "null", '{"parts":1}', '{"parts":[{"kind":5}]}', '{"speed":[]}', "\x00", '{"audio_tokens":"x"}'],
)
def test_a_damaged_column_is_as_good_as_none(prices: Prices, damaged: str) -> None:
    price = billing.of_row(prices)
    assert price(row(usage_more=damaged)) == price(row())


def test_rows_of_what_is_not_paid(prices: Prices) -> None:
    assert billing.of_row(prices)(row(kind="count")) == (None, None)
    assert billing.of_row(prices)(row(kind=None)) == (None, None)
