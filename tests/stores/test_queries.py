"""Reading recorded sessions: lists, filters, pages, bodies; and that reading can neither change nor break anything."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lunaroute.records import Exchange, State, Usage
from lunaroute.stores import filters, queries, schema
from lunaroute.stores.queries import SessionFilter
from lunaroute.stores.readonly import BadQuestion, Connection, NoRecord, NotFound, QueryError, TooSlow
from tests import recorded

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three sessions: `alpha` (3 turns), `beta` (one error), `gamma` (running), and one exchange without a session."""
    gamma = recorded.exchange(9, "gamma", sequence=1, state=None, client="codex", model_used=None, usage=Usage())
    return recorded.write(
        tmp_path / "sessions.db",
        [
            *recorded.tool_loop("alpha"),
            recorded.exchange(
                5, "beta", sequence=1, state=State.UPSTREAM_ERROR, status=529, client="opencode", provider="openai",
                model_requested="gpt-5.5", model_used="gpt-5.5-2026", title="100% of_it \\ done", usage=Usage(),
                parent_session_id="alpha",
            ),
            gamma,
            recorded.opened(20),
        ],
    )  # fmt: skip


ALL = SessionFilter()


def ids(db: Connection, wanted: SessionFilter = ALL, **how: object) -> list[str]:
    return [row.session_id for row in queries.list_sessions(db, wanted, **how).rows]  # type: ignore[arg-type]


def test_list_is_newest_first_with_sums(path: Path) -> None:
    with Connection(path) as db:
        page = queries.list_sessions(db, SessionFilter())
    assert [row.session_id for row in page.rows] == ["gamma", "beta", "alpha"]
    assert [row.running for row in page.rows] == [1, 0, 0]
    assert page.rows[2].requests == 3 and page.rows[2].input_tokens == 2700
    assert page.rows[0].input_tokens is None  # not told is not zero
    assert (page.totals.sessions, page.totals.requests, page.totals.errors) == (3, 5, 1)
    assert page.newer is None and page.older is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (SessionFilter(words="make test"), ["alpha"]),
        (SessionFilter(words="MAKE folder claude"), ["alpha"]),
        (SessionFilter(words="make nothing"), []),
        (SessionFilter(words="gpt-5.5"), ["beta"]),
        (SessionFilter(words="gam"), ["gamma"]),
        (SessionFilter(words="100%"), ["beta"]),
        (SessionFilter(words="%"), ["beta"]),
        (SessionFilter(words="_"), ["beta"]),
        (SessionFilter(words="\\"), ["beta"]),
        (SessionFilter(words="' OR 1=1 --"), []),
        (SessionFilter(words="\0"), ["gamma", "beta", "alpha"]),
        (SessionFilter(words="\ud800"), []),
        (SessionFilter(model="gpt-5.5"), ["beta"]),
        (SessionFilter(model="gpt-5.5-2026"), ["beta"]),
        (SessionFilter(client="codex"), ["gamma"]),
        (SessionFilter(provider="openai"), ["beta"]),
        (SessionFilter(state="running"), ["gamma"]),
        (SessionFilter(state="ok"), ["alpha"]),
        (SessionFilter(state="upstream_error"), ["beta"]),
        (SessionFilter(since="2020-01-06 09:31:30"), ["gamma", "beta"]),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, SessionFilter) else "",
)
def test_filters(path: Path, wanted: SessionFilter, found: list[str]) -> None:
    with Connection(path) as db:
        assert ids(db, wanted) == found


@pytest.mark.parametrize("sort", queries.SORTS)
def test_every_sort_order_works_and_turns_around(path: Path, sort: str) -> None:
    with Connection(path) as db:
        assert ids(db, sort=sort) == ids(db, sort=sort, ascending=True)[::-1]


def test_unknown_sort_and_state_are_refused(path: Path) -> None:
    with Connection(path) as db:
        with pytest.raises(BadQuestion, match="sorted by last"):
            queries.list_sessions(db, SessionFilter(), sort="last_at; DROP TABLE sessions")
        with pytest.raises(BadQuestion, match="running, ok"):
            queries.list_sessions(db, SessionFilter(state="fine"))


