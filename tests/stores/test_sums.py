"""One rule for what counts: the writer's sums, those made anew, and what statistics say of the same exchanges agree."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lunaroute.records import PAID, Exchange, State, Timings, Usage
from lunaroute.stores import statistics, upkeep
from lunaroute.stores.readonly import Connection
from lunaroute.stores.removal import Removal
from lunaroute.stores.sums import resum
from tests import recorded

TOLD = {
    "complete": (Usage(input_tokens=10, output_tokens=5), 0.25),
    "without a price": (Usage(input_tokens=10, output_tokens=5), None),
    "cut": (Usage(input_tokens=10, output_tokens=1, partial=True), 0.125),
    "one side": (Usage(output_tokens=5), 0.0625),
    "not told": (Usage(), None),
}
STATUSES = [(200, State.OK), (None, State.CLIENT_CANCELLED), (429, State.UPSTREAM_ERROR), (502, State.UPSTREAM_ERROR)]
KINDS = ["turn", "compaction", "title", "count", "handshake"]


def exchanges(session: str = "one") -> list[Exchange]:
    """Every kind with every end and every usage."""
    return [
        recorded.exchange(
            number, session, at=recorded.START + timedelta(seconds=number), kind=kind, status=status, state=state,
            usage=usage if kind in PAID else Usage(), cost_usd=cost if kind in PAID else None, cost_kind="api",
            timings=Timings(done=100.0), overhead_ms=1.0,
        )
        for number, (kind, (status, state), (usage, cost)) in enumerate(product(KINDS, STATUSES, TOLD.values()), 1)
    ]  # fmt: skip


@contextlib.contextmanager
def opened(path: Path) -> Any:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = sqlite3.Row
    with contextlib.closing(connection):
        yield connection


def session_of(path: Path) -> dict[str, Any]:
    with opened(path) as db:
        return dict(db.execute("SELECT * FROM sessions").fetchone())


def views(path: Path) -> list[dict[str, Any]]:
    """The same figures as the session's row, the summary with and without a range, its lines and a breakdown have."""
    names = ("requests", "errors", "input_tokens", "output_tokens", "usage_unknown", "cost_usd", "cost_unknown")
    names = (*names, "duration_ms", "turns")
    row = session_of(path)
    with Connection(path) as db:
        whole, ranged = statistics.summary(db), statistics.summary(db, "2000-01-01", "2031-01-01")
        halves = statistics.summary(db, str(recorded.START + timedelta(seconds=1))[:19]).total  # sums rows
        (group,) = statistics.breakdown(db, "model").groups
    found = [whole.total, ranged.total, halves, whole.sessions[0].figures, group]
    return [{name: row[name] for name in names}] + [
        {name: getattr(each, name, row[name]) for name in names} for each in found
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return recorded.write(tmp_path / "sessions.db", exchanges())


def test_all_views_tell_the_same(path: Path) -> None:
    first, *others = views(path)
    for each in others:
        assert each == pytest.approx(first)
    billed = 3 * 2  # turn, compaction and title; answered or given up, but not refused
    assert (first["usage_unknown"], first["cost_unknown"]) == (3 * billed, 4 * billed)
    assert first["turns"] == len(STATUSES) * len(TOLD)
    assert first["requests"] == 4 * len(STATUSES) * len(TOLD)


def test_made_anew_the_sums_are_the_same(path: Path) -> None:
    before = session_of(path)
    with opened(path) as db:
        resum(db, ["one"])
    assert session_of(path) == before


def test_a_session_that_is_partly_removed_has_the_sums_of_what_is_left(path: Path) -> None:
    whole = session_of(path)
    with opened(path) as db:
        db.execute("BEGIN")
        Removal(db).remove([row[0] for row in db.execute("SELECT row FROM exchanges ORDER BY row LIMIT 7")], 60.0)
        db.execute("COMMIT")
    first, *others = views(path)
    assert first["requests"] == whole["requests"] - 7
    assert first["cost_usd"] < whole["cost_usd"]
    for each in others:
        assert each == pytest.approx(first)


def test_new_prices_make_all_sums_anew(path: Path) -> None:
    """Also where nothing changes: an earlier version may have summed by another rule."""
    before = session_of(path)
    with opened(path) as db:
        db.execute("UPDATE sessions SET requests = 1, cost_unknown = 0, input_tokens = NULL, tool_calls = 7")
        for _ in upkeep.reprice(lambda: contextlib.nullcontext(db), lambda row: (row["cost_usd"], row["price_id"])):
            pass
    assert session_of(path) == before


def test_new_prices_change_the_cost_alone(path: Path) -> None:
    before = session_of(path)
    with opened(path) as db:
        rows: list[Any] = []

        def price(row: dict[str, Any]) -> tuple[float | None, str | None]:
            rows.append(row)
            return (1.0 if row["cost_usd"] is not None else None), "new"

        for _ in upkeep.reprice(lambda: contextlib.nullcontext(db), price):
            pass
    after = session_of(path)
    assert rows and after["cost_usd"] > before["cost_usd"]
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"cost_usd"}
    first, *others = views(path)
    for each in others:
        assert each == pytest.approx(first)
