"""What charts are drawn from: sums and percentiles over stretches of time, by model, client, provider and tool.

Read-only. Over hours from what the database keeps summed, and from the exchanges themselves where it does not (the last
hours, and those that changed, see stores/hourly.py); over minutes, for stretches of a few hours, all from the exchanges.
Must not know how a chart looks, nor zones of time: edges are nanoseconds since 1970.
"""

from __future__ import annotations

import bisect
from collections import Counter
from typing import Any

import msgspec

from lunaroute.stores import hourly
from lunaroute.stores.hourly import EDGES, HOUR_NS, SUMS, TIMES, TOOL_SUMS
from lunaroute.stores.readonly import Connection

MINUTE_NS = 60_000_000_000
SERIES_LIMIT = 2_000  # models, clients and providers together: beyond this the rarest are left out of the tables
TOOLS_LIMIT = 200

Counts = Counter[int]


class Sums(msgspec.Struct, kw_only=True):
    """What a set of exchanges comes to. fresh_tokens: input that no cache had, nor took. limited: answers 429 and 529.

    equivalent_usd: the part of cost_usd that a subscription has paid. usage_unknown, cost_unknown: exchanges that are
    not in the tokens or dollars. spoken_*: tokens and time of answers whose speed is known.
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
    """One stretch: sums by column, by series and in all; counted times by kind and column, and by kind and series."""

    columns: list[Sums]
    series: list[tuple[Names, Sums]]
    total: Sums
    times: dict[str, list[Counts]]
    times_of: dict[tuple[str, Names], Counts]

    def all_times(self, kind: str) -> Counts:
        """Of the whole stretch."""
        return sum(self.times[kind], Counter())

    def by(self, name: str) -> list[tuple[str, Sums]]:
        """By model, client or provider: the dearest first, then those that used most."""
        found: dict[str, Sums] = {}
        for names, sums in self.series:
            found.setdefault(getattr(names, name), Sums()).add(sums)
        return sorted(found.items(), key=lambda each: (-each[1].cost_usd, -each[1].prompt_tokens, -each[1].requests))

    def times_by(self, kind: str, name: str) -> dict[str, Counts]:
        found: dict[str, Counts] = {}
        for (known, names), counts in self.times_of.items():
            if known == kind:
                found.setdefault(getattr(names, name), Counter()).update(counts)
        return found


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


def charted(db: Connection, stretch: Stretch, wanted: Wanted | None = None, by_series: bool = False) -> Charted:
    """Everything of a stretch. by_series: its times by model, client and provider, too. Ask within one snapshot."""
    found = Charted(
        columns=[Sums() for _ in stretch.edges[1:]],
        series=[],
        total=Sums(),
        times={kind: [Counter() for _ in stretch.edges[1:]] for kind in TIMES},
        times_of={},
    )
    of_series: dict[Names, Sums] = {}
    known = _series(db, wanted)
    spans = _spans(db, stretch)
    _add_rolled(db, stretch, spans, known, wanted, found, of_series, by_series)
    for span in spans.direct:
        _add_direct(db, stretch, span, wanted, found, of_series, by_series)
    found.series = sorted(of_series.items(), key=lambda each: -each[1].requests)[:SERIES_LIMIT]
    for each in found.columns:
        found.total.add(each)
    return found


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
        row[0]
        for row in db.rows("SELECT hour FROM stale WHERE hour >= ? AND hour < ? ORDER BY hour", [first, until])
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


def _column(stretch: Stretch, unit: int) -> int:
    """The column that a unit belongs to: the one it begins in (the first, where that is before all)."""
    place = bisect.bisect_right(stretch.edges, unit * stretch.unit) - 1
    return min(max(place, 0), len(stretch.edges) - 2)


def _sums(values: Any) -> Sums:
    return Sums(**dict(zip(SUMS, values, strict=True)))


def _add_rolled(
    db: Connection,
    stretch: Stretch,
    spans: _Spans,
    known: dict[int, Names],
    wanted: Wanted | None,
    found: Charted,
    of_series: dict[Names, Sums],
    by_series: bool,
) -> None:
    if spans.rolled is None:
        return
    where = f"WHERE hour >= ? AND hour < ?{_not_stale(spans.stale)}"
    if wanted:
        where += f" AND series IN ({', '.join(map(str, known))})"
    sums = ", ".join(f"sum({name})" for name in SUMS)
    for row in db.rows(f"SELECT hour, {sums} FROM hours {where} GROUP BY hour", spans.rolled):
        found.columns[_column(stretch, row[0])].add(_sums(tuple(row)[1:]))
    for row in db.rows(f"SELECT series, {sums} FROM hours {where} GROUP BY series", spans.rolled):
        if row[0] in known:
            of_series.setdefault(known[row[0]], Sums()).add(_sums(tuple(row)[1:]))
    for row in db.rows(
        f"SELECT hour, kind, bucket, sum(count) FROM tallies {where} GROUP BY hour, kind, bucket", spans.rolled
    ):
        if row[1] in found.times:
            found.times[row[1]][_column(stretch, row[0])][row[2]] += row[3]
    if not by_series:
        return
    for row in db.rows(f"SELECT kind, series, bucket, sum(count) FROM tallies {where} GROUP BY 1, 2, 3", spans.rolled):
        if row[1] in known:
            found.times_of.setdefault((row[0], known[row[1]]), Counter())[row[2]] += row[3]


def _add_direct(
    db: Connection,
    stretch: Stretch,
    span: tuple[int, int],
    wanted: Wanted | None,
    found: Charted,
    of_series: dict[Names, Sums],
    by_series: bool,
) -> None:
    for row in db.rows(hourly.sums_of(stretch.unit), span):
        names = Names(row[1], row[2], row[3])
        if _fits(names, wanted):
            sums = _sums(tuple(row)[4:])
            found.columns[_column(stretch, row[0])].add(sums)
            of_series.setdefault(names, Sums()).add(sums)
    for kind in TIMES:
        for row in db.rows(hourly.times_of(kind, stretch.unit), span):
            names = Names(row[1], row[2], row[3])
            if _fits(names, wanted):
                found.times[kind][_column(stretch, row[0])][row[4]] += row[5]
                if by_series:
                    found.times_of.setdefault((kind, names), Counter())[row[4]] += row[5]


def tools(db: Connection, stretch: Stretch, limit: int = TOOLS_LIMIT) -> list[ToolSums]:
    """By name, the most used first. A call belongs to the hour of its exchange; of a stretch by minutes whole hours count,
    those that it touches."""
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
