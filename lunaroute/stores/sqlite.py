"""The SQLite store: sessions, exchanges, bodies in one file, one connection that both writes and checkpoints.

Must not know who reads the file (stores/queries.py does, on connections of its own, read-only).

A second program on the same file would break "one writer, one checkpointer" (security.md S4), so a lock file beside the
database is held while it is open. A database that cannot be used is renamed, never deleted, and a new one is begun.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lunaroute.errors import StoreError
from lunaroute.records import Closed, Exchange, Record, State
from lunaroute.stores import hourly, packs, rewriting, schema, upkeep
from lunaroute.stores.files import open_private, private_folder
from lunaroute.stores.writing import Writing

# Short: while the observer waits here it reads no ring. The batch is kept and tried again by the caller.
BUSY_TIMEOUT_MS = 250
# of a new database: packs are 1 to 4 kB, and of pages of 4 kB they would leave a third empty
PAGE_BYTES = 8192
# a larger database is not rewritten after a deletion: that takes 3 ms per MB, in which nothing else is written
REWRITTEN = 512 * 1024 * 1024
_EMPTYING = 10  # attempts to empty the write-ahead log; a reader is done within two seconds
RESPONSES = 2000  # exchanges among which an answer's id is looked for


class Resume(msgspec.Struct, frozen=True):
    """What a restarted observer must know of its predecessor: what is done, what is not, and where each belongs."""

    finished: frozenset[str]
    running: frozenset[str]
    places: dict[str, tuple[str | None, int | None]]


class InUse(StoreError):
    """Another process has the database: it is the one that writes. holder: its number, as far as known."""

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class SqliteStore:
    """See the module. `warn` gets sentences for the log; `locate` tells a session's JSONL file, if there is one.

    replace: a database that cannot be used is set aside and a new one begun; else it is left alone, and that is said.
    rewrite_bytes: up to which size the file is rewritten after a deletion (None: any), see `_rewrite`.
    """

    name = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        warn: Callable[[str], None],
        locate: Callable[[str, int], str | None] = lambda session, started_ns: None,
        max_age_days: float | None = None,
        max_size_mb: float | None = None,
        replace: bool = True,
        rewrite_bytes: int | None = REWRITTEN,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.path = path
        self._warn = warn
        self._writing = Writing(locate)
        self._wall = wall
        self._replace = replace
        self._rewrite_bytes = rewrite_bytes
        self._max_age_days = max_age_days
        self._max_bytes = None if max_size_mb is None else int(max_size_mb * 1024 * 1024)
        self._unwiped = False  # a deletion was given up before its end
        self.rests: str | None = None  # why something of what was deleted last may still be in the file
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._inode: tuple[int, int] | None = None
        self._unmerged = upkeep.Unmerged()
        self.refused = 0  # records that no database can take

    def locate_by(self, locate: Callable[[str, int], str | None]) -> None:
        """Tell where a session's JSONL file is."""
        self._writing.locate = locate

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
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table; for retention
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            connection.execute("PRAGMA cache_size = -8192")
            # what is deleted is overwritten where that costs no writing of its own (no build's default is relied on)
            connection.execute("PRAGMA secure_delete = FAST")
            schema.migrate(connection)
            # touches every b-tree's root: a file cut short or overwritten is found now, not in the middle of a batch
            for table in ("sessions", "exchanges", "bodies", "packs", "blobs", "tool_calls", "search_data"):
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            connection.close()
            if _damaged(error):
                raise schema.Unusable(f"it is damaged ({error})") from None
            raise
        except UnicodeDecodeError:
            # what SQLite says of a damaged schema names it as it stands there
            connection.close()
            raise schema.Unusable("it is damaged (its schema is no text)") from None
        except StoreError:
            connection.close()
            raise
        self._connection = connection
        self._writing.reset()
        found = self.path.stat()
        self._inode = (found.st_dev, found.st_ino)

    def _take_lock(self) -> None:
        fd = open_private(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise InUse(
                f"{self.path} is in use by another LunaRoute (process {holder or 'unknown'}); "
                "stop that one or give this one its own session_recording.sqlite.path",
                holder,
            ) from None
        # best effort: the file only tells people who it is, the lock is what counts (and a full disk must not matter)
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock = fd

    def _quarantine(self, reason: str) -> None:
        """Rename the database with its sidecars; a stamp of time keeps every earlier one."""
        if not self._replace:
            raise StoreError(f"{self.path} cannot be used: {reason}")
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
        try:
            with self._transaction() as connection:
                self._writing.write(connection, batch)
        except StoreError:
            raise
        except Exception:  # what no column takes (a number too large, half a surrogate) is no reason to keep nothing
            self._write_singly(batch)

    def _write_singly(self, batch: Sequence[Record]) -> None:
        for record in batch:
            try:
                with self._transaction() as connection:
                    self._writing.write(connection, [record])
            except StoreError:
                raise
            except Exception as error:
                self.refused += 1
                self._warn(f"{record.id} cannot be kept in {self.path} ({type(error).__name__}); it is left out")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._live_connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo(connection)
            if _damaged(error):
                self._start_anew(f"it is damaged ({error})")
            raise StoreError(f"cannot write {self.path}: {error}") from None
        except BaseException:
            self._undo(connection)
            raise

    @contextlib.contextmanager
    def _looking(self) -> Iterator[sqlite3.Connection]:
        """For single questions: no transaction, nothing to undo."""
        try:
            yield self._live_connection()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read {self.path}: {error}") from None

    def _undo(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        if connection.in_transaction and connection is self._connection:
            # it cannot even be undone: the next attempt begins with another connection
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            self._connection = None
        self._writing.reset()

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
                gone = Closed(id=exchange, session_id=None, state=State.INTERRUPTED, error=why)
                self._writing.abandon(connection, gone)
        return len(rows)

    def resume(self, boot_id: str) -> Resume:
        """What this run has already stored (empty at its first start)."""
        with self._looking() as connection:
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
        with self._looking() as connection:
            found = connection.execute(
                "SELECT max(sequence) FROM exchanges WHERE session_id = ?", (session_id,)
            ).fetchone()[0]
        return int(found or 0)

    # --- taking out -------------------------------------------------------------------------------
    @property
    def keep(self) -> upkeep.Keep:
        """How long and how much is kept."""
        return upkeep.Keep(self._max_age_days, self._max_bytes)

    def tend_steps(self, now: float, keep: upkeep.Keep | None = None) -> Iterator[upkeep.Progress]:
        """Retention by age and size, in steps; `keep`: other bounds for this once."""
        age, size = keep or self.keep
        last = upkeep.Progress(0, 0)
        for last in self._guarded(upkeep.trim(self._transaction, now, age, size, self._writing.forget, self._unmerged)):
            yield last
        if self._unwiped:
            yield from self._guarded(self._wipe(upkeep.wipe(self._transaction)))
        yield from self._guarded(self._rolled(now, last))
        self._empty_log()

    def _rolled(self, now: float, last: upkeep.Progress) -> Iterator[upkeep.Progress]:
        """The sums of the hours that are over; what was done before is no more for it."""
        for _ in hourly.roll(self._transaction, int(now * 1e9)):
            yield last

    def delete(
        self, sessions: Sequence[str], before: Callable[[str], None] = lambda session: None
    ) -> Iterator[upkeep.Progress]:
        """Delete sessions whole, in steps, so that nothing of them can be found in the file; else `rests` says why.

        Given up half way, what is deleted by then is deleted; the index follows at the next upkeep.
        """
        steps = upkeep.delete_sessions(self._transaction, sessions, self._writing.forget, before)
        yield from self._guarded(self._wipe(steps))
        yield from self._emptied()

    def scan(
        self, redacting: rewriting.Redacting, tally: rewriting.Tally, *, apply: bool
    ) -> Iterator[upkeep.Progress]:
        """Look through all that is stored, in steps, and with `apply` take out what is found, so that nothing of it is
        left in the file; else `rests` says why."""
        self.rests = None
        steps = rewriting.scan(self._transaction, redacting, tally, self._writing.forget, apply=apply)
        if not apply:
            yield from self._guarded(steps)
            return
        yield from self._guarded(self._wipe(itertools.chain(steps, upkeep.wipe(self._transaction))))
        yield from self._emptied()

    def rewrite(self) -> Iterator[upkeep.Progress]:
        """Write the file anew, whatever its size; `rests` says what stood in the way."""
        yield upkeep.Progress(0, 0)
        self._rewrite(None)
        yield from self._emptied()

    def _emptied(self) -> Iterator[upkeep.Progress]:
        for _ in range(_EMPTYING):
            if self._empty_log():
                return
            yield upkeep.Progress(0, 0)
        self.rests = self.rests or "another program reads the database: its write-ahead log could not be emptied"

    def _wipe(self, steps: Iterator[upkeep.Progress]) -> Iterator[upkeep.Progress]:
        self._unwiped = True
        self._secure("ON")
        try:
            yield from steps
            self._rewrite(self._rewrite_bytes)
        finally:
            self._secure("FAST")
            self._writing.reset()  # the filters' words may have gone
        self._unwiped = False

    def _rewrite(self, limit: int | None) -> None:
        """SQLite overwrites what it deletes, but not the copies that it leaves behind when it moves rows from page to
        page: of those only a file written anew is free."""
        self.rests = None
        if limit is not None and self.size() > limit:
            self.rests = f"the database is larger than {limit >> 20} MB"
        elif self._connection is not None:
            try:
                self._connection.execute("VACUUM")
            except sqlite3.Error as error:
                self.rests = f"the database could not be written anew ({error})"

    def _secure(self, how: str) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.execute(f"PRAGMA secure_delete = {how}")

    def _empty_log(self) -> bool:
        """Bring the write-ahead log into the database; False while somebody reads from it."""
        with contextlib.suppress(sqlite3.Error):
            if self._connection is not None:
                return not self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return False

    def reprice(self, price: upkeep.Price, *, dry_run: bool = False) -> Iterator[upkeep.Progress]:
        """Price everything anew, in steps."""
        last = upkeep.Progress(0, 0)
        for last in self._guarded(upkeep.reprice(self._transaction, price, dry_run=dry_run)):
            yield last
        yield from self._guarded(self._rolled(0.0, last))  # all of them are stale now

    def _guarded(self, steps: Iterator[upkeep.Progress]) -> Iterator[upkeep.Progress]:
        """In a damaged database anything may stand in a row: whatever comes of it is a failure of the store."""
        try:
            yield from steps
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"upkeep of {self.path} failed: {type(error).__name__}: {error}") from error

    # --- bringing in ------------------------------------------------------------------------------
    def bring(self, batch: Sequence[Exchange]) -> None:
        """Write exchanges of another time: a log file is named only where there is one."""
        locate = self._writing.locate
        self._writing.locate = lambda session, ns: (
            path if (path := locate(session, ns)) and os.path.exists(path) else None
        )
        try:
            self.write(batch)
        finally:
            self._writing.locate = locate

    def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these exchanges are here, in whatever state."""
        with self._transaction() as connection:
            marks = ", ".join("?" * len(ids))
            return {row[0] for row in connection.execute(f"SELECT id FROM exchanges WHERE id IN ({marks})", list(ids))}

    def recorded(self, session_id: str) -> bool:
        """Whether the proxy itself recorded something of this session."""
        with self._transaction() as connection:
            return bool(
                connection.execute(
                    "SELECT 1 FROM exchanges WHERE session_id = ? AND coalesce(transport, '') != 'import' LIMIT 1",
                    (session_id,),
                ).fetchone()
            )

    def log_paths(self, sessions: Sequence[str]) -> dict[str, str]:
        """Where the sessions' log files were begun."""
        with self._transaction() as connection:
            found = (
                connection.execute("SELECT session_id, jsonl_path FROM sessions WHERE session_id = ?", (each,))
                for each in sessions
            )
            return {row[0]: row[1] for rows in found for row in rows if row[1]}

    def sessions(self) -> set[str]:
        """The ids of all sessions."""
        with self._transaction() as connection:
            return {row[0] for row in connection.execute("SELECT session_id FROM sessions")}

    # --- what an observer asks of an earlier one -----------------------------------------------------
    def last_turn(self, session_id: str) -> tuple[str, bytes, list[str]] | None:
        """(dialect, request body, texts for the search) of the last turn of a session."""
        with self._looking() as connection:
            found = connection.execute(
                "SELECT row, dialect FROM exchanges WHERE session_id = ? AND state IS NOT NULL AND kind = 'turn' "
                "ORDER BY sequence DESC LIMIT 1",
                (session_id,),
            ).fetchone()
            if found is None:
                return None
            try:
                whole = packs.shelf(lambda sql, *values: connection.execute(sql, values).fetchone()).whole(found[0])
                texts = [text for _, text in packs.texts_of(whole.pack)] if whole is not None else []
            except StoreError:
                return None
        return (found[1] or "", b"".join(whole.pieces), texts) if whole is not None else None

    def thread(self, digest: bytes) -> tuple[str, int] | None:
        """(session, when it was last active, wall clock ns) of the conversation with this digest."""
        with self._looking() as connection:
            found = connection.execute(
                "SELECT session_id, last_at FROM sessions WHERE thread = ? ORDER BY last_at DESC LIMIT 1", (digest,)
            ).fetchone()
        if found is None:
            return None
        return found[0], int(datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp() * 1e9)

    def response(self, response_id: str) -> tuple[str, str] | None:
        """(exchange, session) of a recent answer with this id."""
        with self._looking() as connection:
            found: tuple[str, str] | None = connection.execute(
                "SELECT id, session_id FROM exchanges WHERE row > (SELECT max(row) FROM exchanges) - ? "
                "AND response_id = ? AND session_id IS NOT NULL ORDER BY row DESC LIMIT 1",
                (RESPONSES, response_id),
            ).fetchone()
        return found

    @property
    def overfull(self) -> bool:
        """Whether upkeep should come early: more is kept than may be."""
        return self._max_bytes is not None and self.size() > self._max_bytes

    def size(self) -> int:
        """Database and write-ahead log."""
        total = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                total += self.path.with_name(self.path.name + suffix).stat().st_size
        return total


def _damaged(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
