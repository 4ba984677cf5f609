"""HAR 1.2: what the format demands is there, times add up, nothing recorded is lost or breaks the JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from lunaroute.export import har
from lunaroute.records import Attempt, Exchange, Split, Timings
from lunaroute.stores.rows import SessionRow
from tests import recorded
from tests.ui import hostile

ROW = SessionRow(session_id="session-1", started_at="2020-01-06 09:30:20.000", last_at="2020-01-06 09:31:00.000")
# what the format says must be in each object
DEMANDED = {
    "request": {"method", "url", "httpVersion", "cookies", "headers", "queryString", "headersSize", "bodySize"},
    "response": {"status", "statusText", "httpVersion", "cookies", "headers", "content", "redirectURL", "headersSize",
                 "bodySize"},
    "timings": {"send", "wait", "receive"},
}  # fmt: skip


def archive(exchanges: list[Exchange]) -> dict[str, Any]:
    log: dict[str, Any] = json.loads("".join(har.pieces("9.9", [ROW], exchanges)))["log"]
    return log


def test_the_archive() -> None:
    log = archive(recorded.tool_loop())
    assert log["version"] == "1.2" and log["creator"] == {"name": "LunaRoute", "version": "9.9"}
    assert log["pages"] == [
        {"startedDateTime": "2020-01-06T09:30:20.000Z", "id": "session-1", "title": "Untitled session",
         "pageTimings": {}}
    ]  # fmt: skip
    for entry, made in zip(log["entries"], recorded.tool_loop(), strict=True):
        assert entry["pageref"] == "session-1" and entry["cache"] == {}
        assert all(names <= set(entry[part]) for part, names in DEMANDED.items())
        assert entry["request"]["url"] == "https://api.anthropic.com/v1/messages?beta=true"
        assert entry["request"]["queryString"] == [{"name": "beta", "value": "true"}]
        assert {"name": "x-api-key", "value": "***"} in entry["request"]["headers"]
        assert entry["request"]["postData"]["text"].encode() == made.request_body
        assert entry["request"]["postData"]["mimeType"] == "application/json"
        assert entry["response"]["content"]["text"].encode() == made.response_body
        assert entry["_lunaroute"]["usage"]["input_tokens"] == 900
    assert log["entries"][1]["startedDateTime"] == "2020-01-06T09:30:40.000Z"


@pytest.mark.parametrize(
    ("fields", "timings", "whole"),
    [
        (
            {"split": Split(before_ms=1, connect_ms=10, upload_ms=2, wait_ms=300, first_content_ms=50,
                            generation_ms=900, after_ms=0.5),
             "attempts": [Attempt(number=1, provider="a", origin="https://a", connect_ms=4, tls_ms=6)]},
            {"blocked": 1, "dns": -1, "connect": 10, "ssl": 6, "send": 2, "wait": 300, "receive": 950.5},
            1263.5,
        ),
        ({}, {"blocked": 0.7, "dns": -1, "connect": -1, "ssl": -1, "send": 0.2, "wait": 411.1, "receive": 1933}, 2345),
        (
            {"timings": Timings(), "attempts": []},
            {"blocked": -1, "dns": -1, "connect": -1, "ssl": -1, "send": 0, "wait": 0, "receive": 0},
            0,
        ),
    ],
)  # fmt: skip
def test_the_parts_of_the_time_add_up(fields: dict[str, Any], timings: dict[str, float], whole: float) -> None:
    entry = har.entry(recorded.exchange(1, **fields))
    assert entry["timings"] == pytest.approx(timings) and entry["time"] == pytest.approx(whole)


def test_bytes_that_are_no_text() -> None:
    raw = b"\xff\x00\xfe"
    entry = har.entry(recorded.exchange(1, request_body=raw, response_body=raw, attempts=[], status=None, reason=None))
    assert base64.b64decode(entry["response"]["content"]["text"]) == raw
    assert entry["response"]["content"]["encoding"] == "base64"
    assert base64.b64decode(entry["request"]["postData"]["text"]) == raw
    assert entry["request"]["url"] == "http://127.0.0.1:8081/v1/messages?beta=true"
    assert (entry["response"]["status"], entry["response"]["statusText"]) == (0, "")


def test_a_turn_of_a_websocket() -> None:
    answer = recorded.sse({"type": "response.created"}, {"type": "response.completed"})
    made = recorded.exchange(1, transport="websocket", request_body=b'{"type":"response.create"}', response_body=answer)
    entry = har.entry(made)
    assert [(m["type"], json.loads(m["data"])["type"]) for m in entry["_webSocketMessages"]] == [
        ("send", "response.create"), ("receive", "response.created"), ("receive", "response.completed"),
    ]  # fmt: skip
    times = [message["time"] for message in entry["_webSocketMessages"]]
    assert times == sorted(times) and times[2] - times[0] == pytest.approx(2.345)


def test_hostile_records() -> None:
    made = [*hostile.exchanges(), *hostile.plain_exchanges()]
    log = archive(made)
    for entry, exchange in zip(log["entries"], made, strict=True):
        assert entry["response"]["content"]["text"].encode() == exchange.response_body
    odd = recorded.exchange(1, error="\ud800", target="/?" + "a=1&" * 5000, started_at="\x00", session_id="\ud800")
    assert archive([odd])["entries"][0]["_lunaroute"]["error"] == "\ud800"
