"""The record where traffic is not as it usually is: too large, told late, without signals. Through real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import Serve
from tests.fakes import Request, Upstream, Wire
from tests.running import PATIENCE, Running
from tests.test_record import SSE, Json, answers, ask, call, end, event, found, said, start, turn, user


def reply(text: str) -> list[bytes]:
    return [start(input_tokens=20, output_tokens=1), said(0, text), end(input_tokens=20, output_tokens=9)]


def stored(luna: Running, count: int) -> None:
    """Wait until so many exchanges are stored, however busy the machine is."""
    deadline = time.monotonic() + 4 * PATIENCE
    while luna.rows("SELECT count(*) AS n FROM exchanges WHERE state IS NOT NULL")[0]["n"] < count:
        assert time.monotonic() < deadline, luna.log()
        time.sleep(0.1)


def places(luna: Running, *words: str) -> list[int]:
    """Which exchanges of their sessions the search finds."""
    known = {row["id"]: row["sequence"] for row in luna.rows("SELECT id, sequence FROM exchanges")}
    return sorted(known[ident] for ident in found(luna, *words))


def test_the_newest_words_of_a_long_history_are_found_at_once_and_the_rest_later(serve: Serve) -> None:
    filler = [user(f"wombat{number} " + f"{number}x y " * 80_000) for number in range(4)]
    history = [*filler, user("where is the quokka")]
    with Upstream(answers(reply("one"), reply("two"))) as upstream:
        luna = serve(upstream)
        ask(luna, turn(*history), **{"x-lunaroute-session": "long"})
        ask(luna, turn(*history, user("and the numbat")), **{"x-lunaroute-session": "long"})
        stored(luna, 2)
        assert luna.stop() == 0
    assert places(luna, "quokka") == places(luna, "wombat3") == [1]
    assert places(luna, "wombat0") == places(luna, "numbat") == [2]


def test_a_history_beyond_the_capture_limit_still_tells_what_tools_returned(serve: Serve) -> None:
    asked = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_long_enough_1", "name": "Bash"}]}
    block = {"type": "tool_result", "tool_use_id": "toolu_long_enough_1", "content": "echidna", "is_error": True}
    history = [user("look around"), *(user("many words " * 5_000) for _ in range(40)), user("go on")]
    one = [start(input_tokens=20, output_tokens=1), call(0, "toolu_long_enough_1", "ls"), end("tool_use")]
    with Upstream(answers(one, reply("two"))) as upstream:
        luna = serve(upstream, {"session_recording": {"capture_limit_mb": 1}})
        ask(luna, turn(*history), **{"x-lunaroute-session": "large"})
        ask(luna, turn(*history, asked, {"role": "user", "content": [block]}), **{"x-lunaroute-session": "large"})
        stored(luna, 2)
        assert luna.stop() == 0
    assert luna.rows("SELECT success, result_bytes FROM tool_calls") == [{"success": 0, "result_bytes": 7}]
    assert places(luna, "echidna") == [2]
    assert places(luna, "look", "around") == [1]


OPENAI = {"authorization": "Bearer sk-dummy-00000000000", "content-type": "application/json"}


def response(status: str, ident: str = "resp_b1", **more: Any) -> Json:
    return {"id": ident, "object": "response", "status": status, "model": "gpt-5.5", "background": True, "output": [],
            "usage": None, **more}  # fmt: skip


def finished(text: str, ident: str = "resp_b1") -> Json:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    usage = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}
    return response("completed", ident, output=[said], usage=usage)


def documents(*scripted: Json | bytes) -> Callable[..., Any]:
    """An upstream that gives these answers, one a request; bytes are a stream."""
    left = list(scripted)

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        answer = left.pop(0)
        if isinstance(answer, bytes):
            await wire.stream(SSE, [answer])
        else:
            await wire.answer(200, [("Content-Type", "application/json")], json.dumps(answer).encode())

    return script


def send(luna: Running, method: str, path: str, body: Json | None = None, **headers: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", luna.port, timeout=20)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, {**OPENAI, **headers})
        return connection.getresponse().read()
    finally:
        connection.close()


def test_a_response_in_the_background_is_counted_once_when_it_is_fetched(serve: Serve) -> None:
    """Also where the server was started anew in between; and a later turn goes on from it."""
    late = event("response.completed", response=finished("the wallaby sleeps"))
    scripted = (
        response("queued"),
        response("in_progress"),
        finished("the wallaby sleeps"),
        late,
        finished("yes", "r2"),
    )
    with Upstream(documents(*scripted)) as upstream:
        luna = serve(upstream)
        send(luna, "POST", "/v1/responses", {"model": "gpt-5.5", "input": "where is the wallaby", "background": True})
        send(luna, "GET", "/v1/responses/resp_b1")
        stored(luna, 2)
        (session,) = luna.sessions()
        assert (session["requests"], session["turns"], session["usage_unknown"]) == (2, 1, 1)
        assert luna.stop() == 0
        luna.start()
        send(luna, "GET", "/v1/responses/resp_b1")
        send(luna, "GET", "/v1/responses/resp_b1?stream=true&starting_after=3")
        send(luna, "POST", "/v1/responses", {"model": "gpt-5.5", "input": "so?", "previous_response_id": "resp_b1"})
        stored(luna, 5)
        assert luna.stop() == 0
    (session,) = luna.sessions()
    assert (session["requests"], session["turns"], session["usage_unknown"], session["cost_unknown"]) == (5, 2, 0, 0)
    assert (session["input_tokens"], session["output_tokens"]) == (2000, 1000)
    rows = luna.rows("SELECT kind, output_tokens, cost_usd > 0 AS paid FROM exchanges ORDER BY sequence")
    assert [tuple(row.values()) for row in rows] == [
        ("background", None, None),
        ("poll", None, None),
        ("turn", 500, 1),
        ("poll", None, None),
        ("turn", 500, 1),
    ]
    assert places(luna, "wallaby", "sleeps") == [3]
    figures = json.loads(luna.lunaroute("stats", "--since", "1d", "--json").stdout)["total"]
    assert (figures["turns"], figures["usage_unknown"], figures["output_tokens"]) == (2, 0, 1000)
    shown = luna.lunaroute("sessions", "show", session["session_id"]).stdout
    assert shown.count("the wallaby sleeps") >= 1, shown


def test_neither_words_nor_a_common_field_make_another_client_opencode(serve: Serve) -> None:
    asked = {"model": "gpt-5.5", "input": "write a blog title generator, ostrich style"}
    with Upstream(documents(finished("def cassowary", "r1"))) as upstream:
        luna = serve(upstream)
        send(luna, "POST", "/v1/responses", asked, **{"user-agent": "MyCompanyApp/3.1", "x-session-id": "cust-77"})
        stored(luna, 1)
        assert luna.stop() == 0
    assert luna.rows("SELECT session_id, client, turns FROM sessions") == [
        {"session_id": "cust-77", "client": "mycompanyapp", "turns": 1}
    ]
    assert places(luna, "ostrich") == places(luna, "cassowary") == [1]


def test_the_same_question_once_more_is_another_conversation_unless_it_had_failed(serve: Serve) -> None:
    left = [503, 200, 200, 200]

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        status = left.pop(0)
        body = finished("hello", f"r{len(left)}") if status == 200 else {"error": {"message": "busy"}}
        await wire.answer(status, [("Content-Type", "application/json")], json.dumps(body).encode())

    with Upstream(script) as upstream:
        luna = serve(upstream, {"providers": {"openai": {"http_client": {"max_retries": 0}}}})
        for _ in range(4):
            send(luna, "POST", "/v1/responses", {"model": "gpt-5.5", "input": "hi"})
        stored(luna, 4)
        assert luna.stop() == 0
    assert sorted(row["requests"] for row in luna.sessions()) == [1, 1, 2]


def test_over_a_websocket_limits_and_the_reason_of_its_end_are_kept(serve: Serve) -> None:
    window = {"used_percent": 42, "window_minutes": 300, "reset_after_seconds": 600}

    async def script(request: Request, wire: Wire) -> None:
        socket = await wire.websocket()
        while (message := await socket.receive()) is not None:
            await socket.send(json.dumps({"type": "codex.rate_limits", "rate_limits": {"primary": window}}))
            begun = {"id": "resp_1", "model": "gpt-5.5", "status": "in_progress"}
            await socket.send(json.dumps({"type": "response.created", "response": begun}))
            if json.loads(message)["input"] == "go":
                await socket.send(json.dumps({"type": "response.completed", "response": finished("ok", "resp_1")}))
            else:
                await socket.close(1011)
                return

    with Upstream(script) as upstream:
        luna = serve(upstream)
        url = f"ws://127.0.0.1:{luna.port}/v1/responses"
        with connect(url, additional_headers={"authorization": OPENAI["authorization"]}) as socket:
            for asked in ("go", "break"):
                socket.send(json.dumps({"type": "response.create", "model": "gpt-5.5", "input": asked}))
                with contextlib.suppress(ConnectionClosed):
                    while json.loads(socket.recv(timeout=20))["type"] != "response.completed":
                        pass
        stored(luna, 3)
        assert luna.stop() == 0
    rows = luna.rows("SELECT state, error FROM exchanges WHERE id LIKE '%-%-2' OR kind = 'handshake' ORDER BY row")
    said = "the provider closed the WebSocket (1011)"
    assert [tuple(row.values()) for row in rows] == [("upstream_error", said)] * 2
    assert luna.rows("SELECT name, used, window_minutes FROM limits") == [
        {"name": "primary", "used": 0.42, "window_minutes": 300.0}
    ]


def test_embeddings_and_the_main_step_beside_an_adviser_s_are_paid_for(serve: Serve) -> None:
    adviser = {"type": "advisor_message", "model": "claude-opus-4-6", "input_tokens": 10, "output_tokens": 10}
    usage = {"input_tokens": 1000, "output_tokens": 1000, "iterations": [adviser]}
    advised = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-6", "usage": usage,
               "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn"}  # fmt: skip
    vectors = {"object": "list", "model": "text-embedding-3-small", "data": [{"embedding": [0.5, 0.25], "index": 0}],
               "usage": {"prompt_tokens": 1_000_000, "total_tokens": 1_000_000}}  # fmt: skip
    with Upstream(documents(advised, vectors, {**vectors, "model": "house-embedder"})) as upstream:
        luna = serve(upstream)
        ask(luna, turn(user("hi")))
        for model in ("text-embedding-3-small", "house-embedder"):
            send(luna, "POST", "/v1/embeddings", {"model": model, "input": "some words"})
        stored(luna, 3)
        assert luna.stop() == 0
    rows = luna.rows("SELECT kind, input_tokens, round(cost_usd, 6) AS usd FROM exchanges ORDER BY row")
    # with the 10 of the adviser; claude-opus-4-6: 5 and 25 dollars per million; text-embedding-3-small: 2 cents
    assert [tuple(row.values()) for row in rows] == [
        ("turn", 1010, 0.0303),
        ("embedding", 1_000_000, 0.02),
        ("embedding", 1_000_000, None),
    ]


def chat_call(command: str) -> Json:
    call = {"id": "call_0", "type": "function", "function": {"name": "sh", "arguments": json.dumps({"c": command})}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def test_a_server_that_counts_its_calls_anew_with_each_answer(serve: Serve) -> None:
    """The same id each time, and the same words as result: each call is a row with its own result."""
    history: list[Json] = [user("look around, please")]
    scripted = [
        {"id": f"chatcmpl-{n}", "object": "chat.completion", "model": "local", "usage": {"prompt_tokens": 1},
         "choices": [{"index": 0, "message": chat_call(f"ls {n}"), "finish_reason": "tool_calls"}]}
        for n in range(3)
    ]  # fmt: skip
    with Upstream(documents(*scripted)) as upstream:
        luna = serve(upstream)
        for number in range(3):
            send(luna, "POST", "/v1/chat/completions", {"model": "local", "messages": history})
            history += [chat_call(f"ls {number}"), {"role": "tool", "tool_call_id": "call_0", "content": "nothing"}]
        stored(luna, 3)
        assert luna.stop() == 0
    (session,) = luna.sessions()
    assert session["tool_calls"] == 3
    rows = luna.rows("SELECT arguments, result_bytes FROM tool_calls ORDER BY exchange")
    assert [tuple(row.values()) for row in rows] == [
        ('{"c": "ls 0"}', 7),
        ('{"c": "ls 1"}', 7),
        ('{"c": "ls 2"}', None),
    ]


def test_a_result_that_comes_under_another_session_reaches_its_call(serve: Serve) -> None:
    asked = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_long_enough_7", "name": "Bash"}]}
    block = {"type": "tool_result", "tool_use_id": "toolu_long_enough_7", "content": "bad", "is_error": True}
    one = [start(input_tokens=20, output_tokens=1), call(0, "toolu_long_enough_7", "ls"), end("tool_use")]
    with Upstream(answers(one, reply("two"))) as upstream:
        luna = serve(upstream)
        ask(luna, turn(user("go")), **{"x-lunaroute-session": "before"})
        ask(luna, turn(user("go"), asked, {"role": "user", "content": [block]}), **{"x-lunaroute-session": "fork"})
        stored(luna, 2)
        assert luna.stop() == 0
    assert luna.rows("SELECT session_id, success, result_bytes FROM tool_calls") == [
        {"session_id": "before", "success": 0, "result_bytes": 3}
    ]
    failures = {row["session_id"]: row["tool_failures"] for row in luna.sessions()}
    assert failures == {"before": 1, "fork": 0}
