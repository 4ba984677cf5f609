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
