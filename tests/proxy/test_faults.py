"""Faults of a provider and on the way (security.md section 6), each by a scripted peer; time is driven by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import h11
import pytest

from tests.peers import (
    KEY,
    Parsed,
    Peer,
    Proxy,
    Upstream,
    answer_to,
    answers_in,
    get,
    looped,
    pair,
    post,
    reply,
    requests_in,
    settle,
)
from tests.running import free_port

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"data: {}\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def http(**values: float) -> dict[str, object]:
    return {"providers": {"anthropic": {"http_client": values}}}


def retryable(answer: Parsed) -> bool:
    return answer.values("x-should-retry") != [b"false"]


async def cut(client: Peer, method: str = "POST") -> bytes:
    """The client's connection ends and its answer is not whole; what came of it."""
    await client.until(lambda: client.over, "a visible cut")
    with contextlib.suppress(h11.RemoteProtocolError):
        assert not answers_in(bytes(client.data), [method], closed=True)[0], "the cut looks like an end"
    return bytes(client.data)


async def begun(proxy: Proxy, upstream: Upstream, request: bytes) -> tuple[Peer, Peer]:
    """(client, upstream's connection) with the whole request at the upstream."""
    client = await proxy.sent(request)
    served = await upstream.accepted()
    await served.head()
    body = request.partition(b"\r\n\r\n")[2]
    await served.exactly(len(body))
    return client, served


async def reused(proxy: Proxy, upstream: Upstream) -> tuple[Peer, Peer]:
    """(client, upstream's connection) after one exchange: the connection is free in the pool."""
    client, served = await begun(proxy, upstream, post())
    served.send(reply())
    await answer_to(client)
    return client, served


# --- the connect phase: nothing has left, so another try is safe ---


@looped
async def test_connect_refused_is_a_retryable_502_at_once() -> None:
    async with Proxy(f"http://127.0.0.1:{free_port()}") as proxy:
        took = []
        for _ in range(3):
            began = asyncio.get_running_loop().time()
            answer = await answer_to(await proxy.sent(post()))
            took.append(asyncio.get_running_loop().time() - began)
            assert answer.status == 502
            assert retryable(answer)
            assert b"connection refused" in answer.body
        assert min(took) < 0.1
        close = proxy.closes()[0]
        assert (close.state, close.written) == ("upstream_error", False)


