"""Orders by themselves: what is deleted cannot be found, what is given up leaves everything whole, imports are once."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lunaroute.errors import StoreError
from lunaroute.records import Exchange, Text
from lunaroute.stores.jsonl import JsonlStore
from lunaroute.stores.orders import Orders
from lunaroute.stores.sqlite import InUse, SqliteStore
from lunaroute.stores.upkeep import Keep, plan
from tests import recorded
from tests.observe.pii import plain

LOGS = Path(__file__).parents[1] / "corpus" / "logs"
START = recorded.START.timestamp()
DAY = 86400.0


class Keeping:
    """Both stores in a folder, and the orders over them. now: what the clock says."""

    def __init__(self, folder: Path, now: float = START) -> None:
        self.folder = folder
        self.now = now
        self.sqlite = SqliteStore(folder / "sessions.db", warn=print, max_age_days=30, max_size_mb=1024)
        self.jsonl = JsonlStore(folder / "sessions", warn=print, max_age_days=30)
        self.sqlite.locate_by(self.jsonl.locate)
        self.sqlite.open()
        self.jsonl.open()
        self.orders = Orders(
            self.sqlite, self.jsonl, price=lambda: lambda row: (2.0, "two"), fill=self.fill, now=lambda: self.now,
            redacting=lambda again: plain.redactor(enabled=False, redact_secrets=False),
        )  # fmt: skip

    def fill(self, exchange: Exchange) -> None:
        exchange.cost_usd, exchange.price_id = 1.0, "one"

    def write(self, exchanges: list[Exchange]) -> None:
        self.jsonl.write(exchanges)
        self.sqlite.write(exchanges)

    def do(self, order: dict[str, Any], between: Callable[[], None] = lambda: None) -> dict[str, Any]:
        steps = self.orders.carry_out(order)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                answer: dict[str, Any] = end.value
                return answer
            between()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self.folder}/sessions.db?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def close(self) -> None:
        self.sqlite.close()
        self.jsonl.close()


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    made = Keeping(tmp_path)
    yield made
    made.close()


# --- delete -----------------------------------------------------------------------------------------------------------
def canary(number: int, gone: bool) -> str:
    return f"canary{'gone' if gone else 'kept'}{number:05d}x"


def sung(sessions: int, turns: int) -> list[Exchange]:
    """Sessions with a word of their own everywhere; every second one is to go. Mixed, so that pages are shared."""
    rnd = random.Random(4)
    made = []
    for turn in range(turns):
        for number in range(sessions):
            word = canary(number, number % 2 == 1)
            noise = " ".join(f"{rnd.getrandbits(40):x}" for _ in range(rnd.randrange(1, 60)))
            made.append(
                recorded.exchange(
                    len(made) + 1, f"session-{word}", sequence=turn + 1, title=f"{word} {noise}",
                    project=f"/home/me/{word}", error=f"{word} {noise}" if turn % 2 else None, response_id=word,
                    request_body=recorded.ask([recorded.user(f"{word} {noise} {each}") for each in range(turn + 1)]),
                    response_body=recorded.stream(recorded.text(f"{word} {noise}")),
                    texts=[Text(kind="prompt", text=f"{word} {noise}"), Text(kind="answer", text=word)],
                )
            )
    return made


def test_what_is_deleted_is_in_no_file(keeping: Keeping) -> None:
    made = sung(80, 4)
    for at in range(0, len(made), 17):
        keeping.write(made[at : at + 17])
    gone = sorted({each.session_id for each in made if "gone" in each.session_id})
    kept = {each.session_id for each in made if "kept" in each.session_id}
    told = keeping.do({"cmd": "delete", "sessions": gone})
    assert (told["sessions"], told["exchanges"], told["rests"]) == (40, 160, None) and told["freed_bytes"] > 0
    for number, file in enumerate(path for path in keeping.folder.rglob("*") if path.is_file()):
        assert not re.findall(rb"canarygone\d*|gone\d{5}x", file.read_bytes()), (number, file)
        assert "gone" not in file.name
    assert {row[0] for row in keeping.rows("SELECT session_id FROM sessions")} == kept
    assert keeping.rows("PRAGMA integrity_check") == [("ok",)]
    # what stays is found as before, and what comes later too
    word = canary(2, False)
    assert len(keeping.rows(f"SELECT rowid FROM search WHERE search MATCH '{word}'")) == 4
    again = [msg for msg in sung(2, 1) if "gone" in msg.session_id]
    keeping.write([recorded.exchange(9000, again[0].session_id, texts=again[0].texts, project="/home/me/new")])
    assert keeping.rows("SELECT count(*) FROM search WHERE search MATCH 'canarygone00001x'") == [(1,)]
    assert ("/home/me/new",) in keeping.rows("SELECT value FROM facets WHERE kind = 'project'")


def test_files_go_in_every_form(keeping: Keeping) -> None:
    keeping.write(recorded.tool_loop("alpha"))
    keeping.write(recorded.tool_loop("alphabet", first=10))
    (path,) = keeping.folder.rglob("session_alpha.jsonl")
    for suffix in (".zst", ".part", ".zst.part", ".zst.damaged"):
        path.with_name(path.name + suffix).write_bytes(b"x")
    other = keeping.folder / "sessions" / "2019-01-01"
    other.mkdir(mode=0o700)
    (other / "session_alpha.jsonl.zst").write_bytes(b"x")
    keeping.do({"cmd": "delete", "sessions": ["alpha"]})
    assert [each.name for each in keeping.folder.rglob("session_*")] == ["session_alphabet.jsonl"]
    assert not other.exists()
    # a session that goes on begins a new file
    keeping.write(recorded.tool_loop("alpha", first=20))
    assert path.read_bytes().count(b"\n") == 7


@pytest.mark.parametrize("closed", [False, True])
def test_what_was_under_way_is_told_whole_when_it_ends(keeping: Keeping, closed: bool) -> None:
    done = recorded.exchange(1, "alpha", request_body=recorded.ask([recorded.user("hi")]))
    keeping.write([recorded.exchange(1, "alpha", state=None, request_body=done.request_body)])
    if closed:
        keeping.jsonl.close()
        keeping.jsonl.open()
    keeping.do({"cmd": "delete", "sessions": ["alpha"]})
    keeping.write([done])
    (path,) = keeping.folder.rglob("session_alpha.jsonl")
    assert [json.loads(line)["type"] for line in path.read_text().splitlines()] == ["session", "request", "response"]
    assert keeping.rows("SELECT session_id, state FROM exchanges") == [("alpha", "ok")]


def test_a_file_begun_in_another_folder_goes_too(keeping: Keeping, tmp_path: Path) -> None:
    keeping.write(recorded.tool_loop("alpha"))
    elsewhere = tmp_path / "old" / "2019-01-01"
    elsewhere.mkdir(parents=True)
    named, precious = elsewhere / "session_alpha.jsonl", elsewhere / "precious.txt"
    for file in (named, precious):
        file.write_text("x")
    keeping.sqlite._connection.execute("UPDATE sessions SET jsonl_path = ?", (str(named),))  # type: ignore[union-attr]
    keeping.do({"cmd": "delete", "sessions": ["alpha"]})
    assert not named.exists() and precious.exists()


def test_a_path_in_the_database_that_is_no_session_file_stays(keeping: Keeping, tmp_path: Path) -> None:
    keeping.write(recorded.tool_loop("alpha"))
    precious = tmp_path / "precious.jsonl"
    precious.write_text("x")
    keeping.sqlite._connection.execute("UPDATE sessions SET jsonl_path = ?", (str(precious),))  # type: ignore[union-attr]
    keeping.do({"cmd": "delete", "sessions": ["alpha"]})
    assert precious.exists()


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 7])
def test_a_deletion_given_up_can_be_ended_later(keeping: Keeping, steps: int) -> None:
    keeping.write(sung(6, 40))
    gone = [f"session-{canary(number, True)}" for number in (1, 3, 5)]
    work = keeping.orders.carry_out({"cmd": "delete", "sessions": gone})
    for _ in range(steps):
        next(work)
    work.close()
    assert keeping.rows("PRAGMA integrity_check") == [("ok",)]
    left = {row[0] for row in keeping.rows("SELECT session_id FROM sessions")}
    # what has a file left can still be named
    files = {path.name.removeprefix("session_").partition(".")[0] for path in keeping.folder.rglob("session_*.jsonl")}
    assert files <= left
    for _ in keeping.sqlite.tend_steps(keeping.now):
        pass
    words = b"".join(path.read_bytes() for path in keeping.folder.glob("sessions.db*"))
    for session in set(gone) - left:
        assert session.removeprefix("session-").encode() not in words
    keeping.do({"cmd": "delete", "sessions": gone})
    assert len(keeping.rows("SELECT 1 FROM sessions")) == 3


def test_records_are_written_between_the_steps(keeping: Keeping) -> None:
    keeping.write(sung(4, 60))
    written: list[int] = []

    def between() -> None:
        number = 5000 + len(written)
        keeping.write([recorded.exchange(number, f"new-{number % 3}", sequence=number)])
        written.append(number)

    keeping.do({"cmd": "delete", "sessions": [f"session-{canary(1, True)}"]}, between)
    assert written
    assert keeping.rows("SELECT count(*) FROM exchanges WHERE session_id LIKE 'new-%'") == [(len(written),)]


# --- prune ------------------------------------------------------------------------------------------------------------
def aged(days: float, number: int, size: int = 3000) -> Exchange:
    at = recorded.START.fromtimestamp(START - days * DAY, recorded.START.tzinfo)
    body = random.Random(number).randbytes(size).hex()
    return recorded.exchange(number, f"s{number // 10}", at=at, sequence=number, request_body=body.encode())


@pytest.mark.parametrize(
    ("order", "left"),
    [
        ({}, 30),  # the configured 30 days
        ({"max_age_days": 10}, 10),
        ({"max_age_days": 0}, 0),
        ({"max_age_days": 1000}, 40),
        ({"max_age_days": 1000, "max_size_mb": 0}, 0),
        ({"max_age_days": 10, "max_size_mb": 10}, 10),
    ],
)
def test_prune_by_age_and_size(keeping: Keeping, order: dict[str, Any], left: int) -> None:
    keeping.sqlite.write([aged(39.5 - number, number) for number in range(40)])
    keep = Keep(order.get("max_age_days", 30), int(order.get("max_size_mb", 1024) * 1024 * 1024))
    connection = keeping.sqlite._connection
    assert connection is not None
    planned = plan(connection, keeping.now, keep)
    told = keeping.do({"cmd": "prune", **order})
    assert told["exchanges"] == planned.exchanges == 40 - left
    assert told["sessions"] == planned.sessions == (40 - left) // 10
    assert keeping.rows("SELECT count(*) FROM exchanges") == [(left,)]


def test_the_plan_by_size_is_near_what_happens(keeping: Keeping) -> None:
    keeping.sqlite.write([aged(20 - number / 100, number, 20_000) for number in range(200)])
    connection = keeping.sqlite._connection
    assert connection is not None
    planned = plan(connection, keeping.now, Keep(30, 2 << 20))
    told = keeping.do({"cmd": "prune", "max_size_mb": 2})
    assert 0 < planned.exchanges < 200
    # in steps of 32; and what one leaves is not all free at once
    assert planned.exchanges - 10 <= told["exchanges"] <= planned.exchanges + 50
    before, after = told["database_bytes"]
    assert after < before and planned.oldest_ns is not None and planned.oldest_ns < (planned.newest_ns or 0)


# --- import -----------------------------------------------------------------------------------------------------------
def test_our_files_come_back_once(keeping: Keeping, tmp_path: Path) -> None:
    keeping.write(recorded.tool_loop("alpha"))
    (path,) = keeping.folder.rglob("session_alpha.jsonl")
    columns = "id, session_id, sequence, state, input_tokens, model_used, started_at, request_bytes"
    before = keeping.rows(f"SELECT {columns} FROM exchanges ORDER BY sequence")
    kept = tmp_path / "kept" / path.name
    kept.parent.mkdir()
    path.rename(kept)
    keeping.do({"cmd": "delete", "sessions": ["alpha"]})
    order = {"cmd": "import", "paths": [str(kept)]}
    told = keeping.do(order)
    assert (told["imported"], told["sessions"], told["known"], told["damaged"]) == (3, ["alpha"], 0, 0)
    assert keeping.rows(f"SELECT {columns} FROM exchanges ORDER BY sequence") == before
    assert keeping.rows("SELECT DISTINCT cost_usd, cost_kind FROM exchanges") == [(1.0, "api_equivalent")]
    assert keeping.rows("SELECT jsonl_path FROM sessions") == [(None,)]  # there is no such file here
    again = keeping.do(order)
    assert (again["imported"], again["known"]) == (0, 3)


def test_an_exchange_under_way_is_not_ended_by_its_own_file(keeping: Keeping) -> None:
    done = recorded.exchange(1, "alpha", request_body=recorded.ask([recorded.user("hi")]))
    under_way = recorded.exchange(1, "alpha", state=None, request_body=done.request_body)
    keeping.write([under_way])
    (path,) = keeping.folder.rglob("session_alpha.jsonl")
    told = keeping.do({"cmd": "import", "paths": [str(path)]})
    assert (told["imported"], told["known"]) == (0, 1)
    keeping.write([done])
    assert keeping.rows("SELECT state FROM exchanges") == [("ok",)]


def test_logs_of_clients_unless_the_proxy_recorded_them(keeping: Keeping) -> None:
    order = {"cmd": "import", "paths": [str(path) for path in sorted(LOGS.glob("*.jsonl"))]}
    told = keeping.do(order)
    assert told["imported"] > 5 and len(told["sessions"]) == 6 and told["recorded_sessions"] == 0
    assert keeping.do(order)["imported"] == 0  # by their own ids
    (session,) = [each for each in told["sessions"] if each.startswith("0bb052c9") and "-a780" not in each]
    keeping.do({"cmd": "delete", "sessions": [session]})
    keeping.write([recorded.exchange(1, session)])
    assert keeping.do(order)["recorded_sessions"] == 1
    assert keeping.rows(f"SELECT count(*) FROM exchanges WHERE session_id = '{session}'") == [(1,)]


def test_what_cannot_be_read_is_told_by_file_and_line(keeping: Keeping, tmp_path: Path) -> None:
    keeping.write(recorded.tool_loop("alpha"))
    (path,) = keeping.folder.rglob("session_alpha.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    torn = tmp_path / "session_torn.jsonl"
    torn.write_bytes(lines[0].replace(b"alpha", b"torn1") + lines[1][:100] + b"\n" + b"".join(lines[2:]))
    fifo = tmp_path / "session_fifo.jsonl"
    os.mkfifo(fifo)
    missing, empty = tmp_path / "missing.jsonl", tmp_path / "empty.jsonl"
    empty.touch()
    paths = [str(each) for each in (torn, fifo, missing, empty, tmp_path)]
    told = keeping.do({"cmd": "import", "paths": [*paths, "\0"]})
    where = {(Path(file).name, number) for file, number, _ in told["troubles"]}
    assert {("session_torn.jsonl", 2), ("session_fifo.jsonl", 0), ("missing.jsonl", 0)} <= where
    assert told["damaged"] == len(told["troubles"])


@pytest.mark.parametrize(("now", "expiring"), [(START, 0), (START + 29 * DAY, 0), (START + 31 * DAY, 3)])
def test_what_retention_will_take_is_told(keeping: Keeping, now: float, expiring: int) -> None:
    keeping.write(recorded.tool_loop("alpha"))
    (path,) = keeping.folder.rglob("session_alpha.jsonl")
    kept = keeping.folder / "session_alpha.jsonl"
    path.rename(kept)
    keeping.do({"cmd": "delete", "sessions": ["alpha"]})
    keeping.now = now
    assert keeping.do({"cmd": "import", "paths": [str(kept)]})["expiring"] == expiring


# --- the rest ---------------------------------------------------------------------------------------------------------
def test_all_is_priced_anew(keeping: Keeping) -> None:
    keeping.write(recorded.tool_loop("alpha"))
    told = keeping.do({"cmd": "reprice"})
    assert told == {"exchanges": 3, "changed": 3, "unknown": 0, "old_usd": 0.0, "new_usd": 6.0}
    assert keeping.rows("SELECT cost_usd FROM sessions") == [(6.0,)]
    assert keeping.do({"cmd": "reprice"})["changed"] == 0


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"cmd": "drop"},
        {"cmd": 7},
        {"cmd": "delete"},
        {"cmd": "delete", "sessions": "alpha"},
        {"cmd": "delete", "sessions": [1]},
        {"cmd": "prune", "max_age_days": "1"},
        {"cmd": "import", "paths": {"a": 1}},
        {"cmd": "reprice", "more": True},
    ],
    ids=json.dumps,
)
def test_other_orders_are_refused(keeping: Keeping, order: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="no such order"):
        keeping.do(order)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "x" * 5000, "a\0b", "a'; DROP TABLE sessions; --", "\ud800"])
def test_a_name_of_no_session_deletes_nothing(keeping: Keeping, name: str) -> None:
    keeping.write(recorded.tool_loop("alpha"))
    try:
        told = keeping.do({"cmd": "delete", "sessions": [name]})
    except (StoreError, UnicodeEncodeError):
        told = {"sessions": 0}
    assert told["sessions"] == 0 and len(keeping.rows("SELECT 1 FROM sessions")) == 1
    assert len(list(keeping.folder.rglob("session_*.jsonl"))) == 1


def test_a_command_replaces_no_database(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.write_bytes(b"precious, but no database" * 100)
    store = SqliteStore(path, warn=print, replace=False)
    with pytest.raises(StoreError, match="cannot be used"):
        store.open()
    assert [each.name for each in tmp_path.glob("*") if each.suffix != ".lock"] == ["sessions.db"]


def test_who_has_the_database_is_told(keeping: Keeping) -> None:
    with pytest.raises(InUse) as told:
        SqliteStore(keeping.sqlite.path, warn=print).open()
    assert told.value.holder == str(os.getpid())


def test_a_large_database_is_written_anew_only_when_asked(keeping: Keeping) -> None:
    keeping.write(recorded.tool_loop("alpha"))
    keeping.write(recorded.tool_loop("beta", first=10))
    keeping.sqlite._rewrite_bytes = 1 << 10
    assert "larger than" in keeping.do({"cmd": "delete", "sessions": ["alpha"]})["rests"]
    assert keeping.do({"cmd": "prune", "max_age_days": 1000, "rewrite": True})["rests"] is None
    assert keeping.rows("SELECT session_id FROM sessions") == [("beta",)]


def test_a_reader_in_the_way_is_told(keeping: Keeping) -> None:
    keeping.write(recorded.tool_loop("alpha"))
    reader = sqlite3.connect(f"file:{keeping.folder}/sessions.db?mode=ro", uri=True, isolation_level=None)
    try:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM exchanges").fetchone() == (3,)
        told = keeping.do({"cmd": "delete", "sessions": ["alpha"]})
        assert told["sessions"] == 1 and "another program reads" in told["rests"]
    finally:
        reader.close()
    for _ in keeping.sqlite.tend_steps(keeping.now):
        pass
    assert (keeping.folder / "sessions.db-wal").stat().st_size == 0


def test_an_import_into_a_session_with_the_same_numbers_puts_them_in_order_of_time(keeping: Keeping) -> None:
    """The database was lost, its session went on from 1, and the log file of before comes back."""
    early = [recorded.exchange(number, "s", sequence=number) for number in (1, 2, 3)]
    late = [recorded.exchange(number, "s", sequence=number - 3) for number in (4, 5)]
    file = keeping.folder / "session_s.jsonl"
    keeping.jsonl.write(early)
    os.rename(keeping.jsonl.locate("s", 0), file)
    keeping.sqlite.write(late)
    heard: list[str] = []
    keeping.orders._renumbered = heard.append
    for _ in range(2):
        keeping.do({"cmd": "import", "paths": [str(file)]})
        rows = keeping.rows("SELECT sequence, id FROM exchanges ORDER BY sequence")
        assert rows == [(number, f"{recorded.BOOT}-{number}") for number in range(1, 6)]
    assert heard == ["s"]
    assert keeping.sqlite.last_sequence("s") == 5
