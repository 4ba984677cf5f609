"""What an exchange cost: for records as they are made, and for rows that are priced anew. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lunaroute.observe.pricing import Prices
from lunaroute.records import PAID, Exchange


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
    """A function from a row of `exchanges` (by column name, its `usage` as the record's) to (dollars, price id)."""

    def price(row: dict[str, Any]) -> tuple[float | None, str | None]:
        if row["kind"] not in PAID:
            return None, None
        cost = prices.cost(
            row["usage"],
            provider=row["provider"],
            dialect=row["dialect"],
            model=row["model_used"],
            model_requested=row["model_requested"],
            at_ns=row["started_ns"],
        )
        return cost.usd, cost.price_id

    return price