@pytest.mark.parametrize("sort", ["last", "title", "input"])
def test_pages_go_there_and_back_and_stay_put_while_rows_come(tmp_path: Path, sort: str) -> None:
    path = tmp_path / "sessions.db"
    with recorded.store_at(path) as store:
        store.write([recorded.exchange(n, f"s{n:02}", title=f"t{n % 3}", usage=Usage()) for n in range(1, 24)])
        with Connection(path) as db:
            first = queries.list_sessions(db, SessionFilter(), sort=sort, limit=10)
            store.write([recorded.exchange(99, "new", title="t9", usage=Usage(input_tokens=5))])
            second = queries.list_sessions(db, SessionFilter(), sort=sort, limit=10, mark=first.older)
            third = queries.list_sessions(db, SessionFilter(), sort=sort, limit=10, mark=second.older)
            back = queries.list_sessions(db, SessionFilter(), sort=sort, limit=10, mark=third.newer)
            top = queries.list_sessions(db, SessionFilter(), sort=sort, limit=10, mark=back.newer)
    pages = [[row.session_id for row in page.rows] for page in (first, second, third, back, top)]
    assert len(set(pages[0] + pages[1] + pages[2])) == 23 and len(pages[2]) == 3
    assert pages[3] == pages[1] and pages[4] == pages[0]
    assert third.older is None and first.newer is None and top.newer is not None  # the new row is before it


@pytest.mark.parametrize("mark", ["x", "W10", "WyI+Il0", "é", "WzEsMiwzXQ", "WyI-IiwxZTk5OSwieCJd", "=" * 9])
def test_foreign_page_marks_are_refused(path: Path, mark: str) -> None:
    with Connection(path) as db, pytest.raises(BadQuestion, match="page mark"):
        queries.list_sessions(db, SessionFilter(), mark=mark)


def test_one_session_with_its_subagents(path: Path) -> None:
    with Connection(path) as db:
        assert queries.session(db, "alpha").title == "Why does `make test` fail in this folder?"
        assert [row.session_id for row in queries.children(db, "alpha")] == ["beta"]
        with pytest.raises(NotFound, match="retention"):
            queries.session(db, "nobody")


@pytest.mark.parametrize("text", ["", "../etc/passwd", "a b", "x" * 65, "é", "a\n", "a\0", "%2e%2e", "' OR 1=1"])
def test_no_other_text_passes_as_an_id(path: Path, text: str) -> None:
    with Connection(path) as db:
        for ask in (queries.session, queries.children, queries.exchange, queries.bodies, queries.resolve):
            with pytest.raises(NotFound, match="not an id"):
                ask(db, text)


def test_resolve_takes_the_whole_id_or_its_only_beginning(tmp_path: Path) -> None:
    names = ["abc", "abcd-1", "abz-2", "0f3c-9", "run7", "run7-agent1", "run7-agent2"]
    path = recorded.write(tmp_path / "db", [recorded.exchange(n, name) for n, name in enumerate(names, 1)])
    with Connection(path) as db:
        assert queries.resolve(db, "abc") == "abc"
        assert queries.resolve(db, "abz") == "abz-2"
        assert queries.resolve(db, "run") == "run7"  # the parent, not its subagents
        assert queries.resolve(db, "run7-agent2") == "run7-agent2"
        with pytest.raises(NotFound, match="several sessions: abc, abcd-1, abz-2"):
            queries.resolve(db, "ab")
        with pytest.raises(NotFound, match=r"Nearest: abcd-1\b"):
            queries.resolve(db, "abdc-1")
        with pytest.raises(NotFound, match="sessions list"):
            queries.resolve(db, "zzzzzz")


def test_exchanges_in_order_and_in_windows(path: Path) -> None:
    with Connection(path) as db:
        rows = queries.exchanges(db, "alpha")
        assert [row.sequence for row in rows] == [1, 2, 3]
        assert [row.sequence for row in queries.exchanges(db, "alpha", limit=2)] == [1, 2]
        assert [row.sequence for row in queries.exchanges(db, "alpha", limit=2, last=True)] == [2, 3]
        assert [row.sequence for row in queries.exchanges(db, "alpha", after=1, before=3)] == [2]
        assert queries.neighbours(db, rows[1]) == (rows[0].id, rows[2].id)
        assert queries.neighbours(db, rows[0]) == (None, rows[1].id)


