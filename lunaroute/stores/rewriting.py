"""Taking values out of what is already stored: exchange by exchange in the database, each in a step of its own.

What is a value is told by a Redacting, which this must not know more of. An exchange's pieces that a later one takes
up are changed where they are kept: the later one then has them changed, too. What is compressed with a pack that
changes is compressed anew in the same transaction. So after each step everything stored is whole.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import msgspec
import zstandard

from lunaroute._fast.words import words_once
from lunaroute.errors import StoreError
from lunaroute.records import Exchange, Finding, Record
from lunaroute.stores import findings, packs
from lunaroute.stores.removal import shelf_of
from lunaroute.stores.upkeep import Progress, Transaction
from lunaroute.stores.writing import FACETS, blob_of

Found = Counter[tuple[str, str, str]]
"""(kind, name, digest) of values, and how often."""
STEP = 8  # exchanges of a step
_COLUMNS = (
    *("error", "error_kind", "method", "target", "client", "client_version", "model_requested", "model_used"),
    *("stop_reason", "response_id", "service_tier", "usage_more", "cache_miss_reason"),
)
_SESSION = ("title", "project", "client", "client_version", "model_requested", "model_used")
_CALL = ("call_id", "name", "kind", "arguments")
_REQUEST, _RESPONSE = 1, 2  # as in `altered` of a pack


class Changed(Protocol):
    """A body, changed. edits: (start, end, replacement, what was there), in offsets of the old one."""

    body: bytes
    edits: list[tuple[int, int, bytes, Any]]
    found: Found


class Redacting(Protocol):
    """What knows which values there are, and what is to stand for them. Nothing of it raises."""

    def record(self, record: Record) -> Record: ...
    def brought(self, exchange: Exchange) -> Exchange: ...
    def body(self, body: bytes, kind: str = "") -> Changed: ...
    def text(self, text: str, context: str = "", found: Found | None = None) -> str: ...
    def target(self, target: str, found: Found | None = None) -> str: ...
    def fields(self, fields: Iterable[tuple[str, str]], found: Found | None = None) -> list[tuple[str, str]]: ...


class Counts:
    """How much was looked at: exchanges, those in which something was, and what could not be read."""

    def __init__(self) -> None:
        self.exchanges = self.dirty = self.unreadable = 0

    def told(self) -> dict[str, int]:
        return {"exchanges": self.exchanges, "found_in": self.dirty, "unreadable": self.unreadable}


class Tally:
    """What was found where: by place, kind and name; and the first places of secrets that left this machine."""

    MOST = 100

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], tuple[set[str], set[str], set[str]]] = {}
        self.leaks: list[dict[str, Any]] = []
        self._known: set[tuple[str, str]] = set()
        self.database, self.files = Counts(), Counts()

    def take(self, session: str, exchange: str, sequence: int, place: str, found: Found) -> None:
        """What one side of an exchange had."""
        for kind, name, digest in found:
            values, exchanges, sessions = self._values.setdefault((place, kind, name), (set(), set(), set()))
            values.add(digest)
            exchanges.add(exchange)
            sessions.add(session)
            if kind == "secret" and place == "request" and (session, digest) not in self._known:
                self._known.add((session, digest))
                if len(self.leaks) < self.MOST:
                    leak = {"name": name, "session_id": session, "exchange_id": exchange, "sequence": sequence}
                    self.leaks.append(leak)

    def told(self) -> list[dict[str, Any]]:
        """One entry for each place, kind and name, the most values first."""
        rows = [
            {"place": place, "kind": kind, "name": name, "values": len(values), "exchanges": len(exchanges),
             "sessions": len(sessions)}
            for (place, kind, name), (values, exchanges, sessions) in self._values.items()
        ]  # fmt: skip
        return sorted(rows, key=lambda row: (row["place"], row["kind"], -int(str(row["values"])), row["name"]))


def scan(
    transaction: Transaction,
    redacting: Redacting,
    tally: Tally,
    touched: Callable[[set[str]], None],
    *,
    apply: bool,
) -> Iterator[Progress]:
    """All exchanges that have ended, in order; with `apply` they are changed. Sessions' own rows at the end."""
    last, shelf = 0, None
    with transaction() as connection:
        # first what others are built on and nobody asks for any more
        shelf = (connection, shelf_of(connection))
        step = _Step(connection, shelf[1], redacting, tally, apply)
        for (row,) in connection.execute(
            "SELECT exchange FROM packs WHERE exchange NOT IN (SELECT row FROM exchanges) ORDER BY exchange"
        ).fetchall():
            step.remains(row)
        touched(step.changed)
        total = connection.execute("SELECT count(*) FROM exchanges WHERE state IS NOT NULL").fetchone()[0]
        names = [name for (name,) in connection.execute("SELECT session_id FROM sessions ORDER BY session_id")]
    for session in [*names, None]:
        last = 0
        while True:
            with transaction() as connection:
                if shelf is None or shelf[0] is not connection:
                    shelf = (connection, shelf_of(connection))
                step = _Step(connection, shelf[1], redacting, tally, apply)
                rows = _rows(connection, session, last)
                for row in rows:
                    step.exchange(row)
                    last = row["row"]
                if not rows and session is not None:
                    step.session(session)
                if step.changed:
                    touched(step.changed)
            if not rows:
                break
            yield Progress(tally.database.exchanges, total)
    if apply:
        with transaction() as connection:
            for kind in FACETS:
                connection.execute(
                    f"DELETE FROM facets WHERE kind = '{kind}' AND value NOT IN "
                    f"(SELECT {kind} FROM sessions WHERE {kind} IS NOT NULL)"
                )


