"""The SQLite schema as numbered migrations. Must not know how rows come to be.

`user_version` says how many of MIGRATIONS a database has seen. One migration is one transaction; a released one is
never edited, the next change is a new one.
"""

from __future__ import annotations

import sqlite3

from lunaroute.errors import StoreError
from lunaroute.stores import findings, hourly

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

# Version 2. Exchanges get a number (`row`, never used again) that packs, the search index and tool calls name them by.
# `packs` holds what an exchange brought that was new; see stores/packs.py. `bodies` stays for what version 1 wrote.
_V2 = (
    "ALTER TABLE exchanges RENAME TO exchanges_1",
    "DROP INDEX exchanges_session",
    "DROP INDEX exchanges_running",
    """
    CREATE TABLE exchanges (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        session_id TEXT,
        sequence INTEGER,
        started_at TEXT NOT NULL,
        started_ns INTEGER NOT NULL,
        state TEXT,
        error TEXT,
        error_kind TEXT,
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
        continues TEXT,
        input_tokens INTEGER,
        output_tokens INTEGER,
        thinking_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_tokens INTEGER,
        cache_write_5m_tokens INTEGER,
        cache_write_1h_tokens INTEGER,
        audio_input_tokens INTEGER,
        audio_output_tokens INTEGER,
        web_search_requests INTEGER,
        service_tier TEXT,
        usage_state TEXT,
        usage_more TEXT,
        cost_usd REAL,
        cost_kind TEXT,
        price_id TEXT,
        tool_calls INTEGER,
        attempts INTEGER,
        duration_ms REAL,
        ttfb_ms REAL,
        first_content_ms REAL,
        overhead_ms REAL,
        before_ms REAL,
        connect_ms REAL,
        upload_ms REAL,
        wait_ms REAL,
        content_ms REAL,
        generation_ms REAL,
        after_ms REAL,
        request_bytes INTEGER,
        response_bytes INTEGER,
        truncated INTEGER,
        lost_bytes INTEGER,
        cache_miss_reason TEXT
    )
    """,
    """
    INSERT INTO exchanges (id, session_id, sequence, started_at, started_ns, state, error, method, target, status,
        provider, dialect, client, client_version, transport, kind, model_requested, model_used, stream, stop_reason,
        response_id, input_tokens, output_tokens, thinking_tokens, cache_read_tokens, cache_write_tokens, service_tier,
        usage_state, attempts, duration_ms, ttfb_ms, first_content_ms, overhead_ms, connect_ms, request_bytes,
        response_bytes, truncated, lost_bytes)
    SELECT id, session_id, sequence, started_at, started_ns, state, error, method, target, status,
        provider, dialect, client, client_version, transport, kind, model_requested, model_used, stream, stop_reason,
        response_id, input_tokens, output_tokens, thinking_tokens, cache_read_tokens, cache_write_tokens, service_tier,
        usage_state, attempts, duration_ms, ttfb_ms, first_content_ms, overhead_ms, connect_ms, request_bytes,
        response_bytes, truncated, lost_bytes
    FROM exchanges_1 ORDER BY started_ns, id
    """,
    "DROP TABLE exchanges_1",
    "CREATE INDEX exchanges_session ON exchanges (session_id, sequence)",
    "CREATE INDEX exchanges_started ON exchanges (started_ns)",
    "CREATE INDEX exchanges_running ON exchanges (row) WHERE state IS NULL",
    # few: nearly every exchange ends well
    "CREATE INDEX exchanges_state ON exchanges (state, session_id) WHERE state != 'ok'",
    # base: the exchange whose pieces this one takes up; 0 = none. blobs it names are counted in blobs.uses; a number is
    # never used again, so that a reader may keep what it read
    """
    CREATE TABLE packs (
        exchange INTEGER PRIMARY KEY,
        base INTEGER NOT NULL DEFAULT 0,
        data BLOB NOT NULL
    )
    """,
    "CREATE INDEX packs_base ON packs (base) WHERE base != 0",
    """
    CREATE TABLE blobs (
        blob INTEGER PRIMARY KEY AUTOINCREMENT,
        hash BLOB NOT NULL UNIQUE,
        uses INTEGER NOT NULL DEFAULT 0,
        data BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE attempts (
        exchange INTEGER NOT NULL,
        number INTEGER NOT NULL,
        provider TEXT,
        origin TEXT,
        status INTEGER,
        error TEXT,
        sent INTEGER NOT NULL DEFAULT 0,
        reused INTEGER NOT NULL DEFAULT 0,
        connect_ms REAL,
        tls_ms REAL,
        PRIMARY KEY (exchange, number)
    ) WITHOUT ROWID
    """,
    # success: 1, 0, or NULL where nothing tells. duration_ms: from the finished call to the request that brought its
    # result, so an upper bound of what the tool took. arguments: their beginning
    """
    CREATE TABLE tool_calls (
        session_id TEXT NOT NULL,
        call_id TEXT NOT NULL,
        exchange INTEGER NOT NULL,
        name TEXT NOT NULL,
        kind TEXT NOT NULL,
        arguments TEXT,
        arguments_bytes INTEGER,
        called_ns INTEGER,
        result_exchange INTEGER,
        result_bytes INTEGER,
        duration_ms REAL,
        success INTEGER,
        PRIMARY KEY (session_id, call_id)
    ) WITHOUT ROWID
    """,
    # the newest word on each window; `credential` tells accounts apart without telling who they are
    """
    CREATE TABLE limits (
        provider TEXT NOT NULL,
        credential TEXT NOT NULL DEFAULT '',
        name TEXT NOT NULL,
        seen_ns INTEGER NOT NULL,
        "limit" REAL,
        remaining REAL,
        used REAL,
        resets_ns INTEGER,
        window_minutes REAL,
        status TEXT,
        PRIMARY KEY (provider, credential, name)
    ) WITHOUT ROWID
    """,
    # what filters can offer
    "CREATE TABLE facets (kind TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, value)) WITHOUT ROWID",
    *(
        f"INSERT INTO facets SELECT DISTINCT '{kind}', {kind} FROM sessions WHERE {kind} IS NOT NULL"
        for kind in ("model_used", "client", "provider")
    ),
    # the text itself is in the packs: this is the index alone (words and the exchanges that have them)
    "CREATE VIRTUAL TABLE search USING fts5(text, content='', detail=none, columnsize=0, tokenize='unicode61')",
    "INSERT INTO search (search, rank) VALUES ('pgsz', 8000)",  # a leaf of the index fills a page of a new database
    "INSERT INTO search (search, rank) VALUES ('usermerge', 2)",  # upkeep merges where two parts are of a size
    *(
        f"ALTER TABLE sessions ADD COLUMN {column}"
        for column in (
            "turns INTEGER NOT NULL DEFAULT 0",
            "tool_calls INTEGER NOT NULL DEFAULT 0",
            "tool_failures INTEGER NOT NULL DEFAULT 0",
            "cost_usd REAL",
            "cost_kind TEXT",
            "cost_unknown INTEGER NOT NULL DEFAULT 0",
            "overhead_ms REAL NOT NULL DEFAULT 0",
            "project TEXT",
            "thread BLOB",
        )
    ),
    "UPDATE sessions SET turns = requests",
    "CREATE INDEX sessions_thread ON sessions (thread) WHERE thread IS NOT NULL",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_V1, _V2, (*hourly.STATEMENTS, *findings.STATEMENTS))
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