def test_bodies_come_back_as_they_were(path: Path) -> None:
    exchange = recorded.tool_loop("alpha")[0]
    with Connection(path) as db:
        row = queries.exchange(db, exchange.id)
        kept = queries.bodies(db, exchange.id)
    assert row.state == "ok" and row.duration_ms == 2345.0 and row.usage_state == "complete"
    assert kept.request_body == exchange.request_body and kept.response_body == exchange.response_body
    assert kept.request_headers[1] == ("x-api-key", "***")
    assert kept.attempts[0]["origin"] == "https://api.anthropic.com" and kept.timings["response_head"] == 412.0
    assert kept.trouble is None


def test_an_exchange_without_session_or_bodies_can_be_read(path: Path) -> None:
    with Connection(path) as db:
        row = queries.exchange(db, f"{recorded.BOOT}-20")
        assert row.session_id is None and row.state is None and row.sequence == 0
        assert queries.neighbours(db, row) == (None, None)
        assert queries.bodies(db, row.id).request_body == b""


@pytest.mark.parametrize("data", [b"\x28\xb5\x2f\xfdgarbage", b"", b"{}", None])
def test_a_damaged_pack_is_said(path: Path, data: bytes | None) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE packs SET data = coalesce(?, substr(data, 1, 40)) WHERE exchange = 2", [data])
    raw.close()
    with Connection(path) as db:
        kept = queries.bodies(db, f"{recorded.BOOT}-2")
        assert kept.trouble is not None and "cannot be read" in kept.trouble
        assert kept.request_headers == [] and kept.response_body == b""
        assert queries.bodies(db, f"{recorded.BOOT}-1").trouble is None  # what does not build on it is whole


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of schema version 1, brought to this one."""
    path = tmp_path / "old.db"
    shutil.copyfile(Path(recorded.__file__).parent / "corpus" / "databases" / "schema-1.db", path)
    return recorded.write(path, [])


def test_an_old_database_reads_as_it_did(old: Path) -> None:
    with Connection(old) as db:
        assert ids(db) == ["gamma", "beta", "alpha"]
        for made in recorded.tool_loop("alpha"):
            if isinstance(made, Exchange):
                kept = queries.bodies(db, made.id)
                assert (kept.request_body, kept.response_body) == (made.request_body, made.response_body)
                assert kept.request_headers == made.request_headers and kept.trouble is None
                assert queries.exchange(db, made.id).input_tokens == made.usage.input_tokens


def test_an_old_damaged_body_is_said_and_the_rest_is_shown(old: Path) -> None:
    with sqlite3.connect(old) as raw:
        raw.execute("UPDATE bodies SET request_body = ?, request_headers = '[1'", [b"\x28\xb5\x2f\xfdgarbage"])
    raw.close()
    with Connection(old) as db:
        kept = queries.bodies(db, f"{recorded.BOOT}-1")
    assert kept.trouble is not None and "damaged" in kept.trouble
    assert kept.request_headers == [] and kept.response_body.startswith(b"event: message_start")


def test_an_old_body_beyond_the_limit_is_cut(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "BODY_LIMIT", 500)
    with Connection(old) as db:
        kept = queries.bodies(db, f"{recorded.BOOT}-3")
    assert len(kept.request_body) == 500 and kept.trouble is not None


def test_facets_and_sizes(path: Path) -> None:
    with Connection(path) as db:
        assert queries.facets(db) == {
            "model_used": ["claude-opus-5-5", "gpt-5.5-2026"],
            "client": ["claude-code", "codex", "opencode"],
            "provider": ["anthropic", "openai"],
            "project": [],
        }
        assert queries.sizes(db) == {"sessions": 3, "exchanges": 6, "schema_version": schema.VERSION}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30m", "2026-11-23 11:30:00"),
        ("2h", "2026-11-23 10:00:00"),
        ("7d", "2026-11-16 12:00:00"),
        ("1w", "2026-11-16 12:00:00"),
        ("2026-11-01T10:00+00:00", "2026-11-01 10:00:00"),
        ("999999w", "1970-01-01 00:00:00"),
    ],
)
def test_since(text: str, moment: str) -> None:
    assert filters.since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "soon", "7", "-7d", "2026-13-01", "0001-01-01T00:00+23:00", "9" * 400 + "d"])
def test_since_refuses_the_rest_in_words(text: str) -> None:
    with pytest.raises(BadQuestion, match="7d"):
        filters.since(text, NOW)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.text(max_size=40), mark=st.text(max_size=40))
def test_no_words_break_the_search(path: Path, words: str, mark: str) -> None:
    with Connection(path) as db:
        queries.list_sessions(db, SessionFilter(words=words, model=words, client=words, provider=words))
        if mark:
            with pytest.raises(BadQuestion):
                queries.list_sessions(db, SessionFilter(), mark=mark)


# --- the connection --------------------------------------------------------------------------------------------------
def test_no_database_yet_is_said_in_words(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    for missing in (tmp_path / "none.db", empty, tmp_path):
        with pytest.raises(NoRecord, match="Nothing has been recorded yet"):
            Connection(missing)
    bare = tmp_path / "bare.db"
    with sqlite3.connect(bare) as raw:
        raw.execute("PRAGMA user_version = 1")
    raw.close()
    with Connection(bare) as db, pytest.raises(NoRecord, match="no sessions"):
        queries.list_sessions(db, SessionFilter())


def test_a_file_that_is_no_database_is_said_in_words(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_bytes(b"not a database at all " * 100)
    with pytest.raises(QueryError, match="damaged or is not"), Connection(path) as db:
        queries.sizes(db)


def test_a_database_of_another_version_is_said_in_words(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("ALTER TABLE sessions RENAME COLUMN title TO headline")
    raw.close()
    with Connection(path) as db, pytest.raises(QueryError, match="another version"):
        queries.list_sessions(db, SessionFilter())


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM sessions",
        "UPDATE sessions SET title = 'x'",
        "CREATE TEMP TABLE t (x)",
        "ATTACH DATABASE ':memory:' AS other",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA query_only = 0",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "VACUUM",
        "BEGIN IMMEDIATE",
    ],
)
def test_nothing_but_reading_is_possible(path: Path, statement: str) -> None:
    with Connection(path) as db, pytest.raises(QueryError):
        db.rows(statement)


def test_a_slow_statement_is_stopped(path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    with Connection(path, limit_s=0.05) as db:
        with pytest.raises(TooSlow, match="Narrow the search"):
            db.rows(endless)
        assert len(ids(db)) == 3  # and the connection is of use afterwards


def test_closing_leaves_the_write_ahead_log_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with recorded.store_at(path) as store:
        store.write(recorded.tool_loop())
        wal = path.with_name("sessions.db-wal")
        before = (wal.stat().st_size, path.stat().st_size)
        with Connection(path) as db:
            assert len(ids(db)) == 1
        assert (wal.stat().st_size, path.stat().st_size) == before and before[0] > 0


def test_the_log_of_a_dead_writer_is_read_and_left_in_place(tmp_path: Path) -> None:
    path, copy = tmp_path / "sessions.db", tmp_path / "copy.db"
    with recorded.store_at(path) as store:
        store.write(recorded.tool_loop())
        for end in ("", "-wal"):  # as after kill -9: nobody has the files open
            copy.with_name(f"copy.db{end}").write_bytes(path.with_name(f"sessions.db{end}").read_bytes())
    wal = copy.with_name("copy.db-wal")
    size = wal.stat().st_size
    with Connection(copy) as db:
        assert len(ids(db)) == 1
    assert wal.stat().st_size == size > 0


def test_a_new_row_is_seen_by_an_open_connection(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with recorded.store_at(path) as store, Connection(path) as db:
        assert ids(db) == []
        store.write([recorded.exchange(1, "one")])
        assert ids(db) == ["one"]
        later = recorded.START + timedelta(hours=1)
        store.write([recorded.exchange(2, "two", at=later)])
        assert ids(db) == ["two", "one"]


def test_text_that_is_no_utf8_is_shown_with_replacements(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE sessions SET title = CAST(x'61ff62' AS TEXT) WHERE session_id = 'alpha'")
    raw.close()
    with Connection(path) as db:
        assert queries.session(db, "alpha").title == "a\ufffdb"