def _rows(connection: sqlite3.Connection, session: str | None, last: int) -> list[dict[str, Any]]:
    names = ("row", "id", "session_id", "sequence", *_COLUMNS)
    found = connection.execute(
        f"SELECT {', '.join(names)} FROM exchanges WHERE session_id IS ? AND row > ? AND state IS NOT NULL "
        "ORDER BY row LIMIT ?",
        (session, last, STEP),
    )
    return [dict(zip(names, each, strict=True)) for each in found]


class _Step:
    """Inside of one transaction. changed: sessions whose packs are other ones now."""

    def __init__(
        self, db: sqlite3.Connection, shelf: packs.Shelf, redacting: Redacting, tally: Tally, apply: bool
    ) -> None:
        self._db, self._shelf, self._redacting, self._tally, self._apply = db, shelf, redacting, tally, apply
        self.changed: set[str] = set()

    def exchange(self, row: dict[str, Any]) -> None:
        asked: Found = Counter()
        told: Found = Counter()
        self._tally.database.exchanges += 1
        columns = {name: self._column(name, row[name], asked, told) for name in _COLUMNS if row[name]}
        changed = {name: value for name, value in columns.items() if value != row[name]}
        if changed:
            self._update("exchanges", changed, "row = ?", row["row"])
        self._calls(row)
        self._attempts(row["row"])
        self._old(row["id"], asked, told)
        try:
            if self._pack(row["row"], asked, told) and row["session_id"] is not None:
                self.changed.add(row["session_id"])
        except StoreError:
            self._tally.database.unreadable += 1
        if asked or told:
            self._tally.database.dirty += 1
        session = row["session_id"] or ""
        for place, found in (("request", asked), ("response", told)):
            self._tally.take(session, row["id"], row["sequence"] or 0, place, found)
        if self._apply and row["session_id"] is not None:
            findings.put(self._db, row["session_id"], row["row"], [
                Finding(place=place, kind=kind, name=name, digest=digest, count=count)
                for place, found in (("request", asked), ("response", told))
                for (kind, name, digest), count in found.items()
            ])  # fmt: skip

    def remains(self, row: int) -> None:
        """What is left of an exchange that was removed: pieces that later ones are made of."""
        with contextlib.suppress(StoreError):
            self._pack(row, Counter(), Counter())

    def session(self, session: str) -> None:
        """The row of a session itself."""
        found = self._db.execute(
            f"SELECT {', '.join(_SESSION)} FROM sessions WHERE session_id = ?", (session,)
        ).fetchone()
        if found is None:
            return
        old = dict(zip(_SESSION, found, strict=True))
        new = {name: self._redacting.text(value) for name, value in old.items() if isinstance(value, str)}
        changed = {name: value for name, value in new.items() if value != old[name]}
        if changed:
            self._update("sessions", changed, "session_id = ?", session)
            if self._apply:
                self._db.executemany(
                    "INSERT INTO facets VALUES (?, ?) ON CONFLICT DO NOTHING",
                    [(name, value) for name, value in changed.items() if name in FACETS],
                )

    def _update(self, table: str, changed: dict[str, Any], where: str, *key: Any) -> None:
        if self._apply:
            names = ", ".join(f"{name} = ?" for name in changed)
            self._db.execute(f"UPDATE {table} SET {names} WHERE {where}", (*changed.values(), *key))

    def _column(self, name: str, value: Any, asked: Found, told: Found) -> Any:
        if not isinstance(value, str):
            return value
        if name == "target":
            return self._redacting.target(value, asked)
        return self._redacting.text(value, "", asked if name in ("method", "model_requested") else told)

    def _calls(self, row: dict[str, Any]) -> None:
        session = row["session_id"]
        if session is None:
            return
        for old in self._db.execute(
            f"SELECT {', '.join(_CALL)} FROM tool_calls WHERE session_id = ? AND exchange = ?", (session, row["row"])
        ).fetchall():
            new = [self._redacting.text(value) if isinstance(value, str) else value for value in old]
            if tuple(new) != tuple(old) and self._apply:
                names = ", ".join(f"{name} = ?" for name in _CALL)
                with contextlib.suppress(sqlite3.IntegrityError):  # two calls that have one name now
                    self._db.execute(
                        f"UPDATE tool_calls SET {names} WHERE session_id = ? AND call_id = ?", (*new, session, old[0])
                    )
                    continue
                self._db.execute("DELETE FROM tool_calls WHERE session_id = ? AND call_id = ?", (session, old[0]))

    def _attempts(self, number: int) -> None:
        for attempt, old in self._db.execute(
            "SELECT number, error FROM attempts WHERE exchange = ? AND error IS NOT NULL", (number,)
        ).fetchall():
            new = self._redacting.text(old)
            if new != old:
                self._update("attempts", {"error": new}, "exchange = ? AND number = ?", number, attempt)

    # --- packs -----------------------------------------------------------------------------------------------
    def _pack(self, row: int, asked: Found, told: Found) -> bool:
        """The pack of an exchange; True where it is another one now."""
        whole = self._shelf.whole(row)
        if whole is None:
            return False
        old = whole.pack
        made = msgspec.structs.replace(old, more=dict(old.more))
        now = msgspec.structs.replace(whole, pack=made)
        body = b"".join(whole.pieces)
        request = self._redacting.body(body, _type(whole.head))
        response = self._redacting.body(old.response, _type(whole.answer_head))
        asked.update(request.found)
        told.update(response.found)
        blobs: Counter[int] = Counter()
        if request.edits:
            now.pieces = _pieces(whole.pieces, request.edits)
            made.body, made.body_new = self._remade(old.body, whole.pieces, now.pieces, blobs)
            _altered(made, _REQUEST)
        if response.edits:
            made.response = response.body
            _altered(made, _RESPONSE)
        now.head = self._redacting.fields(whole.head, asked)
        made.head, made.head_new = _fields(old.head, old.head_new, whole.head, now.head)
        now.answer_head = self._redacting.fields(whole.answer_head, told)
        made.answer_head, made.answer_head_new = _fields(
            old.answer_head, old.answer_head_new, whole.answer_head, now.answer_head
        )
        before = packs.texts_of(old)
        after = [(kind, self._redacting.text(text)) for kind, text in before]
        if after != before:
            made.texts = packs.texts_to(after)
        _more(made.more, self._redacting)
        if msgspec.msgpack.encode(made) == msgspec.msgpack.encode(old):
            return False
        if self._apply:
            self._write(row, now, blobs)
            if after != before:
                self._reindex(row, before, after)
        return self._apply

    def _remade(
        self, recipe: list[int], pieces: list[bytes], wanted: list[bytes], blobs: Counter[int]
    ) -> tuple[list[int], list[bytes]]:
        """A recipe for other pieces. What the base has (as it is by now) is still taken from there."""
        out: list[int] = []
        made: list[bytes] = []
        place = 0
        for at in range(0, len(recipe), 2):
            start, count = recipe[at], recipe[at + 1]
            if start == packs.BLOB:
                if wanted[place] == pieces[place]:
                    out += (packs.BLOB, count)
                else:
                    # other sessions may use the old one: they are looked at by themselves
                    fresh = blob_of(self._db, wanted[place]) if self._apply else count
                    blobs[count] -= 1
                    blobs[fresh] += 1
                    out += (packs.BLOB, fresh)
                place += 1
                continue
            for step in range(count):
                piece = wanted[place]
                if start == packs.NEW or piece != pieces[place]:
                    made.append(piece)
                    _longer(out, packs.NEW)
                else:
                    _longer(out, start + step)
                place += 1
        return out, made

    def _write(self, row: int, now: packs.Whole, blobs: Counter[int]) -> None:
        """The pack, and those that are compressed with it."""
        base = self._db.execute("SELECT base FROM packs WHERE exchange = ?", (row,)).fetchone()[0]
        above = self._db.execute("SELECT exchange, data FROM packs WHERE base = ? AND base != 0", (row,)).fetchall()
        dictionary = self._shelf.plain(row)
        plains = [(number, packs.unfold(data, dictionary)) for number, data in above]
        plain = packs.encode(now.pack)
        below = self._shelf.plain(base) if base else None
        self._db.execute("UPDATE packs SET data = ? WHERE exchange = ?", (packs.squeeze(plain, below), row))
        self._db.executemany(
            "UPDATE packs SET data = ? WHERE exchange = ?",
            [(packs.squeeze(each, plain), number) for number, each in plains],
        )
        for blob, change in blobs.items():
            if change:
                self._db.execute("UPDATE blobs SET uses = uses + ? WHERE blob = ?", (change, blob))
                self._db.execute("DELETE FROM blobs WHERE blob = ? AND uses <= 0", (blob,))
        self._shelf.replace(row, base, plain, now)

    def _reindex(self, row: int, before: list[tuple[str, str]], after: list[tuple[str, str]]) -> None:
        # the index must be told what it was told before (writing.py)
        old, new = (words_once([text for _, text in texts]) for texts in (before, after))
        self._db.execute("INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)", (row, old))
        self._db.execute("INSERT INTO search (rowid, text) VALUES (?, ?)", (row, new))

    # --- what version 1 wrote ----------------------------------------------------------------------------------
    def _old(self, ident: str, asked: Found, told: Found) -> None:
        found = self._db.execute(
            "SELECT request_headers, response_headers, attempts, request_body, response_body FROM bodies "
            "WHERE exchange_id = ?",
            (ident,),
        ).fetchone()
        if found is None:
            return
        heads = [self._old_fields(found[0], asked), self._old_fields(found[1], told)]
        attempts = self._redacting.body((found[2] or "").encode()).body.decode()
        bodies = [self._old_body(found[3], asked), self._old_body(found[4], told)]
        changed = dict(zip(("request_headers", "response_headers", "attempts", "request_body", "response_body"),
                           (*heads, attempts, *bodies), strict=True))  # fmt: skip
        changed = {
            name: value for name, value, old in zip(changed, changed.values(), found, strict=True) if value != old
        }
        if changed:
            self._update("bodies", changed, "exchange_id = ?", ident)

    def _old_fields(self, text: str | None, found: Found) -> str | None:
        if not text:
            return text
        try:
            fields = msgspec.json.decode(text, type=list[tuple[str, str]])
        except msgspec.MsgspecError:
            return self._redacting.text(text, "", found)
        made = self._redacting.fields(fields, found)
        return text if made == fields else msgspec.json.encode(made).decode()

    def _old_body(self, packed: bytes | None, found: Found) -> bytes | None:
        if not packed:
            return packed
        try:
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed) as reader:
                body = reader.read(packs.UNPACKED_LIMIT)
        except zstandard.ZstdError:
            self._tally.database.unreadable += 1
            return packed
        made = self._redacting.body(body)
        found.update(made.found)
        return zstandard.ZstdCompressor().compress(made.body) if made.edits else packed


