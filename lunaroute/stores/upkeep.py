"""Taking out of the database: by age, by size, by name; and pricing anew what is in it. Must not know files or locks.

Everything is done in steps. A step is one short transaction, so that records can be written between two of them: the
generators here yield after each, and whoever runs them decides when the next one is due.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from lunaroute.errors import StoreError
from lunaroute.stores import packs

STEP = 32  # exchanges of a step
PRICED_STEP = 400
PAGES = 256  # that a step gives back to the file system
MERGED = 64  # pages of the index that are merged in a step: some milliseconds
LOW = 0.9  # of the size bound: what is taken out at once, so that not every record is followed by an upkeep
Transaction = Callable[[], contextlib.AbstractContextManager[sqlite3.Connection]]


class Progress(NamedTuple):
    """How far a long piece of work is. total may grow."""

    done: int
    total: int


class Keep(NamedTuple):
    """How long and how much is kept; None: without a bound."""

    max_age_days: float | None = None
    max_bytes: int | None = None


class Plan(NamedTuple):
    """What `trim` would take out. Sizes are estimates: what exchanges have in common is shared out among them."""

    exchanges: int = 0
    sessions: int = 0
    bytes: int = 0
    oldest_ns: int | None = None
    newest_ns: int | None = None


class Removal:
    """Takes exchanges out, with all that only they needed. touched: sessions whose packs have changed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._shelf = packs.shelf(lambda sql, *values: connection.execute(sql, values).fetchone())
        self.touched: set[str] = set()

    def remove(self, rows: Iterable[int]) -> None:
        """Remove exchanges by their number, and sessions that have none left."""
        sessions: set[str] = set()
        for row in rows:
            found = self._db.execute("SELECT id, session_id FROM exchanges WHERE row = ?", (row,)).fetchone()
            if found is None:
                continue
            self._pack(row)
            self._db.execute("DELETE FROM attempts WHERE exchange = ?", (row,))
            self._db.execute("DELETE FROM bodies WHERE exchange_id = ?", (found[0],))
            self._db.execute("DELETE FROM exchanges WHERE row = ?", (row,))
            if found[1] is not None:
                self._db.execute("DELETE FROM tool_calls WHERE session_id = ? AND exchange = ?", (found[1], row))
                sessions.add(found[1])
        for session in sessions:
            if not self._db.execute("SELECT 1 FROM exchanges WHERE session_id = ? LIMIT 1", (session,)).fetchone():
                self._db.execute("DELETE FROM sessions WHERE session_id = ?", (session,))
                self._db.execute("DELETE FROM tool_calls WHERE session_id = ?", (session,))
        self.touched |= sessions

    def _pack(self, row: int) -> None:
        """The pack and its words in the index. What later exchanges build on stays, without the rest."""
        found = self._db.execute("SELECT base, data FROM packs WHERE exchange = ?", (row,)).fetchone()
        if found is None:
            return
        try:
            pack = self._shelf.pack(row) or packs.Pack()
            words = "\n".join(text for _, text in packs.texts_of(pack))
        except StoreError:
            self._drop(row, found[0], packs.Pack())  # damaged: nothing can be read back of it, by nobody
            return
        if pack.texts:
            self._db.execute("INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)", (row, words))
        if self._db.execute("SELECT 1 FROM packs WHERE base = ? LIMIT 1", (row,)).fetchone():
            self._slim(row, found[0], pack)
        else:
            self._drop(row, found[0], pack)

    def _slim(self, row: int, base: int, pack: packs.Pack) -> None:
        """Keep the pieces only. The packs that were compressed with this one are compressed with what is left of it."""
        above = [
            (child, packs.unfold(data, self._shelf.plain(row)))
            for child, data in self._db.execute("SELECT exchange, data FROM packs WHERE base = ?", (row,)).fetchall()
        ]
        plain = packs.encode(packs.slim(pack))
        data = packs.squeeze(plain, self._shelf.plain(base) if base else None)
        self._db.execute("UPDATE packs SET data = ? WHERE exchange = ?", (data, row))
        for child, whole in above:
            self._db.execute("UPDATE packs SET data = ? WHERE exchange = ?", (packs.squeeze(whole, plain), child))
        self._shelf.forget()

    def _drop(self, row: int, base: int, pack: packs.Pack) -> None:
        """Delete a pack that nothing builds on, and what it alone was built on."""
        while True:
            self._db.execute("DELETE FROM packs WHERE exchange = ?", (row,))
            for blob in packs.blobs_of(pack):
                self._db.execute("UPDATE blobs SET uses = uses - 1 WHERE blob = ?", (blob,))
                self._db.execute("DELETE FROM blobs WHERE blob = ? AND uses <= 0", (blob,))
            row = base
            if not row or self._db.execute("SELECT 1 FROM exchanges WHERE row = ?", (row,)).fetchone():
                return
            if self._db.execute("SELECT 1 FROM packs WHERE base = ? LIMIT 1", (row,)).fetchone():
                return
            found = self._db.execute("SELECT base FROM packs WHERE exchange = ?", (row,)).fetchone()
            if found is None:
                return
            base = found[0]
            try:
                pack = self._shelf.pack(row) or packs.Pack()
            except StoreError:
                pack = packs.Pack()


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the database's pages that hold something."""
    size, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return int(size * (pages - free))


