"""The SQLite store: rows as exchanges begin and end, sums, faults of disks and files, other programs on the file."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunaroute.errors import StoreError
from lunaroute.records import Closed, Limit, State, ToolCall, ToolResult, Usage
from lunaroute.stores import queries, schema
from lunaroute.stores.readonly import Connection
from lunaroute.stores.rows import Bodies
from lunaroute.stores.sqlite import SqliteStore
from tests import recorded
from tests.stores.records import BOOT, exchange, opened

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


class Made:
    """A store with what it warned of."""

    def __init__(self, path: Path) -> None:
        self.warnings: list[str] = []
        self.store = SqliteStore(path, warn=self.warnings.append, wall=lambda: NOW)
        self.path = path

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(query, values)]
        finally:
            connection.close()

    def bodies(self, ident: str) -> Bodies:
        with Connection(self.path) as db:
            return queries.bodies(db, ident)

    def row(self, query: str, *values: Any) -> dict[str, Any]:
        (row,) = self.rows(query, *values)
        return row


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    made = Made(tmp_path / "data" / "sessions.db")
    made.store.open()
    yield made
    made.store.close()


def test_the_query_of_the_readme(made: Made) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.000")
    made.store.write([exchange(1, started_at=now), exchange(2, started_at=now)])
    made.store.write([exchange(3, session_id="old", started_at="2020-01-01 00:00:00.000")])
    query = """SELECT model_used, COUNT(*), SUM(input_tokens), SUM(output_tokens)
