"""What charts are drawn from: sums and percentiles over stretches of time, by model, client, provider and tool.

Read-only. Over hours from what the database keeps summed, and from the exchanges themselves where it does not (the
last hours, and those that changed, see stores/hourly.py); over minutes, for stretches of a few hours, all from the
exchanges. Must not know how a chart looks, nor zones of time: edges are nanoseconds since 1970.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from lunaroute.stores import hourly
from lunaroute.stores.hourly import ALL, EDGES, HOUR_NS, SUMS, TIMES, TOOL_SUMS
from lunaroute.stores.readonly import Connection

MINUTE_NS = 60_000_000_000
FIRST = "first"  # of TIMES: the one that is drawn over time
SERIES_LIMIT = 2_000  # models, clients and providers together: beyond this the rarest are left out of the tables
TOOLS_LIMIT = 200

Counts = Counter[int]


class Sums(msgspec.Struct, kw_only=True):
    """What a set of exchanges comes to. fresh_tokens: input that no cache had, nor took. limited: answers 429 and 529.

    equivalent_usd: the part of cost_usd that a subscription has paid. usage_unknown, cost_unknown: exchanges that are
    not in the tokens or dollars. first_ms: up to the first content, of `firsts` answers. spoken_*: tokens and time of
    answers whose speed is known.
    """

    requests: int = 0
    ok: int = 0
    cancelled: int = 0
    errors: int = 0
    limited: int = 0
    fresh_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    usage_unknown: int = 0
    cost_usd: float = 0.0
    equivalent_usd: float = 0.0
    cost_unknown: int = 0
    tool_calls: int = 0
    duration_ms: float = 0.0
    firsts: int = 0
    first_ms: float = 0.0
    spoken_tokens: int = 0
    spoken_ms: float = 0.0

    def add(self, more: Sums) -> None:
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(more, name))

    @property
    def prompt_tokens(self) -> int:
        """All that was sent: fresh, and what a cache gave or took."""
        return self.fresh_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def cache_share(self) -> float | None:
        """What of the prompt a cache gave, 0..1."""
        return self.cache_read_tokens / self.prompt_tokens if self.prompt_tokens else None

    @property
    def success(self) -> float | None:
        """Requests that did not fail, of those that were not cancelled, 0..1."""
        ended = self.requests - self.cancelled
        return self.ok / ended if ended else None

    @property
    def cost_kind(self) -> str | None:
        """As of a session: api, api_equivalent, mixed; None where nothing cost anything."""
        if self.cost_usd <= 0:
            return None
        if self.equivalent_usd <= 0:
            return "api"
        return "api_equivalent" if self.equivalent_usd > self.cost_usd - 1e-9 else "mixed"

    @property
    def known_cost(self) -> float | None:
        """cost_usd, or None where there is none because nobody knows one."""
        return None if self.cost_usd <= 0 and self.cost_unknown else self.cost_usd

    @property
    def average_first_ms(self) -> float | None:
        """Time to the first content."""
        return self.first_ms / self.firsts if self.firsts else None

    @property
    def speed(self) -> float | None:
        """Output tokens in a second of generation."""
        return self.spoken_tokens * 1000 / self.spoken_ms if self.spoken_ms > 0 else None


class Stretch(msgspec.Struct, frozen=True):
    """A time in columns: column n goes from edges[n] to edges[n+1]. by_minute: edges are minutes, not hours."""

    edges: tuple[int, ...]
    by_minute: bool = False

    @property
    def unit(self) -> int:
        return MINUTE_NS if self.by_minute else HOUR_NS

    @property
    def units(self) -> tuple[int, int]:
        """The first unit, and the one after the last."""
        return self.edges[0] // self.unit, -(-self.edges[-1] // self.unit)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Of which model, client and provider; None: of any. '' is what is not known."""

    model: str | None = None
    client: str | None = None
    provider: str | None = None

    def __bool__(self) -> bool:
        return any(each is not None for each in (self.model, self.client, self.provider))


class Names(msgspec.Struct, frozen=True):
    """What a series is about."""

    model: str
    client: str
    provider: str


class ToolSums(msgspec.Struct, kw_only=True):
    """The calls of one tool. told: those of which it is known how they ended. Times are upper bounds (see ToolRow)."""

    name: str
    calls: int = 0
    told: int = 0
    failures: int = 0
    timed: int = 0
    duration_ms: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None

    @property
    def average_ms(self) -> float | None:
        return self.duration_ms / self.timed if self.timed else None

    @property
    def failure_share(self) -> float | None:
        return self.failures / self.told if self.told else None


