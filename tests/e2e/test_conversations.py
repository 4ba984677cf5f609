"""Conversations that go on: real clients over several runs, seen as one session (R5); and many requests at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.answers import FINAL, Assistant
from tests.conftest import Serve
from tests.e2e import programs
from tests.e2e.loop import nothing
from tests.e2e.same import both_sides
from tests.fakes import Tap, Upstream

pytestmark = pytest.mark.slow


def test_a_resumed_conversation_of_claude_code_is_one_session(tmp_path: Path, serve: Serve) -> None:
    home = programs.fresh_home(tmp_path / "client")
    assistant = Assistant()
    with Upstream(assistant) as upstream:
        luna = serve(upstream)
        first = programs.claude(home, luna.url)
        again = programs.claude(home, luna.url, arguments=["-c", *programs.CLAUDE_ARGUMENTS])
        other = programs.claude(home, luna.url)
        assert luna.stop() == 0
    assert [r.code for r in (first, again, other)] == [0, 0, 0]
    assert again.lines()[0]["session_id"] == first.lines()[0]["session_id"]
    one, two = luna.sessions()
    assert (one["session_id"], two["session_id"]) == (first.lines()[0]["session_id"], other.lines()[0]["session_id"])
    assert (one["requests"], two["requests"]) == (3, 2)
    assert one["output_tokens"] == sum(t.usage["output_tokens"] for t in assistant.told[:3])
    assert [r["sequence"] for r in luna.exchanges()] == [1, 2, 3, 1, 2]


def test_a_resumed_conversation_of_codex_is_one_session(tmp_path: Path, serve: Serve) -> None:
    home = programs.fresh_home(tmp_path / "client")
    with Upstream(Assistant()) as upstream:
        luna = serve(upstream)
        first = programs.codex(home, luna.url)
        again = programs.run(
            home,
            [programs.program("codex"), "exec", "resume", "--last", "--skip-git-repo-check", "--json", "go on"],
            {"CODEX_API_KEY": programs.KEYS["codex"]},
        )
        assert luna.stop() == 0
    assert (first.code, again.code) == (0, 0), again
    assert FINAL in again.out
    (session,) = {r["session_id"] for r in luna.exchanges()}
    assert session == first.lines()[0]["thread_id"]
    kinds = [r["kind"] for r in luna.exchanges() if r["response_id"]]
    assert kinds == ["prewarm", "turn", "turn", "prewarm", "turn"]


def test_a_burst_of_parallel_requests_arrives_whole(tmp_path: Path, serve: Serve) -> None:
    """/context counts the tokens of each part at once, over as many connections as it likes."""
    home = programs.fresh_home(tmp_path / "client")
    with Upstream(Assistant()) as upstream:
        luna = serve(upstream)
        with Tap(luna.port) as tap:
            ran = programs.claude(home, tap.url, arguments=["-p", "/context", "--output-format", "json"])
            client = both_sides(tap, upstream, str, nothing)
        assert luna.stop() == 0
    assert ran.code == 0, ran
    assert len(client) > 10
    assert len(tap.connections) > 1
    rows = luna.exchanges()
    assert len(rows) == len(client)
    assert {(r["kind"], r["state"], r["input_tokens"]) for r in rows} == {("count", "ok", None)}
    assert len({r["session_id"] for r in rows}) == 1
