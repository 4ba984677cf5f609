"""The record in the default mode, through real sockets: what a conversation leaves behind, with restarts and faults.

The assistants' own loops are in tests/e2e; here each rule has the smallest traffic that shows it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Serve
from tests.fakes import Request, Upstream, Wire
from tests.running import PATIENCE, Running, processes_of

Json = dict[str, Any]
KEY = {"x-api-key": "sk-ant-dummy-0000000", "content-type": "application/json"}
SSE = [("Content-Type", "text/event-stream")]


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def start(**usage: int) -> bytes:
    message = {"id": "msg_1", "role": "assistant", "model": "claude-opus-5-5", "content": [], "usage": usage}
    return event("message_start", message=message)


def said(index: int, text: str) -> bytes:
    return b"".join(
        (
            event("content_block_start", index=index, content_block={"type": "text", "text": ""}),
            event("content_block_delta", index=index, delta={"type": "text_delta", "text": text}),
            event("content_block_stop", index=index),
        )
    )


def call(index: int, ident: str, command: str) -> bytes:
    block = {"type": "tool_use", "id": ident, "name": "Bash", "input": {}}
    given = json.dumps({"command": command})
    return b"".join(
        (
            event("content_block_start", index=index, content_block=block),
            event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": given}),
            event("content_block_stop", index=index),
        )
    )


def end(reason: str = "end_turn", **usage: int) -> bytes:
    return event("message_delta", delta={"stop_reason": reason}, usage=usage) + event("message_stop")


def answers(*scripted: list[bytes], headers: tuple[tuple[str, str], ...] = ()) -> Callable[..., Any]:
    """An upstream that gives these streams, one a request."""
    left = list(scripted)

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await wire.stream([*SSE, *headers], left.pop(0))

    return script


def ask(luna: Running, body: Json | bytes, **headers: str) -> bytes:
    """One request, its whole answer."""
    connection = http.client.HTTPConnection("127.0.0.1", luna.port, timeout=20)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", "/v1/messages", data, {**KEY, **headers})
        return connection.getresponse().read()
    finally:
        connection.close()


def turn(*messages: Json) -> Json:
    return {"model": "claude-opus-5-5", "max_tokens": 100, "stream": True, "messages": list(messages)}


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def until(luna: Running, query: str, expected: Any) -> None:
    """Wait for the database to say so."""
    deadline = time.monotonic() + PATIENCE
    while (found := [tuple(row.values()) for row in luna.rows(query)]) != expected:
        assert time.monotonic() < deadline, (found, expected)


def found(luna: Running, *words: str) -> list[str]:
    """Exchanges that the search command finds."""
    done = luna.lunaroute("sessions", "search", *words, "--json")
    assert done.returncode in (0, 1), done
    return [hit["id"] for hit in json.loads(done.stdout)["hits"]]


ASKED = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_long_enough_1", "name": "Bash",
                                           "input": {"command": "make"}}]}  # fmt: skip
RESULT = {
    "role": "user",
    "content": [
        {
            "type": "tool_result",
            "tool_use_id": "toolu_long_enough_1",
            "content": "No rule to make target",
            "is_error": True,
        }
    ],
}


@pytest.mark.parametrize("killed", [False, True], ids=["calm", "observer killed in between"])
def test_a_conversation_that_resends_its_history_is_kept_and_counted_once(serve: Serve, killed: bool) -> None:
    """Through a restart of the server, too: rows, words, results and sums are those of one conversation."""
    first = user("Why does the zebracrossing target fail?")
    streams = [
        [
            start(input_tokens=10, output_tokens=1),
            call(0, "toolu_long_enough_1", "make"),
            end("tool_use", output_tokens=7),
        ],
        [start(input_tokens=20, output_tokens=1), said(0, "There is no such quokkarule."), end(output_tokens=9)],
        [start(input_tokens=30, output_tokens=1), said(0, "You are welcome."), end(output_tokens=3)],
    ]
    history = [first, ASKED, RESULT, {"role": "assistant", "content": "There is no such quokkarule."}, user("Thanks!")]
    with Upstream(answers(*streams)) as upstream:
        luna = serve(upstream)
        ask(luna, turn(first))
        until(luna, "SELECT count(*) FROM tool_calls", [(1,)])
        if killed:
            assert luna.process is not None
            (observer,) = processes_of(luna.process.pid)[1:]
            os.kill(observer, signal.SIGKILL)
        ask(luna, turn(first, ASKED, RESULT))
        until(luna, "SELECT count(*) FROM exchanges WHERE state = 'ok'", [(2,)])
        assert luna.stop() == 0
        luna.start()
        ask(luna, turn(*history))
        assert luna.stop() == 0
    (session,) = luna.sessions()
    assert (session["requests"], session["turns"], session["errors"]) == (3, 3, 0)
    assert (session["input_tokens"], session["output_tokens"]) == (60, 19)
    assert (session["tool_calls"], session["tool_failures"]) == (1, 1)
    # 60 at 4 dollars and 19 at 20 dollars a million
    assert session["cost_usd"] == pytest.approx((60 * 4 + 19 * 20) / 1e6) and session["cost_kind"] == "api"
    (tool,) = luna.rows("SELECT * FROM tool_calls")
    assert (tool["name"], tool["success"], tool["result_bytes"]) == ("Bash", 0, len("No rule to make target"))
    rows = luna.exchanges()
    assert [row["sequence"] for row in rows] == [1, 2, 3]
    assert (tool["exchange"], tool["result_exchange"]) == (rows[0]["row"], rows[1]["row"])
    assert [json.loads(row["request_body"])["messages"] for row in rows] == [[first], history[:3], history]
    # each word once, where it was first said
    assert found(luna, "zebracrossing") == [rows[0]["id"]]
    assert found(luna, "quokkarule") == [rows[1]["id"]]
    assert found(luna, '"No rule to make target"') == [rows[1]["id"]]
    assert luna.lunaroute("verify").returncode == 0


def test_the_summary_is_printed_when_the_server_ends_and_served_while_it_runs(serve: Serve) -> None:
    stream = [start(input_tokens=2450, output_tokens=1), said(0, "Hi."), end(output_tokens=5830)]
    with Upstream(answers(stream)) as upstream:
        luna = serve(upstream)
        ask(luna, turn(user("hello")))
        until(luna, "SELECT count(*) FROM exchanges WHERE state = 'ok'", [(1,)])
        status, body = luna.get("/api/stats", luna.ui_url)
        assert status == 200
        total = json.loads(body)["total"]
        assert (total["requests"], total["input_tokens"], total["output_tokens"]) == (1, 2450, 5830)
        assert total["cost_usd"] == pytest.approx((2450 * 4 + 5830 * 20) / 1e6)
        assert luna.stop() == 0
    printed = luna.log().partition("Session Statistics Summary")[2]
    figures = ("Requests:        1", "Input tokens:    2,450", "Output tokens:   5,830", "Total tokens:    8,280")
    for line in (*figures, "Avg response time:", "Proxy overhead:", "Provider latency:", "Estimated cost: $0.13 USD"):
        assert line in printed, (line, printed)


def test_a_header_names_the_session_of_a_client_without_signals(serve: Serve) -> None:
    streams = [[start(input_tokens=1, output_tokens=1), said(0, str(n)), end(output_tokens=1)] for n in range(3)]
    with Upstream(answers(*streams)) as upstream:
        luna = serve(upstream)
        for number in range(2):
            ask(luna, turn(user(f"unrelated {number}")), **{"X-LunaRoute-Session": "my-run-7"})
        ask(luna, turn(user("another thing")))
        assert luna.stop() == 0
    rows = luna.exchanges()
    assert [row["session_id"] for row in rows[:2]] == ["my-run-7"] * 2
    assert rows[2]["session_id"] != "my-run-7"


def test_a_cut_stream_keeps_what_it_had_told(serve: Serve) -> None:
    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await wire.head(200, [*SSE, ("Transfer-Encoding", "chunked")])
        await wire.chunk(start(input_tokens=12, cache_read_input_tokens=900, output_tokens=1))
        await wire.chunk(said(0, "half a wombatsentence"))
        wire.close()

    with Upstream(script) as upstream:
        luna = serve(upstream)
        with pytest.raises(http.client.IncompleteRead):
            ask(luna, turn(user("hello")))
        assert luna.stop() == 0
    (row,) = luna.exchanges()
    assert (row["state"], row["usage_state"]) == ("upstream_error", "partial")
    assert (row["input_tokens"], row["cache_read_tokens"]) == (12, 900)
    assert found(luna, "wombatsentence") == [row["id"]]


def test_a_refusal_costs_nothing_and_its_limits_are_kept(serve: Serve) -> None:
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    limits = [("anthropic-ratelimit-requests-limit", "50"), ("anthropic-ratelimit-requests-remaining", "0"),
              ("anthropic-ratelimit-unified-5h-utilization", "0.93"), ("retry-after", "7")]  # fmt: skip

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await wire.answer(429, [("Content-Type", "application/json"), *limits], json.dumps(error).encode())

    with Upstream(script) as upstream:
        luna = serve(upstream)
        assert json.loads(ask(luna, turn(user("hello")))) == error
        assert luna.stop() == 0
    (row,) = luna.exchanges()
    assert (row["state"], row["status"], row["error_kind"]) == ("upstream_error", 429, "rate_limit_error")
    assert (row["cost_usd"], row["usage_state"]) == (None, "unknown")
    (session,) = luna.sessions()
    assert (session["errors"], session["cost_unknown"], session["cost_usd"]) == (1, 0, None)
    kept = {limit["name"]: limit for limit in luna.rows("SELECT * FROM limits")}
    assert (kept["requests"]["limit"], kept["requests"]["remaining"]) == (50, 0)
    assert kept["5h"]["used"] == pytest.approx(0.93)
    assert len({limit["credential"] for limit in kept.values()}) == 1 and "sk-ant" not in str(kept)


def test_a_body_over_the_capture_limit_is_cut_and_its_facts_are_not(serve: Serve) -> None:
    long = "x" * (3 << 20)
    stream = [start(input_tokens=5, output_tokens=1), said(0, "y" * (3 << 20)), end(output_tokens=4)]
    with Upstream(answers(stream)) as upstream:
        luna = serve(upstream, {"session_recording": {"capture_limit_mb": 1}})
        got = ask(luna, turn(user(long)))
        assert got == b"".join(stream)
        assert luna.stop() == 0
    (row,) = luna.exchanges()
    assert (row["state"], row["truncated"], row["model_used"]) == ("ok", 1, "claude-opus-5-5")
    assert (row["model_requested"], row["output_tokens"], row["stop_reason"]) == ("claude-opus-5-5", 4, "end_turn")
    assert row["request_bytes"] > 3 << 20 and len(row["request_body"]) == 1 << 20


def test_many_large_requests_at_once_are_kept_whole(serve: Serve) -> None:
    """Eight of 6 MB that all wait for their answer, more than may be held: they wait compressed."""
    ready = threading.Event()

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        while not ready.is_set():
            await asyncio.sleep(0.01)
        await wire.stream(SSE, [start(input_tokens=5, output_tokens=1), said(0, "ok"), end(output_tokens=1)])

    words = " ".join(f"word{n}" for n in range(650_000))
    with Upstream(script) as upstream:
        luna = serve(upstream)
        threads = [threading.Thread(target=ask, args=(luna, turn(user(f"{n} {words}")))) for n in range(8)]
        for thread in threads:
            thread.start()
        until(luna, "SELECT count(*) FROM exchanges WHERE model_requested IS NOT NULL", [(8,)])
        ready.set()
        for thread in threads:
            thread.join(20)
        assert luna.stop() == 0
    rows = luna.exchanges()
    assert [row["truncated"] for row in rows] == [0] * 8
    texts = {json.loads(row["request_body"])["messages"][0]["content"] for row in rows}
    assert texts == {f"{n} {words}" for n in range(8)}