@contextlib.asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """A port where a connect is never answered: the queue of a listener that accepts nobody is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()


@looped
async def test_a_black_hole_is_a_504_at_the_connect_timeout() -> None:
    async with black_hole() as port, Proxy(f"http://127.0.0.1:{port}", http(connect_timeout_secs=0.3)) as proxy:
        began = asyncio.get_running_loop().time()
        answer = await answer_to(await proxy.sent(post()))
        assert 0.25 < asyncio.get_running_loop().time() - began < 3
        assert answer.status == 504
        assert retryable(answer)
        assert b"connect_timeout_secs" in answer.body
        assert [(c.state, c.written) for c in proxy.closes()] == [("timeout", False)]


@looped
async def test_a_name_that_does_not_resolve_is_a_retryable_502() -> None:
    name = "a" * 64  # longer than any label may be: refused by the resolver without asking anybody
    async with Proxy(f"http://{name}.test:80") as proxy:
        client = await proxy.sent(post())
        answer = await answer_to(client)
        assert (answer.status, retryable(answer)) == (502, True)
        assert b"cannot be resolved" in answer.body
        client.send(post())  # and the connection is in a good state
        assert (await answer_to(client)).status == 502


@looped
async def test_a_loop_to_the_proxy_itself_is_a_508() -> None:
    async with Upstream() as nobody, Proxy(nobody) as proxy:
        # the loader refuses a base_url at its own port; a name for the same address passes it
        url = f"http://127.0.0.1:{proxy.port}"
        plan = proxy.plans.plan
        from lunaroute.proxy.pool import Origin, Pool, own_listeners

        pool = Pool(
            Origin("http", "127.0.0.1", proxy.port),
            proxy.config.providers["anthropic"].http_client,
            None,
            proxy.settings,
            own_listeners([("127.0.0.1", proxy.port)]),
        )

        def looping(method: bytes, path: bytes, signals: int) -> object:
            made = plan(method, path, signals)
            made.pool = pool
            return made

        proxy.settings.route = looping
        answer = await answer_to(await proxy.sent(post()))
        assert answer.status == 508
        assert url.encode() in answer.body


# --- after bytes may have left: never sent twice ---


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("connection", ["fresh", "reused"])
@looped
async def test_an_end_before_the_answer_is_a_502_and_the_request_is_not_sent_again(how: str, connection: str) -> None:
    async with pair() as (proxy, upstream):
        if connection == "fresh":
            client, served = await begun(proxy, upstream, post(b"paid"))
        else:
            client, served = await reused(proxy, upstream)
            client.send(post(b"paid"))
            await served.head()
            await served.exactly(4)
        getattr(served, how)()
        answer = await answer_to(client)
        assert (answer.status, retryable(answer)) == (502, False)
        await settle()
        assert b"".join(upstream.captured()).count(b"paid") == 1
        close = proxy.closes()[-1]
        assert (close.state, close.written) == ("upstream_error", True)
        client.send(get())  # the client's connection serves on
        fresh = await upstream.accepted()
        await fresh.head()
        fresh.send(reply())
        assert (await answer_to(client, "GET")).status == 200


@looped
async def test_an_end_while_the_body_is_being_sent_is_a_502_that_must_not_be_repeated() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(post(b"x" * 100, length=1000))
        served = await upstream.accepted()
        await served.head()
        await served.exactly(100)
        served.reset()
        answer = await answer_to(client)
        assert (answer.status, retryable(answer)) == (502, False)
        assert answer.values("connection") == [b"close"]


@pytest.mark.parametrize("seen", ["by the loop", "only by a look before use"])
@looped
async def test_a_connection_that_ended_while_it_was_free_gets_no_request(seen: str) -> None:
    async with pair() as (proxy, upstream):
        client, first = await reused(proxy, upstream)
        if seen == "by the loop":
            first.close()
            await proxy.until(lambda: not next(iter(proxy.plans.pools.values())).idle, "the free connection to go")
        else:
            proxy.pass_time(0.002)
            first.finish_now()  # arrives together with the next request
        client.send(post(b"second"))
        second = await upstream.accepted()
        await second.has(b"second")
        second.send(reply())
        assert (await answer_to(client)).status == 200
        assert b"second" not in first.data
        assert [c.state for c in proxy.closes()] == ["ok", "ok"]


# --- answers that break off ---


@pytest.mark.parametrize("how", ["reset", "close"])
@looped
async def test_an_end_inside_the_answers_head_is_a_502(how: str) -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        served.send(b"HTTP/1.1 200 OK\r\nContent-")
        await settle()
        getattr(served, how)()
        answer = await answer_to(client)
        assert (answer.status, retryable(answer)) == (502, False)
        assert proxy.closes()[0].state == "upstream_error"


BROKEN_BODIES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    "chunked, inside a chunk": CHUNKED + b"a\r\nhello",
    "chunked, between chunks": CHUNKED + chunk(b"hello"),
    "chunked, before the last line end": CHUNKED + chunk(b"hello") + b"0\r\n",
}


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("raw", BROKEN_BODIES.values(), ids=BROKEN_BODIES.keys())
@looped
async def test_an_end_inside_the_answers_body_stays_visible(raw: bytes, how: str) -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        served.send(raw)
        await client.has(b"hello")  # nothing is held back
        getattr(served, how)()
        await cut(client)
        assert proxy.closes()[0].state == "upstream_error"


@looped
async def test_a_reset_of_a_close_delimited_answer_is_no_end() -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        served.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await client.has(b"hello")
        served.reset()
        await cut(client)
        assert proxy.closes()[0].state == "upstream_error"


@looped
async def test_a_client_of_http_1_0_sees_the_cut_too() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(b"GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n")
        served = await upstream.accepted()
        await served.head()
        served.send(CHUNKED + chunk(b"hello"))
        await client.has(b"hello")
        served.close()
        await client.until(lambda: client.lost, "a reset")
        assert isinstance(client.error, ConnectionResetError), "a clean end would look like the whole answer"


# --- standing still ---


@looped
async def test_no_first_byte_in_time_is_a_504_that_must_not_be_repeated() -> None:
    async with pair(http(timeout_secs=600)) as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        proxy.pass_time(599)
        await settle()
        assert not client.data
        proxy.pass_time(2)
        answer = await answer_to(client)
        assert (answer.status, retryable(answer)) == (504, False)
        await served.ended()
        assert [(c.state, c.written) for c in proxy.closes()] == [("timeout", True)]


@looped
async def test_a_stream_may_last_for_ever_but_not_stand_still() -> None:
    async with pair(http(idle_timeout_secs=600, timeout_secs=600)) as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        served.send(CHUNKED)
        await client.head()
        for number in range(20):  # SSE comments count as life
            proxy.pass_time(599)
            served.send(chunk(b": ping %d\n\n" % number))
            await client.has(b": ping %d\n" % number)
        proxy.pass_time(599)
        await settle()
        assert not client.over
        proxy.pass_time(2)
        await cut(client)
        await served.ended()
        assert [c.state for c in proxy.closes()] == ["timeout"]


@looped
async def test_a_request_body_that_stands_still_is_the_clients_408() -> None:
    async with pair(http(idle_timeout_secs=600)) as (proxy, upstream):
        client = await proxy.sent(post(b"half", length=100))
        served = await upstream.accepted()
        await served.has(b"half")
        proxy.pass_time(599)
        client.send(b"more")
        await served.has(b"more")
        proxy.pass_time(599)
        await settle()
        assert not client.data
        proxy.pass_time(2)
        answer = await answer_to(client)
        assert answer.status == 408
        await served.ended()
        assert served.data.endswith(b"halfmore")


@looped
async def test_a_provider_that_never_reads_the_body_is_a_504_and_holds_the_client_back() -> None:
    async with pair(http(idle_timeout_secs=600)) as (proxy, upstream):
        client = await proxy.sent(post(b"", length=1 << 30))
        served = await upstream.accepted()
        await served.head()
        served.transport.pause_reading()
        await client.fill(b"x" * 262_144)  # ends only by back-pressure
        proxy.pass_time(601)
        client.transport.resume_reading()
        answer = await answer_to(client)
        assert (answer.status, retryable(answer)) == (504, False)
        assert b"does not read" in answer.body


@looped
async def test_a_client_that_was_held_back_is_read_again_after_the_504() -> None:
    async with pair(http(timeout_secs=1)) as (proxy, upstream):
        client = await proxy.client()
        client.send(post(b"x" * 3_000_000))
        served = await upstream.accepted()
        await served.head()
        served.transport.pause_reading()
        await proxy.until(lambda: "awaiting_head" in repr(proxy.settings.live))
        proxy.pass_time(2)
        assert (await answer_to(client)).status == 504
        client.send(post(b"second"))
        fresh = await upstream.accepted()
        await fresh.has(b"second")
        fresh.send(reply())
        assert (await answer_to(client)).status == 200


# --- order in time ---


DRIPS = {
    "whole chunks": [chunk(EVENT) for _ in range(5)],
    "chunks in halves": [b"15\r\ndata: one", b"\n\ndata: two\n", b"\r\n", b"5\r\nda", b"ta:\r\n"],
    "two chunks at once": [chunk(b"a") + chunk(b"bb"), chunk(b"c") + chunk(b"d")],
}


@pytest.mark.parametrize("pieces", DRIPS.values(), ids=DRIPS.keys())
@looped
async def test_each_piece_leaves_before_the_next_comes(pieces: list[bytes]) -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        served.send(CHUNKED)
        await client.head()
        body = b""
        for piece in pieces:
            before = len(client.pieces)
            served.send(piece)
            body += piece
            if piece.strip(b"\r\n"):
                await client.until(lambda before=before: len(client.pieces) > before, "the piece")
            else:
                await settle()
        served.send(b"0\r\n\r\n")
        assert (await answer_to_from_start(client)).body == payload(body)


def payload(chunks: bytes) -> bytes:
    (whole,), rest = answers_in(CHUNKED + chunks + b"0\r\n\r\n", ["GET"])
    assert not rest
    return whole.body


async def answer_to_from_start(client: Peer) -> Parsed:
    client.rewind()
    return await answer_to(client)


@looped
async def test_bytes_of_a_length_answer_go_as_they_come() -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await client.head()
        for letter in (b"a", b"b", b"c", b"d", b"e"):
            served.send(letter)
            assert await client.exactly(1) == letter


@looped
async def test_an_early_answer_arrives_at_once_and_ends_both_connections() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(post(b"x" * 1000, length=200_000))
        served = await upstream.accepted()
        await served.has(b"x" * 1000)
        served.send(reply(b"too large", 413, reason="Payload Too Large"))
        answer = await answer_to(client)
        assert (answer.status, answer.body) == (413, b"too large")
        assert answer.values("connection") == [b"close"]
        await served.ended()
        client.send(b"x" * 100_000)  # is read and thrown away: no reset may overtake the answer
        client.finish()
        await proxy.until(lambda: not proxy.settings.live)
        await settle()
        assert not client.lost


@looped
async def test_an_answer_may_stream_while_the_request_is_still_sent() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(post(b"one", length=6))
        served = await upstream.accepted()
        await served.has(b"one")
        served.send(CHUNKED + chunk(b"got one"))
        await client.has(b"got one")
        client.send(b"two")
        await served.has(b"two")
        served.send(chunk(b"got two") + b"0\r\n\r\n")
        assert (await answer_to(client)).body == b"got onegot two"
        assert [c.state for c in proxy.closes()] == ["ok"]


@looped
async def test_expect_100_continue_is_answered_by_the_provider() -> None:
    async with pair() as (proxy, upstream):
        client = await proxy.sent(post(b"", "/v1/messages", "Expect: 100-continue", length=4))
        served = await upstream.accepted()
        assert b"Expect: 100-continue" in await served.head()
        served.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.has(b"100 Continue")
        client.send(b"body")
        await served.has(b"body")
        served.send(reply())
        answer = await answer_to(client)
        assert (answer.status, answer.interim) == (200, (100,))


# --- answers that are passed on as they are, and those that are not ---


PASSED = {
    429: ("retry-after: 7", "x-should-retry: true", "anthropic-ratelimit-requests-remaining: 0"),
    503: ("Retry-After: 1",),
    529: ("x-should-retry: true", "Request-Id: req_1"),
    500: ("X-Odd: a, b", "x-odd: c", "X-Obs: caf\xe9"),
}


@pytest.mark.parametrize("status", PASSED)
@looped
async def test_refusals_of_the_provider_pass_byte_for_byte_and_are_not_repeated(status: int) -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        lines = [
            f"HTTP/1.1 {status} Own Words",
            *PASSED[status],
            "Content-Type: application/json",
            "Content-Length: 14",
        ]
        raw = "\r\n".join(lines).encode("latin-1") + b'\r\n\r\n{"error": "x"}'
        served.send(raw)
        await client.until(lambda: len(client.data) >= len(raw))
        await settle()
        assert bytes(client.data) == raw
        assert len(requests_in(b"".join(upstream.captured()))[0]) == 1
        assert [c.state for c in proxy.closes()] == ["upstream_error"]


@looped
async def test_interim_answers_pass_in_their_order() -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        interim = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nlink: </b>\r\n\r\n"
        served.send(interim + reply())
        answer = await answer_to(client)
        assert (answer.interim, answer.status) == ((102, 103), 200)
        assert bytes(client.data).startswith(interim)


@looped
async def test_a_flood_of_interim_answers_is_a_502() -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        served.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        answer = await answer_to(client)
        assert answer.status == 502
        assert len(answer.interim) <= 32
        await served.ended()


@pytest.mark.parametrize("upgrade", ["", "Upgrade: websocket\r\nConnection: Upgrade\r\n"])
@looped
async def test_an_unasked_101_is_a_502(upgrade: str) -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        served.send(f"HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\n".encode() + reply())
        answer = await answer_to(client)
        assert (answer.status, retryable(answer)) == (502, False)
        await served.ended()


@looped
async def test_the_key_of_a_failed_request_is_nowhere_in_its_answer() -> None:
    async with pair() as (proxy, upstream):
        client, served = await begun(proxy, upstream, post())
        served.reset()
        answer = await answer_to(client)
        assert KEY.encode() not in answer.body
        assert all(KEY not in close.why for close in proxy.closes())
