"""What was taken out: one row a value, known from its first exchange on, gone with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lunaroute.records import Finding
from lunaroute.stores import findings
from lunaroute.stores.readonly import Connection
from lunaroute.stores.sqlite import SqliteStore
from tests.stores.records import BOOT, exchange

KEY = Finding(place="request", kind="secret", name="aws_access_key", digest="a1b2c3d4", count=2)
BACK = Finding(place="response", kind="secret", name="aws_access_key", digest="a1b2c3d4")
MAIL = Finding(place="request", kind="email", name="email", digest="00000001")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "sessions.db", warn=print)
    made.open()
    made.write(
        [exchange(1, found=[MAIL], title="The title"), exchange(2, found=[MAIL, KEY]), exchange(3, found=[KEY, BACK])]
    )
    made.write([exchange(4, session_id="sess-2", found=[KEY])])
    yield made
    made.close()


def told(store: SqliteStore, session: str = "sess-1") -> list[tuple[str, str, int, int]]:
    with Connection(store.path) as db:
        return [(row.place, row.name, row.sequence, row.count) for row in findings.of_session(db, session)]


def test_a_value_counts_where_it_came_first(store: SqliteStore) -> None:
    assert told(store) == [
        ("request", "aws_access_key", 2, 2), ("response", "aws_access_key", 3, 1), ("request", "email", 1, 1),
    ]  # fmt: skip
    with Connection(store.path) as db:
        leaks = findings.leaks(db, None, None)
        assert [(row.session_id, row.sequence, row.exchange_id, row.title) for row in leaks] == [
            ("sess-2", 4, f"{BOOT}-4", None), ("sess-1", 2, f"{BOOT}-2", "The title"),
        ]  # fmt: skip
        assert findings.leaks(db, leaks[1].started_at, leaks[0].started_at)[0] == leaks[1]
        figures = findings.figures(db, None, None)
        assert [(each.place, each.name, each.values, each.sessions) for each in figures] == [
            ("request", "aws_access_key", 1, 2), ("request", "email", 1, 1), ("response", "aws_access_key", 1, 1),
        ]  # fmt: skip


def test_they_go_with_what_they_were_in(store: SqliteStore) -> None:
    for _ in store.delete(["sess-2"]):
        pass
    assert told(store, "sess-2") == []
    assert len(told(store)) == 3
    for _ in store.delete(["sess-1"]):
        pass
    assert told(store) == []


def test_a_given_exchange_is_not_counted_again(store: SqliteStore) -> None:
    store.write([exchange(2, found=[MAIL, KEY])])
    assert len(told(store)) == 3