FROM sessions
WHERE started_at > datetime('now', '-7 days')
GROUP BY model_used;"""
    assert [tuple(row.values()) for row in made.rows(query)] == [("claude-opus-5-5-2026", 1, 20, 10)]


def test_a_row_from_beginning_to_end(made: Made) -> None:
    made.store.write([opened(1)])
    row = made.row("SELECT * FROM exchanges")
    assert (row["id"], row["state"], row["session_id"]) == (f"{BOOT}-1", None, None)
    made.store.write([exchange(1, None)])
    row = made.row("SELECT * FROM exchanges")
    assert (row["state"], row["session_id"], row["model_requested"], row["usage_state"]) == (
        None, "sess-1", "claude-opus-5-5", None,
    )  # fmt: skip
    session = made.row("SELECT * FROM sessions")
    assert (session["requests"], session["input_tokens"], session["model_used"]) == (1, None, None)
    made.store.write([exchange(1)])
    row = made.row("SELECT * FROM exchanges")
    assert row["state"] == "ok"
    assert (row["duration_ms"], row["ttfb_ms"], row["first_content_ms"], row["connect_ms"]) == (250.0, 10.0, 12.0, 3.0)
    assert (row["usage_state"], row["input_tokens"], row["thinking_tokens"]) == ("complete", 10, None)
    session = made.row("SELECT * FROM sessions")
    assert (session["requests"], session["input_tokens"], session["cache_write_tokens"]) == (1, 10, None)
    assert session["last_at"] == "2023-11-14 22:13:21.250"
    kept = made.bodies(f"{BOOT}-1")
    assert kept.request_body == b'{"model":"claude-opus-5-5"}'
    assert kept.request_headers[1] == ("x-api-key", "***")


def test_given_again_changes_nothing(made: Made) -> None:
    for _ in range(3):
        made.store.write([opened(1), exchange(1, None), exchange(1)])
    made.store.write([exchange(1, State.INTERRUPTED)])
    session = made.row("SELECT requests, errors, input_tokens FROM sessions")
    assert tuple(session.values()) == (1, 0, 10)
    assert made.row("SELECT state FROM exchanges") == {"state": "ok"}


def test_sums_of_a_session(made: Made) -> None:
    made.store.write(
        [
            exchange(1),
            exchange(2, State.UPSTREAM_ERROR, usage=Usage(), model_used=None),
            exchange(3, State.CLIENT_CANCELLED, usage=Usage(input_tokens=4, partial=True)),
            exchange(4, kind="title", usage=Usage(input_tokens=1), model_used="small", title="A name"),
            exchange(5, kind="count", usage=Usage(), model_used=None),
            exchange(6, kind="handshake", status=101, usage=Usage(), model_used=None),
        ]
    )
    row = made.row("SELECT * FROM sessions")
    # not told at all, cut, and only one side told
    assert (row["requests"], row["errors"], row["usage_unknown"]) == (5, 1, 3)
    assert (row["input_tokens"], row["output_tokens"], row["thinking_tokens"]) == (15, 5, None)
    assert (row["model_used"], row["title"]) == ("claude-opus-5-5-2026", "A name")
    assert row["duration_ms"] == 1250.0
    states = {r["usage_state"] for r in made.rows("SELECT usage_state FROM exchanges")}
    assert states == {"complete", "partial", "unknown"}


def test_a_title_call_beats_first_words_in_any_order(made: Made) -> None:
    made.store.write([exchange(1, title="first words")])
    made.store.write([exchange(2, kind="title", title="The name")])
    made.store.write([exchange(3, title="later words")])
    assert made.row("SELECT title FROM sessions") == {"title": "The name"}


def test_subagents_know_their_parent(made: Made) -> None:
    made.store.write([exchange(1, session_id="child", parent_session_id="sess-1"), exchange(2)])
    assert made.row("SELECT parent_session_id FROM sessions WHERE session_id = 'child'") == {
        "parent_session_id": "sess-1"
    }


def test_text_that_sqlite_finds_odd(made: Made) -> None:
    odd = "naïve \U0001f600 'quoted\" ; DROP TABLE sessions; --"
    made.store.write([exchange(1, title=odd, error=odd, request_body=b"\x00\xff" * 10)])
    assert made.row("SELECT title FROM sessions")["title"] == odd
    assert made.bodies(f"{BOOT}-1").request_body == b"\x00\xff" * 10


# --- runs and restarts ------------------------------------------------------------------------------
def test_what_a_former_run_left_open_is_interrupted(made: Made) -> None:
    made.store.write([opened(1), exchange(2, None), exchange(3)])
    assert made.store.interrupt_former("ffffffffffff") == 2
    assert [r["state"] for r in made.rows("SELECT state FROM exchanges ORDER BY id")] == [
        "interrupted",
        "interrupted",
        "ok",
    ]
    assert made.row("SELECT errors, usage_unknown FROM sessions") == {"errors": 1, "usage_unknown": 1}
    assert made.store.interrupt_former("ffffffffffff") == 0


def test_what_this_run_left_open_stays_open(made: Made) -> None:
    made.store.write([opened(1)])
    assert made.store.interrupt_former(BOOT) == 0


def test_resume(made: Made) -> None:
    made.store.write([opened(1), exchange(2, None), exchange(3), exchange(4, id="ffffffffffff-4")])
    resume = made.store.resume(BOOT)
    assert resume.finished == {f"{BOOT}-3"}
    assert resume.running == {f"{BOOT}-1", f"{BOOT}-2"}
    assert resume.places[f"{BOOT}-2"] == ("sess-1", 2)
    assert made.store.last_sequence("sess-1") == 4
    assert made.store.last_sequence("nobody") == 0


def test_the_end_of_a_lost_exchange(made: Made) -> None:
    made.store.write([exchange(1, None)])
    made.store.write([Closed(id=f"{BOOT}-1", session_id="sess-1", state=State.TIMEOUT, error="why")])
    row = made.row("SELECT state, error, truncated, usage_state FROM exchanges")
    assert tuple(row.values()) == ("timeout", "why", 1, "unknown")
    assert made.row("SELECT errors FROM sessions") == {"errors": 1}


# --- files ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=["000", "022", "077"])
def test_modes(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = Made(tmp_path / "deep" / "data" / "sessions.db")
        made.store.open()
        made.store.write([exchange(1)])
        for path in made.path.parent.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        for folder in (made.path.parent, made.path.parent.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        made.store.close()
    finally:
        os.umask(before)


def test_a_looser_file_is_tightened(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.touch()
    path.chmod(0o644)
    made = Made(path)
    made.store.open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made.store.close()


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "elsewhere").touch()
    (tmp_path / "data" / "sessions.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        Made(tmp_path / "data" / "sessions.db").store.open()
    assert (tmp_path / "elsewhere").stat().st_size == 0


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StoreError, match="chmod"):
        Made(folder / "sessions.db").store.open()


def zero(path: Path) -> None:
    path.write_bytes(bytes(8192))


def words(path: Path) -> None:
    path.write_bytes(b"this is no database at all, but a text of some length" * 40)


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE stamps (x)")
    connection.close()


def overwritten(path: Path) -> None:
    made = Made(path)
    made.store.open()
    made.store.write([exchange(n) for n in range(50)])
    made.store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 8192))


UNUSABLE = {"zeros": zero, "text": words, "newer": newer, "foreign": foreign, "overwritten": overwritten}


@pytest.mark.parametrize("spoil", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_database_is_kept_aside(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "sessions.db"
    spoil(path)
    before = path.read_bytes()
    made = Made(path)
    made.store.open()
    made.store.write([exchange(1)])
    aside = tmp_path / "sessions.db.unusable-20261123-120000"
    assert aside.read_bytes() == before
    assert len(made.warnings) == 1 and str(aside) in made.warnings[0]
    assert made.row("SELECT count(*) AS n FROM exchanges") == {"n": 1}
    made.store.close()


def test_an_earlier_aside_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    (tmp_path / "sessions.db.unusable-20261123-120000").write_bytes(b"earlier")
    words(path)
    made = Made(path)
    made.store.open()
    made.store.close()
    assert (tmp_path / "sessions.db.unusable-20261123-120000").read_bytes() == b"earlier"
    assert (tmp_path / "sessions.db.unusable-20261123-120000-2").exists()


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "sessions.db").touch()
    made = Made(tmp_path / "sessions.db")
    made.store.open()
    made.store.write([exchange(1)])
    assert made.warnings == []
    made.store.close()


def test_damage_found_while_writing(made: Made) -> None:
    made.store.write([exchange(n) for n in range(1, 200)])
    assert made.store._connection is not None
    assert made.store._empty_log()
    made.store._connection.execute("PRAGMA shrink_memory")
    with made.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (made.path.stat().st_size - 4096))
    os.utime(made.path, ns=(0, made.store._written[0]))  # as a failing disk does it: nobody has written
    with pytest.raises(StoreError):
        made.store.write([exchange(500)])
    made.store.write([exchange(500)])
    assert made.row("SELECT id FROM exchanges") == {"id": f"{BOOT}-500"}
    assert "damaged" in made.warnings[0]


def test_removed_while_in_use(made: Made) -> None:
    made.store.write([exchange(1)])
    for path in list(made.path.parent.iterdir()):
        path.unlink()
    made.store.write([exchange(2)])
    assert made.row("SELECT id FROM exchanges") == {"id": f"{BOOT}-2"}
    assert "moved or removed" in made.warnings[0]


def test_locked_by_another_program_then_free(made: Made) -> None:
    other = sqlite3.connect(made.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        made.store.write([exchange(1)])
    other.execute("ROLLBACK")
    other.close()
    made.store.write([exchange(1)])
    assert made.row("SELECT count(*) AS n FROM exchanges") == {"n": 1}


def test_a_second_writer_is_refused_and_told_who_it_is(made: Made) -> None:
    second = Made(made.path)
    with pytest.raises(StoreError, match=f"process {os.getpid()}.*session_recording.sqlite.path"):
        second.store.open()
    made.store.close()
    second.store.open()
    second.store.close()


def test_a_full_disk_then_room_again(made: Made) -> None:
    assert made.store._connection is not None
    pages = made.store._connection.execute("PRAGMA page_count").fetchone()[0]
    made.store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")  # SQLITE_FULL, as ENOSPC gives
    big = [exchange(n, request_body=os.urandom(20_000)) for n in range(5)]
    with pytest.raises(StoreError, match="full"):
        made.store.write(big)
    assert made.rows("SELECT * FROM exchanges") == []
    made.store._connection.execute("PRAGMA max_page_count = 1000000")
    made.store.write(big)
    assert made.row("SELECT count(*) AS n FROM exchanges") == {"n": 5}


def test_a_failed_migration_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (("CREATE TABLE a (x)", "CREATE NONSENSE"),))
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection)
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    connection.close()


KILLED = """
import os, sys
from pathlib import Path
from lunaroute.stores.sqlite import SqliteStore
from tests.stores.records import exchange
store = SqliteStore(Path(sys.argv[1]), warn=print)
store.open()
for number in range(1, 100000):
    store.write([exchange(number)])
    os.write(1, b"%d\\n" % number)
