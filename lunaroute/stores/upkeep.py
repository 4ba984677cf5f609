"""Taking out of the database: by age, by size, by name; and pricing anew what is in it. Must not know files or locks.

Everything is done in steps. A step is one short transaction, so that records can be written between two of them: the
generators here yield after each, and whoever runs them decides when the next one is due.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from lunaroute.stores import hourly, packs
from lunaroute.stores.removal import Removal, shelf_of
from lunaroute.stores.sums import resum
from lunaroute.stores.writing import FACETS, usage_from

STEP = 32  # exchanges of a step, if there is time
MERGE = 64  # pages of the index in a step, about
MERGED_SHARE = 8  # of the exchanges: after so many removed ones the index is merged
PRICED_STEP = 400
PAGES = 256  # that a step gives back to the file system
SPARE = 0.03
NEAR = 0.95  # of the size bound: with what is spare in the file that is below it
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


class Unmerged:
    """How many exchanges were removed whose words are still in the index: kept from one upkeep to the next."""

    def __init__(self) -> None:
        self.exchanges = 0


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


def _oldest(connection: sqlite3.Connection, too_much: float) -> tuple[list[int], int]:
    """The oldest exchanges that take about so much together, but no more of them than a step takes; and how much.

    An estimate: the words of a pack are in the index too, and the first body of a conversation is not in its pack.
    """
    rows, size = list[int](), 0
    for row, more in connection.execute(
        "SELECT row, max(4 * ifnull(length(data), 0), CASE WHEN base = 0 THEN ifnull(request_bytes, 0) "
        "+ ifnull(response_bytes, 0) ELSE 0 END) FROM exchanges LEFT JOIN packs ON exchange = row "
        "WHERE state IS NOT NULL ORDER BY started_ns LIMIT ?",
        (STEP,),
    ):
        if rows and size + more > too_much:
            break
        rows.append(row)
        size += more or 0
    return rows, size


def trim(
    transaction: Transaction,
    now: float,
    max_age_days: float | None,
    max_bytes: int | None,
    touched: Callable[[set[str]], None],
    unmerged: Unmerged,
) -> Iterator[Progress]:
    """Retention: what is too old, then the oldest until the rest is small enough; then the file really shrinks."""
    done = 0
    before = int((now - max_age_days * 86400) * 1e9) if max_age_days is not None else 0
    # bytes that are still to go, by estimate; None: it has not been looked whether there is too much
    excess: float | None = None
    enough = 1.0  # of the size bound: what may stay
    with transaction() as connection:
        share = connection.execute("SELECT count(*) FROM exchanges").fetchone()[0] // MERGED_SHARE
    while True:
        removed = size = 0
        with transaction() as connection:
            rows, used = expired(connection, before, STEP), used_bytes(connection)
            if not rows and max_bytes is not None:
                if excess is None:
                    excess = used - LOW * max_bytes if used > enough * max_bytes else 0.0
                    enough = NEAR if excess > 0 else enough
                if min(excess, used - LOW * max_bytes) > 0:
                    rows, size = _oldest(connection, min(excess, used - LOW * max_bytes))
            if rows:
                removal = Removal(connection)
                removed = removal.remove(rows)
                touched(removal.touched)
        if excess is not None and rows:
            excess -= max(1.0, size * removed / len(rows))
        done += removed
        unmerged.exchanges += removed
        if rows:
            yield Progress(done, done)
        full = max_bytes is not None and used > enough * max_bytes
        if unmerged.exchanges > share or (not rows and full and unmerged.exchanges):
            # what was removed is still in the index, twice now: it counts for the size, and more would go than must
            yield from merge(transaction, done)
            unmerged.exchanges = 0
            excess = None
        elif not rows:
            break
    yield from merge(transaction, done, all_of_it=False)
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


def merge(transaction: Transaction, done: int = 0, all_of_it: bool = True) -> Iterator[Progress]:
    """Merge parts of the search index, or all of them: only then words of removed texts leave it."""
    pages = -MERGE if all_of_it else MERGE  # a negative number begins a merge of all there is
    while True:
        with transaction() as connection:
            before = connection.total_changes
            connection.execute("INSERT INTO search (search, rank) VALUES ('merge', ?)", (pages,))
            idle = connection.total_changes - before < 2
        if idle:
            return
        pages = MERGE
        yield Progress(done, done)


def shrink(transaction: Transaction, done: int = 0, spare: float = SPARE) -> Iterator[Progress]:
    """Give free pages back to the file system, but for a share of all that is soon of use again."""
    while True:
        with transaction() as connection:
            keep = int(spare * connection.execute("PRAGMA page_count").fetchone()[0])
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            if free <= keep:
                return
            for _ in range(min(PAGES, free - keep)):  # sqlite3 does one page and stops, whatever number it is told
                connection.execute("PRAGMA incremental_vacuum(1)")
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
    reading: tuple[sqlite3.Connection, packs.Shelf] | None = None
    for session in sessions:
        before(session)
        while True:
            with transaction() as connection:
                if reading is None or reading[0] is not connection:
                    reading = (connection, shelf_of(connection))
                rows = [
                    row
                    for (row,) in connection.execute(
                        # the newest first: what an exchange is built on is needed until then
                        "SELECT row FROM exchanges WHERE session_id = ? ORDER BY row DESC LIMIT ?",
                        (session, STEP),
                    )
                ]
                removal = Removal(connection, reading[1])
                removed = removal.remove(rows)
                touched({session, *removal.touched})
                if not rows:
                    connection.execute("DELETE FROM sessions WHERE session_id = ?", (session,))
            if not rows:
                break
            done += removed
            yield Progress(done, total)
    yield from wipe(transaction, done)


def wipe(transaction: Transaction, done: int = 0) -> Iterator[Progress]:
    """After a deletion: nothing of what was deleted is left in the index, the filters or a free page."""
    with transaction() as connection:
        for kind in FACETS:
            connection.execute(
                f"DELETE FROM facets WHERE kind = '{kind}' AND value NOT IN "
                f"(SELECT {kind} FROM sessions WHERE {kind} IS NOT NULL)"
            )
        hourly.wipe(connection)
    yield from merge(transaction, done)
    yield from shrink(transaction, done, spare=0.0)  # a free page has what was on it


Price = Callable[[dict[str, Any]], tuple[float | None, str | None]]
_PRICED_BY = (
    *("row", "session_id", "provider", "dialect", "model_used", "model_requested", "started_ns", "kind", "status"),
    *("input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("cache_write_5m_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens"),
    *("web_search_requests", "service_tier", "usage_more", "usage_state", "cost_usd", "price_id"),
)


def reprice(transaction: Transaction, price: Price, *, dry_run: bool = False) -> Iterator[Progress]:
    """Price all exchanges anew by what their rows tell; then all sums of sessions are made anew."""
    done, last = 0, 0
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
                cost, ident = price({**row, "usage": usage_from(row)})
                if (cost, ident) != (row["cost_usd"], row["price_id"]) and not dry_run:
                    connection.execute(
                        "UPDATE exchanges SET cost_usd = ?, price_id = ? WHERE row = ?", (cost, ident, last)
                    )
        if not rows:
            break
        done += len(rows)
        yield Progress(done, total)
    if not dry_run:
        with transaction() as connection:
            sessions = [row[0] for row in connection.execute("SELECT session_id FROM sessions ORDER BY 1")]
        yield from _resum(transaction, sessions)


def _resum(transaction: Transaction, sessions: list[str]) -> Iterator[Progress]:
    for at in range(0, len(sessions), STEP):
        with transaction() as connection:
            resum(connection, sessions[at : at + STEP])
        yield Progress(at, len(sessions))
