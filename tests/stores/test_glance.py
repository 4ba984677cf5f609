"""Limits with what they project, errors by kind, what runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lunaroute.records import Limit, State, Usage
from lunaroute.stores import glance
from lunaroute.stores.hourly import HOUR_NS
from lunaroute.stores.readonly import Connection
from tests import recorded

NOW = 1_578_303_000_000_000_000  # 2020-01-06 09:30


def limits(tmp_path: Path, *given: Limit, now: int = NOW, seen: int = NOW) -> list[glance.Limit]:
    made = recorded.exchange(1, started_ns=seen, limits=list(given), credential="abc")
    with Connection(recorded.write(tmp_path / "db", [made])) as db:
        return glance.limits(db, now)


def window(used: float, resets: float) -> Limit:
    """Of five hours; resets: hours from now."""
    return Limit(name="5h", used=used, resets_ns=NOW + int(resets * HOUR_NS), window_minutes=300.0)


@pytest.mark.parametrize(
    ("used", "resets", "full"),
    [(0.8, 2.0, 0.75), (0.5, 4.0, 1.0), (0.4, 2.0, None), (0.0, 2.0, None), (1.0, 2.0, None)],
)
def test_when_a_window_will_be_used_up(tmp_path: Path, used: float, resets: float, full: float | None) -> None:
    (found,) = limits(tmp_path, window(used, resets))
    hours = None if found.full_ns is None else (found.full_ns - NOW) / HOUR_NS
    assert hours == (None if full is None else pytest.approx(full))


def test_a_window_that_has_begun_anew_is_empty(tmp_path: Path) -> None:
    (found,) = limits(tmp_path, window(0.9, -0.1))
    assert found.used == 0.0 and found.full_ns is None


def test_what_remains_says_what_is_used(tmp_path: Path) -> None:
    (found,) = limits(tmp_path, Limit(name="tokens", limit=200.0, remaining=50.0))
    assert found.used == 0.75 and found.credential == "abc"


def test_old_news_is_none(tmp_path: Path) -> None:
    assert limits(tmp_path, window(0.5, 1), now=NOW + 31 * 24 * HOUR_NS) == []


def test_errors_by_kind_and_what_runs(tmp_path: Path) -> None:
    bad = {"state": State.UPSTREAM_ERROR, "status": 529, "error_kind": "overloaded_error"}
    made = [
        *(recorded.exchange(n, **bad) for n in (1, 2)),
        recorded.exchange(3, state=State.TIMEOUT, status=None),
        recorded.exchange(4, state=State.CLIENT_CANCELLED),
        recorded.exchange(5, state=State.UPSTREAM_ERROR, kind="handshake", status=426),
        recorded.exchange(6, "s6", state=None, usage=Usage()),
        recorded.exchange(7),
    ]
    with Connection(recorded.write(tmp_path / "db", made)) as db:
        found = glance.errors(db, 0, 1 << 62)
        assert [(each.state, each.kind, each.status, each.count) for each in found] == [
            ("upstream_error", "overloaded_error", 529, 2), ("timeout", None, None, 1),
        ]  # fmt: skip
        assert glance.errors(db, 0, 1) == []
        assert [row.id for row in glance.running(db)] == glance.running_of(db, "s6") == [f"{recorded.BOOT}-6"]
        assert (
            glance.session_count(db, "2020-01-01", None, 10) == 2 and glance.session_count(db, "2020", "2020", 10) == 0
        )
        assert glance.attempts(db)[0]["attempts"] == 6