class Charted(msgspec.Struct, kw_only=True):
    """One stretch: sums by column, by series and in all; times, counted by kind; firsts: those of `first` by column."""

    columns: list[Sums]
    series: list[tuple[Names, Sums]]
    total: Sums
    times: dict[str, Counts]
    firsts: list[Counts]

    def by(self, name: str) -> list[tuple[str, Sums]]:
        """By model, client or provider: the dearest first, then those that used most."""
        found: dict[str, Sums] = {}
        for names, sums in self.series:
            found.setdefault(getattr(names, name), Sums()).add(sums)
        return sorted(found.items(), key=lambda each: (-each[1].cost_usd, -each[1].prompt_tokens, -each[1].requests))


def quantile(counts: Counts, share: float) -> float | None:
    """Milliseconds below which this share of what was counted lies; right within a fifth (see hourly.EDGES)."""
    whole = counts.total()
    if whole <= 0:
        return None
    rank, below = share * whole, 0
    for bucket in sorted(counts):
        here = counts[bucket]
        if here > 0 and below + here >= rank:
            low, high = EDGES[bucket - 1] if bucket else EDGES[0] / 2, EDGES[min(bucket, len(EDGES) - 1)]
            inside: float = low * (high / low) ** ((rank - below) / here)
            return inside
        below += here
    return EDGES[-1]


def charted(db: Connection, stretch: Stretch, wanted: Wanted | None = None) -> Charted:
    """Everything of a stretch. Ask within one snapshot."""
    adding = _Adding(stretch)
    spans = _spans(db, stretch)
    if spans.rolled is not None:
        _add_rolled(db, spans.rolled, spans.stale, wanted, adding)
    for span in spans.direct:
        _add_direct(db, span, wanted, adding)
    return adding.whole()


class _Adding:
    """Sums on their way. Rows of figures are added as they come, structs are made of them at the end."""

    def __init__(self, stretch: Stretch) -> None:
        self.unit = stretch.unit
        self._edges = stretch.edges
        self._places: dict[int, int] = {}
        self._columns: list[list[float]] = [[0] * len(SUMS) for _ in stretch.edges[1:]]
        self._series: dict[Names, list[float]] = {}
        self._times: dict[str, Counts] = {kind: Counter() for kind in TIMES}
        self._firsts: list[Counts] = [Counter() for _ in stretch.edges[1:]]

    def column(self, unit: int) -> int:
        """The column that a unit belongs to: the one it begins in (the first, where that is before all)."""
        place = self._places.get(unit)
        if place is None:
            found = bisect.bisect_right(self._edges, unit * self.unit) - 1
            place = self._places[unit] = min(max(found, 0), len(self._columns) - 1)
        return place

    def to_column(self, unit: int, figures: Iterable[float]) -> None:
        place = self.column(unit)
        self._columns[place] = [one + more for one, more in zip(self._columns[place], figures, strict=True)]

    def to_series(self, names: Names, figures: Iterable[float]) -> None:
        known = self._series.get(names, [0] * len(SUMS))
        self._series[names] = [one + more for one, more in zip(known, figures, strict=True)]

    def time(self, kind: str, bucket: int, count: int) -> None:
        self._times[kind][bucket] += count

    def first(self, unit: int, bucket: int, count: int) -> None:
        self._firsts[self.column(unit)][bucket] += count

    def whole(self) -> Charted:
        series = [(names, _sums(figures)) for names, figures in self._series.items()]
        series.sort(key=lambda each: -each[1].requests)
        return Charted(
            columns=[_sums(figures) for figures in self._columns],
            series=series[:SERIES_LIMIT],
            total=_sums([sum(figures) for figures in zip(*self._columns, strict=True)]),
            times=self._times,
            firsts=self._firsts,
        )


class _Spans(msgspec.Struct):
    """What of a stretch is summed already (hours, without the stale ones), and what is not (nanoseconds)."""

    rolled: tuple[int, int] | None
    stale: list[int]
    direct: list[tuple[int, int]]


