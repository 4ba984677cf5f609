"""Retention, deleting and pricing anew: what goes, what stays, in short steps, and the file really gets smaller."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lunaroute.records import Closed, Exchange, State, Text, ToolCall, ToolResult, Usage
from lunaroute.stores import queries, removal, upkeep
from lunaroute.stores.readonly import Connection
from lunaroute.stores.sqlite import SqliteStore
from tests.stores.conversations import Conversations, canary
from tests.stores.records import BOOT, START_NS, exchange, opened

DAY = 86_400
START = START_NS / 1e9


class Kept:
    """A store with bounds, and what it said."""

    def __init__(self, path: Path, **bounds: float) -> None:
        self.path = path
        self.said: list[str] = []
        self.store = SqliteStore(path, warn=self.said.append, **bounds)  # type: ignore[arg-type]
        self.store.open()

    def tend(self, now: float = START) -> list[float]:
        """All steps; how long each took."""
        return timed(self.store.tend_steps(now))

    def ask(self, sql: str, *values: Any) -> list[Any]:
        assert self.store._connection is not None
        return self.store._connection.execute(sql, values).fetchall()

    def column(self, sql: str, *values: Any) -> list[Any]:
        return [row[0] for row in self.ask(sql, *values)]

    def ids(self) -> set[int]:
        return {int(each.partition("-")[2]) for each in self.column("SELECT id FROM exchanges")}

    def used(self) -> int:
        assert self.store._connection is not None
        return upkeep.used_bytes(self.store._connection)

    def bound(self, megabytes: float | None) -> None:
        self.store._max_bytes = None if megabytes is None else int(megabytes * 1024 * 1024)

    def same(self, given: Exchange) -> None:
        with Connection(self.path) as db:
            found = queries.bodies(db, given.id)
        assert (found.trouble, found.request_body, found.response_body) == (
            None, given.request_body, given.response_body,
        )  # fmt: skip


def timed(steps: Iterator[Any]) -> list[float]:
    took = []
    while True:
        began = time.perf_counter()
        if next(steps, None) is None:
            return took
        took.append(time.perf_counter() - began)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "s.db")
    yield kept
    kept.store.close()


def aged(number: int, days: float, **more: Any) -> Exchange:
    """An exchange that began so many days before START."""
    one = exchange(number, **more)
    one.started_ns = int((START - days * DAY) * 1e9)
    one.started_at = datetime.fromtimestamp(START - days * DAY, UTC).strftime("%Y-%m-%d %H:%M:%S.000")
    return one


# --- by age -----------------------------------------------------------------------------------------
def test_by_age_the_old_goes_and_nothing_else(kept: Kept) -> None:
    kept.store._max_age_days = 30
    kept.store.write(
        [
            aged(1, 40, session_id="old"),
            aged(2, 31, session_id="both", sequence=1),
            aged(3, 29, session_id="both", sequence=2),
            aged(4, 0, session_id="new"),
            aged(5, 50, state=None, session_id="running"),
            aged(6, 60, session_id="old"),
        ]
    )
    sums = kept.ask("SELECT * FROM sessions WHERE session_id = 'both'")
    kept.tend()
    assert kept.ids() == {3, 4, 5}
    assert kept.column("SELECT session_id FROM sessions ORDER BY 1") == ["both", "new", "running"]
    assert kept.ask("SELECT * FROM sessions WHERE session_id = 'both'") == sums, "what it cost is still true"
    assert kept.column("SELECT count(*) FROM attempts") == [2]


def test_without_bounds_nothing_goes(kept: Kept) -> None:
    kept.store.write([aged(1, 9000)])
    kept.tend()
    assert kept.ids() == {1}


def test_what_ran_goes_once_it_has_ended(kept: Kept) -> None:
    kept.store._max_age_days = 30
    kept.store.write([aged(1, 40, state=None)])
    kept.tend()
    assert kept.ids() == {1}
    kept.store.write([Closed(id=f"{BOOT}-1", session_id="sess-1", state=State.INTERRUPTED)])
    kept.tend()
    assert kept.ids() == set() and kept.column("SELECT count(*) FROM sessions") == [0]


def test_what_never_got_a_session_goes_too(kept: Kept) -> None:
    kept.store._max_age_days = 30
    kept.store.write([opened(1), Closed(id=f"{BOOT}-1", session_id=None, state=State.TIMEOUT)])
    kept.tend(START + 40 * DAY)
    assert kept.ids() == set()


def test_tool_calls_go_with_their_exchange(kept: Kept) -> None:
    kept.store._max_age_days = 30
    calls = [ToolCall(id=f"c{n}", name="Bash", called_ns=START_NS) for n in (1, 2)]
    kept.store.write(
        [
            aged(1, 40, tool_calls=calls[:1]),
            aged(2, 20, tool_calls=calls[1:], tool_results=[ToolResult(id="c1", success=False, seen_ns=START_NS)]),
            aged(3, 10, tool_results=[ToolResult(id="c2", success=True, seen_ns=START_NS)]),
        ]
    )
    kept.tend()
    assert kept.ask("SELECT call_id, success FROM tool_calls") == [("c2", 1)]
    assert kept.ask("SELECT requests, tool_calls, tool_failures FROM sessions") == [(3, 2, 1)]
    kept.store.write([aged(4, 0, tool_results=[ToolResult(id="c1", success=True)])])  # its call is gone: no new row
    assert kept.column("SELECT call_id FROM tool_calls") == ["c2"]


def test_a_session_that_went_and_comes_back(kept: Kept) -> None:
    kept.store._max_age_days = 30
    kept.store.write([aged(1, 40)])
    kept.tend()
    later = aged(2, 0, sequence=2, request_body=b'{"messages":["again"]}')
    kept.store.write([later])
    kept.same(later)
    assert kept.ask("SELECT requests FROM sessions") == [(1,)]


def test_bodies_of_schema_1_go_too(kept: Kept) -> None:
    kept.store._max_age_days = 30
    kept.store.write([aged(1, 40), aged(2, 0)])
    for number in (1, 2):
        kept.ask("INSERT INTO bodies (exchange_id, request_body) VALUES (?, 'x')", f"{BOOT}-{number}")
    kept.tend()
    assert kept.column("SELECT exchange_id FROM bodies") == [f"{BOOT}-2"]


# --- by size ----------------------------------------------------------------------------------------
def bulky(number: int, seed: int, **more: Any) -> Exchange:
    """Some 40 kB that cannot be compressed, in a session of its own."""
    noise = random.Random(seed).randbytes(20_000).hex()
    body = b'{"messages":[{"content":"%s"}]}' % noise.encode()
    values = {"session_id": f"s{number}", "texts": [Text(kind="prompt", text=canary(number))], "request_body": body}
    return exchange(number, **{**values, **more})


def test_by_size_the_oldest_go_and_the_file_shrinks(kept: Kept) -> None:
    made = [bulky(number, number) for number in range(1, 301)]
    for at in range(0, 300, 30):
        kept.store.write(made[at : at + 30])
    before = kept.store.size()
    assert before > 6 << 20
    kept.bound(3)
    assert kept.store.overfull
    steps = kept.tend()
    assert kept.store.size() < 3 << 20, "with its log: all of it on the disk"
    assert kept.path.stat().st_size < 3 << 20
    left = kept.ids()
    assert left == set(range(301 - len(left), 301)), "the oldest went"
    assert len(left) > 70, "and no more than had to: three megabytes less a tenth hold eighty"
    assert kept.column("SELECT count(*) FROM sessions") == [len(left)]
    for number in (min(left), 300):
        kept.same(made[number - 1])
    assert not kept.store.overfull and kept.tend() == []
    assert 5 < len(steps) < 60
    assert kept.column("PRAGMA integrity_check") == ["ok"]


def test_the_bound_is_not_touched_by_each_record(kept: Kept) -> None:
    """What goes at once is a tenth: else each batch would be followed by an upkeep."""
    for number in range(1, 200):
        kept.store.write([bulky(number, number)])
    kept.bound(kept.used() / 2**20 - 0.01)
    kept.tend()
    assert kept.used() < 0.92 * (kept.store._max_bytes or 0)


def test_a_running_exchange_stays_however_small_the_bound(kept: Kept) -> None:
    kept.store.write([bulky(1, 1), bulky(2, 2, state=None), bulky(3, 3)])
    kept.bound(0.001)
    kept.tend()
    assert kept.ids() == {2}
    assert kept.tend() == []  # and it ends


def test_what_a_kept_session_shares_stays(kept: Kept) -> None:
    tools = random.Random(1).randbytes(30_000).hex().encode()
    made = [
        exchange(n, session_id=f"s{n}", request_body=b'{"tools":[{"d":"%s"}],"messages":["%d"]}' % (tools, n))
        for n in range(1, 50)
    ]
    kept.store.write(made)
    kept.store._max_age_days = 0.0
    kept.tend(made[-1].started_ns / 1e9 - 0.5)  # all but the last are older
    assert kept.ids() == {49}
    assert kept.column("SELECT uses FROM blobs") == [1]
    kept.same(made[-1])


@pytest.mark.parametrize("share", [0.9, 0.6, 0.3])
def test_one_giant_session_loses_its_beginning_and_no_more(kept: Kept, share: float) -> None:
    talks = Conversations(1, sessions=1)
    for at in range(500):
        kept.store.write([talks.next(0, "compact" if at % 80 == 79 else "grow")])
    base = Kept(kept.path.with_name("empty.db"))
    empty = base.used()
    base.store.close()
    whole = kept.used()
    kept.bound((empty + (whole - empty) * share) / 2**20)
    sums = kept.ask("SELECT requests, input_tokens, duration_ms FROM sessions")
    kept.tend()
    left = kept.ids()
    assert left == set(range(501 - len(left), 501))
    assert len(left) > 500 * share * 0.5, "about as much stays as there is room for"
    assert kept.ask("SELECT requests, input_tokens, duration_ms FROM sessions") == sums
    for number in sorted(left)[:: max(1, len(left) // 20)]:
        kept.same(talks.made[number])
    # and it goes on where it was
    kept.store.write([talks.next(0, "grow")])
    kept.same(talks.made[501])
    (data,) = kept.column("SELECT length(data) FROM packs ORDER BY exchange DESC LIMIT 1")
    assert data < 5000


def test_clocks_that_went_back_keep_nothing_for_ever(kept: Kept) -> None:
    kept.store.write([bulky(1, 1), aged(2, -1000)])
    kept.bound(0.001)
    kept.tend()
    assert kept.ids() == set()


def test_the_index_does_not_grow_with_what_is_gone(kept: Kept) -> None:
    """A database that has reached its bound lives there: words come and go, and the index stays as large."""
    words = [f"word{n}" for n in range(3000)]
    chance = random.Random(3)
    kept.store._max_age_days = 1.0
    number, sizes = 0, []
    for _ in range(100):
        batch = []
        for _ in range(10):
            number += 1
            text = " ".join(chance.choices(words, k=200))
            one = aged(number, 0, session_id=f"s{number}", texts=[Text(kind="prompt", text=text)])
            one.started_ns = START_NS + number * 10**9
            batch.append(one)
        kept.store.write(batch)
        kept.tend(START + number - 200 + DAY)  # the last 200 stay
        sizes += kept.column("SELECT sum(length(block)) FROM search_data")
    assert kept.column("SELECT count(*) FROM exchanges") == [201]
    assert max(sizes[40:]) < 1.5 * max(sizes[20:40]), sizes


# --- by name ----------------------------------------------------------------------------------------
def test_deleting_a_session(kept: Kept) -> None:
    made = [bulky(n, n % 3, session_id="abc"[n % 3], model_used=f"model-{n % 3}") for n in range(1, 31)]
    kept.store.write([*made, exchange(40, None, session_id="a"), exchange(41, session_id="a", project="/secret")])
    steps = list(kept.store.delete(["a", "nobody", "a"]))
    assert steps[-1].done == 12
    assert kept.column("SELECT session_id FROM sessions ORDER BY 1") == ["b", "c"]
    assert kept.column("SELECT DISTINCT session_id FROM exchanges ORDER BY 1") == ["b", "c"]
    for one in made:
        if one.session_id != "a":
            kept.same(one)
    assert kept.column("SELECT value FROM facets WHERE kind = 'model_used' ORDER BY 1") == ["model-1", "model-2"]
    assert kept.column("SELECT value FROM facets WHERE kind = 'project'") == []
    kept.store.write([exchange(42, session_id="a", project="/secret", model_used="model-0")])  # offered again then
    assert kept.column("SELECT value FROM facets WHERE kind = 'project'") == ["/secret"]


def test_words_of_a_deleted_session_are_nowhere_in_the_files(kept: Kept) -> None:
    """Not only out of reach: overwritten, in the database and in its log."""
    secret = "xylographicsecret"
    texts = [Text(kind="prompt", text=f"the {secret} of it")]
    for number in range(1, 60):
        kept.store.write([bulky(number, number, texts=[Text(kind="answer", text=f"others have {canary(number)}")])])
        if number % 10 == 0:
            body = b'{"messages":["%s"]}' % secret.encode()
            kept.store.write(
                [exchange(1000 + number, session_id="x", title=secret, texts=texts, request_body=body, error=secret)]
            )
    assert secret.encode() in b"".join(file.read_bytes() for file in files(kept.path))
    list(kept.store.delete(["x"]))
    for file in files(kept.path):
        assert secret.encode() not in file.read_bytes(), file.name
    assert kept.column("SELECT rowid FROM search WHERE search MATCH ?", secret) == []
    assert len(kept.column("SELECT rowid FROM search WHERE search MATCH 'others'")) == 59


def files(path: Path) -> list[Path]:
    return [file for file in path.parent.iterdir() if file.name.startswith(path.name)]


def test_a_deletion_that_is_given_up_half_way_leaves_nothing_wrong(kept: Kept) -> None:
    talks = Conversations(4, sessions=1)
    kept.store.write([talks.next(0, "grow") for _ in range(100)])
    steps = kept.store.delete(["s0"])
    next(steps)
    steps.close()
    left = kept.ids()
    assert 0 < len(left) < 100
    for number in list(left)[::10]:
        kept.same(talks.made[number])
    list(kept.store.delete(["s0"]))
    assert kept.ids() == set() and kept.column("SELECT count(*) FROM packs") == [0]


# --- steps ------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_steps_are_short_in_a_large_database_and_records_fit_between_them(kept: Kept) -> None:
    """100 MB: sessions of noise, and a long one of words."""
    talks = Conversations(8, sessions=1)
    number = 0
    while kept.path.stat().st_size < 100 << 20:
        batch = []
        for _ in range(25):
            number += 1
            batch.append(bulky(10_000 + number, number, session_id=f"s{number // 20}"))
            if number % 2:
                talked = talks.next(0, "grow" if number % 200 < 198 else "compact")
                talked.session_id = "long"
                batch.append(talked)
        kept.store.write(batch)
    assert number > 1000
    kept.ask("UPDATE exchanges SET started_ns = row")  # both kinds are as old
    kept.bound(50)
    steps, took, written = kept.store.tend_steps(START), [], 0
    while True:
        began = time.perf_counter()
        if next(steps, None) is None:
            break
        took.append(time.perf_counter() - began)
        if len(took) % 10 == 0:
            written += 1
            kept.store.write([exchange(900_000 + written, session_id="meanwhile", started_ns=1 << 61)])
    print(f"{len(took)} steps, the longest {max(took) * 1e3:.0f} ms")
    assert max(took) < 0.2
    assert written > 10 and kept.column("SELECT count(*) FROM exchanges WHERE session_id = 'meanwhile'") == [written]
    assert kept.store.size() < 50 << 20
    assert kept.column("SELECT count(*) FROM exchanges WHERE session_id = 'long'")[0] > 100
    took = timed(kept.store.delete(["long"]))
    print(f"{len(took)} steps to delete, the longest {max(took) * 1e3:.0f} ms")
    assert max(took) < 0.2
    assert kept.column("PRAGMA integrity_check") == ["ok"]


def test_a_step_ends_when_its_time_is_over(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "STEP_S", 0.0)
    kept.store._max_age_days = 1
    kept.store.write([aged(n, 5) for n in range(1, 20)])
    assert kept.store._connection is not None
    made = removal.Removal(kept.store._connection)
    assert made.remove(kept.column("SELECT row FROM exchanges"), seconds=0.0) == 1
    assert len(kept.ids()) == 18
    assert [step.done for step in kept.store.tend_steps(START)][-1] == 18


def test_a_database_without_auto_vacuum_is_trimmed_too(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA auto_vacuum = NONE")
        raw.execute("VACUUM")  # writes the header, and with it the choice
    raw.close()
    kept = Kept(path)
    kept.store.write([bulky(n, n) for n in range(1, 100)])
    assert kept.column("PRAGMA auto_vacuum") == [0]
    kept.bound(1)
    kept.tend()
    assert 0 < len(kept.ids()) < 60
    assert kept.tend() == [] or len(kept.ids()) > 0
    kept.store.close()


def test_a_reader_that_stays_does_not_stop_retention(kept: Kept) -> None:
    kept.store.write([bulky(n, n) for n in range(1, 60)])
    with Connection(kept.path) as db, db.snapshot():
        assert db.value("SELECT count(*) FROM exchanges") == 59
        kept.bound(0.7)
        kept.tend()
        assert db.value("SELECT count(*) FROM exchanges") == 59
    assert len(kept.ids()) < 59
    kept.tend()
    assert kept.store.size() < 1 << 20


# --- prices -----------------------------------------------------------------------------------------
def test_pricing_anew(kept: Kept) -> None:
    kept.store.write(
        [
            exchange(1, cost_usd=1.0, price_id="old", session_id="a"),
            exchange(2, cost_usd=None, session_id="a", sequence=2),
            exchange(3, cost_usd=2.0, price_id="new", session_id="b"),
            exchange(4, None, session_id="b", sequence=2),
            exchange(5, kind="count", session_id="a", usage=Usage()),
        ]
    )
    before = kept.ask("SELECT session_id, cost_usd, cost_unknown FROM sessions ORDER BY 1")
    assert before == [("a", 1.0, 1), ("b", 2.0, 0)]

    def price(row: dict[str, Any]) -> tuple[float | None, str | None]:
        return (None, None) if row["kind"] == "count" else (2.0, "new")

    dry = list(kept.store.reprice(price, dry_run=True))
    assert [(step.done, step.total) for step in dry] == [(4, 4)]
    assert kept.ask("SELECT session_id, cost_usd, cost_unknown FROM sessions ORDER BY 1") == before
    list(kept.store.reprice(price))
    assert kept.column("SELECT cost_usd FROM exchanges ORDER BY row") == [2.0, 2.0, 2.0, None, None]
    assert kept.ask("SELECT session_id, cost_usd, cost_unknown FROM sessions ORDER BY 1") == [
        ("a", 4.0, 0),
        ("b", 2.0, 0),
    ]


def test_pricing_anew_goes_on_while_records_come(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PRICED_STEP", 3)
    kept.store.write([exchange(n, session_id=f"s{n % 4}") for n in range(1, 11)])
    done = 0
    for done, _ in enumerate(kept.store.reprice(lambda row: (0.5, "p")), start=1):
        if done < 4:
            kept.store.write([exchange(100 + done, session_id="s1", cost_usd=9.0)])
    assert done >= 4
    assert kept.column("SELECT sum(cost_usd) FROM exchanges") == kept.column("SELECT sum(cost_usd) FROM sessions")
