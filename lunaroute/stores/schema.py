"""The SQLite schema as numbered migrations. Must not know how rows come to be.

`user_version` says how many of MIGRATIONS a database has seen. One migration is one transaction; a released one is
never edited, the next change is a new one.
"""

from __future__ import annotations

import sqlite3

from lunaroute.errors import StoreError

# Times of sessions and exchanges are text in SQLite's own form, UTC, so that they compare with datetime('now', ...).
_V1 = (
    """
    CREATE TABLE sessions (
        session_id TEXT PRIMARY KEY,
        started_at TEXT NOT NULL,
        last_at TEXT NOT NULL,
        client TEXT,
        client_version TEXT,
        signal TEXT,
        parent_session_id TEXT,
        provider TEXT,
        dialect TEXT,
        model_requested TEXT,
        model_used TEXT,
        title TEXT,
        requests INTEGER NOT NULL DEFAULT 0,
        errors INTEGER NOT NULL DEFAULT 0,
        input_tokens INTEGER,
        output_tokens INTEGER,
        thinking_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_tokens INTEGER,
        usage_unknown INTEGER NOT NULL DEFAULT 0,
        duration_ms REAL NOT NULL DEFAULT 0,
        jsonl_path TEXT
    )
    """,
    """
    CREATE TABLE exchanges (
        id TEXT PRIMARY KEY,
        session_id TEXT,
        sequence INTEGER,
        started_at TEXT NOT NULL,
        started_ns INTEGER NOT NULL,
        state TEXT,
        error TEXT,
        method TEXT,
        target TEXT,
        status INTEGER,
        provider TEXT,
        dialect TEXT,
        client TEXT,
        client_version TEXT,
        transport TEXT,
        kind TEXT,
        model_requested TEXT,
        model_used TEXT,
        stream INTEGER,
        stop_reason TEXT,
        response_id TEXT,
        input_tokens INTEGER,
        output_tokens INTEGER,
        thinking_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_tokens INTEGER,
        service_tier TEXT,
        usage_state TEXT,
        attempts INTEGER,
        duration_ms REAL,
        ttfb_ms REAL,
        first_content_ms REAL,
        overhead_ms REAL,
        connect_ms REAL,
        request_bytes INTEGER,
        response_bytes INTEGER,
        truncated INTEGER,
        lost_bytes INTEGER
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE bodies (
        exchange_id TEXT PRIMARY KEY,
        request_headers TEXT,
        response_headers TEXT,
        attempts TEXT,
        timings TEXT,
        request_body BLOB,
        response_body BLOB,
        request_decode_error TEXT,
        response_decode_error TEXT
    )
    """,
    "CREATE INDEX sessions_last ON sessions (last_at)",
    "CREATE INDEX sessions_parent ON sessions (parent_session_id) WHERE parent_session_id IS NOT NULL",
    "CREATE INDEX exchanges_session ON exchanges (session_id, sequence)",
    "CREATE INDEX exchanges_running ON exchanges (id) WHERE state IS NULL",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_V1,)
VERSION = len(MIGRATIONS)


class Unusable(StoreError):
    """The file is no database of ours, is damaged, or is newer than this program."""


def check(connection: sqlite3.Connection) -> int:
    """How many migrations the database has seen; raises Unusable for a newer or a foreign one, and changes nothing."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise Unusable(f"it was written by a newer LunaRoute (schema {version}, this one knows {VERSION})")
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise Unusable("it is a database of another program")
    return version


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to VERSION."""
    version = check(connection)
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
