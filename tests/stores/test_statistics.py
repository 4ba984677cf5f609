"""Sums by session, model, day, tool: of the store's own rows, unknowns counted and never taken for zero."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lunaroute.records import State, Timings, ToolCall, ToolResult, Usage
from lunaroute.stores import statistics
from lunaroute.stores.readonly import BadQuestion, Connection
from tests import recorded

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "FAR-15")  # 15 hours ahead: 09:30 UTC is the day after at 00:30
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """`one`: two turns with tools and a failed one; `two`: OpenAI, a day later, of unknown cost, and a handshake."""
    ns = int(recorded.START.timestamp() * 1e9)
    calls = [ToolCall(id="a", name="Bash", called_ns=ns), ToolCall(id="b", name="Read", called_ns=ns)]
    results = [ToolResult(id="a", success=False, seen_ns=ns + 850_000_000, result_bytes=7),
               ToolResult(id="b", success=True, seen_ns=ns + 45_000_000)]  # fmt: skip
    turn = {"at": recorded.START, "overhead_ms": 5.0, "timings": Timings(done=2000.0), "cost_kind": "api"}
    used = Usage(input_tokens=100, output_tokens=50, thinking_tokens=20, cache_read_tokens=1000, cache_write_tokens=10)
    later = recorded.START + 24 * HOUR
    made = [
        recorded.exchange(1, "one", **turn, usage=used, cost_usd=0.1, tool_calls=calls, project="/p"),
        recorded.exchange(2, "one", **turn, usage=used, cost_usd=0.04, tool_results=results, kind="title"),
        recorded.exchange(
            3, "one", at=recorded.START + HOUR, state=State.UPSTREAM_ERROR, usage=Usage(), timings=Timings(done=500.0),
            overhead_ms=1.0,
        ),
        recorded.exchange(
            4, "two", at=later, dialect="responses", provider="openai", client="codex", model_used="gpt-5.5",
            usage=used, timings=Timings(done=1000.0), overhead_ms=None,
        ),
        recorded.exchange(5, "two", at=later, kind="handshake", status=101, usage=Usage(), timings=Timings(done=9e6),
                          client="codex", provider="openai", model_used=None, model_requested=None),
        recorded.exchange(6, "two", at=later, state=None, usage=Usage(), timings=Timings(), provider="openai",
                          client="codex", model_requested="gpt-5.5", model_used=None, overhead_ms=None),
    ]  # fmt: skip
    return recorded.write(tmp_path / "sessions.db", made)


def test_the_summary(path: Path) -> None:
    with Connection(path) as db:
        found = statistics.summary(db)
    assert [each.session_id for each in found.sessions] == ["two", "one"] and found.session_count == 2
    one = found.sessions[1].figures
    assert (one.requests, one.turns, one.errors) == (3, 2, 1)
    assert (one.input_tokens, one.output_tokens, one.thinking_tokens) == (200, 100, 40)
    assert one.total_tokens == 200 + 100 + 2 * 1010  # Anthropic's input is without what a cache gave or took
    assert (one.usage_unknown, one.cost_unknown, one.cost_kind) == (1, 1, "api")
    assert one.cost_usd == pytest.approx(0.14)
    assert (one.average_ms, one.overhead_ms) == (1500.0, 11.0)
    assert one.overhead_share == pytest.approx(11 / 4500) and one.provider_ms == pytest.approx(4489 / 3)
    two = found.sessions[0].figures
    assert (two.requests, two.total_tokens, two.cost_usd, two.cost_unknown) == (2, 150, None, 1)
    assert (two.average_ms, two.overhead_ms, two.provider_ms) == (1000.0, None, None)  # unknown is not nothing
    tools = {tool.name: tool for tool in found.sessions[1].tools}
    assert (tools["Bash"].calls, tools["Bash"].failures, tools["Bash"].average_ms) == (1, 1, 850.0)
    assert (tools["Read"].failures, tools["Read"].average_ms) == (0, 45.0)
    assert found.sessions[0].tools == [] and [tool.name for tool in found.tools] == ["Bash", "Read"]


def test_what_the_store_keeps_summed_is_what_the_exchanges_come_to(path: Path) -> None:
    with Connection(path) as db:
        for since, until in ((None, "2020-01-06 12:00:00"), ("2020-01-07 00:00:00", None)):
            found = statistics.summary(db, since, until)
            assert len(found.sessions) == found.session_count == 1
            assert found.total == found.sessions[0].figures  # the one is the store's own sum, the other of exchanges
        within = statistics.summary(db, "2020-01-06 10:00:00").total  # the end of one session, and one whole
        assert (within.requests, within.errors, within.overhead_ms, within.total_tokens) == (3, 1, 1.0, 150)
        assert statistics.summary(db, "2000-01-01").total == statistics.summary(db).total


@pytest.mark.parametrize(
    ("since", "until", "sessions", "requests", "tools"),
    [
        ("2020-01-06 10:00:00", None, ["two", "one"], 3, []),
        ("2020-01-07 00:00:00", None, ["two"], 2, []),
        (None, "2020-01-06 10:00:00", ["one"], 2, ["Bash", "Read"]),
        ("2020-01-06 10:00:00", "2020-01-06 11:00:00", ["one"], 1, []),
        ("2030-01-01 00:00:00", None, [], 0, []),
    ],
)
def test_a_range_counts_the_exchanges_that_began_in_it(
    path: Path, since: str | None, until: str | None, sessions: list[str], requests: int, tools: list[str]
) -> None:
    with Connection(path) as db:
        found = statistics.summary(db, since, until)
    assert [each.session_id for each in found.sessions] == sessions and found.session_count == len(sessions)
    assert found.total.requests == requests and [tool.name for tool in found.tools] == tools


@pytest.mark.parametrize(
    ("by", "lines"),
    [
        ("model", [("claude-opus-5-5", 1, 3), ("gpt-5.5", 1, 2)]),
        ("client", [("claude-code", 1, 3), ("codex", 1, 2)]),
        ("provider", [("anthropic", 1, 3), ("openai", 1, 2)]),
        ("project", [("/p", 1, 3), (None, 1, 2)]),
        ("session", [("one", 1, 3), ("two", 1, 2)]),
        ("day", [("2020-01-08", 1, 2), ("2020-01-07", 1, 3)]),
    ],
)
def test_breakdowns(path: Path, by: str, lines: list[tuple[str | None, int, int]]) -> None:
    with Connection(path) as db:
        found = statistics.breakdown(db, by)
        assert [(each.value, each.sessions, each.requests) for each in found.groups] == lines
        assert sum(each.cost_usd or 0 for each in found.groups) == pytest.approx(0.14)
        assert sum(each.cost_unknown for each in found.groups) == 2
        cut = statistics.breakdown(db, by, limit=1)
        assert (len(cut.groups), cut.left_out) == (1, len(lines) - 1 if by != "day" else cut.left_out)


def test_by_tool_and_by_nonsense(path: Path) -> None:
    with Connection(path) as db:
        found = statistics.breakdown(db, "tool", limit=1)
        assert [tool.name for tool in found.tools] == ["Bash"] and found.left_out == 1
        with pytest.raises(BadQuestion, match="by model, client"):
            statistics.breakdown(db, "model; DROP TABLE sessions")
        with pytest.raises(BadQuestion, match="range"):
            statistics.summary(db, "x")


def test_nothing_recorded(tmp_path: Path) -> None:
    path = recorded.write(tmp_path / "db", [])
    with Connection(path) as db:
        assert statistics.summary(db).session_count == 0 and statistics.summary(db).total == statistics.Figures()
        assert all(statistics.breakdown(db, by).groups == [] for by in statistics.BY)
