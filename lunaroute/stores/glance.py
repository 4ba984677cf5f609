"""What is to be seen at a glance: running exchanges, rate-limit windows, recent errors, attempts. Read-only."""

from __future__ import annotations

from typing import Any

import msgspec

from lunaroute.stores import queries
from lunaroute.stores.hourly import HOUR_NS
from lunaroute.stores.readonly import Connection
from lunaroute.stores.rows import ExchangeRow

MINUTE_NS = 60_000_000_000
ERRORS_LIMIT = 5_000  # the newest, that are looked at
LIMITS_DAYS = 30  # a window that nobody has told of for so long is no news


class ErrorGroup(msgspec.Struct, kw_only=True):
    """Exchanges that ended badly in the same way. newest: the id of one."""

    state: str
    kind: str | None
    status: int | None
    provider: str | None
    count: int
    last_at: str
    newest: str


class Limit(msgspec.Struct, kw_only=True):
    """One rate-limit or quota window as the last answer told it. full_ns: when it will be used up at its pace so far.

    credential: tells accounts apart. used: share 0..1.
    """

    provider: str
    credential: str
    name: str
    seen_ns: int
    limit: float | None = None
    remaining: float | None = None
    used: float | None = None
    resets_ns: int | None = None
    window_minutes: float | None = None
    status: str | None = None
    full_ns: int | None = None


def errors(db: Connection, since_ns: int, until_ns: int, limit: int = 50) -> list[ErrorGroup]:
    """What went wrong, the most frequent first, out of the newest that did."""
    rows = db.rows(
        "SELECT state, error_kind, status, provider, count(*), max(started_at), id FROM (SELECT * FROM exchanges "
        "WHERE row IN (SELECT row FROM exchanges WHERE state != 'ok' ORDER BY row DESC LIMIT ?) "
        "AND state != 'client_cancelled' AND started_ns >= ? AND started_ns < ? AND kind IS NOT 'handshake') "
        "GROUP BY 1, 2, 3, 4 "
        "ORDER BY 5 DESC, 6 DESC LIMIT ?",
        [ERRORS_LIMIT, since_ns, until_ns, limit],
    )
    return [
        ErrorGroup(
            state=row[0], kind=row[1], status=row[2], provider=row[3], count=row[4], last_at=row[5], newest=row[6]
        )
        for row in rows
    ]


def limits(db: Connection, now_ns: int, rows_limit: int = 200) -> list[Limit]:
    """The newest word on every window that has not long passed, by provider."""
    rows = db.rows(
        'SELECT provider, credential, name, seen_ns, "limit", remaining, used, resets_ns, window_minutes, status '
        "FROM limits WHERE seen_ns > ? ORDER BY provider, credential, name LIMIT ?",
        [now_ns - LIMITS_DAYS * 24 * HOUR_NS, rows_limit],
    )
    return [_limit(Limit(**{name: row[name] for name in row.keys()}), now_ns) for row in rows]  # noqa: SIM118


def _limit(found: Limit, now_ns: int) -> Limit:
    if found.used is None and found.limit and found.remaining is not None:
        found.used = min(1.0, max(0.0, 1 - found.remaining / found.limit))
    if found.used is None or found.resets_ns is None or found.window_minutes is None:
        return found
    if found.resets_ns <= now_ns:
        found.used = 0.0  # it has begun anew since
        return found
    begun = found.resets_ns - int(found.window_minutes * MINUTE_NS)
    gone = found.seen_ns - begun
    if gone > 0 and 0 < found.used < 1:
        full = begun + int(gone / found.used)
        found.full_ns = full if full < found.resets_ns else None
    return found


def running(db: Connection, limit: int = 50) -> list[ExchangeRow]:
    """The exchanges that have begun and not ended, the oldest first."""
    found = db.rows(
        f"SELECT {queries.EXCHANGE_COLUMNS} FROM exchanges WHERE state IS NULL ORDER BY row LIMIT ?", [limit]
    )
    return [queries.exchange_of(row) for row in found]


def running_of(db: Connection, session_id: str) -> list[str]:
    """The ids of the running exchanges of one session."""
    found = db.rows(
        "SELECT id FROM exchanges WHERE state IS NULL AND session_id = ? ORDER BY row LIMIT 8",
        [queries.valid_id(session_id)],
    )
    return [row[0] for row in found]


def session_count(db: Connection, since: str, until: str | None, most: int) -> int:
    """Sessions with something in this time (the database's time text), counted up to `most`. until None: up to now."""
    before, values = (" AND started_at < ?", [until]) if until else ("", [])
    found = db.value(
        f"SELECT count(*) FROM (SELECT 1 FROM sessions WHERE last_at >= ?{before} LIMIT ?)", [since, *values, most]
    )
    return int(found)


def attempts(db: Connection, limit: int = 1_000) -> list[dict[str, Any]]:
    """By provider and origin, what became of the attempts of the newest exchanges."""
    rows = db.rows(
        "SELECT provider, origin, count(*) AS attempts, sum(reused) AS reused, sum(error IS NOT NULL) AS failed, "
        "sum(number > 1) AS repeated, avg(CASE WHEN reused THEN NULL ELSE connect_ms END) AS connect_ms, "
        "avg(CASE WHEN reused THEN NULL ELSE tls_ms END) AS tls_ms, sum(status >= 500) AS answered_5xx, "
        "sum(status IN (429, 529)) AS limited FROM attempts WHERE exchange > "
        "(SELECT max(row) - ? FROM exchanges) GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 50",
        [limit],
    )
    return [{name: row[name] for name in row.keys()} for row in rows]  # noqa: SIM118
