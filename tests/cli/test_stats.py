"""`lunaroute stats`: every line of the summary, tables, JSON, and what the server prints when it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lunaroute.cli.app import program
from lunaroute.cli.summary import at_shutdown
from lunaroute.records import Timings, ToolCall, ToolResult, Usage
from lunaroute.stores.statistics import BY
from lunaroute.ui import format
from tests import recorded
from tests.cli.test_sessions import ACTING, hostile_database


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The session of the promise: 5 requests, 2,450 in, 5,830 out, 12 + 8 + 3 tool calls, $0.14."""
    made = []
    calls = [("Read", 45)] * 12 + [("Write", 120)] * 8 + [("Bash", 850)] * 3
    for number in range(1, 6):
        one = recorded.exchange(
            number, "550e8400-e29b-41d4-a716-446655440000", timings=Timings(done=2300.0), overhead_ms=2.4,
            usage=Usage(input_tokens=490, output_tokens=1166, thinking_tokens=240), cost_usd=0.028, cost_kind="api",
        )  # fmt: skip
        if number == 1:
            at = one.started_ns
            one.tool_calls = [ToolCall(id=f"c{n}", name=name, called_ns=at) for n, (name, _) in enumerate(calls)]
        if number == 2:
            one.tool_results = [
                ToolResult(id=f"c{n}", success=n != 22, seen_ns=made[0].started_ns + ms * 1_000_000)
                for n, (_, ms) in enumerate(calls)
            ]
        made.append(one)
    return recorded.write(tmp_path / "sessions.db", made)


def run(database: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(program, ["stats", *words, "--db", str(database)])
    assert result.exit_code == code, result.output
    return result


SUMMARY = """\
📊 Session Statistics Summary


Session: 550e8400-e29b-41d4-a716-446655440000
  Claude Code · claude-opus-5-5
  Requests:        5
  Input tokens:    2,450
  Output tokens:   5,830
  Thinking tokens: 1,200 (part of the output)
  Total tokens:    8,280

  Tool usage:
    Read:  12 calls (avg 45 ms)
    Write: 8 calls (avg 120 ms)
    Bash:  3 calls (avg 850 ms, 1 failed)

  Performance:
    Avg response time: 2.3 s
    Proxy overhead:    12 ms total (0.1%)
    Provider latency:  2.3 s (99.9%)

  Cost: $0.14 USD

💰 Estimated cost: $0.14 USD
"""


def test_the_summary(database: Path) -> None:
    assert run(database).stdout == SUMMARY
    assert at_shutdown(database, "2020-01-01 00:00:00") == SUMMARY.rstrip("\n")


def test_at_shutdown_nothing_is_said_of_nothing(database: Path, tmp_path: Path) -> None:
    assert at_shutdown(database, "2030-01-01 00:00:00") is None
    assert at_shutdown(tmp_path / "none.db", "2020-01-01 00:00:00") is None


def test_several_sessions_have_a_total(tmp_path: Path) -> None:
    made = [recorded.exchange(n, f"s{n:02}", cost_usd=0.01 if n < 12 else None, cost_kind="api_equivalent")
            for n in range(1, 13)]  # fmt: skip
    text = run(recorded.write(tmp_path / "db", made)).stdout
    assert text.count("Session: ") == 10 and "All 12 sessions, the newest 10 are above\n  Requests:        12" in text
    assert text.endswith(
        "Estimated cost: at least $0.11 USD, API-equivalent (1 request has no known price, or not of all)\n"
    )
    assert "Cost: unknown (1 request has no known price, or not of all)" in text
    assert run(tmp_path / "db", "--limit", "0").stdout.count("Session: ") == 0


def test_as_json(database: Path) -> None:
    told = json.loads(run(database, "--json").stdout)
    assert told["total"]["input_tokens"] == 2450 and told["sessions"][0]["tools"][0]["name"] == "Read"
    assert json.loads(run(database, "--json", "--since", "1h").stdout)["session_count"] == 0


@pytest.mark.parametrize("by", BY)
def test_breakdowns(database: Path, by: str) -> None:
    head, first, *_ = run(database, "--by", by).stdout.splitlines()
    names = dict(zip(head.split("\t"), first.split("\t"), strict=True))
    if by == "tool":
        assert names == {"tool": "Read", "calls": "12", "failures": "0", "unknown": "0", "average_ms": "45",
                         "longest_ms": "45"}  # fmt: skip
    else:
        assert (names["requests"], names["cost_usd"], names["cost_kind"]) == ("5", "0.14", "api")
    assert json.loads(run(database, "--by", by, "--json").stdout)["by"] == by
    empty = run(database, "--by", by, "--since", "1h")
    assert empty.stdout == "" and "Nothing was recorded" in empty.stderr


def test_wrong_questions_are_explained(database: Path, tmp_path: Path) -> None:
    assert "written as 30m" in run(database, "--since", "soon", code=2).stderr
    assert "provider" in run(database, "--by", "nonsense", code=2).stderr
    assert run(tmp_path / "none.db", code=1).stderr.startswith("lunaroute: Nothing has been recorded yet")


def test_hostile_records_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    path = hostile_database(tmp_path / "db")
    for words in ([], *(["--by", by, "--limit", "500"] for by in BY)):
        assert not ACTING.search(re.sub("\n", "", run(path, *words).stdout)), words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((None,), "unknown"),
        ((None, "api", 3), "unknown"),
        ((0.0,), "$0.00"),
        ((0.14, "api"), "$0.14"),
        ((0.004, "api"), "<$0.01"),
        ((0.004, "api_equivalent"), "<$0.01 API-equivalent"),
        ((1234.567, "api_equivalent", 2), "at least $1,234.57 API-equivalent"),
        ((0.5, "mixed"), "$0.50 partly API-equivalent"),
        ((0.5, "api_equivalent", 1, True), "≥~$0.50"),
        ((0.5, "api", 0, True), "$0.50"),
    ],
)
def test_a_cost_in_words(given: tuple[float | None, str], words: str) -> None:
    assert format.cost(*given) == words
