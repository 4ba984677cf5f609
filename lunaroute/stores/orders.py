"""What can be asked of the one who writes: to delete, to prune, to import, to price anew. Must not know who asks.

The same orders are carried out by the observer of a running server, between its records, and by a command where no
server runs. Each is a generator of small steps: after each step everything stored is whole, so that an order may be
given up anywhere.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from lunaroute.errors import StoreError
from lunaroute.records import Exchange, Json
from lunaroute.stores import foreign, importing, relining
from lunaroute.stores.jsonl import JsonlStore
from lunaroute.stores.reading import Trouble
from lunaroute.stores.rewriting import Redacting, Tally
from lunaroute.stores.sqlite import SqliteStore
from lunaroute.stores.upkeep import Keep, Price, Progress

BATCH = 16  # imported exchanges of a step
BATCH_BYTES = 1 << 20
TROUBLES = 200  # that are told; the rest is counted
SUBSCRIPTION = "api_equivalent"
Steps = Generator[Progress, None, Json]
_UNSTORABLE = (OverflowError, ValueError, TypeError, msgspec.MsgspecError)


class Delete(msgspec.Struct, tag_field="cmd", tag="delete", forbid_unknown_fields=True):
    """Sessions, by their whole ids, with their files."""

    sessions: list[str]


class Prune(msgspec.Struct, tag_field="cmd", tag="prune", forbid_unknown_fields=True):
    """Retention now; what is not given is as configured. rewrite: then write the database anew, however large."""

    max_age_days: float | None = None
    max_size_mb: float | None = None
    rewrite: bool = False


class Import(msgspec.Struct, tag_field="cmd", tag="import", forbid_unknown_fields=True):
    """Files: recordings of ours, logs of Claude Code and Codex."""

    paths: list[str]


class Reprice(msgspec.Struct, tag_field="cmd", tag="reprice", forbid_unknown_fields=True):
    """Every cost anew, by the prices as they are now."""


class Scan(msgspec.Struct, tag_field="cmd", tag="scan", forbid_unknown_fields=True):
    """Look for what today's settings would have taken out of all that is recorded. apply: take it out."""

    apply: bool = False


Order = Delete | Prune | Import | Reprice | Scan


