"""The SQLite store: sessions, exchanges, bodies in one file, one connection that both writes and checkpoints.

Must not know who reads the file (stores/queries.py does, on connections of its own, read-only).

A second program on the same file would break "one writer, one checkpointer" (security.md S4), so a lock file beside the
database is held while it is open. A database that cannot be used is renamed, never deleted, and a new one is begun.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from lunaroute.errors import StoreError
from lunaroute.records import Closed, Exchange, Opened, Record, State, Usage
from lunaroute.stores import schema
from lunaroute.stores.files import open_private, private_folder

# Short: while the observer waits here it reads no ring. The batch is kept and tried again by the caller.
BUSY_TIMEOUT_MS = 250
_ERRORS = (State.UPSTREAM_ERROR, State.TIMEOUT, State.PROXY_ERROR, State.INTERRUPTED)
_TOKENS = ("input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens", "cache_write_tokens")
_json = msgspec.json.Encoder()


def usage_state(usage: Usage) -> str:
    """`unknown` where no figure was told, `partial` where the answer was cut, else `complete`."""
    if all(getattr(usage, name) is None for name in _TOKENS):
        return "unknown"
    return "partial" if usage.partial else "complete"


def row_of(exchange: Exchange) -> dict[str, Any]:
    """The columns of `exchanges`."""
    usage, timings = exchange.usage, exchange.timings
    last = exchange.attempts[-1] if exchange.attempts else None
    connect = None if last is None or last.reused else (last.connect_ms or 0.0) + (last.tls_ms or 0.0)
    row: dict[str, Any] = {name: getattr(exchange, name) for name in _PLAIN}
    row.update({name: getattr(usage, name) for name in _TOKENS})
    row.update(
        state=None if exchange.state is None else exchange.state.value,
        service_tier=usage.service_tier,
        usage_state=None if exchange.state is None else usage_state(usage),
        attempts=len(exchange.attempts),
        duration_ms=timings.done,
        ttfb_ms=timings.response_head,
        first_content_ms=timings.first_content,
        connect_ms=connect,
        stream=int(exchange.stream),
        truncated=int(exchange.truncated),
    )
    return row


_PLAIN = (
    *("id", "session_id", "sequence", "started_at", "started_ns", "error", "method", "target", "status", "provider"),
    *("dialect", "client", "client_version", "transport", "kind", "model_requested", "model_used", "stop_reason"),
    *("response_id", "overhead_ms", "request_bytes", "response_bytes", "lost_bytes"),
)
_COLUMNS = tuple(row_of(Exchange(id="", session_id="", started_at="", started_ns=0)))
_UPSERT = (
    f"INSERT INTO exchanges ({', '.join(_COLUMNS)}) VALUES ({', '.join(':' + name for name in _COLUMNS)}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS if name != 'id')} "
    "WHERE exchanges.state IS NULL"
)
# the session of an exchange is known with its request, so that it is counted there once
_OPENED_COLUMNS = ("id", "started_at", "started_ns", "method", "target", "provider")
_OPENED = (
    f"INSERT INTO exchanges ({', '.join(_OPENED_COLUMNS)}) "
    f"VALUES ({', '.join(':' + name for name in _OPENED_COLUMNS)}) ON CONFLICT (id) DO NOTHING"
)
# a title call's answer (an exchange that has ended, of that kind) beats words taken from the first question
_SESSION = """
INSERT INTO sessions (session_id, started_at, last_at, client, client_version, signal, parent_session_id, provider,
    dialect, model_requested, title, jsonl_path)
VALUES (:session_id, :started_at, :started_at, :client, :client_version, :signal, :parent_session_id, :provider,
    :dialect, :model_requested, :title, :jsonl_path)
ON CONFLICT (session_id) DO UPDATE SET
    last_at = max(last_at, excluded.last_at),
    client = coalesce(client, excluded.client),
    client_version = coalesce(client_version, excluded.client_version),
    parent_session_id = coalesce(parent_session_id, excluded.parent_session_id),
    provider = coalesce(provider, excluded.provider),
    dialect = coalesce(dialect, excluded.dialect),
    model_requested = coalesce(model_requested, excluded.model_requested),
    title = CASE WHEN :titled THEN coalesce(excluded.title, title) ELSE coalesce(title, excluded.title) END,
    jsonl_path = coalesce(jsonl_path, excluded.jsonl_path)
"""
_COUNT = "UPDATE sessions SET requests = requests + 1 WHERE session_id = ?"
# a sum over nothing known stays NULL: unknown is never shown as zero
_SUMS = ", ".join(
    f"{name} = CASE WHEN :{name} IS NULL THEN {name} ELSE coalesce({name}, 0) + :{name} END" for name in _TOKENS
)
_FINISH = f"""
UPDATE sessions SET
    last_at = max(last_at, :ended_at),
    errors = errors + :error,
    usage_unknown = usage_unknown + :usage_unknown,
    duration_ms = duration_ms + :duration,
    model_used = coalesce(:model_used, model_used),
    {_SUMS}
