"""Reading the record over 100,000 exchanges: searches answer under 200 ms, lists and statistics under 100 ms.

The database is made once by the real store (half a minute) and kept in the system's folder for temporary files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import recorded_sessions
from benchmarks.recorded_sessions import RARE, RARE_PROJECT
from lunaroute.stores import queries, schema, search, statistics
from lunaroute.stores.readonly import Connection
from lunaroute.stores.rows import SessionFilter

SEARCH_S, LIST_S = 0.2, 0.1
ROUNDS = 5
SEARCHES: dict[str, tuple[str, SessionFilter]] = {
    "in nearly every exchange": ("please", SessionFilter()),
    "three such words": ("please answer make", SessionFilter()),
    "rare": (RARE, SessionFilter()),
    "common and rare": (f"please {RARE}", SessionFilter()),
    "nowhere": ("nowhere", SessionFilter()),
    "common, in one session long ago": ("please", SessionFilter(project=RARE_PROJECT)),
    "common, of one client": ("please", SessionFilter(client="codex")),
    "common, with a rare state": ("please", SessionFilter(state="client_cancelled")),
    "common, with a state that nothing has": ("please", SessionFilter(state="timeout")),
    "common, with a tool": ("please", SessionFilter(tool="Grep")),
    "common, everything since": ("please", SessionFilter(since="2026-01-01 00:00:00")),
    "common, only long ago": ("please", SessionFilter(until="2026-01-02 00:00:00")),
    "the beginning of many words": ("re* con*", SessionFilter()),
    "a phrase": ('"the answer"', SessionFilter()),
    "a phrase that is nowhere": ('"answer the please"', SessionFilter()),
    "what no index has": ("日本", SessionFilter()),
}
LISTS = {
    "newest": SessionFilter(),
    "words": SessionFilter(words="solv"),
    "state ok": SessionFilter(state="ok"),
    "state cancelled": SessionFilter(state="client_cancelled"),
    "tool": SessionFilter(tool="Grep"),
    "project": SessionFilter(project="once"),
    "cost": SessionFilter(min_cost=0.4),
}


@pytest.fixture(scope="module")
def database() -> Path:
    folder = Path(tempfile.gettempdir()) / f"lunaroute-benchmark-{schema.VERSION}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return recorded_sessions.made(folder / "sessions.db")


def measured(benchmark: BenchmarkFixture, database: Path, ask: Callable[[Connection], object], limit_s: float) -> None:
    """The median of fresh connections, as a command or a page makes them."""

    def once() -> object:
        with Connection(database) as db:
            return ask(db)

    once()  # the file is in the system's cache then, as that of a running server is
    benchmark.pedantic(once, rounds=ROUNDS)
    assert benchmark.stats.stats.median < limit_s


@pytest.mark.parametrize("name", SEARCHES)
def test_search(benchmark: BenchmarkFixture, database: Path, name: str) -> None:
    benchmark.group = "search"
    text, wanted = SEARCHES[name]
    measured(benchmark, database, lambda db: search.search(db, text, wanted, limit=20), SEARCH_S)


@pytest.mark.parametrize("name", LISTS)
def test_list(benchmark: BenchmarkFixture, database: Path, name: str) -> None:
    benchmark.group = "list"
    measured(benchmark, database, lambda db: queries.list_sessions(db, LISTS[name], limit=50), LIST_S)


@pytest.mark.parametrize("sort", queries.SORTS)
def test_sorted_list(benchmark: BenchmarkFixture, database: Path, sort: str) -> None:
    benchmark.group = "list"
    measured(benchmark, database, lambda db: queries.list_sessions(db, SessionFilter(), sort=sort), LIST_S)


@pytest.mark.parametrize("since", [None, "2026-07-01 00:00:00", "2026-01-01 00:00:00"])
def test_summary(benchmark: BenchmarkFixture, database: Path, since: str | None) -> None:
    benchmark.group = "statistics"
    measured(benchmark, database, lambda db: statistics.summary(db, since), LIST_S)


@pytest.mark.parametrize("by", statistics.BY)
def test_breakdown(benchmark: BenchmarkFixture, database: Path, by: str) -> None:
    benchmark.group = "statistics"
    measured(benchmark, database, lambda db: statistics.breakdown(db, by), LIST_S)
