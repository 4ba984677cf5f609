"""Sums per hour: whatever is written, priced anew, deleted or rolled, charts say what the rows say."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lunaroute.records import Closed, Exchange, Opened, Split, State, Timings, ToolCall, ToolResult, Usage
from lunaroute.stores import charts, hourly, upkeep
from lunaroute.stores.charts import Names, Stretch, Sums, Wanted
from lunaroute.stores.hourly import EDGES, HOUR_NS, SUMS, TIMES
from lunaroute.stores.readonly import Connection
from lunaroute.stores.sqlite import SqliteStore
from tests import recorded

CORPUS = Path(recorded.__file__).parent / "corpus" / "databases"
FIRST_NS = 1_700_000_000_000_000_000
HOUR = FIRST_NS // HOUR_NS
ALL = Stretch(tuple((HOUR + n) * HOUR_NS for n in range(-1, 40)))
LATER_S = FIRST_NS / 1e9 + 40 * 3600
NAMES = Names("claude-opus-5-5", "claude-code", "anthropic")


def told(path: Path, stretch: Stretch = ALL, wanted: Wanted | None = None) -> dict[str, Any]:
    """Everything that charts are drawn from."""
    with Connection(path) as db, db.snapshot():
        found = charts.charted(db, stretch, wanted)
        return _rounded(
            {
                "columns": msgspec.to_builtins(found.columns),
                "series": {tuple(msgspec.to_builtins(n).values()): msgspec.to_builtins(s) for n, s in found.series},
                "times": {kind: dict(+counts) for kind, counts in found.times.items()},
                "firsts": [dict(+counts) for counts in found.firsts],
                "tools": [msgspec.to_builtins(each) for each in charts.tools(db, stretch)],
            }
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def agrees(store: SqliteStore) -> dict[str, Any]:
    """What is told, after a look whether a copy in which nothing is rolled tells the same."""
    plain = store.path.with_suffix(".plain")
    plain.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as db:
        db.execute("VACUUM INTO ?", (str(plain),))
    with contextlib.closing(sqlite3.connect(plain, isolation_level=None)) as db:
        db.execute("UPDATE rolled SET until = 0")
        for table in ("stale", "hours", "tallies", "tool_hours", "tool_tallies"):
            db.execute(f"DELETE FROM {table}")
    found = told(store.path)
    assert found == told(plain)
    return found


def roll(store: SqliteStore, until_s: float = LATER_S) -> None:
    for _ in store.tend_steps(until_s, upkeep.Keep()):
        pass


def table(store: SqliteStore, name: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(store.path)) as db:
        return db.execute(f"SELECT * FROM {name}").fetchall()


def total(found: dict[str, Any]) -> dict[str, Any]:
    return {name: sum(column[name] for column in found["columns"]) for name in SUMS}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with recorded.store_at(tmp_path / "s.db") as made:
        yield made


def exchange(number: int, session: str = "one", **fields: Any) -> Exchange:
    """One with every figure; there are 3.6 of them in an hour."""
    ns = FIRST_NS + number * 1_000_000_000_000
    given: dict[str, Any] = {
        "started_ns": ns, "cost_usd": 0.25, "cost_kind": "api", "sequence": number + 1,
        "split": Split(generation_ms=800.0),
        "tool_calls": [ToolCall(id=f"t{number}", name="Bash", arguments="{}", called_ns=ns)],
        "tool_results": [
            ToolResult(id=f"t{number - 1}", text="x", result_bytes=1, success=number % 2 == 0, seen_ns=ns)
        ],
        **fields,
    }  # fmt: skip
    return recorded.exchange(number, session, **given)


@pytest.mark.parametrize("rolled", [False, True], ids=["from the rows", "rolled"])
def test_the_sums_of_an_exchange(store: SqliteStore, rolled: bool) -> None:
    store.write([recorded.opened(1), exchange(1, state=None, tool_calls=[], tool_results=[])])
    assert total(agrees(store))["requests"] == 0
    store.write([exchange(1)])
    store.write([exchange(1)])  # given again
    if rolled:
        roll(store)
    assert bool(table(store, "hours")) is rolled
    found = agrees(store)
    assert total(found) == {
        **msgspec.to_builtins(Sums()), "requests": 1, "ok": 1, "fresh_tokens": 900, "cache_read_tokens": 11_000,
        "cache_write_tokens": 400, "output_tokens": 120, "cost_usd": 0.25, "tool_calls": 1, "duration_ms": 2345.0,
        "firsts": 1, "first_ms": 640.0, "spoken_tokens": 120, "spoken_ms": 800.0,
    }  # fmt: skip
    assert list(found["series"]) == [("claude-opus-5-5", "claude-code", "anthropic")]
    assert {kind: sum(counts.values()) for kind, counts in found["times"].items()} == dict.fromkeys(TIMES, 1)
    assert [tool["name"] for tool in found["tools"]] == ["Bash"]


def test_openai_counts_what_was_cached_as_input_and_here_it_is_apart(store: SqliteStore) -> None:
    usage = Usage(input_tokens=1000, cache_read_tokens=800, output_tokens=10)
    store.write([exchange(1, dialect="responses", usage=usage)])
    sums = total(agrees(store))
    assert (sums["fresh_tokens"], sums["cache_read_tokens"]) == (200, 800)


def test_what_is_no_request_or_has_no_session_is_in_no_sum(store: SqliteStore) -> None:
    store.write([exchange(1, kind="handshake"), recorded.opened(2)])
    store.write([Closed(id=f"{recorded.BOOT}-2", session_id=None, state=State.INTERRUPTED, error="x")])
    roll(store)
    assert total(agrees(store))["requests"] == 0


def test_only_hours_that_are_over_are_rolled(store: SqliteStore) -> None:
    store.write([exchange(1), exchange(30)])
    roll(store, (HOUR + 1) * 3600 - 1)
    assert table(store, "hours") == []
    roll(store, (HOUR + 1) * 3600)
    assert [row[:2] for row in table(store, "hours")] == [(hourly.ALL, HOUR), (1, HOUR)]
    assert total(agrees(store))["requests"] == 2


def test_what_ends_late_is_summed_anew(store: SqliteStore) -> None:
    store.write([exchange(1), exchange(2, state=None, tool_calls=[], tool_results=[])])
    roll(store)
    store.write([exchange(2, tool_results=[])])
    assert table(store, "stale") == [(HOUR,)] and total(agrees(store))["requests"] == 2
    roll(store)
    assert table(store, "stale") == [] and total(agrees(store))["requests"] == 2
    store.write([exchange(30, tool_calls=[])])  # brings no result of a tool of that hour
    assert table(store, "stale") == []
    late = [ToolResult(id="t1", text="x", result_bytes=1, success=False, seen_ns=FIRST_NS + 9 * HOUR_NS)]
    store.write([exchange(31, tool_calls=[], tool_results=late)])
    assert table(store, "stale") == [(HOUR,)]
    (bash,) = agrees(store)["tools"]
    assert (bash["calls"], bash["told"], bash["failures"]) == (2, 1, 1)


def test_new_prices_are_in_the_sums(store: SqliteStore) -> None:
    store.write([exchange(1), exchange(2, cost_usd=None, cost_kind="api_equivalent")])
    roll(store)
    list(store.reprice(lambda row: (None if row["cost_usd"] else 4.0, "new")))
    assert table(store, "stale") == []
    sums = total(agrees(store))
    assert (sums["cost_usd"], sums["equivalent_usd"], sums["cost_unknown"]) == (4.0, 4.0, 1)


def test_what_is_deleted_leaves_no_sum_and_no_name(store: SqliteStore) -> None:
    calls = [ToolCall(id="s", name="secret-tool", arguments="{}", called_ns=FIRST_NS)]
    store.write([exchange(n, "gone", model_used=f"secret-{n % 2}", tool_calls=calls) for n in range(1, 9)])
    store.write([exchange(10, "stays")])
    roll(store)
    list(store.delete(["gone"], lambda session: None))
    for name in ("series", "tool_hours", "tool_tallies"):
        assert "secret" not in str(table(store, name))
    assert total(agrees(store))["requests"] == 1
    list(store.delete(["stays"], lambda session: None))
    assert total(agrees(store))["requests"] == 0 and table(store, "series") == []


def test_filters(store: SqliteStore) -> None:
    store.write([exchange(1), exchange(2, client="codex"), exchange(3, client="codex", model_used="gpt-5.5")])
    for _ in range(2):
        for wanted, count in (
            (Wanted(client="codex"), 2), (Wanted(model="gpt-5.5"), 1), (Wanted(client="codex", model="gpt-5.5"), 1),
            (Wanted(client="none"), 0), (Wanted(provider="anthropic"), 3), (None, 3),
        ):  # fmt: skip
            found = told(store.path, wanted=wanted)
            assert total(found)["requests"] == count, wanted
            assert sum(found["times"]["first"].values()) == count, wanted
        roll(store)


def test_minutes_come_from_the_rows(store: SqliteStore) -> None:
    store.write([exchange(n) for n in range(6)])
    roll(store)
    minute = FIRST_NS // charts.MINUTE_NS * charts.MINUTE_NS
    found = told(store.path, Stretch(tuple(minute + n * 600_000_000_000 for n in range(7)), by_minute=True))
    assert [column["requests"] for column in found["columns"]] == [1, 1, 0, 1, 0, 1]


STATES = st.sampled_from([*State, None])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 12), st.sampled_from(["a", "b"]), STATES, st.booleans()),
        st.tuples(st.just("delete"), st.just(0), st.sampled_from(["a", "b"]), st.none(), st.booleans()),
        st.tuples(st.just("price"), st.integers(0, 3), st.just(""), st.none(), st.booleans()),
        st.tuples(st.just("close"), st.integers(1, 12), st.just(""), st.just(State.INTERRUPTED), st.booleans()),
        st.tuples(st.just("retain"), st.integers(1, 12), st.just(""), st.none(), st.booleans()),
        st.tuples(st.just("roll"), st.integers(1, 12), st.just(""), st.none(), st.booleans()),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_happens_the_sums_are_those_of_the_rows(tmp_path_factory: Any, steps: list[Any]) -> None:
    path = tmp_path_factory.mktemp("sums") / "s.db"
    with recorded.store_at(path) as store:
        for what, number, session, state, flag in steps:
            if what == "write":
                times = Timings(done=float(number) ** 4, first_content=None if flag else number * 7.0)
                usage = Usage(input_tokens=number, output_tokens=5) if flag else Usage()
                store.write([
                    Opened(id=f"{recorded.BOOT}-{number}", session_id=None, started_at="2023-11-14 22:13:20.000",
                           started_ns=1, method="POST", target="/"),
                    exchange(number, session, state=state, timings=times, usage=usage, model_used=f"m{number % 3}",
                             overhead_ms=None if flag else 0.001 * number, cost_usd=0.5 if flag else None,
                             status=529 if flag else 200, dialect="responses" if flag else "anthropic"),
                ])  # fmt: skip
            elif what == "delete":
                list(store.delete([session], lambda session: None))
            elif what == "price":
                list(store.reprice(lambda row, price=number: (price or None, "p")))
            elif what == "close":
                store.write([Closed(id=f"{recorded.BOOT}-{number}", session_id=None, state=state, error="x")])
            elif what == "roll":
                roll(store, FIRST_NS / 1e9 + 1000 * number + 7200)
            else:
                now = FIRST_NS / 1e9 + 1000 * number
                list(store.tend_steps(now, upkeep.Keep(max_age_days=0.0001)))
        agrees(store)


def test_an_old_database_has_its_sums(tmp_path: Path) -> None:
    shutil.copy(CORPUS / "schema-2.db", tmp_path / "s.db")
    edges = [1_578_299_400_000_000_000 // HOUR_NS + n for n in range(4)]
    with recorded.store_at(tmp_path / "s.db") as store:
        plain = told(store.path, Stretch(tuple(edge * HOUR_NS for edge in edges)))
        roll(store, 1_600_000_000)
        assert told(store.path, Stretch(tuple(edge * HOUR_NS for edge in edges))) == plain
    assert total(plain)["requests"] == 5 and len(plain["tools"]) == 1


@pytest.mark.parametrize("value", [0.0, 0.005, 0.01, 0.0101, 1.0, 99.9, 1500.0, 86_400_000.0])
def test_a_time_is_in_the_bucket_between_its_edges(value: float) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        place = db.execute(f"SELECT {hourly.bucket('v')} FROM (SELECT ? AS v)", (value,)).fetchone()[0]
    assert place == len(EDGES) or value < EDGES[place]
    assert place == 0 or value >= EDGES[place - 1] * 0.99999


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 1.0])
def test_percentiles_are_right_within_a_fifth(store: SqliteStore, share: float) -> None:
    values = [1.5 * 1.07**n for n in range(120)]
    times = [Timings(done=1.0, first_content=value) for value in values]
    store.write(
        [
            exchange(1000 + n, tool_calls=[], tool_results=[], started_ns=FIRST_NS, timings=each)
            for n, each in enumerate(times)
        ]
    )
    with Connection(store.path) as db:
        found = charts.quantile(charts.charted(db, ALL).times["first"], share)
    assert found is not None and 0.8 < found / values[max(0, round(share * 120) - 1)] < 1.2
    assert charts.quantile(charts.Counter(), share) is None
