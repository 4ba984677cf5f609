"""The scripted peers themselves: what they log is what was sent, and their faults are what they are called."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from websockets.sync.client import connect

from tests.answers import Assistant
from tests.fakes import Request, Tap, Upstream, Wire
from tests.faults import (
    Gate,
    closed_before_head,
    cut_stream,
    drip,
    early,
    held,
    once,
    refusal,
    reset_before_head,
    stall,
)
from tests.messages import Message, answers, chunked, requests

HEAD = b"POST /v1/x HTTP/1.1\r\nhOST: a\r\nX-A: 1\r\nx-a:  2 \r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def talk(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(data)
        with contextlib.suppress(OSError):  # a reset may be here already; reading tells which
            peer.shutdown(socket.SHUT_WR)
        return read_all(peer)


def read_all(peer: socket.socket) -> bytes:
    got = b""
    while piece := peer.recv(65536):
        got += piece
    return got


async def fine(request: Request, wire: Wire) -> None:
    await wire.body()
    await wire.answer(200, [("X-Number", "1")], b"fine")


def test_an_upstream_and_a_tap_log_every_byte() -> None:
    with Upstream(fine) as upstream, Tap(upstream.port) as tap:
        got = talk(tap.port, HEAD + BODY + HEAD + BODY)
        tap.wait_for(lambda: tap.connections[0].done)
    (request, again) = upstream.requests
    assert (request.head, request.raw, request.body) == (HEAD, BODY, b"abcde")
    assert request.headers[1:3] == [("X-A", "1"), ("x-a", "2")]
    assert again.connection is request.connection
    assert bytes(tap.connections[0].up) == bytes(request.connection.received) == 2 * (HEAD + BODY)
    assert bytes(tap.connections[0].down) == bytes(request.connection.sent) == got
    asked, rest = requests(bytes(tap.connections[0].up))
    assert ([m.body for m in asked], rest) == ([b"abcde"] * 2, b"")
    assert [m.body for m in answers(got, asked)[0]] == [b"fine"] * 2


FAULTS = {
    "reset before head": (reset_before_head, b"", True),
    "closed before head": (closed_before_head, b"", False),
    "reset in stream": (cut_stream([b"ab"], "reset"), None, True),
    "closed in stream": (cut_stream([b"ab"], "close"), b"2\r\nab\r\n", False),
    "half-closed in stream": (cut_stream([b"ab"], "half_close"), b"2\r\nab\r\n", False),
    "refusal": (refusal(429, b"busy"), b"busy", False),
    "early": (early(413, b"large"), b"large", False),
}


@pytest.mark.parametrize(("fault", "tail", "reset"), FAULTS.values(), ids=FAULTS)
def test_faults_come_once_and_are_what_they_are_called(fault, tail, reset) -> None:  # type: ignore[no-untyped-def]
    with Upstream(once(fault, fine)) as upstream:
        if reset:
            with pytest.raises(ConnectionResetError):
                talk(upstream.port, HEAD + BODY)
        else:
            assert talk(upstream.port, HEAD + BODY).endswith(tail)
        assert talk(upstream.port, HEAD + BODY).endswith(b"fine")


def test_gates_hold_until_they_are_opened() -> None:
    first, second = Gate(), Gate()
    script = stall(first, drip([(b"one", None), (b"two", second)]))
    with Upstream(script) as upstream, socket.create_connection(("127.0.0.1", upstream.port), timeout=10) as peer:
        peer.sendall(HEAD + BODY)
        assert first.reached.wait(10)
        assert not upstream.connections[0].sent
        first.open()
        assert second.reached.wait(10)
        assert bytes(upstream.connections[0].sent).endswith(b"one\r\n")
        second.open()
        peer.shutdown(socket.SHUT_WR)
        assert read_all(peer).endswith(b"two\r\n0\r\n\r\n")


def test_an_upstream_that_holds_on_sees_its_client_leave() -> None:
    reached = threading.Event()
    with Upstream(held([b"x"], reached)) as upstream:
        with socket.create_connection(("127.0.0.1", upstream.port), timeout=10) as peer:
            peer.sendall(HEAD + BODY)
            assert reached.wait(10)
            assert upstream.connections[0].ended is None
        assert upstream.wait_for(lambda: upstream.connections[0].ended) in ("closed", "reset")


@pytest.mark.parametrize("deflate", [False, True])
def test_the_assistant_speaks_websocket(deflate: bool) -> None:
    assistant = Assistant(deflate=deflate)
    with Upstream(assistant) as upstream, connect(f"ws://127.0.0.1:{upstream.port}/v1/responses") as peer:
        peer.send('{"type":"response.create","model":"m","input":"' + "x" * 5000 + '"}')
        events = [str(peer.recv(10)) for _ in range(10)]
        assert '"type":"response.completed"' in events[-1]
        assert len(upstream.requests[0].messages[0]) > 5000
        assert (len(upstream.connections[0].received) < 5000) is deflate


@pytest.mark.parametrize(
    ("data", "found"),
    [(BODY, (len(BODY), b"abcde")), (BODY + b"more", (len(BODY), b"abcde")), (BODY[:-1], None), (b"", None)],
)
def test_chunks(data: bytes, found: tuple[int, bytes] | None) -> None:
    assert chunked(data) == found


def test_a_chunk_that_lies_about_its_size_is_no_answer() -> None:
    with pytest.raises(AssertionError, match="does not end"):
        chunked(b"2\r\nabc\r\n0\r\n\r\n")
    with pytest.raises(AssertionError, match="not a header line"):
        Message(head=b"GET / HTTP/1.1\r\nnonsense\r\n\r\n")
