"""Sums over what was recorded: the summary of sessions, and breakdowns by model, day, tool and the like. Read-only.

Values only; how they look is cli/summary.py. An unknown is None and is counted, never taken for zero. With a range,
figures are of the exchanges that began in it, not of whole sessions, so that a server's own run can be told apart.

Written for speed: without an index that would cost every write, 100,000 wide rows are read whole. So few columns are
asked for where rows are grouped, CASE ends at what is nearly always so, and handshakes are left out by WHERE.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from lunaroute.records import PAID
from lunaroute.stores import filters, findings
from lunaroute.stores.findings import FindingFigures, FindingRow
from lunaroute.stores.readonly import BadQuestion, Connection
from lunaroute.stores.writing import ERRORS

LIMIT = 10  # sessions of a summary
ROWS_LIMIT = 500
MIXED = "mixed"


class Figures(msgspec.Struct, kw_only=True):
    """What a set of exchanges comes to. turns: without side calls; errors: of the provider, the network or the proxy.

    ended: the requests that took the time in duration_ms and overhead_ms.

    total_tokens: all that were processed: input with what a cache gave or took, and output (thinking is part of it).
    usage_unknown, cost_unknown: priced exchanges that are not in the tokens or dollars. cost_kind: api, api_equivalent
    or mixed. duration_ms, overhead_ms: sums, the second None where nothing of it is known.
    """

    requests: int = 0
    ended: int = 0
    turns: int = 0
    errors: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    total_tokens: int | None = None
    usage_unknown: int = 0
    cost_usd: float | None = None
    cost_kind: str | None = None
    cost_unknown: int = 0
    duration_ms: float | None = None
    overhead_ms: float | None = None

    @property
    def average_ms(self) -> float | None:
        """Of a request's whole time."""
        return self.duration_ms / self.ended if self.ended and self.duration_ms is not None else None

    @property
    def overhead_share(self) -> float | None:
        """What of the time was the proxy's own, 0..1."""
        return self.overhead_ms / self.duration_ms if self.duration_ms and self.overhead_ms is not None else None

    @property
    def provider_ms(self) -> float | None:
        """What is left of an average request without the proxy."""
        average = self.average_ms
        if average is None or self.overhead_ms is None:
            return None
        return max(0.0, average - self.overhead_ms / self.ended)


class ToolFigures(msgspec.Struct, kw_only=True):
    """The calls of one tool. average_ms, longest_ms: upper bounds (see ToolRow). unknown: nobody told the end."""

    name: str
    calls: int = 0
    failures: int = 0
    unknown: int = 0
    average_ms: float | None = None
    longest_ms: float | None = None


class SessionFigures(msgspec.Struct, kw_only=True):
    """One session in the range."""

    session_id: str
    title: str | None = None
    client: str | None = None
    model: str | None = None
    figures: Figures
    tools: list[ToolFigures] = msgspec.field(default_factory=list)


class Summary(msgspec.Struct, kw_only=True):
    """The newest sessions of a range, and the sums over all of it. session_count: all of the range.

    found: what was taken out of the record; leaks: the secrets of it that left this machine, the newest.
    """

    since: str | None = None
    until: str | None = None
    session_count: int = 0
    total: Figures = msgspec.field(default_factory=Figures)
    tools: list[ToolFigures] = msgspec.field(default_factory=list)
    sessions: list[SessionFigures] = msgspec.field(default_factory=list)
    found: list[FindingFigures] = msgspec.field(default_factory=list)
    leaks: list[FindingRow] = msgspec.field(default_factory=list)


class Group(msgspec.Struct, kw_only=True):
    """One line of a breakdown. value None: not known; name: the title, of a session.

    sessions: by day those with a request in it; by model those whose last model it is, so that each counts once.
    """

    value: str | None
    name: str | None = None
    sessions: int = 0
    requests: int = 0
    ended: int = 0
    errors: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cost_usd: float | None = None
    cost_kind: str | None = None
    cost_unknown: int = 0
    duration_ms: float | None = None

    @property
    def average_ms(self) -> float | None:
        """Of a request's whole time."""
        return self.duration_ms / self.ended if self.ended and self.duration_ms is not None else None


Counted = TypeVar("Counted", Figures, Group)


class Breakdown(msgspec.Struct, kw_only=True):
    """The lines, the dearest first (days: the newest). `tools` instead of groups by tool. left_out: further lines."""

    by: str
    since: str | None = None
    until: str | None = None
    groups: list[Group] = msgspec.field(default_factory=list)
    tools: list[ToolFigures] = msgspec.field(default_factory=list)
    left_out: int = 0