class Orders:
    """See the module. price: loads the prices and gives what prices a row; fill: sets the cost of an exchange;
    renumbered: hears of sessions whose exchanges have got other numbers.

    redacting: what comes from elsewhere goes through it; its argument says whether it was recorded by us before.
    """

    def __init__(
        self,
        sqlite: SqliteStore,
        jsonl: JsonlStore,
        *,
        price: Callable[[], Price],
        fill: Callable[[Exchange], None],
        now: Callable[[], float],
        redacting: Callable[[bool], Redacting],
        renumbered: Callable[[str], None] = lambda session: None,
    ) -> None:
        self._redacting = redacting
        self._sqlite = sqlite
        self._jsonl = jsonl
        self._price = price
        self._fill = fill
        self._now = now
        self._renumbered = renumbered

    def carry_out(self, asked: Json) -> Steps:
        """The steps of an order; what they return is the answer. Raises StoreError."""
        try:
            order: Order = msgspec.convert(asked, Order)
        except msgspec.ValidationError as error:
            raise StoreError(f"no such order: {error}") from None
        if isinstance(order, Delete):
            return (yield from self._delete(order))
        if isinstance(order, Prune):
            return (yield from self._prune(order))
        if isinstance(order, Import):
            return (yield from self._import(order))
        if isinstance(order, Scan):
            return (yield from self._scan(order))
        return (yield from self._reprice())

    def _delete(self, order: Delete) -> Steps:
        """A session's files go before its rows: given up in between, it can still be named and deleted."""
        freed = [0]
        exchanges = 0
        before = self._sqlite.sessions() & set(order.sessions)
        size = self._sqlite.size()
        paths = self._sqlite.log_paths(order.sessions)

        def files(session: str) -> None:
            if importing.is_session(session):
                freed[0] += self._jsonl.delete(session, paths.get(session))

        for step in self._sqlite.delete(order.sessions, files):
            exchanges = max(exchanges, step.done)
            yield step
        return {
            "sessions": len(before - self._sqlite.sessions()),
            "exchanges": exchanges,
            "freed_bytes": freed[0] + max(0, size - self._sqlite.size()),
            "rests": self._sqlite.rests,
        }

    def _prune(self, order: Prune) -> Steps:
        now = self._now()
        exchanges = 0
        sessions, size, files = self._sqlite.sessions(), self._sqlite.size(), self._jsonl.files()
        for step in self._sqlite.tend_steps(now, bounds(self._sqlite.keep, order)):
            exchanges = max(exchanges, step.done)
            yield step
        for _ in self._jsonl.tend_steps(now, bounds(self._jsonl.keep, order)):
            yield Progress(exchanges, exchanges)
        if order.rewrite:
            yield from self._sqlite.rewrite()
        kept = self._jsonl.files()
        return {
            "sessions": len(sessions - self._sqlite.sessions()),
            "exchanges": exchanges,
            "database_bytes": [size, self._sqlite.size()],
            "files": len({_plain(each.path) for each in files} - {_plain(each.path) for each in kept}),
            "file_bytes": [sum(each.size for each in files), sum(each.size for each in kept)],
            "rests": self._sqlite.rests if order.rewrite else None,
        }

    def _reprice(self) -> Steps:
        tally = Repriced(self._price())
        yield from self._sqlite.reprice(tally)
        return tally.told()

    def _scan(self, order: Scan) -> Steps:
        redacting, tally = self._redacting(True), Tally()
        yield from self._sqlite.scan(redacting, tally, apply=order.apply)
        files = troubles = 0
        found = sorted(self._jsonl.files())
        for number, each in enumerate(found):
            session = importing.session_of(each.path)
            if session is None or not each.path.exists():
                continue  # it was set aside, or is another one by now
            changed = [0]
            for lines in relining.scan(each.path, redacting, tally, None):
                changed.append(lines)
                yield Progress(number, len(found))
            files += changed[-1] > 0
            if changed[-1] and order.apply:
                try:
                    for _ in relining.rewrite(each.path, redacting, partial(self._jsonl.let_go, session)):
                        yield Progress(number, len(found))
                except StoreError:
                    troubles += 1
        return {
            "applied": order.apply,
            "database": tally.database.told(),
            "files": {**tally.files.told(), "files": len(found), "files_found_in": files, "not_rewritten": troubles},
            "found": tally.told(),
            "leaks": tally.leaks,
            "rests": self._sqlite.rests,
        }

    # --- import ------------------------------------------------------------------------------------
    def _import(self, order: Import) -> Steps:
        sizes = [_size(path) for path in order.paths]
        tally = Imported(self._now(), self._sqlite.keep.max_age_days)
        redacting = self._redacting(False)
        done = 0
        for path, size in zip(order.paths, sizes, strict=True):
            for batch in _batches(exchanges_of(Path(path), tally, self._sqlite.recorded)):
                self._bring(path, batch, tally, redacting)
                yield Progress(done, sum(sizes))
            done += size
            yield Progress(done, sum(sizes))
        for session in tally.sessions:
            if self._sqlite.renumber(session):
                self._renumbered(session)
        return tally.told()

    def _bring(self, path: str, batch: list[Exchange], tally: Imported, redacting: Redacting) -> None:
        known = self._sqlite.known([each.id for each in batch])
        fresh = [each for each in batch if each.id not in known]
        tally.known += len(batch) - len(fresh)
        for each in fresh:
            if each.cost_usd is None:
                # who paid is not told: the label that is true of both
                each.cost_kind = each.cost_kind or SUBSCRIPTION
                self._fill(each)
        try:
            if fresh:
                self._sqlite.bring([redacting.brought(each) for each in fresh])
        except _UNSTORABLE:
            if len(batch) > 1:
                for each in fresh:
                    self._bring(path, [each], tally, redacting)
            else:
                tally.trouble(Trouble(path, 0, "an exchange has values that cannot be stored"))
            return
        for each in fresh:
            tally.take(each)


