"""What has been stored stays stored: killed at any moment, on full, broken, locked, damaged disks; and goes on after.

The rounds of the first part kill a program (tests/stores/killed.py) with signal 9 wherever it happens to be; the seeds
are printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lunaroute.errors import StoreError
from lunaroute.records import Record
from lunaroute.stores import queries, schema
from lunaroute.stores.jsonl import JsonlStore
from lunaroute.stores.readonly import Connection, QueryError
from lunaroute.stores.rows import SessionFilter
from lunaroute.stores.sqlite import SqliteStore
from tests.running import ROOT
from tests.stores.conversations import Conversations
from tests.stores.disks import Disk, small_disk
from tests.stores.records import BOOT, START_NS, exchange, opened

ROUNDS = {"write": 70, "checkpoint": 40, "upkeep": 50, "migrate": 40}
FRESH = 10  # rounds on the same files
CORPUS = Path(__file__).parent.parent / "corpus" / "databases"


class Nursery:
    """The program that is killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.killed"],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def round(self, folder: Path, mode: str, seed: int, delay_ms: float) -> list[tuple[str, list[str]]]:
        """What it told in one round, in order."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{folder} {mode} {seed} {delay_ms}\n".encode())
        self._process.stdin.flush()
        said = []
        while True:
            words = self._process.stdout.readline().decode().split()
            assert words and words[0] not in ("ended", "warned"), (words, said[-3:])
            if words[0] == "killed":
                return said
            said.append((words[0], words[1:]))

    def close(self) -> None:
        with self._process:
            pass


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


class Aftermath:
    """The files after a kill, looked at by the next start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stored: list[str] = []
        self.lined: list[str] = []
        self.number = 50_000_000

    def look(self, said: list[tuple[str, list[str]]], mode: str) -> None:
        self.stored += [ident for kind, ids in said if kind == "sqlite" for ident in ids]
        self.lined += [ident for kind, ids in said if kind == "jsonl" for ident in ids]
        warnings: list[str] = []
        store = SqliteStore(self.folder / "s.db", warn=warnings.append)
        store.open()
        try:
            store.interrupt_former("ffffffffffff")
            assert warnings == []
            assert store._connection is not None
            self.database(store._connection, mode)
            self.lines()
        finally:
            store.close()

    def database(self, connection: sqlite3.Connection, mode: str) -> None:
        ask = connection.execute
        assert ask("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert ask("PRAGMA user_version").fetchone() == (schema.VERSION,)
        ask("INSERT INTO search (search) VALUES ('integrity-check')")
        there = {row[0] for row in ask("SELECT id FROM exchanges WHERE state IS NOT NULL")}
        missing = [ident for ident in self.stored if ident not in there]
        if mode == "upkeep":
            # what went is older than all that is left
            (oldest,) = ask("SELECT min(started_ns) FROM exchanges").fetchone()
            assert all(int(ident.partition("-")[2]) * 1000 + START_NS < oldest for ident in missing)
            self.stored = [ident for ident in self.stored if ident in there]
        else:
            assert missing == []
        if mode in ("write", "checkpoint"):
            assert ask(_SUMS).fetchall() == [], "a session's sums are those of its exchanges"
        assert ask("SELECT count(*) FROM exchanges WHERE state IS NULL").fetchone() == (0,)
        with Connection(self.folder / "s.db") as db:
            for ident in (self.stored[-8:], list(there)[:3]):
                for each in ident:
                    kept = queries.bodies(db, each)
                    assert kept.trouble is None
                    assert each not in self.stored or json.loads(kept.request_body)["messages"]

    def lines(self) -> None:
        """The next start goes on in each file on a new line, and every line can be read but the torn one."""
        store = JsonlStore(self.folder / "sessions", warn=pytest.fail)
        files = sorted((self.folder / "sessions").glob("*/*.jsonl"))
        for file in files:
            self.number += 1
            session = file.stem.removeprefix("session_")
            store.write([exchange(self.number, session_id=session)])
            self.lined.append(f"{BOOT}-{self.number}")
        store.close()
        told = set()
        for file in files:
            data = file.read_bytes()
            assert data.endswith(b"\n")
            whole = [json.loads(line) for line in data.splitlines()]
            assert [line["seq"] for line in whole] == list(range(1, len(whole) + 1))
            told |= {line["id"] for line in whole if line["type"] == "response"}
        assert not set(self.lined) - told


_SUMS = """
SELECT s.session_id FROM sessions AS s LEFT JOIN (
    SELECT session_id, count(*) AS n, sum(input_tokens) AS input, sum(output_tokens) AS output, sum(cost_usd) AS cost,
        count(*) FILTER (WHERE state IN ('upstream_error', 'timeout', 'proxy_error', 'interrupted')) AS errors,
        count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced,
        count(*) FILTER (WHERE usage_state = 'unknown') AS unknown,
        (SELECT count(*) FROM tool_calls AS t WHERE t.session_id = e.session_id) AS calls
    FROM exchanges AS e WHERE session_id IS NOT NULL GROUP BY session_id
) AS e USING (session_id)
WHERE (s.requests, s.errors, s.cost_unknown, s.usage_unknown, s.tool_calls)
        IS NOT (e.n, e.errors, e.unpriced, e.unknown, e.calls)
    OR s.input_tokens IS NOT e.input OR s.output_tokens IS NOT e.output OR s.cost_usd IS NOT e.cost
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["write", "checkpoint", "upkeep"])
def test_killed_at_any_moment(tmp_path: Path, nursery: Nursery, mode: str) -> None:
    seed = random.randrange(1 << 16)
    print(f"mode {mode}, seed {seed}")
    chance = random.Random(seed)
    after, stored, slow = Aftermath(tmp_path / "0"), 0, 1.0
    for number in range(ROUNDS[mode]):
        if number % FRESH == 0:
            after = Aftermath(tmp_path / str(number))
            after.folder.mkdir(mode=0o700)
        said = nursery.round(after.folder, mode, seed * 1000 + number, chance.uniform(3, 55 * slow))
        stored += sum(kind == "sqlite" for kind, _ in said)
        # a busy machine does less in the same time
        slow = 1.0 if stored > 2 * number else min(slow * 1.3, 20.0)
        after.look(said, mode)
    assert stored > ROUNDS[mode], "it was killed in its work, not before"


@pytest.mark.slow
def test_killed_while_it_migrates(tmp_path: Path, nursery: Nursery) -> None:
    seed = random.randrange(1 << 16)
    print(f"seed {seed}")
    chance = random.Random(seed)
    before = schema_1(tmp_path / "before.db", 1500)
    opened, halfway, slow = 0, 0, 1.0
    for number in range(ROUNDS["migrate"]):
        folder = tmp_path / str(number)
        folder.mkdir(mode=0o700)
        shutil.copy(tmp_path / "before.db", folder / "s.db")
        said = nursery.round(folder, "migrate", seed * 1000 + number, chance.uniform(1, 60 * slow))
        opened += bool(said)
        slow = 1.0 if opened * 4 > number else min(slow * 1.3, 20.0)
        with contextlib.closing(sqlite3.connect(folder / "s.db")) as raw:
            version = raw.execute("PRAGMA user_version").fetchone()[0]
            assert version in range(1, schema.VERSION + 1), "all of a migration or nothing"
            halfway += version < schema.VERSION
        after = Aftermath(folder)
        after.look(said, "migrate")
        with contextlib.closing(sqlite3.connect(folder / "s.db")) as raw:
            found = raw.execute("SELECT id FROM exchanges WHERE id LIKE 'old-%' ORDER BY row").fetchall()
            assert [row[0] for row in found] == before
            assert raw.execute("SELECT count(*) FROM bodies").fetchone() == (len(before),)
    assert opened and halfway, "some were killed before it was done, some after"


def schema_1(path: Path, count: int) -> list[str]:
    """A database as the first release wrote it."""
    ids = [f"old-{number:05d}" for number in range(count)]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA auto_vacuum = INCREMENTAL")
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("BEGIN")
        for statement in schema.MIGRATIONS[0]:
            raw.execute(statement)
        raw.execute("PRAGMA user_version = 1")
        stamp = "2026-01-01 10:00:00.000"
        raw.executemany(
            "INSERT INTO exchanges (id, session_id, sequence, started_at, started_ns, state, input_tokens, "
            "output_tokens, usage_state) VALUES (?, ?, ?, ?, ?, 'ok', 5, 3, 'complete')",
            [(ident, f"s{number % 3}", number, stamp, number) for number, ident in enumerate(ids)],
        )
        body = zstandard.ZstdCompressor().compress(b'{"messages":["' + b"x" * 300 + b'"]}')
        raw.executemany("INSERT INTO bodies (exchange_id, request_body) VALUES (?, ?)", [(i, body) for i in ids])
        raw.execute(
            "INSERT INTO sessions (session_id, started_at, last_at, requests, input_tokens, output_tokens) "
            "SELECT session_id, min(started_at), max(started_at), count(*), sum(input_tokens), sum(output_tokens) "
            "FROM exchanges GROUP BY session_id"
        )
        raw.execute("COMMIT")
    return ids


# --- a store on a disk that fails -------------------------------------------------------------------
class Kept:
    """A store, and what it warned of."""

    def __init__(self, path: Path) -> None:
        self.warnings: list[str] = []
        self.path = path
        self.store = SqliteStore(path, warn=self.warnings.append)

    def ids(self) -> list[int]:
        with Connection(self.path) as db:
            return sorted(int(row[0].partition("-")[2]) for row in db.rows("SELECT id FROM exchanges"))

    def attempt(self, *numbers: int) -> bool:
        return self.attempt_all([exchange(n) for n in numbers])

    def attempt_all(self, batch: list[Record]) -> bool:
        try:
            self.store.write(batch)
        except StoreError:
            return False
        return True


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def test_a_full_disk(disk: Disk) -> None:
    kept = Kept(disk.path / "d" / "s.db")
    lines = JsonlStore(disk.path / "d" / "sessions", warn=kept.warnings.append)
    kept.store.open()
    lines.open()
    stored: list[int] = []
    for number in range(1, 400):  # until it is full of what was recorded
        one = exchange(number, session_id=f"s{number % 5}", request_body=os.urandom(40_000))
        try:
            kept.store.write([one])
            stored.append(number)
            lines.write([one])
        except StoreError as error:
            assert "full" in str(error) or "space" in str(error) or "large" in str(error) or "I/O" in str(error)
            break
    else:
        pytest.fail("the disk is larger than it should be")
    assert len(stored) > 10
    disk.fill()
    for number in range(1000, 1400):  # its log may have room left from before
        if not kept.attempt(number):
            break
        stored.append(number)
    assert not kept.attempt(1500) and not kept.attempt(1501)
    assert kept.ids() == stored, "what was committed can be read on a full disk"
    assert kept.store.last_sequence("s1") > 0
    disk.free()
    assert kept.attempt(1502)
    assert kept.ids() == [*stored, 1502]
    lines.write([exchange(1502, session_id="s1")])
    lines.close()
    for file in (disk.path / "d" / "sessions").glob("*/*.jsonl"):
        for line in file.read_bytes().splitlines():
            json.loads(line)
    kept.store.close()
    with contextlib.closing(sqlite3.connect(kept.path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert kept.warnings == []


def test_retention_makes_room_on_a_full_disk(disk: Disk) -> None:
    """The bound is above what the disk has: upkeep then fails too, or helps; nothing breaks."""
    kept = Kept(disk.path / "s.db")
    kept.store.open()
    number = 0
    while kept.attempt(number + 1) and number < 100_000:
        number += 1
        if number == 50:
            disk.fill()
    kept.store._max_bytes = 200_000
    for _ in range(3):
        with contextlib.suppress(StoreError):
            for _ in kept.store.tend_steps(0):
                pass
    disk.free()
    assert kept.attempt(999_999)
    assert 999_999 in kept.ids()
    kept.store.close()


def test_a_disk_that_is_full_from_the_beginning(disk: Disk) -> None:
    disk.fill()
    kept = Kept(disk.path / "s.db")
    with pytest.raises(StoreError):
        kept.store.open()
    with pytest.raises(StoreError):
        kept.store.open()
    disk.free()
    kept.store.open()
    assert kept.attempt(1) and kept.ids() == [1]
    assert kept.warnings == []
    kept.store.close()


def test_a_folder_that_becomes_read_only(disk: Disk) -> None:
    kept = Kept(disk.path / "s.db")
    kept.store.open()
    assert kept.attempt(1)
    kept.store.close()
    with disk.read_only():
        with pytest.raises(StoreError):
            kept.store.open()
        with pytest.raises(StoreError):
            JsonlStore(disk.path / "sessions", warn=print).open()
    kept.store.open()
    assert kept.attempt(2) and kept.ids() == [1, 2]
    assert kept.warnings == []
    kept.store.close()


# --- files that others spoil ------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database with a bit of everything in it."""
    path = tmp_path_factory.mktemp("sound") / "s.db"
    kept, talks = Kept(path), Conversations(1)
    kept.store.open()
    chance = random.Random(1)
    for _ in range(20):
        kept.store.write([talks.next(chance.randrange(3), chance.choice(("grow", "side", "branch"))) for _ in range(5)])
    kept.store.close()
    return path


def scribbled(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        for _ in range(chance.randint(1, 4)):
            page = chance.randrange(path.stat().st_size // 4096)
            file.seek(page * 4096 + chance.randrange(4000))
            file.write(chance.randbytes(chance.choice((1, 8, 96))))


def pages_lost(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        for _ in range(chance.randint(1, 3)):
            file.seek(chance.randrange(path.stat().st_size // 8192) * 8192)
            file.write(chance.choice((bytes(8192), chance.randbytes(8192))))


def truncated(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.choice((1, 50, 100, 4096, 8192, chance.randrange(path.stat().st_size))))


def grown(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.randbytes(chance.choice((1, 8192, 40_000))))


def log_of_noise(path: Path, chance: random.Random) -> None:
    path.with_name("s.db-wal").write_bytes(chance.randbytes(chance.choice((0, 31, 32, 9000))))
    path.with_name("s.db-shm").write_bytes(chance.randbytes(chance.choice((0, 100, 32768))))


def swapped(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    one, other = (chance.randrange(1, len(data) // 8192) * 8192 for _ in range(2))
    data[one : one + 8192], data[other : other + 8192] = data[other : other + 8192], data[one : one + 8192]
    path.write_bytes(data)


SPOILT: list[Callable[[Path, random.Random], None]] = [scribbled, pages_lost, truncated, grown, log_of_noise, swapped]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_a_spoilt_database_never_stops_the_recording(
    tmp_path: Path, sound: Path, spoil: Callable[[Path, random.Random], None], seed: int
) -> None:
    """Readers say so in words, upkeep and writing go on: with what is left of it, or beside it with a new one."""
    path = tmp_path / "s.db"
    shutil.copy(sound, path)
    spoil(path, random.Random(seed))
    reads(path)
    kept = Kept(path)
    kept.store.open()
    for number in range(1000, 1003):  # the first may find the damage, the next begins anew
        kept.attempt(number)
    kept.store._max_age_days = 1.0
    for step in (kept.store.tend_steps(2e9), kept.store.delete(["s0", "s1"]), kept.store.tend_steps(2e9)):
        with contextlib.suppress(StoreError):
            for _ in step:
                pass
    kept.attempt(2000)
    assert kept.attempt(2001)
    assert 2001 in kept.ids()
    kept.store.close()
    reads(path)
    aside = [file for file in tmp_path.iterdir() if "unusable" in file.name and file.suffix not in ("-wal", "-shm")]
    assert bool(aside) == bool(kept.warnings), "never thrown away, never without a word"


def reads(path: Path) -> None:
    """Everything a reader may ask; whatever it is told, no other error comes of it."""
    with contextlib.suppress(QueryError), Connection(path) as db:
        for ask in (
            lambda: queries.list_sessions(db, SessionFilter()),
            lambda: queries.sizes(db),
            lambda: queries.facets(db),
            *(lambda n=n: queries.bodies(db, f"{BOOT}-{n}") for n in range(1, 101, 3)),
            *(lambda s=s: queries.exchanges(db, s) for s in ("s0", "s1", "s2")),
            *(lambda s=s: queries.tools(db, s) for s in ("s0", "s1", "s2")),
        ):
            with contextlib.suppress(QueryError):
                ask()


@pytest.mark.parametrize("how", ["renamed", "replaced", "copied over", "folder moved", "log removed"])
def test_files_that_change_under_an_open_store(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "d"
    kept = Kept(folder / "s.db")
    kept.store.open()
    assert kept.attempt(1)
    other = tmp_path / "other.db"
    made = Kept(other)
    made.store.open()
    made.attempt(77)
    made.store.close()
    match how:
        case "renamed":
            kept.path.rename(folder / "elsewhere.db")
        case "replaced":
            os.replace(other, kept.path)
        case "copied over":
            kept.path.write_bytes(other.read_bytes())
        case "folder moved":
            folder.rename(tmp_path / "moved")
        case _:
            (folder / "s.db-wal").unlink()
    for number in range(2, 6):
        kept.attempt(number)
    assert kept.attempt(6)
    with contextlib.suppress(StoreError):
        list(kept.store.tend_steps(0))
    kept.store.close()
    kept.store.open()
    assert kept.attempt(7)
    assert 7 in kept.ids()
    kept.store.close()


def test_locked_for_a_while(tmp_path: Path) -> None:
    """A second process holds the database; readers of ours and the writer say so, and go on when it lets go."""
    kept = Kept(tmp_path / "s.db")
    kept.store.open()
    assert kept.attempt(1)
    code = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); db.execute('BEGIN EXCLUSIVE'); "
        "print('locked', flush=True); sys.stdin.read(); db.execute('ROLLBACK'); db.close(); print('free', flush=True)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(kept.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "locked\n"
        assert not kept.attempt(2)
        assert kept.store.last_sequence("sess-1") == 1, "in the log's mode readers go on"
        with pytest.raises(StoreError, match="locked"):
            list(kept.store.tend_steps(0))
        assert kept.ids() == [1], "in the log's mode readers go on"
        holder.stdin.close()
        assert holder.stdout.readline() == "free\n"
    assert kept.attempt(2) and kept.ids() == [1, 2]
    assert kept.warnings == []
    kept.store.close()


def test_undone_work_leaves_no_trace(tmp_path: Path) -> None:
    """Any statement of a batch may fail: the batch is then not there, and given again it is, whole."""
    kept, talks = Kept(tmp_path / "s.db"), Conversations(3)
    kept.store.open()
    kept.store.write([talks.next(n % 3, "grow") for n in range(9)])
    batch: list[Record] = [opened(500), *(talks.next(n % 3, "grow") for n in range(4))]
    assert kept.store._connection is not None
    for allowed in range(1000):  # it is interrupted after so many hundreds of the database's steps
        count = iter(range(allowed))
        kept.store._connection.set_progress_handler(lambda count=count: next(count, None) is None, 100)
        done = kept.attempt_all(batch)
        kept.store._connection.set_progress_handler(None, 0)
        if done:
            break
        assert kept.ids() == list(range(1, 10))
    assert done and allowed > 10
    with Connection(kept.path) as db:
        for number, given in talks.made.items():
            assert queries.bodies(db, f"{BOOT}-{number}").request_body == given.request_body
    assert kept.store._connection.execute(_SUMS_PLAIN).fetchall() == []
    kept.store.close()


_SUMS_PLAIN = """
SELECT session_id FROM sessions AS s
WHERE requests != (SELECT count(*) FROM exchanges AS e WHERE e.session_id = s.session_id)
"""


# --- every released schema --------------------------------------------------------------------------
@pytest.mark.parametrize("version", range(1, schema.VERSION))
def test_a_database_of_each_released_version_migrates(tmp_path: Path, version: int) -> None:
    path = tmp_path / "s.db"
    shutil.copy(CORPUS / f"schema-{version}.db", path)
    before = facts(path)
    kept = Kept(path)
    kept.store.open()
    assert kept.warnings == []
    assert kept.attempt(999_999)
    kept.store.close()
    assert facts(path, without=f"{BOOT}-999999") == before
    with Connection(path) as db:
        assert queries.sizes(db)["schema_version"] == schema.VERSION
        page = queries.list_sessions(db, SessionFilter())
        assert page.totals.sessions == len(before["sessions"]) + 1
        for session in before["sessions"]:
            for row in queries.exchanges(db, session, limit=500):
                found = queries.bodies(db, row.id)
                assert found.trouble is None
                assert len(found.request_body) == 0 or found.request_headers


def facts(path: Path, without: str = "") -> dict[str, Any]:
    """What no migration may change."""
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        exchanges = raw.execute(
            "SELECT id, session_id, sequence, started_at, started_ns, state, target, status, model_used, input_tokens, "
            "output_tokens, duration_ms, request_bytes FROM exchanges WHERE id != ? ORDER BY id",
            (without,),
        ).fetchall()
        sessions = raw.execute(
            "SELECT session_id, started_at, title, requests, errors, input_tokens, output_tokens, model_used "
            "FROM sessions WHERE session_id != 'sess-1' OR ? = '' ORDER BY 1",
            (without,),
        ).fetchall()
    assert exchanges and sessions
    return {"exchanges": exchanges, "sessions": {row[0]: row for row in sessions}}


def test_each_released_version_has_a_fixture() -> None:
    kept = {int(file.stem.partition("-")[2]) for file in CORPUS.glob("schema-*.db")}
    assert kept >= set(range(1, schema.VERSION))
    for version in kept:
        file = f"file:{CORPUS}/schema-{version}.db?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(file, uri=True)) as raw:
            assert raw.execute("PRAGMA user_version").fetchone() == (version,)

