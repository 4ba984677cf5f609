"""Where tokens, money and time went over a chosen time, with every table as CSV. Values only.

Reads through stores/charts.py and its neighbours. Must not know HTML or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from lunaroute.stores import charts, glance, queries
from lunaroute.stores.charts import Charted, Counts, Sums, ToolSums, Wanted, quantile
from lunaroute.stores.glance import ErrorGroup
from lunaroute.stores.hourly import EDGES
from lunaroute.stores.readonly import NoRecord, NotFound
from lunaroute.stores.rows import SessionRow
from lunaroute.ui import dashboard, format, ranges
from lunaroute.ui.dashboard import GROUPS, Share
from lunaroute.ui.plot import Key, Plot, Series, Tick, bars, lines
from lunaroute.ui.ranges import Range, moment_of
from lunaroute.ui.sheets import Cell, Sheet
from lunaroute.ui.source import Source

DEFAULT = "7d"
SESSIONS = 10
TIMES = (("first", "Time to first token"), ("total", "Whole time of an answer"), ("proxy", "Proxy overhead"))
_SUMS = (
    *("requests", "ok", "cancelled", "errors", "limited", "fresh_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("output_tokens", "thinking_tokens", "cost_usd", "equivalent_usd", "cost_unknown", "tool_calls"),
)


class AnalyticsView(msgspec.Struct, kw_only=True):
    """The page. days: one line for each column of the charts, the newest first, without the empty ones."""

    range: str
    words: str
    since: str
    until: str
    asked: dict[str, str]
    plots: list[Plot] = msgspec.field(default_factory=list)
    spreads: list[Plot] = msgspec.field(default_factory=list)
    total: Sums = msgspec.field(default_factory=Sums)
    days: list[tuple[str, Sums]] = msgspec.field(default_factory=list)
    by: dict[str, list[Share]] = msgspec.field(default_factory=dict)
    tools: list[ToolSums] = msgspec.field(default_factory=list)
    slowest: list[ToolSums] = msgspec.field(default_factory=list)
    dearest: list[SessionRow] = msgspec.field(default_factory=list)
    errors: list[ErrorGroup] = msgspec.field(default_factory=list)
    facets: dict[str, list[str]] = msgspec.field(default_factory=dict)
    note: str | None = None


def analytics(source: Source, query: Mapping[str, str]) -> AnalyticsView:
    """`range` or `since` and `until`; `model`, `client`, `provider`."""
    over, asked = _asked(query)
    since, until = over.texts
    view = AnalyticsView(range=over.name, words=over.words, since=since, until=until, asked=asked)
    try:
        with source.open() as db, db.snapshot():
            found = charts.charted(db, over.stretch, Wanted(**asked) if asked else None)
            view.total = found.total
            view.plots = [
                dashboard.token_plot(found.columns, over),
                dashboard.cost_plot(found.columns, over),
                cache_plot(found, over),
                dashboard.first_plot(found, over),
            ]
            view.spreads = [spread(kind, title, found.times[kind]) for kind, title in TIMES]
            view.days = [
                (column.words[0], sums)
                for column, sums in zip(view.plots[0].columns, found.columns, strict=True)
                if sums.requests
            ][::-1]
            view.by = {name: dashboard.shares(found, name) for name in GROUPS}
            view.tools = charts.tools(db, over.stretch)
            view.slowest = sorted(view.tools, key=lambda tool: -(tool.p95_ms or 0.0))[:SESSIONS]
            view.dearest = queries.list_sessions(
                db, dashboard.only(asked, since), sort="cost", limit=SESSIONS, counted=1
            ).rows
            view.errors = glance.errors(db, over.stretch.edges[0], over.stretch.edges[-1])
            view.facets = queries.facets(db)
    except NoRecord as error:
        view.note = str(error)
    return view


def _asked(query: Mapping[str, str]) -> tuple[Range, dict[str, str]]:
    given = dict(query)
    if not given.get("range", "").strip() and not given.get("since", "").strip():
        given["range"] = DEFAULT
    asked = {name: query[name].strip()[:200] for name in dashboard.FILTERS if query.get(name, "").strip()}
    return ranges.asked(given, datetime.now(UTC)), asked


def cache_plot(found: Charted, over: Range) -> Plot:
    """What of the prompts a cache gave."""
    shares = [None if each.cache_share is None else 100 * each.cache_share for each in found.columns]
    series = [Series("k-read", "From the cache", shares, format.percent(found.total.cache_share))]
    return lines(
        "cache", "Cache hits", over, series, lambda value: format.percent(None if value is None else value / 100)
    )


def spread(kind: str, title: str, counts: Counts) -> Plot:
    """How many took how long, on a scale that doubles with every second column."""
    known = +counts
    first, last = (min(known), max(known)) if known else (0, 0)
    groups = []
    for place in range(first, last + 1):
        low, high = EDGES[place - 1] if place else 0.0, EDGES[min(place, len(EDGES) - 1)]
        said = [f"{format.span(low)} to {format.span(high)}", f"Requests\t{known[place]:,}"]
        groups.append((said, [("k-time", float(known[place]))]))
    ticks = [
        Tick(round(100 * n / len(groups), 2), format.span(EDGES[first + n - 1]))
        for n in range(1, len(groups))
        if (first + n) % max(2, len(groups) // 6) == 0
    ]
    legend = [
        Key("", name, format.span(quantile(known, share)))
        for name, share in (("Median", 0.5), ("95 %", 0.95), ("99 %", 0.99))
    ]
    return bars(f"spread-{kind}", title, groups, legend, lambda value: f"{value or 0:,.0f}", ticks)


# --- as tables --------------------------------------------------------------------------------------------------------
def sheet(source: Source, name: str, query: Mapping[str, str]) -> Sheet:
    """One table whole; raises NotFound."""
    if name not in SHEETS:
        raise NotFound(f"There are tables of {', '.join(SHEETS)}.")
    over, asked = _asked(query)
    with source.open() as db, db.snapshot():
        if name == "tools":
            return _tools(charts.tools(db, over.stretch))
        if name == "errors":
            return _errors(glance.errors(db, over.stretch.edges[0], over.stretch.edges[-1], 1_000))
        if name == "sessions":
            rows = queries.list_sessions(
                db, dashboard.only(asked, over.texts[0]), sort="cost", limit=queries.PAGE_LIMIT, counted=1
            ).rows
            return _sessions(rows)
        found = charts.charted(db, over.stretch, Wanted(**asked) if asked else None)
    if name == "time":
        return _time(found, over)
    if name == "latency":
        return _latency(found)
    return _groups(found, name.removesuffix("s"))


def _time(found: Charted, over: Range) -> Sheet:
    edges = over.stretch.edges
    rows: list[list[Cell]] = []
    for number, sums in enumerate(found.columns):
        first = found.firsts[number]
        rows.append(
            [
                moment_of(edges[number]).isoformat(),
                moment_of(edges[number + 1]).isoformat(),
                *(getattr(sums, name) for name in _SUMS),
                quantile(first, 0.5),
                quantile(first, 0.95),
            ]
        )
    return Sheet("time", ["from", "until", *_SUMS, "first_token_p50_ms", "first_token_p95_ms"], rows)


def _groups(found: Charted, name: str) -> Sheet:
    rows: list[list[Cell]] = [
        [
            value,
            *(getattr(sums, each) for each in _SUMS),
            sums.speed,
            sums.average_first_ms,
        ]
        for value, sums in found.by(name)
    ]
    head = [name, *_SUMS, "output_tokens_per_second", "first_token_average_ms"]
    return Sheet(f"{name}s", head, rows)


def _latency(found: Charted) -> Sheet:
    rows: list[list[Cell]] = []
    for kind, _ in TIMES:
        counts = +found.times[kind]
        for place in sorted(counts):
            low, high = EDGES[place - 1] if place else 0.0, EDGES[min(place, len(EDGES) - 1)]
            rows.append([kind, low, high, counts[place]])
    return Sheet("latency", ["time", "from_ms", "below_ms", "requests"], rows)


def _tools(found: list[ToolSums]) -> Sheet:
    head = ["tool", "calls", "known_ends", "failures", "average_ms", "p50_ms", "p95_ms"]
    rows: list[list[Cell]] = [
        [each.name, each.calls, each.told, each.failures, each.average_ms, each.p50_ms, each.p95_ms] for each in found
    ]
    return Sheet("tools", head, rows)


def _errors(found: list[ErrorGroup]) -> Sheet:
    head = ["state", "kind", "status", "provider", "count", "last_at", "exchange"]
    return Sheet("errors", head, [[getattr(each, name) for name in ErrorGroup.__struct_fields__] for each in found])


_SESSION = (
    *("session_id", "title", "client", "model_used", "provider", "project", "started_at", "last_at", "requests"),
    *("turns", "errors", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "cost_usd"),
    *("cost_kind", "tool_calls", "tool_failures", "duration_ms"),
)


def _sessions(found: list[SessionRow]) -> Sheet:
    return Sheet("sessions", list(_SESSION), [[getattr(each, name) for name in _SESSION] for each in found])


SHEETS = ("time", "models", "clients", "providers", "tools", "sessions", "errors", "latency")