def _among(values: Any) -> str:
    return "(" + ", ".join(f"'{value}'" for value in sorted(values)) + ")"


_BILLED = f"e.state IS NOT NULL AND e.kind IN {_among(PAID)}"
_CACHED = (
    "sum(CASE WHEN {0}dialect = 'anthropic' "
    "THEN ifnull({0}cache_read_tokens, 0) + ifnull({0}cache_write_tokens, 0) END)"
)
_FEW: Mapping[str, str] = {
    "requests": "count(*)",
    "ended": "count(e.duration_ms)",
    "errors": "sum(CASE e.state WHEN 'ok' THEN 0 ELSE "
    f"ifnull(e.state IN {_among(state.value for state in ERRORS)}, 0) END)",
    "input_tokens": "sum(e.input_tokens)",
    "output_tokens": "sum(e.output_tokens)",
    "cache_read_tokens": "sum(e.cache_read_tokens)",
    "cost_usd": "sum(e.cost_usd)",
    "least_kind": "min(e.cost_kind)",
    "most_kind": "max(e.cost_kind)",
    "cost_unknown": f"sum(CASE WHEN e.cost_usd IS NULL THEN {_BILLED} ELSE 0 END)",
    "duration_ms": "sum(e.duration_ms)",
}
_MANY: Mapping[str, str] = {
    **_FEW,
    "turns": "sum(CASE e.kind WHEN 'turn' THEN 1 WHEN 'compaction' THEN 1 ELSE 0 END)",
    "thinking_tokens": "sum(e.thinking_tokens)",
    "cache_write_tokens": "sum(e.cache_write_tokens)",
    "beside_input": _CACHED.format("e."),
    "usage_unknown": f"sum(CASE e.usage_state WHEN 'complete' THEN 0 WHEN 'unknown' THEN {_BILLED} ELSE 0 END)",
    "overhead_ms": "sum(e.overhead_ms)",
}
# the same out of what the store keeps summed per session
_KEPT = {name: f"sum({name})" for name in _MANY} | {
    "ended": "sum(requests) - (SELECT count(*) FROM exchanges WHERE state IS NULL AND session_id IN (SELECT session_id "
    "FROM sessions WHERE {inside}))",
    "duration_ms": "nullif(sum(duration_ms), 0)",
    "overhead_ms": "nullif(sum(overhead_ms), 0)",  # a session has 0 where nothing is known
    "least_kind": "min(cost_kind)",
    "most_kind": "max(cost_kind)",
    "beside_input": _CACHED.format(""),
}
BY: Mapping[str, str] = {
    "model": "coalesce(e.model_used, e.model_requested)",
    "client": "e.client",
    "provider": "e.provider",
    "day": "substr(e.started_at, 1, 13)",
    "tool": "",
    "session": "e.session_id",
    "project": "e.session_id",
}


_HOME = {"model": "coalesce(model_used, model_requested)", "client": "client", "provider": "provider"}


def summary(db: Connection, since: str | None = None, until: str | None = None, limit: int = LIMIT) -> Summary:
    """The exchanges that began in `since <= t < until` (the database's time text), by their newest sessions."""
    where, values = _range(since, until)
    found = Summary(since=since, until=until, tools=_tools(db, since, until))
    found.total, found.session_count = _total(db, since, until)
    found.found = findings.figures(db, since, until)
    found.leaks = findings.leaks(db, since, until, LIMIT)
    newest = _newest(db, since, until, max(0, min(limit, ROWS_LIMIT)))
    where.append(f"e.session_id IN ({', '.join('?' * len(newest))})")
    sums = db.rows(
        f"SELECT e.session_id AS session_id, {_listed(_MANY)} {_from(where)} GROUP BY 1", [*values, *newest]
    )
    figures = {row["session_id"]: _figures(row) for row in sums}
    found.sessions = [
        SessionFigures(
            session_id=session_id, title=row["title"], client=row["client"], model=row["model"],
            figures=figures[session_id], tools=_tools(db, since, until, session_id),
        )
        for session_id, row in newest.items()
        if session_id in figures  # it may have begun before the range and been quiet in it
    ]  # fmt: skip
    return found