def expired(connection: sqlite3.Connection, before_ns: int, limit: int) -> list[int]:
    """Exchanges that began before, the oldest first. What still runs is never among them."""
    return [
        row
        for (row,) in connection.execute(
            "SELECT row FROM exchanges WHERE started_ns < ? AND state IS NOT NULL ORDER BY started_ns LIMIT ?",
            (before_ns, limit),
        )
    ]


def trim(
    transaction: Transaction,
    now: float,
    max_age_days: float | None,
    max_bytes: int | None,
    touched: Callable[[set[str]], None],
) -> Iterator[Progress]:
    """Retention: what is too old, then the oldest until the rest is small enough; then the file really shrinks."""
    done = 0
    before = int((now - max_age_days * 86400) * 1e9) if max_age_days is not None else 0
    bound = max_bytes
    while True:
        with transaction() as connection:
            rows = expired(connection, before, STEP)
            if not rows and bound is not None and used_bytes(connection) > bound:
                bound = int((max_bytes or 0) * LOW)
                rows = expired(connection, int(now * 1e9), STEP)
            if rows:
                removal = Removal(connection)
                removal.remove(rows)
                touched(removal.touched)
        if not rows:
            break
        done += len(rows)
        yield Progress(done, done)
    yield from shrink(transaction, done)


def plan(connection: sqlite3.Connection, now: float, keep: Keep) -> Plan:
    """What retention would take out by now; reads only."""
    known, packed = connection.execute("SELECT count(*), coalesce(sum(length(data)), 0) FROM packs").fetchone()
    used = used_bytes(connection)
    # beside the packs: rows, index and blobs, taken to be the same for each exchange
    share = max(0, used - packed) / known if known else 0.0
    before = int((now - keep.max_age_days * 86400) * 1e9) if keep.max_age_days is not None else 0
    left, count, oldest, newest = float(used), 0, None, None
    bound = keep.max_bytes
    for started_ns, size in connection.execute(
        "SELECT started_ns, coalesce(length(data), 0) FROM exchanges LEFT JOIN packs ON packs.exchange = exchanges.row "
        "WHERE state IS NOT NULL AND started_ns < ? ORDER BY started_ns",
        (int(now * 1e9),),
    ):
        if started_ns >= before:
            if bound is None or left <= bound:
                break
            bound = int((keep.max_bytes or 0) * LOW)
        left -= size + share
        count += 1
        oldest, newest = started_ns if oldest is None else oldest, started_ns
    sessions = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM exchanges WHERE session_id IS NOT NULL GROUP BY session_id "
        "HAVING max(started_ns) <= ? AND count(*) = count(state))",
        (-1 if newest is None else newest,),
    ).fetchone()[0]
    return Plan(count, sessions, int(used - left), oldest, newest)


