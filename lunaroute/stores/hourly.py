"""Sums per hour, for charts over a month of a million exchanges: what is summed, and how it is kept (migration 3).

Hours that are over are summed once, by the upkeep (`roll`), so that a record costs nothing more to write. Whatever
changes rows of such an hour later (a deletion, retention, new prices, an import, an exchange that ran for hours)
makes it stale: triggers note that in the transaction of the change. Readers (stores/charts.py) sum stale hours, and
those that are not rolled yet, from the rows; so what they see is always what the rows say.

`tallies` count times by their size, for percentiles: bucket n holds what is below EDGES[n] milliseconds and not below
EDGES[n-1]. An edge is the square root of two times the one before, so a percentile is right within a fifth.

What is counted follows stores/statistics.py: exchanges that have ended and belong to a session, without the
handshakes of WebSockets. A tool call belongs to the hour in which its exchange began. Must not know what charts are
drawn.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator

HOUR_NS = 3_600_000_000_000
EDGES = tuple(0.01 * 2 ** (step / 2) for step in range(56))  # 10 us to half an hour
ALL = 0  # the series that all are together, so that charts of everything read few rows

_PAID = "e.kind IN ('compaction', 'prewarm', 'probe', 'title', 'turn')"
SUMS: dict[str, str] = {
    "requests": "1",
    "ok": "e.state = 'ok'",
    "cancelled": "e.state = 'client_cancelled'",
    "errors": "e.state IN ('upstream_error', 'timeout', 'proxy_error', 'interrupted')",
    "limited": "ifnull(e.status IN (429, 529), 0)",
    # what was neither read from a cache nor written to one; OpenAI's figure includes what was read
    "fresh_tokens": "ifnull(CASE WHEN e.dialect = 'anthropic' THEN e.input_tokens "
    "ELSE max(0, e.input_tokens - ifnull(e.cache_read_tokens, 0)) END, 0)",
    "cache_read_tokens": "ifnull(e.cache_read_tokens, 0)",
    "cache_write_tokens": "ifnull(e.cache_write_tokens, 0)",
    "output_tokens": "ifnull(e.output_tokens, 0)",
    "thinking_tokens": "ifnull(e.thinking_tokens, 0)",
    "usage_unknown": f"ifnull(e.usage_state = 'unknown' AND {_PAID}, 0)",
    "cost_usd": "ifnull(e.cost_usd, 0.0)",
    "equivalent_usd": "CASE WHEN e.cost_kind IS NOT NULL AND e.cost_kind != 'api' THEN ifnull(e.cost_usd, 0.0) "
    "ELSE 0.0 END",
    "cost_unknown": f"ifnull(e.cost_usd IS NULL AND {_PAID} AND ifnull(e.status, 0) < 400 "
    "AND ifnull(e.status, 0) != 101, 0)",
    "tool_calls": "ifnull(e.tool_calls, 0)",
    "duration_ms": "ifnull(e.duration_ms, 0.0)",
    "firsts": "e.first_content_ms IS NOT NULL",
    "first_ms": "ifnull(e.first_content_ms, 0.0)",
    "spoken_tokens": "CASE WHEN e.generation_ms > 0 THEN ifnull(e.output_tokens, 0) ELSE 0 END",
    "spoken_ms": "CASE WHEN e.output_tokens > 0 THEN ifnull(e.generation_ms, 0.0) ELSE 0.0 END",
}
NAMES: dict[str, str] = {
    "model": "ifnull(e.model_used, ifnull(e.model_requested, ''))",
    "client": "ifnull(e.client, '')",
    "provider": "ifnull(e.provider, '')",
}
# the times of an exchange that are counted by their size
TIMES: dict[str, str] = {
    "first": "e.first_content_ms",
    "total": "CASE WHEN e.state = 'ok' THEN e.duration_ms END",
    "proxy": "e.overhead_ms",
}
TOOL_SUMS: dict[str, str] = {
    "calls": "count(*)",
    "told": "count(t.success)",
    "failures": "count(t.success) - CAST(total(t.success) AS INTEGER)",
    "timed": "count(t.duration_ms)",
    "duration_ms": "total(t.duration_ms)",
}
# of exchanges that began at ?1 or later and before ?2
_COUNTED = (
    "FROM exchanges AS e WHERE e.started_ns >= ?1 AND e.started_ns < ?2 "
    "AND e.state IS NOT NULL AND e.session_id IS NOT NULL AND e.kind IS NOT 'handshake'"
)
_CALLS = (
    "FROM exchanges AS e CROSS JOIN tool_calls AS t ON t.session_id = e.session_id AND t.exchange = e.row "
    "WHERE e.started_ns >= ?1 AND e.started_ns < ?2 AND e.tool_calls > 0 AND e.state IS NOT NULL"
)
_GROUPED = f"e.started_ns / {{unit}} AS hour, {', '.join(f'{sql} AS {name}' for name, sql in NAMES.items())}"


def bucket(value: str) -> str:
    """The number of the bucket that a time in milliseconds belongs to, as an expression."""
    return _search(value, 0, len(EDGES))


def _search(value: str, low: int, high: int) -> str:
    if low == high:
        return str(low)
    middle = (low + high) // 2
    return (
        f"CASE WHEN {value} < {EDGES[middle]:.6g} THEN {_search(value, low, middle)} "
        f"ELSE {_search(value, middle + 1, high)} END"
    )


def sums_of(unit_ns: int) -> str:
    """hour (or whatever unit), model, client, provider and SUMS of what began from ?1 on and before ?2."""
    sums = ", ".join(f"sum({sql})" for sql in SUMS.values())
    return f"SELECT {_GROUPED.format(unit=unit_ns)}, {sums} {_COUNTED} GROUP BY 1, 2, 3, 4"


def times_of(kind: str, unit_ns: int) -> str:
    """hour, model, client, provider, bucket and how many, of one of TIMES."""
    inner = f"SELECT {_GROUPED.format(unit=unit_ns)}, {TIMES[kind]} AS value {_COUNTED}"
    return (
        f"SELECT hour, model, client, provider, {bucket('value')}, count(*) FROM ({inner}) "
        "WHERE value IS NOT NULL GROUP BY 1, 2, 3, 4, 5"
    )


def tools_of() -> str:
    """hour, name and TOOL_SUMS of the calls of what began from ?1 on and before ?2."""
    return f"SELECT e.started_ns / {HOUR_NS}, t.name, {', '.join(TOOL_SUMS.values())} {_CALLS} GROUP BY 1, 2"


def tool_times_of() -> str:
    """hour, name, bucket and how many."""
    return (
        f"SELECT e.started_ns / {HOUR_NS}, t.name, {bucket('t.duration_ms')}, count(*) {_CALLS} "
        "AND t.duration_ms IS NOT NULL GROUP BY 1, 2, 3"
    )


# --- keeping them -----------------------------------------------------------------------------------------------------
def roll(
    transaction: Callable[[], contextlib.AbstractContextManager[sqlite3.Connection]], now_ns: int
) -> Iterator[int]:
    """Sum what is stale and what is over, an hour in a transaction; yields the hour after each."""
    while True:
        with transaction() as db:
            hour = _due(db, now_ns)
            if hour is not None:
                _roll(db, hour)
        if hour is None:
            return
        yield hour


def _due(db: sqlite3.Connection, now_ns: int) -> int | None:
    stale = db.execute("SELECT min(hour) FROM stale").fetchone()[0]
    if stale is not None:
        return int(stale)
    until: int = db.execute("SELECT until FROM rolled").fetchone()[0]
    found = db.execute("SELECT min(started_ns) FROM exchanges WHERE started_ns >= ?", (until * HOUR_NS,)).fetchone()[0]
    hour = None if found is None else int(found) // HOUR_NS
    return None if hour is None or (hour + 1) * HOUR_NS > now_ns else hour


def _roll(db: sqlite3.Connection, hour: int) -> None:
    _clear(db, [hour])
    db.execute("DELETE FROM stale WHERE hour = ?", (hour,))
    times = hour * HOUR_NS, (hour + 1) * HOUR_NS
    series: dict[tuple[str, ...], int] = {
        tuple(row[1:]): row[0] for row in db.execute("SELECT series, model, client, provider FROM series")
    }
    whole: list[float] = []
    counts: dict[tuple[str, int], int] = {}

    def number(names: tuple[str, ...]) -> int:
        if names not in series:
            made = db.execute("INSERT INTO series (model, client, provider) VALUES (?, ?, ?)", names)
            series[names] = made.lastrowid or 0
        return series[names]

    for row in db.execute(sums_of(HOUR_NS), times).fetchall():
        _insert(db, "hours", (number(row[1:4]), hour, *row[4:]))
        whole = [one + more for one, more in zip(whole or [0] * len(SUMS), row[4:], strict=True)]
    if whole:
        _insert(db, "hours", (ALL, hour, *whole))
    for kind in TIMES:
        for row in db.execute(times_of(kind, HOUR_NS), times).fetchall():
            _insert(db, "tallies", (number(row[1:4]), kind, hour, *row[4:]))
            counts[kind, row[4]] = counts.get((kind, row[4]), 0) + row[5]
    for (kind, place), count in counts.items():
        _insert(db, "tallies", (ALL, kind, hour, place, count))
    for table, statement in (("tool_hours", tools_of()), ("tool_tallies", tool_times_of())):
        for row in db.execute(statement, times).fetchall():
            _insert(db, table, tuple(row))
    db.execute("UPDATE rolled SET until = max(until, ?)", (hour + 1,))


def _insert(db: sqlite3.Connection, table: str, values: tuple[object, ...]) -> None:
    db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)


def _clear(db: sqlite3.Connection, hours: Iterable[int]) -> None:
    """No sum of these hours is left. By series first, as the rows lie."""
    series = [ALL, *(row[0] for row in db.execute("SELECT series FROM series"))]
    kinds = ", ".join(f"'{kind}'" for kind in TIMES)
    for hour in hours:
        places = [(each, hour) for each in series]
        db.executemany("DELETE FROM hours WHERE series = ? AND hour = ?", places)
        db.executemany(f"DELETE FROM tallies WHERE series = ? AND kind IN ({kinds}) AND hour = ?", places)
        for table in ("tool_hours", "tool_tallies"):
            db.execute(f"DELETE FROM {table} WHERE hour = ?", (hour,))


def wipe(db: sqlite3.Connection) -> None:
    """After a deletion: no name is left in a sum that is to be made anew, nor one that no sum is about."""
    _clear(db, [row[0] for row in db.execute("SELECT hour FROM stale").fetchall()])
    db.execute("DELETE FROM series WHERE series NOT IN (SELECT series FROM hours)")


# --- the schema: never changes once it is released --------------------------------------------------------------------
def _stale(name: str, event: str, started_ns: str) -> str:
    return (
        f"CREATE TRIGGER {name} AFTER {event} WHEN {started_ns} < (SELECT until * {HOUR_NS} FROM rolled) BEGIN "
        f"INSERT INTO stale SELECT {started_ns} / {HOUR_NS} WHERE true ON CONFLICT DO NOTHING; END"
    )


STATEMENTS = (
    # which model, client and provider a sum is about; '' is what is not known. Series 0 is all of them together
    "CREATE TABLE series (series INTEGER PRIMARY KEY, model TEXT NOT NULL, client TEXT NOT NULL, "
    "provider TEXT NOT NULL, UNIQUE (model, client, provider))",
    # hour: since 1970, UTC
    """
    CREATE TABLE hours (
        series INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        ok INTEGER NOT NULL,
        cancelled INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        limited INTEGER NOT NULL,
        fresh_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        thinking_tokens INTEGER NOT NULL,
        usage_unknown INTEGER NOT NULL,
        cost_usd REAL NOT NULL,
        equivalent_usd REAL NOT NULL,
        cost_unknown INTEGER NOT NULL,
        tool_calls INTEGER NOT NULL,
        duration_ms REAL NOT NULL,
        firsts INTEGER NOT NULL,
        first_ms REAL NOT NULL,
        spoken_tokens INTEGER NOT NULL,
        spoken_ms REAL NOT NULL,
        PRIMARY KEY (series, hour)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tallies (
        series INTEGER NOT NULL,
        kind TEXT NOT NULL,
        hour INTEGER NOT NULL,
        bucket INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (series, kind, hour, bucket)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tool_hours (
        hour INTEGER NOT NULL,
        name TEXT NOT NULL,
        calls INTEGER NOT NULL,
        told INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        timed INTEGER NOT NULL,
        duration_ms REAL NOT NULL,
        PRIMARY KEY (hour, name)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tool_tallies (
        hour INTEGER NOT NULL,
        name TEXT NOT NULL,
        bucket INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (hour, name, bucket)
    ) WITHOUT ROWID
    """,
    # hours before `until` are summed above, but for the stale ones
    "CREATE TABLE rolled (until INTEGER NOT NULL)",
    "INSERT INTO rolled VALUES (0)",
    "CREATE TABLE stale (hour INTEGER PRIMARY KEY)",
    _stale("exchange_came_late", "INSERT ON exchanges", "NEW.started_ns"),
    _stale("exchange_ended_late", "UPDATE OF state, cost_usd ON exchanges", "NEW.started_ns"),
    _stale("exchange_removed", "DELETE ON exchanges", "OLD.started_ns"),
    _stale(
        "tool_answered_late",
        "UPDATE OF result_exchange ON tool_calls",
        "(SELECT started_ns FROM exchanges WHERE row = NEW.exchange)",
    ),
)