class Repriced:
    """Prices rows as `price` does, and keeps count."""

    def __init__(self, price: Price) -> None:
        self._price = price
        self.exchanges = self.changed = self.unknown = 0
        self.old = self.new = 0.0

    def __call__(self, row: dict[str, Any]) -> tuple[float | None, str | None]:
        cost, ident = self._price(row)
        self.exchanges += 1
        self.changed += (cost, ident) != (row["cost_usd"], row["price_id"])
        self.unknown += cost is None and row["usage_state"] != "unknown"
        self.old += row["cost_usd"] or 0.0
        self.new += cost or 0.0
        return cost, ident

    def told(self) -> Json:
        """The answer."""
        return {
            "exchanges": self.exchanges,
            "changed": self.changed,
            "unknown": self.unknown,
            "old_usd": self.old,
            "new_usd": self.new,
        }


class Imported:
    """What an import found."""

    def __init__(self, now: float, max_age_days: float | None) -> None:
        self._before = int((now - max_age_days * 86400) * 1e9) if max_age_days is not None else 0
        self.sessions: set[str] = set()
        self._troubles: list[Trouble] = []
        self.damaged = self.imported = self.known = self.recorded = self.expiring = 0

    def trouble(self, trouble: Trouble) -> None:
        """Something could not be read."""
        self.damaged += 1
        if len(self._troubles) < TROUBLES:
            self._troubles.append(trouble)

    def take(self, exchange: Exchange) -> None:
        """One is new."""
        self.imported += 1
        self.sessions.add(exchange.session_id)
        self.expiring += exchange.started_ns < self._before

    def told(self) -> Json:
        """The answer."""
        return {
            "imported": self.imported,
            "sessions": sorted(self.sessions),
            "known": self.known,
            "recorded_sessions": self.recorded,
            "expiring": self.expiring,
            "damaged": self.damaged,
            "troubles": [[each.path, each.number, each.reason] for each in self._troubles],
        }


def exchanges_of(path: Path, tally: Imported, recorded: Callable[[str], bool]) -> Iterator[Exchange]:
    """The exchanges of a file, whosever it is; of a client's log only where the proxy did not record the session."""
    if not _is_file(path):
        tally.trouble(Trouble(str(path), 0, "it cannot be read: there is no such file"))
        return
    log = foreign.log_of(path) if importing.session_of(path) is None else None
    if log is None:
        yield from importing.exchanges_of(path, tally.trouble)
    elif recorded(log.session_id):
        tally.recorded += 1
    else:
        yield from foreign.exchanges_of(path, tally.trouble)


def _batches(exchanges: Iterator[Exchange]) -> Iterator[list[Exchange]]:
    batch: list[Exchange] = []
    size = 0
    for each in exchanges:
        batch.append(each)
        size += len(each.request_body) + len(each.response_body)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def bounds(keep: Keep, order: Prune) -> Keep:
    """What is asked for, else what is configured."""
    size = keep.max_bytes if order.max_size_mb is None else int(order.max_size_mb * 1024 * 1024)
    return Keep(keep.max_age_days if order.max_age_days is None else order.max_age_days, size)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can only look, for what is asked of an order beforehand; raises StoreError."""
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        connection.execute("PRAGMA query_only = 1")
        yield connection
    except sqlite3.Error as error:
        raise StoreError(f"cannot read {path}: {error}") from None
    finally:
        if connection is not None:
            connection.close()


def _plain(path: Path) -> str:
    """A file's name before it was compressed."""
    return str(path).partition(".jsonl")[0]


def _is_file(path: Path) -> bool:
    """Whether it is a file that reading does not wait for."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0
