"""The first page: how much, how dear, how fast, over a time that somebody chose; and what happens now. Values only.

Reads through stores/charts.py and stores/queries.py. Must not know HTML or HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from lunaroute.stores import charts, glance, queries
from lunaroute.stores.charts import Charted, Sums, ToolSums, Wanted, quantile
from lunaroute.stores.glance import Limit
from lunaroute.stores.readonly import NoRecord
from lunaroute.stores.rows import ExchangeRow, SessionFilter, SessionRow
from lunaroute.ui import format, ranges
from lunaroute.ui.plot import Plot, Series, lines, stacked
from lunaroute.ui.ranges import Range
from lunaroute.ui.source import Source

SESSIONS_MOST = 100_000
RECENT = 8
ROWS = 8
TOOL_ROWS = 10
FILTERS = ("model", "client", "provider")
GROUPS = ("model", "client", "provider")


class Card(msgspec.Struct):
    """A figure. name: for programs; value: as people read it, and what stands below it."""

    name: str
    label: str
    value: str
    below: str = ""
    exact: str = ""


class Share(msgspec.Struct, kw_only=True):
    """A line of a table by model, client or provider. first_ms: on average. share: of the largest line, 0..1."""

    value: str
    requests: int
    errors: int
    prompt_tokens: int
    output_tokens: int
    cache_share: float | None
    cost_usd: float | None
    cost_kind: str | None
    cost_unknown: int
    first_ms: float | None = None
    speed: float | None = None
    share: float = 0.0


class DashboardView(msgspec.Struct, kw_only=True):
    """The page. `note` says why there is nothing."""

    range: str
    words: str
    since: str
    until: str
    asked: dict[str, str]
    cards: list[Card] = msgspec.field(default_factory=list)
    total: Sums = msgspec.field(default_factory=Sums)
    plots: list[Plot] = msgspec.field(default_factory=list)
    by: dict[str, list[Share]] = msgspec.field(default_factory=dict)
    tools: list[ToolSums] = msgspec.field(default_factory=list)
    limits: list[Limit] = msgspec.field(default_factory=list)
    running: list[ExchangeRow] = msgspec.field(default_factory=list)
    recent: list[SessionRow] = msgspec.field(default_factory=list)
    facets: dict[str, list[str]] = msgspec.field(default_factory=dict)
    pulse: str = ""
    now_ns: int = 0
    note: str | None = None


def dashboard(source: Source, query: Mapping[str, str]) -> DashboardView:
    """`range` or `since` and `until`; `model`, `client`, `provider`."""
    now = datetime.now(UTC)
    over = ranges.asked(query, now)
    asked = {name: query[name].strip()[:200] for name in FILTERS if query.get(name, "").strip()}
    since, until = over.texts
    now_ns = time.time_ns()
    view = DashboardView(range=over.name, words=over.words, since=since, until=until, asked=asked, now_ns=now_ns)
    try:
        with source.open() as db, db.snapshot():
            view.pulse = queries.pulse(db)
            found = charts.charted(db, over.stretch, Wanted(**asked) if asked else None)
            view.total = found.total
            view.plots = plots(found, over)
            view.by = {name: shares(found, name)[:ROWS] for name in GROUPS}
            view.tools = charts.tools(db, over.stretch, TOOL_ROWS)
            view.limits = glance.limits(db, now_ns)
            view.running = glance.running(db)
            view.recent = queries.recent(db, only(asked), RECENT)
            view.facets = queries.facets(db)
            sessions = (
                None if asked else glance.session_count(db, since, until if over.until < now else None, SESSIONS_MOST)
            )
            view.cards = cards(found, sessions)
    except NoRecord as error:
        view.note = str(error)
    return view


def only(asked: Mapping[str, str], since: str | None = None) -> SessionFilter:
    """The sessions of a model, a client, a provider."""
    return SessionFilter(
        model=asked.get("model"), client=asked.get("client"), provider=asked.get("provider"), since=since
    )


def cards(found: Charted, sessions: int | None) -> list[Card]:
    """The figures at the top."""
    total = found.total
    first, proxy = found.times["first"], found.times["proxy"]
    failed = f"{total.errors:,} failed" if total.errors else "none failed"
    stopped = f", {total.cancelled:,} cancelled" if total.cancelled else ""
    requests = f"{total.requests:,} {'request' if total.requests == 1 else 'requests'}"
    if sessions is None:
        use = Card("requests", "Requests", format.count(total.requests), format.many(total.tool_calls, "tool call"))
    else:
        use = Card("sessions", "Sessions", f"{sessions:,}", requests)
    unknown = f"{total.cost_unknown:,} without a price" if total.cost_unknown else _cost_words(total)
    return [
        use,
        Card("cost", "Cost", format.cost(total.known_cost, "api", total.cost_unknown, short=True), unknown),
        Card(
            "input_tokens", "Input tokens", format.count(total.prompt_tokens),
            f"{format.count(total.fresh_tokens)} fresh, {format.count(total.cache_write_tokens)} written to cache",
            format.exact(total.prompt_tokens),
        ),
        Card(
            "output_tokens", "Output tokens", format.count(total.output_tokens),
            f"{format.count(total.thinking_tokens)} thinking, {format.rate(total.speed)}",
            format.exact(total.output_tokens),
        ),
        Card(
            "cache_share", "Cache hits", format.percent(total.cache_share),
            f"{format.count(total.cache_read_tokens)} tokens read",
        ),
        Card("success", "Success", format.percent(total.success), failed + stopped),
        Card(
            "first_ms", "First token", format.span(quantile(first, 0.5)),
            f"95 % within {format.span(quantile(first, 0.95))}" if first else "no answer yet",
        ),
        Card(
            "proxy_ms", "Proxy overhead", format.span(quantile(proxy, 0.5)),
            f"95 % within {format.span(quantile(proxy, 0.95))}" if proxy else "nothing measured",
        ),
    ]  # fmt: skip


def _cost_words(total: Sums) -> str:
    kind = {"api": "paid by use", "api_equivalent": "API-equivalent", "mixed": "partly API-equivalent"}
    return kind.get(total.cost_kind or "", "nothing billed")


def plots(found: Charted, over: Range) -> list[Plot]:
    """The charts over time."""
    columns = found.columns
    return [
        token_plot(columns, over),
        cost_plot(columns, over),
        request_plot(columns, over),
        first_plot(found, over),
    ]


def _values(columns: Sequence[Sums], name: str) -> list[float | None]:
    return [getattr(each, name) for each in columns]


def token_plot(columns: Sequence[Sums], over: Range) -> Plot:
    kinds = (
        ("k-read", "Cache read", "cache_read_tokens"),
        ("k-write", "Cache written", "cache_write_tokens"),
        ("k-fresh", "Fresh input", "fresh_tokens"),
        ("k-out", "Output", "output_tokens"),
    )
    series = [Series(kind, name, _values(columns, field)) for kind, name, field in kinds]
    return stacked("tokens", "Tokens", over, series, lambda value: format.count(round(value or 0)))


def cost_plot(columns: Sequence[Sums], over: Range) -> Plot:
    series = [Series("k-cost", "Cost", _values(columns, "cost_usd"))]
    return stacked("cost", "Cost", over, series, format.dollars)


def request_plot(columns: Sequence[Sums], over: Range) -> Plot:
    kinds = (("k-ok", "OK", "ok"), ("k-cancelled", "Cancelled", "cancelled"), ("k-error", "Failed", "errors"))
    series = [Series(kind, name, _values(columns, field)) for kind, name, field in kinds]
    return stacked("requests", "Requests", over, series, lambda value: f"{value or 0:,.0f}")


def first_plot(found: Charted, over: Range) -> Plot:
    whole = found.times["first"]
    series = [
        Series(kind, name, [quantile(each, share) for each in found.firsts], format.span(quantile(whole, share)))
        for kind, name, share in (("k-p50", "Median", 0.5), ("k-p95", "95 %", 0.95))
    ]
    return lines("first", "Time to first token", over, series, format.span)


def shares(found: Charted, name: str) -> list[Share]:
    """The lines of a table by model, client or provider."""
    groups = found.by(name)
    most = max((_weight(sums) for _, sums in groups), default=0.0)
    return [
        Share(
            value=value,
            requests=sums.requests,
            errors=sums.errors,
            prompt_tokens=sums.prompt_tokens,
            output_tokens=sums.output_tokens,
            cache_share=sums.cache_share,
            cost_usd=sums.known_cost,
            cost_kind=sums.cost_kind,
            cost_unknown=sums.cost_unknown,
            first_ms=sums.average_first_ms,
            speed=sums.speed,
            share=round(_weight(sums) / most, 4) if most else 0.0,
        )
        for value, sums in groups
    ]


def _weight(sums: Sums) -> float:
    return float(sums.prompt_tokens + sums.output_tokens)
