"""Stretches of time that people choose, cut into the columns of a chart. Values only; the zone is the machine's own.

A range ends with the column that is running and has whole columns only, so that figures and charts tell of the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from lunaroute.stores import filters
from lunaroute.stores.charts import MINUTE_NS, Stretch
from lunaroute.stores.hourly import HOUR_NS
from lunaroute.stores.readonly import BadQuestion

RANGES = {"1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days"}
SHORT = {"1h": "1 h", "24h": "24 h", "7d": "7 d", "30d": "30 d"}
DEFAULT = "24h"
MINUTES_LIMIT = timedelta(hours=6)  # up to here a chart is drawn from the exchanges themselves
COLUMNS_LIMIT = 400
# the longest range, and what a column is then
_STEPS = (
    (timedelta(minutes=75), timedelta(minutes=2)),
    (timedelta(hours=3), timedelta(minutes=5)),
    (MINUTES_LIMIT, timedelta(minutes=10)),
    (timedelta(hours=50), timedelta(hours=1)),
    (timedelta(days=10), timedelta(hours=6)),
    (timedelta(days=100), timedelta(days=1)),
    (timedelta(days=730), timedelta(days=7)),
)


class Range(msgspec.Struct, kw_only=True):
    """name: of RANGES or `custom`. since, until: UTC. step: of a column, seconds (days may be an hour off)."""

    name: str
    since: datetime
    until: datetime
    step: int
    stretch: Stretch

    @property
    def texts(self) -> tuple[str, str]:
        """Both ends as the database's time text."""
        return text_of(self.since), text_of(self.until)

    @property
    def words(self) -> str:
        """Last 24 hours; 21 Nov 14:00 to 22 Nov 03:00."""
        return RANGES.get(self.name) or f"{said(self.since)} to {said(self.until)}"


def text_of(moment: datetime) -> str:
    """A moment as the database's time text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def said(moment: datetime) -> str:
    """21 Nov 14:00, in the zone of the machine."""
    local = moment.astimezone()
    return f"{local.day} {local:%b %H:%M}"


def moment_of(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def asked(query: Mapping[str, str], now: datetime) -> Range:
    """`range` (one of RANGES), or `since` and maybe `until` for a custom one. Raises BadQuestion."""
    name = query.get("range", "").strip()
    since, until = query.get("since", "").strip(), query.get("until", "").strip()
    if since and name in ("", "custom"):
        start = _moment(since, now)
        return custom(start, min(_moment(until, now), now) if until else now)
    if until or name not in ("", *RANGES):
        raise BadQuestion(f"A range is one of {', '.join(RANGES)}, or has a start of its own: since=2026-01-31T14:00.")
    return _named(name or DEFAULT, now)


def custom(since: datetime, until: datetime) -> Range:
    """A range between two moments, widened to whole columns."""
    if until <= since:
        raise BadQuestion("A range ends after it has begun.")
    length = until - since
    step = next((step for longest, step in _STEPS if length <= longest), timedelta(days=30))
    start = _floor(since, step)
    edges = [start]
    while edges[-1] < until and len(edges) <= COLUMNS_LIMIT:
        edges.append(_next(edges[-1], step))
    return _made("custom", edges, step)


def _named(name: str, now: datetime) -> Range:
    step = {"1h": timedelta(minutes=2), "24h": timedelta(hours=1), "7d": timedelta(hours=6)}.get(
        name, timedelta(days=1)
    )
    count = {"1h": 30, "24h": 24, "7d": 28, "30d": 30}[name]
    if name in ("7d", "30d"):
        # whole days: today and those before it
        today = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        days = 7 if name == "7d" else 30
        edges = [_days_later(today, -(days - 1))]
        while len(edges) <= count:
            edges.append(_next(edges[-1], step))
    else:
        last = _next(_floor(now, step), step)
        edges = [last - step * back for back in range(count, -1, -1)]
    return _made(name, edges, step)


def _made(name: str, edges: list[datetime], step: timedelta) -> Range:
    by_minute = step < timedelta(hours=1)
    unit = MINUTE_NS if by_minute else HOUR_NS
    whole = tuple(int(edge.timestamp()) * 1_000_000_000 // unit * unit for edge in edges)
    stretch = Stretch(whole, by_minute)
    return Range(
        name=name,
        since=moment_of(whole[0]),
        until=moment_of(whole[-1]),
        step=int(step.total_seconds()),
        stretch=stretch,
    )


def _floor(moment: datetime, step: timedelta) -> datetime:
    local = moment.astimezone()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if step >= timedelta(days=1):
        return midnight
    return midnight + (local - midnight) // step * step


def _next(edge: datetime, step: timedelta) -> datetime:
    """The edge after this one. Days and their quarters are those of the calendar, whatever the clocks do."""
    if step >= timedelta(days=1):
        return _days_later(edge, step.days)
    later = edge + step
    if step == timedelta(hours=6):
        local = edge.astimezone()
        return _local(local.replace(tzinfo=None) + step)
    return later


def _days_later(edge: datetime, days: int) -> datetime:
    return _local(edge.astimezone().replace(tzinfo=None) + timedelta(days=days))


def _local(naive: datetime) -> datetime:
    return naive.astimezone()


def _moment(text: str, now: datetime) -> datetime:
    return datetime.fromisoformat(filters.since(text, now)).replace(tzinfo=UTC)