def _spans(db: Connection, stretch: Stretch) -> _Spans:
    first, end = (unit * stretch.unit for unit in stretch.units)
    if stretch.by_minute:
        return _Spans(None, [], [(first, end)])
    return _hours(db, first // HOUR_NS, -(-end // HOUR_NS))


def _hours(db: Connection, first: int, end: int) -> _Spans:
    until = min(max(int(db.value("SELECT until FROM rolled") or 0), first), end)
    stale = [
        row[0] for row in db.rows("SELECT hour FROM stale WHERE hour >= ? AND hour < ? ORDER BY hour", [first, until])
    ]
    direct: list[tuple[int, int]] = []
    for hour in stale:
        if direct and direct[-1][1] == hour * HOUR_NS:
            direct[-1] = direct[-1][0], (hour + 1) * HOUR_NS
        else:
            direct.append((hour * HOUR_NS, (hour + 1) * HOUR_NS))
    if until < end:
        direct.append((until * HOUR_NS, end * HOUR_NS))
    return _Spans((first, until) if first < until else None, stale, direct)


def _not_stale(stale: list[int]) -> str:
    return f" AND hour NOT IN ({', '.join(map(str, stale))})" if stale else ""


def _series(db: Connection, wanted: Wanted | None) -> dict[int, Names]:
    return {
        row[0]: names
        for row in db.rows("SELECT series, model, client, provider FROM series")
        if _fits(names := Names(row[1], row[2], row[3]), wanted)
    }


def _fits(names: Names, wanted: Wanted | None) -> bool:
    return wanted is None or all(
        want in (None, has)
        for want, has in (
            (wanted.model, names.model),
            (wanted.client, names.client),
            (wanted.provider, names.provider),
        )
    )


def _sums(values: Iterable[Any]) -> Sums:
    return Sums(**dict(zip(SUMS, values, strict=True)))


def _add_rolled(
    db: Connection, hours: tuple[int, int], stale: list[int], wanted: Wanted | None, adding: _Adding
) -> None:
    known = _series(db, wanted)
    inside = f"hour >= ? AND hour < ?{_not_stale(stale)}"
    numbers = ", ".join(map(str, known))
    of_all = f"series IN ({numbers}) AND {inside}" if wanted else f"series = {ALL} AND {inside}"
    sums = ", ".join(f"sum({name})" for name in SUMS)
    for row in db.rows(f"SELECT hour, {sums} FROM hours WHERE {of_all} GROUP BY hour", hours):
        adding.to_column(row[0], row[1:])
    of_each = f"SELECT series, {sums} FROM hours WHERE series IN ({numbers}) AND {inside} GROUP BY series"
    for row in db.rows(of_each, hours):
        adding.to_series(known[row[0]], row[1:])
    for kind in TIMES:
        place = "hour" if kind == FIRST else "0"
        for row in db.rows(
            f"SELECT {place}, bucket, sum(count) FROM tallies WHERE {of_all} AND kind = '{kind}' GROUP BY 1, 2", hours
        ):
            adding.time(kind, row[1], row[2])
            if kind == FIRST:
                adding.first(*row)


def _add_direct(db: Connection, span: tuple[int, int], wanted: Wanted | None, adding: _Adding) -> None:
    for row in db.rows(hourly.sums_of(adding.unit), span):
        names = Names(row[1], row[2], row[3])
        if _fits(names, wanted):
            adding.to_column(row[0], row[4:])
            adding.to_series(names, row[4:])
    for kind in TIMES:
        for row in db.rows(hourly.times_of(kind, adding.unit), span):
            if _fits(Names(row[1], row[2], row[3]), wanted):
                adding.time(kind, row[4], row[5])
                if kind == FIRST:
                    adding.first(row[0], row[4], row[5])


def tools(db: Connection, stretch: Stretch, limit: int = TOOLS_LIMIT) -> list[ToolSums]:
    """By name, the most used first. A call belongs to the hour of its exchange; of a stretch by minutes the hours count
    that it touches."""
    spans = _hours(db, stretch.edges[0] // HOUR_NS, -(-stretch.edges[-1] // HOUR_NS))
    found: dict[str, ToolSums] = {}
    counted: dict[str, Counts] = {}
    names = tuple(TOOL_SUMS)
    where = f"WHERE hour >= ? AND hour < ?{_not_stale(spans.stale)}"
    asked: list[tuple[str, str, tuple[int, int]]] = []
    if spans.rolled:
        sums = ", ".join(f"sum({name})" for name in names)
        asked.append(
            (
                f"SELECT 0, name, {sums} FROM tool_hours {where} GROUP BY name",
                f"SELECT 0, name, bucket, sum(count) FROM tool_tallies {where} GROUP BY 2, 3",
                spans.rolled,
            )
        )
    asked += [(hourly.tools_of(), hourly.tool_times_of(), span) for span in spans.direct]
    for sums_sql, times_sql, span in asked:
        for row in db.rows(sums_sql, span):
            each = found.setdefault(row[1], ToolSums(name=row[1]))
            for name, value in zip(names, tuple(row)[2:], strict=True):
                setattr(each, name, getattr(each, name) + value)
        for row in db.rows(times_sql, span):
            counted.setdefault(row[1], Counter())[row[2]] += row[3]
    most = sorted(found.values(), key=lambda each: (-each.calls, each.name))[:limit]
    for each in most:
        each.p50_ms, each.p95_ms = (quantile(counted.get(each.name, Counter()), share) for share in (0.5, 0.95))
    return most