def shrink(transaction: Transaction, done: int = 0, spare: int = PAGES // 4) -> Iterator[Progress]:
    """Give free pages back to the file system; `spare` of them may stay, to be used again."""
    while True:
        with transaction() as connection:
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            if free <= spare:
                return
            connection.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
            left = connection.execute("PRAGMA freelist_count").fetchone()[0]
        yield Progress(done, done)
        if left >= free:
            return  # a database made without auto_vacuum keeps its pages, and uses them again


def delete_sessions(
    transaction: Transaction,
    sessions: Sequence[str],
    touched: Callable[[set[str]], None],
    before: Callable[[str], None] = lambda session: None,
) -> Iterator[Progress]:
    """Everything of these sessions, the running exchanges too; `before` is called with each that is begun."""
    done, total = 0, 0
    with transaction() as connection:
        for session in sessions:
            total += connection.execute("SELECT count(*) FROM exchanges WHERE session_id = ?", (session,)).fetchone()[0]
    for session in sessions:
        before(session)
        while True:
            with transaction() as connection:
                rows = [
                    row
                    for (row,) in connection.execute(
                        # the newest first: what an exchange is built on is needed until then
                        "SELECT row FROM exchanges WHERE session_id = ? ORDER BY row DESC LIMIT ?",
                        (session, STEP),
                    )
                ]
                removal = Removal(connection)
                removal.remove(rows)
                touched({session, *removal.touched})
                if not rows:
                    connection.execute("DELETE FROM sessions WHERE session_id = ?", (session,))
            if not rows:
                break
            done += len(rows)
            yield Progress(done, total)
    yield from wipe(transaction, done)


def wipe(transaction: Transaction, done: int = 0) -> Iterator[Progress]:
    """After a deletion: nothing of what was deleted is left in the index, the filters or a free page."""
    with transaction() as connection:
        for kind in ("model_used", "client", "provider", "project"):
            connection.execute(
                f"DELETE FROM facets WHERE kind = ? AND value NOT IN "
                f"(SELECT {kind} FROM sessions WHERE {kind} IS NOT NULL)",
                (kind,),
            )
    pages = -MERGED  # once: all parts into one
    while True:
        # words of deleted texts leave the index only when its parts are merged
        with transaction() as connection:
            before = connection.total_changes
            connection.execute("INSERT INTO search (search, rank) VALUES ('merge', ?)", (pages,))
            changed = connection.total_changes - before
        if changed < 2:  # as SQLite says that there is nothing left to merge
            break
        pages = MERGED
        yield Progress(done, done)
    yield from shrink(transaction, done, spare=0)


Price = Callable[[dict[str, Any]], tuple[float | None, str | None]]
_PRICED_BY = (
    *("row", "session_id", "provider", "dialect", "model_used", "model_requested", "started_ns", "kind", "status"),
    *("input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("cache_write_5m_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens"),
    *("web_search_requests", "service_tier", "usage_more", "usage_state", "cost_usd", "price_id"),
)


def reprice(transaction: Transaction, price: Price, *, dry_run: bool = False) -> Iterator[Progress]:
    """Price all exchanges anew by what their rows tell; the sums of their sessions follow."""
    done, last = 0, 0
    changed: set[str] = set()
    with transaction() as connection:
        total = connection.execute("SELECT count(*) FROM exchanges WHERE state IS NOT NULL").fetchone()[0]
    while True:
        with transaction() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_PRICED_BY)} FROM exchanges WHERE row > ? AND state IS NOT NULL "
                "ORDER BY row LIMIT ?",
                (last, PRICED_STEP),
            ).fetchall()
            for each in rows:
                row = dict(zip(_PRICED_BY, each, strict=True))
                last = row["row"]
                cost, ident = price(row)
                if (cost, ident) != (row["cost_usd"], row["price_id"]):
                    changed.add(row["session_id"])
                    if not dry_run:
                        connection.execute(
                            "UPDATE exchanges SET cost_usd = ?, price_id = ? WHERE row = ?", (cost, ident, last)
                        )
        if not rows:
            break
        done += len(rows)
        yield Progress(done, total)
    if not dry_run:
        yield from _resum(transaction, sorted(changed))


def _resum(transaction: Transaction, sessions: list[str]) -> Iterator[Progress]:
    for at in range(0, len(sessions), STEP):
        with transaction() as connection:
            connection.executemany(
                "UPDATE sessions SET cost_usd = (SELECT sum(cost_usd) FROM exchanges WHERE session_id = ?1), "
                "cost_unknown = (SELECT count(*) FROM exchanges WHERE session_id = ?1 AND cost_usd IS NULL AND "
                "state IS NOT NULL AND kind IN ('turn', 'title', 'prewarm', 'compaction', 'probe') AND "
                "(status IS NULL OR status < 400)) WHERE session_id = ?1",
                [(session,) for session in sessions[at : at + STEP]],
            )
        yield Progress(at, len(sessions))


def run(steps: Iterator[Progress], seconds: float) -> bool:
    """Do steps for so long; True when there are none left."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if next(steps, None) is None:
            return True
    return False
