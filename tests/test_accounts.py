"""What is not simply a good answer, end to end: all views tell the same of it, and take nothing for what it is not.

Cut, hung, refused and half-told answers, through a real socket, looked at in the database and by the commands.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from typing import Any

import pytest

from tests.conftest import Serve
from tests.fakes import Request, Script, Upstream, Wire
from tests.running import Running
from tests.test_record import SSE, Json, ask, said, start, turn, user

PAUSE_S = 0.6
JSON = [("Content-Type", "application/json")]


def answering(status: int, answer: Any) -> Script:
    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await wire.answer(status, JSON, json.dumps(answer).encode())

    return script


def pausing(then: str) -> Script:
    """Half an answer, a pause, and then a reset, or nothing for as long as the client stays."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await wire.head(200, [*SSE, ("Transfer-Encoding", "chunked")])
        await wire.chunk(start(input_tokens=12, output_tokens=1))
        await wire.chunk(said(0, "half a sentence"))
        await asyncio.sleep(PAUSE_S if then == "reset" else 60)
        wire.reset()

    return script


def gone_after_the_pause(luna: Running, body: Json) -> None:
    """A client that gives up: it reads what there is, waits, and closes."""
    payload = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", luna.port), timeout=10) as client:
        head = f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1:{luna.port}\r\nContent-Length: {len(payload)}\r\n"
        client.sendall(head.encode() + b"x-api-key: sk-ant-dummy\r\n\r\n" + payload)
        got = b""
        while b"half a sentence" not in got:
            piece = client.recv(65536)
            assert piece, got
            got += piece
        time.sleep(PAUSE_S)


@pytest.mark.parametrize("who", ["upstream", "client"])
def test_waiting_for_an_answer_that_does_not_come_is_not_the_proxys_time(who: str, serve: Serve) -> None:
    with Upstream(pausing("reset" if who == "upstream" else "hang")) as upstream:
        luna = serve(upstream)
        if who == "upstream":
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                ask(luna, turn(user("hello")))
        else:
            gone_after_the_pause(luna, turn(user("hello")))
        luna.stop()
    (row,) = luna.exchanges()
    assert row["state"] == ("upstream_error" if who == "upstream" else "client_cancelled")
    assert row["duration_ms"] > PAUSE_S * 900
    assert row["overhead_ms"] < PAUSE_S * 500
    assert row["after_ms"] is None
    assert row["generation_ms"] > PAUSE_S * 900


def post(luna: Running, path: str, body: Json) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", luna.port, timeout=20)
    try:
        headers = {"content-type": "application/json", "authorization": "Bearer sk-dummy-00000000"}
        connection.request("POST", path, json.dumps(body), headers)
        return connection.getresponse().read()
    finally:
        connection.close()


def told(luna: Running, *words: str) -> Any:
    result = luna.lunaroute(*words, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


NO = {"type": "error", "error": {"type": "overloaded_error", "message": "not now"}}


def test_refusals_have_no_price_to_know_in_any_view(serve: Serve) -> None:
    left = [429, 529]

    async def script(request: Request, wire: Wire) -> None:
        await answering(left.pop(0), NO)(request, wire)

    with Upstream(script) as upstream:
        luna = serve(upstream)
        for _ in range(2):
            ask(luna, turn(user("hello")))
    # and now nobody listens there
    ask(luna, turn(user("hello")))
    luna.stop()
    assert [row["status"] for row in luna.exchanges()] == [429, 529, 502]
    asked = [told(luna, "stats"), told(luna, "stats", "--since", "1d")]
    figures = [each["total"] for each in asked] + [one["figures"] for each in asked for one in each["sessions"]]
    figures += told(luna, "stats", "--by", "model")["groups"] + told(luna, "stats", "--by", "day")["groups"]
    figures += luna.sessions()
    assert sum(each["requests"] for each in figures) == 7 * 3
    assert {(each["usage_unknown"], each["cost_unknown"]) for each in figures} == {(0, 0)}
    text = luna.lunaroute("stats").stdout
    assert "unknown" not in text.partition("Cost:")[2] and "did not tell" not in text


def test_a_half_told_usage_is_the_least_in_every_view(serve: Serve) -> None:
    half = {"id": "msg_2", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
            "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn",
            "usage": {"input_tokens": "many", "output_tokens": 1000}}  # fmt: skip

    async def cut(request: Request, wire: Wire) -> None:
        await wire.body()
        await wire.head(200, [*SSE, ("Transfer-Encoding", "chunked")])
        await wire.chunk(start(input_tokens=12000, output_tokens=1).replace(b"claude-opus-5-5", b"claude-sonnet-4-5"))
        wire.reset()

    scripts = [cut, answering(200, half)]

    async def script(request: Request, wire: Wire) -> None:
        await scripts.pop(0)(request, wire)

    with Upstream(script) as upstream:
        luna = serve(upstream)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            ask(luna, turn(user("hello")), **{"x-lunaroute-session": "cut"})
        ask(luna, turn(user("hello")), **{"x-lunaroute-session": "half"})
        luna.stop()
    assert [(row["usage_state"], row["cost_usd"] is not None) for row in luna.exchanges()] == [("partial", True)] * 2
    for each in luna.sessions():
        assert (each["usage_unknown"], each["cost_unknown"]) == (1, 1)
        shown = luna.lunaroute("sessions", "show", each["session_id"]).stdout
        assert "at least" in shown.split("\n")[1] and "cost at least $" in shown
        assert "at least" in next(line for line in shown.split("\n") if line.startswith("Assistant  #"))
    for total in (told(luna, "stats")["total"], told(luna, "stats", "--by", "model")["groups"][0]):
        assert (total["usage_unknown"], total["cost_unknown"]) == (2, 2)
    text = luna.lunaroute("stats").stdout
    assert "Total tokens:    at least 13,001 (2 requests did not tell, or not all)" in text
    assert "Estimated cost: at least $" in text
    listed = told(luna, "sessions", "list")
    assert [(each["usage_unknown"], each["cost_unknown"]) for each in listed] == [(1, 1)] * 2


def test_tokens_explain_a_compactions_cost_and_unpriced_tools_make_it_the_least(serve: Serve) -> None:
    steps = [{"type": "compaction", "input_tokens": 80000, "output_tokens": 3500}]
    compacted = {"id": "msg_3", "type": "message", "role": "assistant", "model": "claude-opus-4-6",
                 "content": [{"type": "compaction", "content": "all of it"}], "stop_reason": "compaction",
                 "usage": {"input_tokens": 0, "output_tokens": 0, "iterations": steps}}  # fmt: skip
    ran = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5.5", "service_tier": "default",
           "output": [{"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["x"]},
                      {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}],
           "usage": {"input_tokens": 1000, "output_tokens": 100}}  # fmt: skip

    async def script(request: Request, wire: Wire) -> None:
        await answering(200, compacted if "messages" in request.target else ran)(request, wire)

    with Upstream(script) as upstream:
        luna = serve(upstream)
        ask(luna, turn(user("hello")))
        post(luna, "/v1/responses", {"model": "gpt-5.5", "input": "look it up"})
        luna.stop()
    first, second = luna.exchanges()
    assert (first["input_tokens"], first["output_tokens"]) == (80000, 3500)
    assert first["cost_usd"] == pytest.approx((80000 * 5 + 3500 * 25) / 1e6)
    assert (second["usage_state"], second["cost_usd"] is None) == ("fees", False)
    sums = {each["input_tokens"]: (each["usage_unknown"], each["cost_unknown"]) for each in luna.sessions()}
    assert sums == {80000: (0, 0), 1000: (0, 1)}
