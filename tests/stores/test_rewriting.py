"""What older settings let through, found and taken out of what is already stored: conversations of any shape, with what
was removed of them, in the database and in the files; and what goes on after that.

The oracle is the redactor itself over the exchanges as they were made.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lunaroute.records import Attempt, Exchange, Text, ToolCall
from lunaroute.stores import findings, importing, packs, queries, relining, schema
from lunaroute.stores.jsonl import JsonlStore
from lunaroute.stores.orders import Orders
from lunaroute.stores.readonly import Connection
from lunaroute.stores.removal import Removal
from lunaroute.stores.rewriting import Tally, _pieces
from lunaroute.stores.search import search
from lunaroute.stores.sqlite import SqliteStore
from tests.observe.pii import plain
from tests.observe.pii.plain import PLANTED, token
from tests.stores.conversations import KINDS, Conversations
from tests.stores.records import BOOT, exchange

MAIL = "alice.b@corp.com"
SECRET = "sk-test-a1B2c3D4e5F6g7H8i9"


class Careless(Conversations):
    """People who write what they should not, now and then."""

    def words(self, count: int) -> str:
        said = super().words(count)
        return f"{said} {self.random.choice(PLANTED)[1]} {said[:40]}" if self.random.random() < 0.25 else said


class Kept:
    """Both stores in a folder, with orders over them."""

    def __init__(self, folder: Path) -> None:
        self.sqlite = SqliteStore(folder / "sessions.db", warn=print)
        self.jsonl = JsonlStore(folder / "sessions", warn=print)
        self.sqlite.locate_by(self.jsonl.locate)
        self.sqlite.open()
        self.jsonl.open()
        self.orders = Orders(
            self.sqlite, self.jsonl, price=lambda: lambda row: (None, None), fill=lambda one: None, now=lambda: 0.0,
            redacting=lambda again: plain.Redactor(plain.rules(), plain.find, plain.key(), again=again),
        )  # fmt: skip
        self.folder = folder

    def write(self, exchanges: list[Exchange]) -> None:
        self.sqlite.write(exchanges)
        self.jsonl.write(exchanges)

    def scan(self, apply: bool, between: list[list[Exchange]] | None = None) -> dict[str, Any]:
        """Exchanges of `between` come while it is under way."""
        steps = self.orders.carry_out({"cmd": "scan", "apply": apply})
        while True:
            try:
                next(steps)
            except StopIteration as end:
                answer: dict[str, Any] = end.value
                return answer
            if between:
                self.write(between.pop(0))

    def bodies(self, ident: str) -> tuple[bytes, bytes, str | None]:
        with Connection(self.sqlite.path) as db:
            kept = queries.bodies(db, ident)
        return kept.request_body, kept.response_body, kept.trouble

    def bytes(self) -> Iterator[tuple[str, bytes]]:
        """Everything that is in the files, unpacked as well."""
        for file in sorted(self.folder.rglob("*")):
            if file.is_file():
                yield file.name, file.read_bytes()
        connection = sqlite3.connect(self.sqlite.path)
        shelf = packs.shelf(lambda sql, *values: connection.execute(sql, values).fetchone())
        for (row,) in connection.execute("SELECT exchange FROM packs"):
            whole = shelf.whole(row)
            assert whole is not None
            yield f"pack {row}", packs.encode(whole.pack) + b"".join(whole.pieces)
        for (data,) in connection.execute("SELECT data FROM blobs"):
            yield "blob", packs.unfold(data)
        connection.close()

    def left(self) -> list[tuple[str, str]]:
        return [(name, value) for name, data in self.bytes() for _, value in PLANTED if value.encode() in data]

    def close(self) -> None:
        self.sqlite.close()
        self.jsonl.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.close()


def conversation(seed: int, count: int = 40) -> list[Exchange]:
    made = Careless(seed)
    out = []
    for number in range(count):
        one = made.next(made.random.randrange(3), made.random.choice(KINDS))
        one.texts = [Text(kind="prompt", text=made.words(6)), Text(kind="answer", text=made.words(3))]
        one.title = made.words(2) if number % 5 == 0 else None
        out.append(one)
    return out


@pytest.mark.parametrize("seed", range(12))
def test_conversations_of_any_shape(kept: Kept, seed: int) -> None:
    exchanges = conversation(seed)
    late = conversation(seed + 100, 50)[40:]
    kept.write(exchanges[:30])
    if seed % 3:
        remove(kept, seed)
    kept.write(exchanges[30:])
    before = dict(kept.bytes())
    looked = kept.scan(False)
    assert {name: data for name, data in kept.bytes() if not name.endswith(("-wal", "-shm"))}.items() <= before.items()
    assert looked["found"] and not looked["applied"]
    assert looked["database"]["found_in"]

    done = kept.scan(True, [[each] for each in late] if seed % 2 else None)
    assert done["rests"] is None and done["files"]["not_rewritten"] == 0
    if seed % 2:
        kept.scan(True)  # what came meanwhile was let through, too
    assert kept.left() == []
    oracle = plain.redactor()
    with Connection(kept.sqlite.path) as db:
        there = [row[0] for row in db.rows("SELECT id FROM exchanges")]
    for each in exchanges + (late if seed % 2 else []):
        if each.id in there:
            wanted = oracle.exchange(each)
            assert kept.bodies(each.id) == (wanted.request_body, wanted.response_body, None)
    again = kept.scan(False)
    assert again["found"] == [] and again["leaks"] == []
    # and it goes on
    kept.write([exchange(900, session_id="s0", request_body=exchanges[-1].request_body)])
    assert kept.bodies(f"{BOOT}-900")[0] == exchanges[-1].request_body
    assert integrity(kept) == "ok"


def remove(kept: Kept, seed: int) -> None:
    """Some of the oldest, as retention does: of others they may be the base."""
    with kept.sqlite._transaction() as connection:
        rows = [row for (row,) in connection.execute("SELECT row FROM exchanges ORDER BY row LIMIT ?", (4 + seed,))]
        removal = Removal(connection)
        removal.remove(rows[:: 1 + seed % 2], seconds=60)
        kept.sqlite._writing.forget(removal.touched)


def integrity(kept: Kept) -> str:
    with sqlite3.connect(kept.sqlite.path) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchone()[0]
        connection.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 0)")
        connection.execute("ROLLBACK") if connection.in_transaction else None
    connection.close()
    return str(found)


def test_every_column(kept: Kept) -> None:
    kept.write([exchange(
        1, title=f"About {MAIL}", project=f"/home/{MAIL}", error=MAIL, error_kind=MAIL, target=f"/v1/x?q={MAIL}",
        method=MAIL, reason=MAIL, client=MAIL, client_version=MAIL, model_requested=MAIL, model_used=MAIL,
        stop_reason=MAIL, response_id=MAIL, cache_miss_reason=MAIL, request_decode_error=MAIL,
        request_headers=[("x-a", MAIL)],
        response_headers=[(MAIL, "x")], request_body=b"", response_body=MAIL.encode(), request_sha256="00" * 32,
        response_sha256="11" * 32,
        attempts=[Attempt(number=1, provider="p", origin="o", error=MAIL)],
        texts=[Text(kind="prompt", text=f"hi {MAIL}")],
        tool_calls=[ToolCall(id=MAIL, name=MAIL, arguments=MAIL), ToolCall(id="c2", name="ok")],
    )])  # fmt: skip
    answer = kept.scan(True)
    assert kept.left() == []
    mail = token("email", MAIL)
    with Connection(kept.sqlite.path) as db:
        session = queries.session(db, "sess-1")
        assert (session.title, session.project) == (f"About {mail}", f"/home/{mail}")
        assert queries.facets(db)["project"] == [f"/home/{mail}"]
        body = queries.bodies(db, f"{BOOT}-1")
        assert (body.response_body, body.request_sha256, body.response_sha256) == (mail.encode(), "00" * 32, None)
        assert (body.request_altered, body.response_altered) == (False, True)
        assert [tool.call_id for tool in queries.tools(db, "sess-1")] == [mail, "c2"]
        assert [hit.id for hit in search(db, mail[7:-1]).hits] == [f"{BOOT}-1"]
        assert search(db, "corp").hits == []
        assert {(row.place, row.name) for row in findings.of_session(db, "sess-1")} == {
            ("request", "email"), ("response", "email"),
        }  # fmt: skip
    assert [(each["place"], each["name"], each["values"], each["exchanges"]) for each in answer["found"]] == [
        ("request", "email", 1, 1), ("response", "email", 1, 1),
    ]  # fmt: skip


def test_secrets_that_left_are_named(kept: Kept) -> None:
    said = json.dumps({"messages": [{"role": "user", "content": f"use {SECRET}"}]}).encode()
    kept.write([exchange(3, request_body=said), exchange(4, request_body=said)])
    for apply in (False, True):
        assert kept.scan(apply)["leaks"] == [
            {"name": "secret", "session_id": "sess-1", "exchange_id": f"{BOOT}-3", "sequence": 3}
        ]
    with Connection(kept.sqlite.path) as db:
        assert [row.sequence for row in findings.leaks(db, None, None)] == [3]


def test_given_up_half_way_all_is_whole(kept: Kept) -> None:
    exchanges = conversation(3)
    kept.write(exchanges)
    for steps in range(1, 12, 2):
        work = kept.orders.carry_out({"cmd": "scan", "apply": True})
        for _ in range(steps):
            next(work)
        work.close()
        for each in exchanges:
            assert kept.bodies(each.id)[2] is None
    kept.scan(True)
    assert kept.left() == []


def test_a_database_of_the_first_version(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    connection = sqlite3.connect(path)
    for statement in schema.MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 1")
    squeeze = zstandard.ZstdCompressor().compress
    connection.execute(
        "INSERT INTO sessions (session_id, started_at, last_at) VALUES ('s', '2026-01-01', '2026-01-01')"
    )
    connection.execute(
        "INSERT INTO exchanges (id, session_id, sequence, started_at, started_ns, state) "
        "VALUES ('b-1', 's', 1, '2026-01-01 00:00:00', 1, 'ok')"
    )
    connection.execute(
        "INSERT INTO bodies VALUES ('b-1', ?, '[]', ?, '{}', ?, ?, NULL, NULL)",
        (
            json.dumps([["x", MAIL]]),
            json.dumps([{"error": MAIL}]),
            squeeze(f'{{"a":"{MAIL}"}}'.encode()),
            squeeze(b"x"),
        ),
    )
    connection.commit()
    connection.close()
    kept = Kept(tmp_path)
    kept.scan(True)
    mail = token("email", MAIL)
    with Connection(path) as db:
        body = queries.bodies(db, "b-1")
    assert body.request_body == f'{{"a":"{mail}"}}'.encode()
    assert (body.request_headers, body.attempts, body.response_body) == ([("x", mail)], [{"error": mail}], b"x")
    kept.close()


# --- the files ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_written_anew_and_read_the_same(kept: Kept, packed: bool) -> None:
    exchanges = conversation(5, 20)
    kept.write([exchange(500, None, session_id="s0", request_body=f'{{"running":"{MAIL}"}}'.encode())])
    kept.write(exchanges)
    paths = {each.path for each in kept.jsonl.files()}
    lines = {path: path.read_bytes().splitlines() for path in paths}
    if packed:
        kept.jsonl.close()
        for path in paths:
            path.with_name(path.name + ".zst").write_bytes(zstandard.compress(path.read_bytes()))
            path.with_name(path.name + ".zst").chmod(0o600)
            path.unlink()
    answer = kept.scan(True)
    assert answer["files"]["files_found_in"] and not answer["files"]["unreadable"]
    assert kept.left() == []
    oracle = plain.redactor()
    wanted = {each.id: oracle.exchange(each) for each in exchanges}
    for path in paths:
        back = list(importing.exchanges_of(path))
        for each in back:
            if each.id in wanted:
                one = wanted[each.id]
                assert (each.request_body, each.response_body) == (one.request_body, one.response_body)
                assert (each.title, each.texts, each.request_headers) == (one.title, one.texts, one.request_headers)
        fresh = path.read_bytes().splitlines()
        assert [json.loads(line)["seq"] for line in fresh] == list(range(1, len(fresh) + 1))
        for old, new in zip(lines[path], fresh, strict=True):
            if not any(value.encode() in old for _, value in PLANTED):
                assert new == old or b'"found":[{"place":"request"' in new, "an answer says what its request had"
    kept.write([exchange(800, session_id="s0")])
    assert (
        json.loads(next(iter(sorted(path for path in paths if "s0" in path.name))).read_bytes().splitlines()[-1])["id"]
        == f"{BOOT}-800"
    )


def test_what_is_written_meanwhile_is_not_lost(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relining, "STEP_BYTES", 1)
    kept.jsonl.write([exchange(1, request_body=f'{{"a":"{MAIL}"}}'.encode()), exchange(2)])
    (file,) = kept.jsonl.files()
    number = 3
    steps = relining.rewrite(file.path, plain.redactor(), lambda: kept.jsonl.let_go("sess-1"))
    for _ in steps:
        kept.jsonl.write([exchange(number)])
        number += 1
    told = [each.id for each in importing.exchanges_of(file.path)]
    assert told == [f"{BOOT}-{each}" for each in range(1, number)]
    assert MAIL not in file.path.read_text()


def test_lines_that_cannot_be_read_are_looked_through_as_text(kept: Kept) -> None:
    kept.jsonl.write([exchange(1)])
    (file,) = kept.jsonl.files()
    kept.jsonl.let_go("sess-1")
    with file.path.open("ab") as out:
        out.write(
            f'{{"v":1,"torn {MAIL}\n'.encode() + f'{{"v":9,"seq":9,"type":"later","id":"x","a":"{MAIL}"}}\n'.encode()
        )
    tally = Tally()
    for _ in relining.scan(file.path, plain.redactor(), tally, None):
        pass
    assert tally.files.unreadable == 2
    for _ in relining.rewrite(file.path, plain.redactor(), lambda: None):
        pass
    assert MAIL not in file.path.read_text()
    assert file.path.read_text().count(token("email", MAIL)) == 2


def test_import_goes_through_it_too(kept: Kept, tmp_path: Path) -> None:
    other = JsonlStore(tmp_path / "other", warn=print)
    other.open()
    other.write([exchange(1, title=MAIL, request_body=f'{{"a":"{MAIL}"}}'.encode(), session_id="4111111111111111")])
    other.close()
    (file,) = other.files()
    steps = kept.orders.carry_out({"cmd": "import", "paths": [str(file.path)]})
    for _ in steps:
        pass
    with Connection(kept.sqlite.path) as db:
        (row,) = db.rows("SELECT id, session_id FROM exchanges")
        assert row["session_id"].startswith("redacted-")
    assert kept.bodies(row["id"])[0] == f'{{"a":"{token("email", MAIL)}"}}'.encode()
    kept.sqlite.close()
    assert MAIL.encode() not in kept.sqlite.path.read_bytes()


def test_the_pieces_of_a_body_that_an_edit_spans() -> None:
    assert _pieces([b"ab", b"cd", b"ef"], [(1, 5, b"X", ()), (5, 6, b"Y", ())]) == [b"aX", b"", b"Y"]
    assert _pieces([b"ab", b"cd"], [(0, 2, b"X", ())]) == [b"X", b"cd"]
    assert _pieces([b"ab", b"cd"], [(2, 4, b"X", ())]) == [b"ab", b"X"]
