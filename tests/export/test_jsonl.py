"""JSONL: the lines of the log file, numbered through, a session's line before its exchanges."""

from __future__ import annotations

import json

from lunaroute.export import jsonl
from tests import recorded


def test_lines() -> None:
    made = [*recorded.tool_loop("a"), recorded.exchange(9, "b", state=None)]
    lines = [json.loads(line) for line in "".join(jsonl.pieces(made)).splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line["type"] for line in lines] == ["session", *["request", "response"] * 3, "session", "request"]
    assert [line["id"] for line in lines if line["type"] == "session"] == ["a", "b"]
    assert lines[1]["body"] == json.loads(made[0].request_body)