WHERE session_id = :session_id
"""
_ABANDON = (
    "UPDATE exchanges SET state = ?, error = ?, usage_state = 'unknown', truncated = 1 WHERE id = ? AND state IS NULL"
)
_ABANDONED = (
    "UPDATE sessions SET errors = errors + ?, usage_unknown = usage_unknown + 1 "
    "WHERE session_id = (SELECT session_id FROM exchanges WHERE id = ?)"
)
_BODIES = "INSERT OR REPLACE INTO bodies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Resume(msgspec.Struct, frozen=True):
    """What a restarted observer must know of its predecessor: what is done, what is not, and where each belongs."""

    finished: frozenset[str]
    running: frozenset[str]
    places: dict[str, tuple[str | None, int | None]]


class SqliteStore:
    """See the module. `warn` gets sentences for the log; `locate` tells a session's JSONL file, if there is one."""

    name = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        warn: Callable[[str], None],
        locate: Callable[[str, int], str | None] = lambda session, started_ns: None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.path = path
        self._warn = warn
        self.locate = locate
        self._wall = wall
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._inode: tuple[int, int] | None = None
        self._compress = zstandard.ZstdCompressor(level=3)

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path} {'open' if self._connection else 'closed'}>"

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    # --- life -------------------------------------------------------------------------------------
    def open(self) -> None:
        """Open or make the database; an unusable one is set aside under a new name."""
        self.close()
        private_folder(self.path.parent)
        self._take_lock()
        try:
            try:
                self._connect()
            except schema.Unusable as error:
                self._quarantine(str(error))
                self._connect()
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"cannot open {self.path}: {error}") from None
        except StoreError:
            self.close()
            raise

    def _connect(self) -> None:
        os.close(open_private(self.path, os.O_RDWR | os.O_CREAT))
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
        try:
            if schema.check(connection) == 0:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table; for retention
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            schema.migrate(connection)
            # touches every b-tree's root: a file cut short or overwritten is found now, not in the middle of a batch
            for table in ("sessions", "exchanges", "bodies"):
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            connection.close()
            if _damaged(error):
                raise schema.Unusable(f"it is damaged ({error})") from None
            raise
        except StoreError:
            connection.close()
            raise
        self._connection = connection
        found = self.path.stat()
        self._inode = (found.st_dev, found.st_ino)

    def _take_lock(self) -> None:
        fd = open_private(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise StoreError(
                f"{self.path} is in use by another LunaRoute (process {holder or 'unknown'}); "
                "stop that one or give this one its own session_recording.sqlite.path"
            ) from None
        # best effort: the file only tells people who it is, the lock is what counts (and a full disk must not matter)
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock = fd

    def _quarantine(self, reason: str) -> None:
        """Rename the database with its sidecars; a stamp of time keeps every earlier one."""
        stamp = self._wall().strftime("%Y%m%d-%H%M%S")
        aside = self.path.with_name(f"{self.path.name}.unusable-{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = self.path.with_name(f"{self.path.name}.unusable-{stamp}-{number}")
        try:
            for suffix in ("", "-wal", "-shm"):
                source = self.path.with_name(self.path.name + suffix)
                if source.exists():
                    source.rename(aside.with_name(aside.name + suffix))
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be used ({reason}) nor renamed: {error.strerror}; move it away"
            ) from None
        self._warn(f"the database {self.path} cannot be used: {reason}. It was kept as {aside}; a new one was begun")

    def close(self) -> None:
        """Close the connection (which checkpoints) and give the lock back."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- writing ----------------------------------------------------------------------------------
    def write(self, batch: Sequence[Record]) -> None:
        """One transaction for the batch; nothing of it is kept when it fails."""
        with self._transaction() as connection:
            for record in batch:
                if isinstance(record, Exchange):
                    self._write_exchange(connection, record)
                elif isinstance(record, Opened):
                    connection.execute(_OPENED, {name: getattr(record, name) for name in _OPENED_COLUMNS})
                else:
                    self._abandon(connection, record)

    def _write_exchange(self, connection: sqlite3.Connection, exchange: Exchange) -> None:
        found = connection.execute("SELECT session_id, state FROM exchanges WHERE id = ?", (exchange.id,)).fetchone()
        if found is not None and found[1] is not None:
            return  # given again
        row = row_of(exchange)
        connection.execute(_UPSERT, row)
        session = {
            "session_id": exchange.session_id,
            "started_at": exchange.started_at,
            "signal": exchange.signal,
            "parent_session_id": exchange.parent_session_id,
            "title": exchange.title,
            "titled": exchange.kind == "title" and exchange.state is not None,
            "jsonl_path": self.locate(exchange.session_id, exchange.started_ns),
            **{name: row[name] for name in ("client", "client_version", "provider", "dialect", "model_requested")},
        }
        connection.execute(_SESSION, session)
        # the handshake of a WebSocket is kept but is no request of its own: its turns are
        if (found is None or found[0] is None) and exchange.kind != "handshake":
            connection.execute(_COUNT, (exchange.session_id,))
        if exchange.state is not None:
            self._finish(connection, exchange, row)

    def _abandon(self, connection: sqlite3.Connection, closed: Closed) -> None:
        done = connection.execute(_ABANDON, (closed.state.value, closed.error, closed.id)).rowcount
        if done:
            connection.execute(_ABANDONED, (int(closed.state in _ERRORS), closed.id))

    def _finish(self, connection: sqlite3.Connection, exchange: Exchange, row: dict[str, Any]) -> None:
        duration = exchange.timings.done or 0.0
        ended = datetime.fromtimestamp(exchange.started_ns / 1e9 + duration / 1000, UTC)
        priced = exchange.kind in ("turn", "title", "prewarm", "compaction") and exchange.status != 101
        values = {name: row[name] for name in (*_TOKENS, "session_id")}
        values.update(
            ended_at=ended.strftime("%Y-%m-%d %H:%M:%S.") + f"{ended.microsecond // 1000:03d}",
            # a refused handshake (426) is how a client is told to use HTTP
            error=int(exchange.state in _ERRORS and exchange.kind != "handshake"),
            usage_unknown=int(priced and row["usage_state"] == "unknown"),
            duration=duration if exchange.kind != "handshake" else 0.0,
            model_used=exchange.model_used if exchange.kind != "title" else None,
        )
        connection.execute(_FINISH, values)
        connection.execute(
            _BODIES,
            (
                exchange.id,
                _json.encode(exchange.request_headers).decode(),
                _json.encode(exchange.response_headers).decode(),
                _json.encode(exchange.attempts).decode(),
                _json.encode(exchange.timings).decode(),
                self._pack(exchange.request_body),
                self._pack(exchange.response_body),
                exchange.request_decode_error,
                exchange.response_decode_error,
            ),
        )

    def _pack(self, body: bytes) -> bytes | None:
        return self._compress.compress(body) if body else None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._live_connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if _damaged(error):
                self._start_anew(f"it is damaged ({error})")
            raise StoreError(f"cannot write {self.path}: {error}") from None
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _live_connection(self) -> sqlite3.Connection:
        """The connection, opened again where the file was removed or replaced behind our back."""
        if self._connection is not None:
            try:
                found = self.path.stat()
                if (found.st_dev, found.st_ino) == self._inode:
                    return self._connection
            except OSError:
                pass
            self._warn(f"the database {self.path} was moved or removed while in use; a new one is begun")
        self.open()
        assert self._connection is not None
        return self._connection

    def _start_anew(self, reason: str) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        self._quarantine(reason)

    # --- start and resume -------------------------------------------------------------------------
    def interrupt_former(self, boot_id: str) -> int:
        """Close as `interrupted` what runs other than `boot_id` left open; how many that were."""
        mine = f"{boot_id}-"
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT id FROM exchanges WHERE state IS NULL AND substr(id, 1, ?) != ?", (len(mine), mine)
            ).fetchall()
            for (exchange,) in rows:
                why = "LunaRoute ended before the exchange did"
                self._abandon(connection, Closed(id=exchange, session_id=None, state=State.INTERRUPTED, error=why))
        return len(rows)

    def resume(self, boot_id: str) -> Resume:
        """What this run has already stored (empty at its first start)."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT id, session_id, sequence, state FROM exchanges WHERE id > ? AND id < ? "
                "ORDER BY started_ns DESC LIMIT 50000",
                (f"{boot_id}-", f"{boot_id}."),  # '.' follows '-'
            ).fetchall()
        return Resume(
            finished=frozenset(row[0] for row in rows if row[3] is not None),
            running=frozenset(row[0] for row in rows if row[3] is None),
            places={row[0]: (row[1], row[2]) for row in rows},
        )

    def last_sequence(self, session_id: str) -> int:
        """The highest number an exchange of this session has; 0 for an unknown session."""
        with self._transaction() as connection:
            found = connection.execute(
                "SELECT max(sequence) FROM exchanges WHERE session_id = ?", (session_id,)
            ).fetchone()[0]
        return int(found or 0)

    def tend(self, now: float) -> None:
        """Nothing is due: the database keeps what it has."""

    def size(self) -> int:
        """Database and write-ahead log."""
        total = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                total += self.path.with_name(self.path.name + suffix).stat().st_size
        return total


def _damaged(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