"""


def test_killed_in_the_middle_of_writing(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(120)]
    process.kill()
    rest = process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    acknowledged = int((rest or said)[-1])
    made = Made(path)
    made.store.open()  # the lock of a killed process is free
    assert made.row("PRAGMA integrity_check") == {"integrity_check": "ok"}
    count = made.row("SELECT count(*) AS n FROM exchanges")["n"]
    assert count in (acknowledged, acknowledged + 1)
    assert made.row("SELECT requests FROM sessions")["requests"] == count
    made.store.close()


# what exchanges of one session may tell, in any order and number: each with the states that a record can be in
TELLS = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from([State.OK, State.UPSTREAM_ERROR, State.INTERRUPTED, None]),
        "kind": st.sampled_from(["turn", "title", "count", "handshake", "compaction"]),
        "title": st.sampled_from([None, "one", "two"]),
        "model_requested": st.sampled_from([None, "asked-a", "asked-b"]),
        "model_used": st.sampled_from([None, "used-a", "used-b"]),
        "client": st.sampled_from([None, "codex", "curl"]),
        "project": st.sampled_from([None, "/a", "/b"]),
        "thread": st.sampled_from([None, b"t1", b"t2"]),
        "parent_session_id": st.sampled_from([None, "p"]),
        "cost_usd": st.sampled_from([None, 0.25, 0.5]),
        "cost_kind": st.sampled_from([None, "api"]),
        "usage": st.sampled_from([Usage(), Usage(input_tokens=3), Usage(output_tokens=2, cache_read_tokens=1)]),
        "tool_calls": st.lists(st.builds(ToolCall, id=st.sampled_from(["c1", "c2"]), name=st.just("Bash")), max_size=2),
        "tool_results": st.lists(
            st.builds(ToolResult, id=st.sampled_from(["c1", "c2"]), success=st.sampled_from([None, True, False])),
            max_size=2,
        ),
        "limits": st.lists(
            st.builds(Limit, name=st.sampled_from(["5h", "7d"]), remaining=st.sampled_from([1.0, 2.0])), max_size=2
        ),
        "session_id": st.sampled_from(["sess-1", "sess-2"]),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), TELLS), min_size=1, max_size=8))
def test_a_batch_tells_what_its_records_tell_one_by_one(told: list[tuple[int, dict[str, Any]]]) -> None:
    records = [exchange(number, **more) for number, more in told]
    found = []
    for batches in ([records], [[record] for record in records]):
        with tempfile.TemporaryDirectory() as folder:
            one = Made(Path(folder) / "sessions.db")
            one.store.open()
            for batch in batches:
                one.store.write(batch)
            assert not one.warnings and not one.store.refused
            tables = ("sessions", "exchanges", "attempts", "tool_calls", "limits", "blobs", "packs")
            found.append({table: one.rows(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables})
            one.store.close()
    assert found[0] == found[1]


def test_a_database_that_is_overwritten_in_use_is_set_aside_at_the_next_writing(tmp_path: Path) -> None:
    """The same file, other bytes: what SQLite has in its cache would hide it until a page is read again."""
    said: list[str] = []
    path = tmp_path / "sessions.db"
    store = SqliteStore(path, warn=said.append)
    store.open()
    store.write(
        [recorded.exchange(number, request_body=recorded.ask([recorded.user("x" * 5000)])) for number in (1, 2)]
    )
    assert store._empty_log()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    store.write([recorded.exchange(3)])
    store.close()
    assert any("cannot be used" in word for word in said), said
    assert len(list(tmp_path.glob("sessions.db.unusable-*"))) >= 1
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT id FROM exchanges").fetchall() == [(f"{recorded.BOOT}-3",)]
    connection.close()


def test_writing_and_upkeep_of_our_own_open_nothing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "sessions.db", warn=print, max_age_days=1)
    store.open()
    monkeypatch.setattr(store, "open", lambda: pytest.fail("opened again"))
    for number in range(1, 30):
        store.write([recorded.exchange(number, request_body=recorded.ask([recorded.user(str(number) * 50_000)]))])
        if number % 10 == 0:
            for _ in store.tend_steps(recorded.START.timestamp() + number * 86400):
                pass
    for _ in store.rewrite():
        pass
    store.write([recorded.exchange(31)])
    store.close()