def _type(fields: Iterable[tuple[str, str]]) -> str:
    return next((value for name, value in fields if name.lower() == "content-type"), "")


def _pieces(pieces: list[bytes], edits: list[tuple[int, int, bytes, Any]]) -> list[bytes]:
    """The pieces with the edits done to each; what goes over a border is put into the first piece."""
    out: list[bytes] = []
    at = number = 0
    for piece in pieces:
        end = at + len(piece)
        parts: list[bytes] = []
        done = at
        while number < len(edits) and edits[number][0] < end:
            start, stop, replacement, _ = edits[number]
            parts.append(piece[done - at : max(start, at) - at])
            if start >= at:
                parts.append(replacement)
            done = min(stop, end)
            if stop > end:
                break  # it goes on in the next piece
            number += 1
        parts.append(piece[done - at :])
        out.append(b"".join(parts))
        at = end
    return out


def _fields(
    recipe: list[int], new: list[tuple[str, str]], old: list[tuple[str, str]], wanted: list[tuple[str, str]]
) -> tuple[list[int], list[tuple[str, str]]]:
    """The recipe of a head for other fields."""
    if all(tuple(one) == tuple(other) for one, other in zip(old, wanted, strict=True)):
        return recipe, new
    out: list[int] = []
    made: list[tuple[str, str]] = []
    place = 0
    for at in range(0, len(recipe), 2):
        start, count = recipe[at], recipe[at + 1]
        for step in range(count):
            if start == packs.NEW or tuple(wanted[place]) != tuple(old[place]):
                made.append(wanted[place])
                _longer(out, packs.NEW)
            else:
                _longer(out, start + step)
            place += 1
    return out, made


def _longer(recipe: list[int], start: int) -> None:
    """One more piece of the recipe: of the base at `start`, or a new one."""
    new = bool(recipe) and recipe[-2] == packs.NEW == start
    if new or (recipe and start >= 0 and 0 <= recipe[-2] == start - recipe[-1]):
        recipe[-1] += 1
    else:
        recipe += (start, 1)


def _altered(pack: packs.Pack, side: int) -> None:
    """What is kept is no longer what was on the wire, and with its digest what was taken out could be tried for."""
    pack.more["altered"] = int(pack.more.get("altered", 0)) | side
    pack.more.pop("request_sha256" if side == _REQUEST else "response_sha256", None)


def _more(more: dict[str, Any], redacting: Redacting) -> None:
    for name in ("reason", "request_error", "response_error"):
        if isinstance(more.get(name), str):
            more[name] = redacting.text(more[name])
    if isinstance(more.get("limits"), list):
        more["limits"] = [
            {name: redacting.text(value) if isinstance(value, str) else value for name, value in each.items()}
            for each in more["limits"]
            if isinstance(each, dict)
        ]
