"""Taking exchanges out of the tables, with all that only they needed. Must not know why, nor transactions.

A pack whose exchange is gone goes too. What one later pack took from it is put into that pack (packs.fold), so that a
session whose beginning is removed gets smaller, however long its chain; only where several build on it do its pieces
stay, without the rest (packs.slim), until one is left.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable

from lunaroute._fast.words import words_once
from lunaroute.errors import StoreError
from lunaroute.stores import findings, packs
from lunaroute.stores.sums import resum

STEP_S = 0.03  # after so long no further exchange is begun in one step
# the index is a partial one, and only used where the statement says so too
_ABOVE = "SELECT exchange FROM packs WHERE base = ? AND base != 0"


class _Link:
    """A pack in its chain. above: those that build on it. pack: once it has been read."""

    __slots__ = ("above", "base", "needed", "pack", "plain")

    def __init__(self, base: int, above: set[int], needed: bool) -> None:
        self.base, self.above, self.needed = base, above, needed
        self.pack: packs.Pack | None = None
        self.plain: bytes | None = None


class Removal:
    """One step of it, inside one transaction. touched: sessions whose packs have changed.

    shelf: what the step before has read, where nothing but such steps changes packs in between (a long chain is not
    read anew for each of them).
    """

    def __init__(self, connection: sqlite3.Connection, shelf: packs.Shelf | None = None) -> None:
        self._db = connection
        self._shelf = shelf or shelf_of(connection)
        self._links: dict[int, _Link | None] = {}
        self._gone: list[int] = []
        self._changed: set[int] = set()
        self._blobs: Counter[int] = Counter()
        self.touched: set[str] = set()

    def remove(self, rows: Iterable[int], seconds: float = STEP_S) -> int:
        """Remove exchanges by their number, in order until the time is over, and sessions that have none left; the sums
        of a session are then those of what is left."""
        until = time.monotonic() + seconds
        dead: list[int] = []
        for row in rows:
            self._exchange(row)
            dead.append(row)
            if time.monotonic() > until:
                break
        left = []
        for session in self.touched:
            if not self._db.execute("SELECT 1 FROM exchanges WHERE session_id = ? LIMIT 1", (session,)).fetchone():
                self._db.execute("DELETE FROM sessions WHERE session_id = ?", (session,))
                self._db.execute("DELETE FROM tool_calls WHERE session_id = ?", (session,))
                findings.forget_session(self._db, session)
            else:
                left.append(session)
        resum(self._db, left)
        self._sweep(dead)
        return len(dead)

    def _exchange(self, row: int) -> None:
        found = self._db.execute("SELECT id, session_id FROM exchanges WHERE row = ?", (row,)).fetchone()
        if found is None:
            return
        self._words(row)
        self._db.execute("DELETE FROM attempts WHERE exchange = ?", (row,))
        self._db.execute("DELETE FROM bodies WHERE exchange_id = ?", (found[0],))
        self._db.execute("DELETE FROM exchanges WHERE row = ?", (row,))
        if found[1] is not None:
            self._db.execute("DELETE FROM tool_calls WHERE session_id = ? AND exchange = ?", (found[1], row))
            findings.forget_exchange(self._db, found[1], row)
            self.touched.add(found[1])

    def _words(self, row: int) -> None:
        """Out of the index; it must be told them once more, just as it was told them. Those of a damaged pack stay, and
        lead nowhere."""
        try:
            pack = self._shelf.pack(row)
            words = words_once([text for _, text in packs.texts_of(pack)]) if pack is not None else ""
        except StoreError:
            return
        if words:
            self._db.execute("INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)", (row, words))

    # --- chains: first all is read and thought over, then it is written -------------------------------------
    def _sweep(self, dead: list[int]) -> None:
        waiting = sorted(dead)  # the newest first: what is built on nothing falls away, and with it what is below
        while waiting:
            row = waiting.pop()
            link = self._link(row)
            if link is None or link.needed:
                continue
            if not link.above:
                self._drop(row, link)
                waiting.append(link.base)
            elif len(link.above) > 1:
                self._slim(row, link)
            else:
                self._fold(row, link)
        self._write()

    def _link(self, row: int) -> _Link | None:
        if row not in self._links:
            found = self._db.execute("SELECT base FROM packs WHERE exchange = ?", (row,)).fetchone()
            made = None
            if found is not None:
                above = {each for (each,) in self._db.execute(_ABOVE, (row,))}
                exists = self._db.execute("SELECT 1 FROM exchanges WHERE row = ?", (row,)).fetchone()
                made = _Link(found[0], above, exists is not None)
            self._links[row] = made
        return self._links[row]

    def _read(self, row: int, link: _Link) -> packs.Pack:
        """The pack; raises StoreError where it is damaged."""
        if link.pack is None:
            pack = self._shelf.pack(row)
            if pack is None:
                raise StoreError("a pack is missing")
            link.pack = pack
        return link.pack

    def _drop(self, row: int, link: _Link) -> None:
        with contextlib.suppress(StoreError):  # damaged: which blobs it named nobody can tell
            self._blobs.subtract(packs.blobs_of(self._read(row, link)))
        self._forget(row, link)

    def _forget(self, row: int, link: _Link) -> None:
        self._gone.append(row)
        self._changed.discard(row)
        self._links[row] = None
        below = self._link(link.base)
        if below is not None:
            below.above.discard(row)

    def _slim(self, row: int, link: _Link) -> None:
        try:
            pack = self._read(row, link)
            self._read_above(link)
        except StoreError:
            return
        link.pack = packs.slim(pack)
        self._changed.add(row)

    def _fold(self, row: int, link: _Link) -> None:
        (above,) = link.above
        taker = self._link(above)
        if taker is None:
            return  # the index tells of a pack that is not there
        try:
            pack, old = self._read(row, link), self._read(above, taker)
            self._read_above(taker)
            taker.pack = packs.fold(old, pack)
        except StoreError:
            return  # what is damaged cannot be read anyway, and stays as it is
        self._blobs.subtract(packs.blobs_of(pack))
        self._blobs.subtract(packs.blobs_of(old))
        self._blobs.update(packs.blobs_of(taker.pack))
        self._changed.add(above)
        self._forget(row, link)
        taker.base = link.base
        below = self._link(link.base)
        if below is not None:
            below.above.add(above)

    def _read_above(self, link: _Link) -> None:
        """What is compressed with a pack that will change must be had plain."""
        for each in link.above:
            above = self._link(each)
            if above is not None and above.plain is None:
                self._read(each, above)
                data = self._db.execute("SELECT data FROM packs WHERE exchange = ?", (each,)).fetchone()[0]
                base = self._db.execute("SELECT base FROM packs WHERE exchange = ?", (each,)).fetchone()[0]
                above.plain = packs.unfold(data, self._shelf.plain(base) if base else None)

    def _write(self) -> None:
        plains: dict[int, bytes] = {}
        for row in self._changed:
            link = self._links[row]
            assert link is not None and link.pack is not None
            plains[row] = packs.encode(link.pack)
        due = set(self._changed)
        for row in self._changed:
            due |= self._links[row].above  # type: ignore[union-attr]
        written = []
        for row in due:
            link = self._links[row]
            assert link is not None
            plain = plains.get(row, link.plain)
            assert plain is not None
            base = plains.get(link.base) or (self._shelf.plain(link.base) if link.base else None)
            written.append((link.base, packs.squeeze(plain, base), row))
        self._db.executemany("DELETE FROM packs WHERE exchange = ?", [(row,) for row in self._gone])
        self._db.executemany("UPDATE packs SET base = ?, data = ? WHERE exchange = ?", written)
        for blob, change in self._blobs.items():
            if change:
                self._db.execute("UPDATE blobs SET uses = uses + ? WHERE blob = ?", (change, blob))
                self._db.execute("DELETE FROM blobs WHERE blob = ? AND uses <= 0", (blob,))
        if written:
            self._shelf.forget()


def shelf_of(connection: sqlite3.Connection) -> packs.Shelf:
    """A shelf over the connection that removes."""
    return packs.shelf(lambda sql, *values: connection.execute(sql, values).fetchone())
