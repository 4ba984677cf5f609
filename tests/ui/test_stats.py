"""/api/stats: the summary and its breakdowns as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import recorded
from tests.ui.conftest import Serve


def test_the_summary_and_breakdowns(serve: Serve, tmp_path: Path) -> None:
    site = serve(recorded.write(tmp_path / "db", recorded.tool_loop()))
    told = site.ask("/api/stats").json
    assert told["session_count"] == 1 and told["sessions"][0]["figures"]["input_tokens"] == 2700
    assert site.ask("/api/stats?since=1h").json["session_count"] == 0
    assert site.ask("/api/stats?until=1h&limit=0").json["total"]["requests"] == 3
    assert site.ask("/api/stats?by=model").json["groups"][0]["value"] == "claude-opus-5-5"
    assert "/api/stats" in site.ask("/api").json["paths"]


@pytest.mark.parametrize("query", ["by=x", "since=soon", "limit=-1", "limit=x", "until=%00"])
def test_what_cannot_be_asked(serve: Serve, tmp_path: Path, query: str) -> None:
    site = serve(recorded.write(tmp_path / "db", recorded.tool_loop()))
    answer = site.ask(f"/api/stats?{query}")
    assert answer.status == 400 and answer.json["error"]