def breakdown(
    db: Connection, by: str, since: str | None = None, until: str | None = None, limit: int = 50
) -> Breakdown:
    """The sums of a range by one of BY."""
    if by not in BY:
        raise BadQuestion(f"Statistics can be by {', '.join(BY)}.")
    limit = max(1, min(limit, ROWS_LIMIT))
    found = Breakdown(by=by, since=since, until=until)
    if by == "tool":
        found.tools = _tools(db, since, until)
        found.left_out = max(0, len(found.tools) - limit)
        del found.tools[limit:]
        return found
    if by == "day" and since is None:
        since = _days_back(db, until, limit)
    where, values = _range(since, until)
    # to count distinct sessions here would cost as much as half of the sums
    of_day = "group_concat(DISTINCT e.session_id)" if by == "day" else "1"
    rows = db.rows(f"SELECT {BY[by]} AS value, {of_day} AS sessions, {_listed(_FEW)} {_from(where)} GROUP BY 1", values)
    groups = _days(rows) if by == "day" else [_group(row, row["value"], row["sessions"]) for row in rows]
    if by in _HOME:
        homes = _homes(db, by, since, until)
        for each in groups:
            each.sessions = homes.get(each.value, 0)
    if by == "project":
        known = {row[0]: row[1] for row in db.rows("SELECT session_id, project FROM sessions")}
        groups = _merged(groups, known)
    groups.sort(key=_by_day if by == "day" else _by_weight, reverse=True)
    found.left_out = max(0, len(groups) - limit)
    found.groups = groups[:limit]
    if by == "session":
        for each in found.groups:
            each.name = db.value("SELECT title FROM sessions WHERE session_id = ?", [each.value])
    return found


