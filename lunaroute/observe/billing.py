"""What an exchange cost: for records as they are made, and for rows that are priced anew. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from lunaroute.observe.pricing import Prices
from lunaroute.records import Exchange, Usage, UsagePart

PAID = frozenset(("turn", "title", "prewarm", "compaction", "probe"))
_COLUMNS = (
    *("input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("cache_write_5m_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens"),
    *("web_search_requests", "service_tier"),
)


class _More(msgspec.Struct):
    """The column `usage_more`, as stores/writing.py fills it."""

    audio_tokens: int | None = None
    web_fetch_requests: int | None = None
    speed: str | None = None
    inference_geo: str | None = None
    parts: list[UsagePart] = msgspec.field(default_factory=list)


_more = msgspec.json.Decoder(_More)


def fill(prices: Prices, exchange: Exchange) -> None:
    """Set the cost of a finished exchange; None where it is unknown, or where nothing was to be paid."""
    if exchange.kind not in PAID or not exchange.cost_kind:
        return
    cost = prices.cost(
        exchange.usage,
        provider=exchange.provider,
        dialect=exchange.dialect,
        model=exchange.model_used,
        model_requested=exchange.model_requested,
        at_ns=exchange.started_ns,
    )
    exchange.cost_usd, exchange.price_id = cost.usd, cost.price_id


def of_row(prices: Prices) -> Callable[[dict[str, Any]], tuple[float | None, str | None]]:
    """A function from a row of `exchanges` (by column name) to (dollars, price id)."""

    def price(row: dict[str, Any]) -> tuple[float | None, str | None]:
        if row["kind"] not in PAID:
            return None, None
        cost = prices.cost(
            usage_of(row),
            provider=row["provider"],
            dialect=row["dialect"],
            model=row["model_used"],
            model_requested=row["model_requested"],
            at_ns=row["started_ns"],
        )
        return cost.usd, cost.price_id

    return price


def usage_of(row: dict[str, Any]) -> Usage:
    """The usage that a row tells."""
    more = _More()
    if row["usage_more"]:
        try:
            more = _more.decode(row["usage_more"])
        except msgspec.DecodeError:
            more = _More()
    usage = Usage(**{name: row[name] for name in _COLUMNS}, partial=row["usage_state"] == "partial")
    for name in more.__struct_fields__:
        setattr(usage, name, getattr(more, name))
    return usage
