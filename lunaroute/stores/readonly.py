"""A connection to the database that can only look: what pages and commands read through, never what writes.

Knows SQLite and how to fail in words; must not know what is asked (queries.py) or how it is shown.

Only the store's own connection may write or checkpoint (SQLite before 3.51.3 can corrupt a WAL that two connections
check in at once), so this one is opened `mode=ro`, which cannot take the lock a checkpoint on close needs; on Pythons
that can say it, it is said a second time. An authorizer leaves SELECT and nothing else, and a statement that runs
longer than its limit is stopped: a page must not keep the recorder waiting for a core.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lunaroute.errors import StoreError
from lunaroute.stores import packs

STATEMENT_LIMIT_S = 2.0
LOCK_WAIT_MS = 1000
STEPS_BETWEEN_CHECKS = 20_000  # virtual machine steps: about a millisecond

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_PRAGMAS = frozenset({"page_count", "page_size", "freelist_count", "user_version", "data_version"})


class QueryError(StoreError):
    """The recorded sessions cannot be read. The text says why and what to do."""


class NoRecord(QueryError):
    """There is no database yet, or nothing has been written to it."""


class NotFound(QueryError):
    """The id is well formed or not, but nothing of that name is recorded."""


class TooSlow(QueryError):
    """The statement ran into its time limit."""


class BadQuestion(QueryError):
    """A filter, a sort order or a page mark that does not exist."""


class Connection:
    """One read-only connection; `with` closes it. Not shared between threads: open one where it is needed (0.3 ms).

    any_thread: it may be used by several threads, never by two at once.
    """

    def __init__(self, path: Path, limit_s: float = STATEMENT_LIMIT_S, *, any_thread: bool = False) -> None:
        self.path = path
        self._limit_s = limit_s
        self._deadline = 0.0
        self._held = False
        if not path.is_file() or path.stat().st_size == 0:
            raise NoRecord(
                f"Nothing has been recorded yet: there is no database at {path}. Start LunaRoute with "
                '`eval "$(lunaroute env)"` and use an assistant, or check session_recording.sqlite.path.'
            )
        try:
            self._sqlite = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=not any_thread
            )
        except sqlite3.Error as error:
            raise self._explained(error) from error
        self._prepare()

    @functools.cached_property
    def shelf(self) -> packs.Shelf:
        """Where exchanges are put together again."""
        return packs.shelf(lambda sql, *values: next(iter(self.rows(sql, values)), None))

    def _prepare(self) -> None:
        db = self._sqlite
        # What a client sent may hold any bytes; a name that is no UTF-8 must not make its session unreadable.
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        db.row_factory = sqlite3.Row
        try:
            db.execute(f"PRAGMA busy_timeout = {LOCK_WAIT_MS}")
            db.execute("PRAGMA query_only = 1")
            db.execute("PRAGMA wal_autocheckpoint = 0")
            if sys.version_info >= (3, 12):
                db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        except sqlite3.Error as error:
            db.close()
            raise self._explained(error) from error
        db.set_progress_handler(self._late, STEPS_BETWEEN_CHECKS)
        db.set_authorizer(_authorize)

    def _late(self) -> int:
        return int(time.monotonic() > self._deadline)

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """All rows of one statement, within the time limit."""
        self._deadline = time.monotonic() + self._limit_s
        try:
            return self._sqlite.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except UnicodeDecodeError:
            # what SQLite says of a damaged schema names it as it stands there
            raise self._explained(sqlite3.DatabaseError("malformed")) from None

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is asked inside sees one moment, whatever is written or removed meanwhile. Keep it short: the log
        of what is written cannot be taken in beyond it."""
        if self._held:
            yield
            return
        self.rows("BEGIN")
        self._held = True
        try:
            yield
        finally:
            self._held = False
            with contextlib.suppress(sqlite3.Error):
                self._sqlite.execute("ROLLBACK")

    def value(self, sql: str, values: Sequence[object] = ()) -> Any:
        """The first column of the first row, None without a row."""
        found = self.rows(sql, values)
        return found[0][0] if found else None

    def _explained(self, error: sqlite3.Error) -> QueryError:
        text = str(error)
        if "interrupted" in text:
            return TooSlow("The database took too long to answer this. Narrow the search: a shorter time, fewer words.")
        if "no such table" in text or "no such column" in text:
            if not self._has_sessions():
                return NoRecord(f"Nothing has been recorded yet: the database at {self.path} has no sessions in it.")
            return QueryError(f"The database at {self.path} was written by another version of LunaRoute.")
        if "locked" in text or "busy" in text:
            return QueryError("The database is locked by another program. Try again in a moment.")
        if "not a database" in text or "malformed" in text or "encrypted" in text:
            return QueryError(
                f"The file at {self.path} is damaged or is not a LunaRoute database. Move it away: a new one is made."
            )
        return QueryError(
            f"The database at {self.path} cannot be read. Check that you may read the file and its folder."
        )

    def _has_sessions(self) -> bool:
        try:
            return bool(self._sqlite.execute("SELECT 1 FROM sqlite_master WHERE name = 'sessions'").fetchall())
        except sqlite3.Error:
            return True

    def close(self) -> None:
        self._sqlite.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection {self.path} read-only>"


def _authorize(action: int, first: str | None, second: str | None, _db: str | None, _trigger: str | None) -> int:
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
        # how SQLite asks when it connects the search index; what it asks of itself writes nothing, and nobody else may
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS and second is None:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_TRANSACTION and first in ("BEGIN", "ROLLBACK"):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
