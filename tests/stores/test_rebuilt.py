"""An exchange out of the database is the one that was put in, but for what is not stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from lunaroute.records import Attempt, Exchange, Limit, Split, Text, ToolCall, ToolResult, Usage, UsagePart
from lunaroute.stores import queries, rebuilt
from lunaroute.stores.readonly import Connection
from tests import recorded
from tests.ui import hostile

START_NS = int(recorded.START.timestamp() * 1e9)


def whole() -> list[Exchange]:
    """A tool loop with every field that can be set."""
    made = recorded.tool_loop()
    for number, exchange in enumerate(made, 1):
        exchange.usage = Usage(
            input_tokens=number, output_tokens=2, thinking_tokens=1, cache_read_tokens=4, cache_write_tokens=5,
            cache_write_5m_tokens=3, cache_write_1h_tokens=2, audio_tokens=6, audio_input_tokens=7,
            audio_output_tokens=8, web_search_requests=9, web_fetch_requests=10, service_tier="priority",
            speed="fast", inference_geo="eu", partial=number == 2,
            parts=[UsagePart(kind="message", model="m", input_tokens=1)],
        )  # fmt: skip
        exchange.split = Split(
            before_ms=0.5, connect_ms=1, upload_ms=2, wait_ms=3, first_content_ms=4, generation_ms=5, after_ms=0.1
        )
        exchange.attempts = [
            Attempt(number=1, provider="a", origin="https://a.test", error="refused", connect_ms=2.0),
            Attempt(number=2, provider="b", origin="https://b.test", reused=True, sent=True, status=200, tls_ms=3.0),
        ]
        exchange.texts = [Text(kind="prompt", text=f"p{number}"), Text(kind="answer", text="a")]
        exchange.limits = [Limit(name="5h", used=0.25, resets_ns=5, window_minutes=300.0, status="allowed")]
        exchange.cost_usd, exchange.cost_kind, exchange.price_id = 0.25, "api_equivalent", "claude@2026-01"
        exchange.error, exchange.error_kind, exchange.continues = "e", "overloaded", "resp_0"
        exchange.cache_miss_reason, exchange.project, exchange.parent_session_id = "tools changed", "/p", "parent"
        exchange.request_sha256, exchange.response_sha256 = "ab" * 32, "cd" * 32
        exchange.request_altered, exchange.truncated, exchange.lost_bytes = True, True, 12
        exchange.http_version, exchange.reason = "1.0", "Fine"
        exchange.request_decode_error, exchange.response_decode_error = "bad zstd", "bad gzip"
        exchange.thread = b"\x01\x02"
    first, second, third = made
    seen = START_NS + 5_000_000_000
    args = '{"command": "ls -la"}'
    first.tool_calls = [ToolCall(id="toolu_1", name="Bash", arguments=args, arguments_bytes=21, called_ns=START_NS)]
    second.tool_results = [
        ToolResult(id="toolu_1", text="total 4\nREADME.md\nmissing.py", result_bytes=27, success=True, seen_ns=seen)
    ]
    own = ToolResult(id="srv", result_bytes=3, success=False, seen_ns=seen)
    third.tool_calls = [ToolCall(id="srv", name="web_search", kind="server", called_ns=START_NS, result=own)]
    return made


def read(path: Path, idents: list[str]) -> list[Exchange]:
    with Connection(path) as db:
        return [rebuilt.exchange(db, queries.exchange(db, ident)) for ident in idents]


def test_all_that_is_stored_comes_back(tmp_path: Path) -> None:
    made = whole()
    path = recorded.write(tmp_path / "db", made)
    for was, found in zip(made, read(path, [exchange.id for exchange in made]), strict=True):
        was.cuts = None
        assert found == was


def test_long_arguments_come_whole_out_of_the_body(tmp_path: Path) -> None:
    command = "x" * 5_000
    call = recorded.call("toolu_9", "Bash", command=command)
    made = recorded.exchange(
        1, request_body=recorded.ask([recorded.user("go")]), response_body=recorded.stream(call),
        tool_calls=[ToolCall(id="toolu_9", name="Bash", arguments=f'{{"command": "{command}"}}')],
    )  # fmt: skip
    found = read(recorded.write(tmp_path / "db", [made]), [made.id])[0]
    assert found.tool_calls[0].arguments == f'{{"command": "{command}"}}'
    assert found.tool_calls[0].arguments_bytes == 5_015


@pytest.mark.parametrize("number", range(len(hostile.STRINGS)))
def test_hostile_content(tmp_path: Path, number: int) -> None:
    made = hostile.exchanges()[number]
    found = read(recorded.write(tmp_path / "db", [made]), [made.id])[0]
    same = ("request_body", "response_body", "request_headers", "attempts", "error", "target", "reason", "usage")
    assert all(getattr(found, name) == getattr(made, name) for name in same)


def test_without_session_or_bodies(tmp_path: Path) -> None:
    path = recorded.write(tmp_path / "db", [recorded.opened(7)])
    found = read(path, [f"{recorded.BOOT}-7"])[0]
    assert (found.session_id, found.state, found.split, found.request_body) == ("", None, None, b"")