# --- parts ------------------------------------------------------------------------------------------------------------
def _listed(sums: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {name}" for name, sql in sums.items())


def _from(where: list[str]) -> str:
    return f"FROM exchanges AS e WHERE {' AND '.join(where)}"


def _range(since: str | None, until: str | None) -> tuple[list[str], list[Any]]:
    # the handshake of a WebSocket is kept but is no request of its own
    where, values = ["e.session_id IS NOT NULL", "e.kind IS NOT 'handshake'"], []
    for condition, value in (("e.started_at >= ?", since), ("e.started_at < ?", until)):
        if value:
            where.append(condition)
            values.append(filters.bindable(value))
    return where, values


def _total(db: Connection, since: str | None, until: str | None) -> tuple[Figures, int]:
    """All of a range, and how many sessions: those that lie in it whole as the store has them summed, the rest anew."""
    edges = [filters.bindable(since or ""), filters.bindable(until or "9999")]
    inside, touched = "started_at >= ? AND last_at < ?", "last_at >= ? AND started_at < ?"
    sums = _listed(_KEPT).format(inside=inside)
    kept = db.rows(f"SELECT {sums}, count(*) AS sessions FROM sessions WHERE {inside}", [*edges, *edges])[0]
    total, sessions = _figures(kept), kept["sessions"]
    if since or until:
        where, values = _range(since, until)
        beside = f"SELECT session_id FROM sessions WHERE {touched} AND NOT ({inside})"
        where.append(f"e.session_id IN ({beside})")
        rest = db.rows(
            f"SELECT count(DISTINCT e.session_id) AS sessions, {_listed(_MANY)} {_from(where)}",
            [*values, *edges, *edges],
        )[0]
        _add(total, _figures(rest))
        sessions += rest["sessions"]
    return total, sessions


def _homes(db: Connection, by: str, since: str | None, until: str | None) -> dict[str | None, int]:
    """How many sessions of the range belong to each model, client or provider."""
    rows = db.rows(
        f"SELECT {_HOME[by]}, count(*) FROM sessions WHERE last_at >= ? AND started_at < ? GROUP BY 1",
        [filters.bindable(since or ""), filters.bindable(until or "9999")],
    )
    return {row[0]: row[1] for row in rows}


def _newest(db: Connection, since: str | None, until: str | None, limit: int) -> dict[str, Any]:
    """The sessions that may have something in the range, by their first and last moments."""
    where, values = ["1"], []
    for condition, value in (("last_at >= ?", since), ("started_at < ?", until)):
        if value:
            where.append(condition)
            values.append(filters.bindable(value))
    rows = db.rows(
        "SELECT session_id, title, client, coalesce(model_used, model_requested) AS model FROM sessions "
        f"WHERE {' AND '.join(where)} ORDER BY last_at DESC, session_id LIMIT ?",
        [*values, limit],
    )
    return {row["session_id"]: row for row in rows}


def _tools(db: Connection, since: str | None, until: str | None, session_id: str | None = None) -> list[ToolFigures]:
    """By name, the most used first. A call belongs to the moment it was made."""
    where, values = ["1"], []
    called = "coalesce(called_ns, (SELECT started_ns FROM exchanges WHERE row = exchange))"
    for condition, value in ((f"{called} >= ?", since), (f"{called} < ?", until)):
        if value:
            where.append(condition)
            values.append(_ns(value))
    given: list[Any] = [*values]
    if session_id is not None:
        where.append("session_id = ?")
        given.append(session_id)
    rows = db.rows(
        "SELECT name, count(*) AS calls, count(success) - total(success) AS failures, count(*) - count(success) "
        "AS unknown, avg(duration_ms) AS average_ms, max(duration_ms) AS longest_ms "
        f"FROM tool_calls WHERE {' AND '.join(where)} GROUP BY name ORDER BY calls DESC, name LIMIT ?",
        [*given, ROWS_LIMIT],
    )
    return [
        ToolFigures(
            **{name: row[name] for name in ToolFigures.__struct_fields__ if name != "failures"},
            failures=int(row["failures"]),
        )
        for row in rows
    ]


def _ns(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadQuestion("A range is written as 2026-01-31 14:00:00, in UTC.") from None
    found = found.replace(tzinfo=UTC)
    return int(found.timestamp()) * 1_000_000_000 + found.microsecond * 1000


def _figures(row: Any) -> Figures:
    known = {name: row[name] for name in _MANY if row[name] is not None}
    beside, least, most = (known.pop(name, None) for name in ("beside_input", "least_kind", "most_kind"))
    made = Figures(**known, cost_kind=least if least == most else MIXED)
    if made.input_tokens is not None or made.output_tokens is not None:
        made.total_tokens = (made.input_tokens or 0) + (made.output_tokens or 0) + (beside or 0)
    return made


def _group(row: Any, value: str | None, sessions: int) -> Group:
    known = {name: row[name] for name in _FEW if row[name] is not None}
    least, most = known.pop("least_kind", None), known.pop("most_kind", None)
    return Group(value=value, sessions=sessions, cost_kind=least if least == most else MIXED, **known)


def _merged(groups: list[Group], names: Mapping[str | None, str | None]) -> list[Group]:
    """Groups of the same name as one."""
    out: dict[str | None, Group] = {}
    for each in groups:
        name = names.get(each.value)
        if name not in out:
            out[name] = Group(value=name)
        _add(out[name], each)
    return list(out.values())


def _add(to: Counted, more: Counted) -> None:
    if more.cost_kind is not None:
        to.cost_kind = more.cost_kind if to.cost_kind in (None, more.cost_kind) else MIXED
    for name in to.__struct_fields__:
        value = getattr(more, name)
        if isinstance(value, int | float):
            setattr(to, name, (getattr(to, name) or 0) + value)


def _days(rows: list[Any]) -> list[Group]:
    """Hours in UTC as days of the zone that this machine is in. (Where zones are off by half an hour, so is a day.)"""
    hours = [_group(row, row["value"], 0) for row in rows]
    names = {hour.value: _local_day(hour.value) for hour in hours}
    seen: dict[str | None, set[str]] = {}
    for row in rows:
        seen.setdefault(names[row["value"]], set()).update(row["sessions"].split(","))
    days = _merged(hours, names)
    for day in days:
        day.sessions = len(seen[day.value])
    return days


def _local_day(hour: str | None) -> str | None:
    try:
        return f"{datetime.fromisoformat(f'{hour}:00').replace(tzinfo=UTC).astimezone():%Y-%m-%d}"
    except (ValueError, OverflowError):
        return hour


def _days_back(db: Connection, until: str | None, days: int) -> str | None:
    """So many days before the last moment that is recorded: older ones are not shown, so they need not be summed."""
    last = db.value("SELECT max(last_at) FROM sessions WHERE started_at < ?", [filters.bindable(until or "9")])
    try:
        moment = datetime.fromisoformat(min(str(last), until or "9"))
        return f"{moment - timedelta(days=days):%Y-%m-%d} 00:00:00"
    except (ValueError, OverflowError):
        return None


def _by_day(group: Group) -> str:
    return group.value or ""


def _by_weight(group: Group) -> tuple[float, int, int]:
    return group.cost_usd or 0.0, (group.input_tokens or 0) + (group.output_tokens or 0), group.requests
