"""What was taken out of the record: which kinds of values, where, and where first (part of migration 3).

One row for a value of a session and a side of it: a history that is sent again with each request brings nothing new.
The value is nowhere; its digest is that of its token. Read and written here; must not know how values are found.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from lunaroute.records import Exchange, Finding
from lunaroute.stores.readonly import Connection

STATEMENTS = (
    """
    CREATE TABLE findings (
        session_id TEXT NOT NULL,
        place TEXT NOT NULL,
        kind TEXT NOT NULL,
        digest TEXT NOT NULL,
        name TEXT NOT NULL,
        exchange INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (session_id, place, kind, digest)
    ) WITHOUT ROWID
    """,
)
_ADD = "INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
LIMIT = 500
EACH = 10_000  # of one exchange: somebody's table of customers need not be counted to its end


class FindingRow(msgspec.Struct, kw_only=True):
    """A value that was taken out. place: request (it left this machine) or response. count: in its first exchange."""

    session_id: str
    place: str
    kind: str
    name: str
    digest: str
    count: int
    exchange_id: str
    sequence: int
    started_at: str
    title: str | None = None


class FindingFigures(msgspec.Struct, kw_only=True):
    """How many values of one name were taken out, of how many sessions."""

    place: str
    kind: str
    name: str
    values: int
    sessions: int


def add(connection: sqlite3.Connection, exchange: Exchange, number: int) -> None:
    """Those of an exchange, which is stored under this number."""
    put(connection, exchange.session_id, number, exchange.found)


def put(connection: sqlite3.Connection, session: str, number: int, found: Sequence[Finding]) -> None:
    """Those that an exchange of a session had; what the session had before is known."""
    connection.executemany(
        _ADD,
        [(session, each.place, each.kind, each.digest, each.name, number, each.count) for each in found[:EACH]],
    )


def forget_exchange(connection: sqlite3.Connection, session: str, number: int) -> None:
    """The exchange is gone. (What came again after it is known when it comes once more.)"""
    connection.execute("DELETE FROM findings WHERE session_id = ? AND exchange = ?", (session, number))


def forget_session(connection: sqlite3.Connection, session: str) -> None:
    """The session is gone."""
    connection.execute("DELETE FROM findings WHERE session_id = ?", (session,))


_ROWS = (
    "SELECT f.session_id AS session_id, f.place AS place, f.kind AS kind, f.name AS name, f.digest AS digest, "
    "f.count AS count, e.id AS exchange_id, ifnull(e.sequence, 0) AS sequence, e.started_at AS started_at, "
    "s.title AS title FROM findings AS f JOIN exchanges AS e ON e.row = f.exchange "
    "LEFT JOIN sessions AS s ON s.session_id = f.session_id "
)
# secrets first, then what left this machine, then in order
_ORDER = " ORDER BY f.kind = 'secret' DESC, f.place = 'request' DESC, f.exchange, f.kind, f.name LIMIT ?"


def of_session(db: Connection, session_id: str, limit: int = LIMIT) -> list[FindingRow]:
    """What was taken out of a session."""
    return _rows(db, f"{_ROWS} WHERE f.session_id = ? {_ORDER}", [session_id, limit])


def leaks(db: Connection, since: str | None, until: str | None, limit: int = LIMIT) -> list[FindingRow]:
    """Secrets that left this machine in this time, the newest first."""
    return _rows(
        db,
        f"{_ROWS} WHERE f.kind = 'secret' AND f.place = 'request' AND e.started_at >= ? AND e.started_at < ? "
        "ORDER BY f.exchange DESC, f.name LIMIT ?",
        [since or "", until or "9999", limit],
    )


def figures(db: Connection, since: str | None, until: str | None) -> list[FindingFigures]:
    """By name, what left this machine first, the most first."""
    names = FindingFigures.__struct_fields__
    found = db.rows(
        "SELECT f.place AS place, f.kind AS kind, f.name AS name, count(DISTINCT f.digest) AS 'values', "
        "count(DISTINCT f.session_id) AS sessions FROM findings AS f JOIN exchanges AS e ON e.row = f.exchange "
        "WHERE e.started_at >= ? AND e.started_at < ? GROUP BY 1, 2, 3 "
        "ORDER BY f.place = 'request' DESC, f.kind = 'secret' DESC, 4 DESC, f.name LIMIT ?",
        [since or "", until or "9999", LIMIT],
    )
    return [FindingFigures(**{name: row[name] for name in names}) for row in found]


def _rows(db: Connection, sql: str, values: list[object]) -> list[FindingRow]:
    names = FindingRow.__struct_fields__
    return [FindingRow(**{name: row[name] for name in names}) for row in db.rows(sql, values)]
